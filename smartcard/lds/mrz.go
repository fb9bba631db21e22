package lds

import (
	"time"

	"enrollkiosk/kiosk/secret"
)

// MRZ is a machine readable zone (Doc 9303-3 to -6). It refuses to print and
// to marshal; personal fields are [secret.Text] so that they stay closed in any
// struct.
type MRZ struct {
	private
	Format       string // "TD1", "TD2", "TD3"
	DocumentCode string // "P", "I", "ID": filler removed
	Issuer       string // "UTO", "D": filler removed
	Number       secret.Text
	Nationality  secret.Text
	Birth        Date
	Expiry       Date
	Sex          Sex
	Primary      secret.Text // parts joined by one space
	Secondary    secret.Text // empty when the holder has one name
	Truncated    bool        // the name may have been cut: it fills its field to the end
	Optional     secret.Text // optional data, what a long document number took removed
	Optional2    secret.Text // TD1 only
}

// Sex as the zone gives it.
type Sex string

// Values of Sex.
const (
	Female      Sex = "F"
	Male        Sex = "M"
	Unspecified Sex = "<"
)

// Date is a date of six characters YYMMDD whose parts may be unknown ("<<").
// The century is not in the zone: [Date.Birth] and [Date.Expiry] infer it.
type Date struct{ text secret.Text }

// Text is the date as the zone has it, six characters.
func (d Date) Text() secret.Text { return d.text }

// Expiry reads d as the last day of validity, in the century nearest to at;
// midnight UTC at the beginning of that day. Unknown parts give the last
// possible day. ok is false when the year is unknown.
func (d Date) Expiry(at time.Time) (day time.Time, ok bool) { return time.Time{}, false }

// Birth reads d as a birth date: the latest such day that is not after at.
// Someone over 99 gets a day one century late; only a person can tell.
// ok is false when a part is unknown.
func (d Date) Birth(at time.Time) (day time.Time, ok bool) { return time.Time{}, false }

// ParseMRZ reads a machine readable zone of any size. Lines may be separated by
// line breaks or spaces, or not at all. It fails with ErrMalformed; or with
// ErrCheckDigit, and then the MRZ is filled all the same: in a signed data
// group it is the signature that vouches, and states have printed wrong digits.
func ParseMRZ(text string) (MRZ, error) { return MRZ{}, ErrMalformed }

// Information is the MRZ information that BAC and PACE keys derive from (Doc
// 9303-11 4.3.3).
func (m MRZ) Information() (secret.Text, error) { return secret.Text{}, ErrMalformed }

// MRZInformation makes the MRZ information from fields typed by a person: the
// document number as printed (without check digit), birth and expiry as YYMMDD.
func MRZInformation(number, birth, expiry string) (secret.Text, error) {
	return secret.Text{}, ErrMalformed
}

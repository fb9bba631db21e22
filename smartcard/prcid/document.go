package prcid

import (
	"errors"
	"fmt"
	"time"

	"enrollkiosk/kiosk/secret"
)

// Document is what a card said. Nothing in it is verified but what Problems
// speaks of: form, check digits, and that number, birth and sex agree. It
// refuses to print and to marshal.
type Document struct {
	private
	Kind Kind

	Name        secret.Text // in Chinese characters; may be empty on a foreigner's card
	EnglishName secret.Text // foreigners
	Sex         Code        // GB/T 2261.1
	EthnicGroup Code        // GB/T 3304; residents of the mainland
	Birth       Date
	Address     secret.Text
	NewAddress  secret.Text // added after issue, if any
	Number      secret.Text
	Nationality secret.Text // foreigners: three letters, GB/T 2659
	PassNumber  secret.Text // Hong Kong, Macao, Taiwan: number of the travel permit
	Issue       secret.Text // how often a card was issued or renewed; version of a foreigner's card of 2017
	Authority   secret.Text // who issued it; a code on a foreigner's card of 2017
	From, Until Date        // Until has no day if LongTerm
	LongTerm    bool

	// Problems lists the fields that do not parse or do not fit. Those that do not
	// parse are empty above.
	Problems []Problem

	Text         secret.Text // the 256 bytes as they came
	Photo        secret.Text // WLT, 1024 bytes or none
	Fingerprints secret.Text // 512 bytes each, if asked for
	AddressText  secret.Text // the added address as it came
}

// Kind of card, by the letter in its text.
type Kind byte

const (
	Resident            Kind = ' ' // resident identity card
	Foreigner2017       Kind = 'I' // foreign permanent resident card, issue of 2017
	HongKongMacaoTaiwan Kind = 'J' // residence permit
	Foreigner2023       Kind = 'Y' // foreign permanent resident card, issue of 2023
)

func (k Kind) String() string {
	switch k {
	case Resident:
		return "resident identity card"
	case Foreigner2017:
		return "foreign permanent resident card (2017)"
	case HongKongMacaoTaiwan:
		return "residence permit for Hong Kong, Macao and Taiwan residents"
	case Foreigner2023:
		return "foreign permanent resident card (2023)"
	}
	return fmt.Sprintf("card of kind %#02x", byte(k))
}

// Field names a part of the text.
type Field string

const (
	FieldKind        Field = "kind"
	FieldName        Field = "name"
	FieldEnglishName Field = "english name"
	FieldSex         Field = "sex"
	FieldEthnicGroup Field = "ethnic group"
	FieldBirth       Field = "birth"
	FieldAddress     Field = "address"
	FieldNewAddress  Field = "new address"
	FieldNumber      Field = "number"
	FieldNationality Field = "nationality"
	FieldPassNumber  Field = "pass number"
	FieldIssue       Field = "issue"
	FieldAuthority   Field = "authority"
	FieldFrom        Field = "valid from"
	FieldUntil       Field = "valid until"
)

// What can be wrong with a field.
var (
	ErrText       = errors.New("prcid: not text")
	ErrMissing    = errors.New("prcid: missing")
	ErrDate       = errors.New("prcid: not a date")
	ErrCode       = errors.New("prcid: unknown code")
	ErrForm       = errors.New("prcid: not of the form of its kind")
	ErrCheckDigit = errors.New("prcid: check digit")
	ErrMismatch   = errors.New("prcid: disagrees with the number")
)

// Problem says what is wrong with a field, without its content.
type Problem struct {
	Field Field
	Err   error
}

func (p Problem) String() string { return fmt.Sprintf("%s: %v", p.Field, p.Err) }

func (d *Document) problem(f Field, err error) { d.Problems = append(d.Problems, Problem{f, err}) }

// Code is a coded field and the names that its standard gives the code, which
// are empty for an unknown one.
type Code struct {
	private
	Value            secret.Text
	Chinese, English secret.Text
}

// Date is a calendar day, or none.
type Date struct {
	private
	day time.Time
}

// Day is midnight UTC of the day; ok is false when there is none.
func (d Date) Day() (day time.Time, ok bool) { return d.day, !d.day.IsZero() }

// private makes the type that embeds it refuse to print and to marshal.
type private = secret.Private

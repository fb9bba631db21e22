package receipt

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"time"

	"enrollkiosk/registry/record"
)

// ActivityType is the typ of a kiosk's report.
const ActivityType = "enrollkiosk-activity+jws"

// MaxActivity is the largest report, in bytes: some 5000 entries.
const MaxActivity = 1 << 20

// Activity is what a kiosk reports of its officers: how many documents were
// opened in whose name, and how many of them became enrollments. Nothing in it
// is about a citizen.
type Activity struct {
	Kiosk    string    `json:"kiosk"`
	Audience string    `json:"audience"` // log origin
	Time     time.Time `json:"time"`     // of the report
	// Counter is how much this kiosk has ever counted: it never falls.
	Counter uint64 `json:"counter"`
	// From is the first day that the report covers. What is not in Entries since
	// then did not happen.
	From    Day             `json:"from"`
	Entries []ActivityEntry `json:"entries"` // by day, then officer
}

// ActivityEntry is one officer's day at a kiosk.
type ActivityEntry struct {
	Day         Day     `json:"day"`
	Officer     Officer `json:"officer"`
	Reads       uint64  `json:"reads"` // documents that were about to be opened
	Enrollments uint64  `json:"enrollments"`
}

// Officer is the SHA-256 of an officer's certificate, DER. Where it is not signed
// it is written in hexadecimal.
type Officer [32]byte

// MarshalText writes 64 hexadecimal digits.
func (o Officer) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, o[:]), nil }

// UnmarshalText reads what MarshalText writes.
func (o *Officer) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(o)) {
		return fmt.Errorf("%w: officer", ErrForm)
	}
	_, err := hex.Decode(o[:], b)
	return err
}

// Day is a day in UTC, such as "2026-11-28": days compare as strings do.
type Day string

// DayOf is the day of a time.
func DayOf(t time.Time) Day { return Day(t.UTC().Format(time.DateOnly)) }

func (d Day) valid() bool {
	t, err := time.Parse(time.DateOnly, string(d))
	return err == nil && DayOf(t) == d
}

// Compare orders entries by day, then officer.
func (e ActivityEntry) Compare(o ActivityEntry) int {
	return cmp.Or(cmp.Compare(e.Day, o.Day), bytes.Compare(e.Officer[:], o.Officer[:]))
}

func (a Activity) wellFormed() bool {
	ok := a.Kiosk != "" && a.From.valid()
	for i, e := range a.Entries {
		ok = ok && e.Day.valid() && e.Day >= a.From && (i == 0 || a.Entries[i-1].Compare(e) < 0)
	}
	return ok
}

// SignActivity signs with the kiosk's record key.
func SignActivity(ctx context.Context, a Activity, kiosk record.Signer) ([]byte, error) {
	if !a.wellFormed() {
		return nil, fmt.Errorf("%w: activity", ErrForm)
	}
	b, err := sign(ctx, ActivityType, a, kiosk)
	if err == nil && len(b) > MaxActivity {
		err = fmt.Errorf("%w: %d bytes", ErrForm, len(b))
	}
	return b, err
}

// VerifyActivity checks a kiosk's report; accept says which key is the kiosk's
// record key, audience is the log's origin.
func VerifyActivity(b []byte, accept func(crypto.PublicKey) bool, kiosk, audience string) (Verified[Activity], error) {
	v, err := verifyLimited[Activity](b, ActivityType, MaxActivity, accept)
	switch {
	case err != nil:
		return Verified[Activity]{}, err
	case !v.claims.wellFormed():
		return Verified[Activity]{}, fmt.Errorf("%w: activity", ErrForm)
	case v.claims.Kiosk != kiosk || v.claims.Audience != audience:
		return Verified[Activity]{}, fmt.Errorf("%w: another kiosk's, or for another registry", ErrSignature)
	}
	return v, nil
}

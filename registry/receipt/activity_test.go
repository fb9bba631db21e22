package receipt_test

import (
	"crypto"
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"

	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

func activity() receipt.Activity {
	return receipt.Activity{Kiosk: "kiosk-7", Audience: origin, Time: now, Counter: 12, From: "2026-11-18", Entries: []receipt.ActivityEntry{
		{Day: "2026-11-18", Officer: receipt.Officer{1}, Reads: 3, Enrollments: 2}, {Day: "2026-11-18", Officer: receipt.Officer{2}, Reads: 1},
		{Day: "2026-11-20", Officer: receipt.Officer{1}, Reads: 4, Enrollments: 2}}}
}

func TestActivity(t *testing.T) {
	key, jwk := newDevice(t)
	b, err := receipt.SignActivity(t.Context(), activity(), key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := receipt.VerifyActivity(b, record.AcceptAny(jwk), "kiosk-7", origin)
	if err != nil || !reflect.DeepEqual(v.Claims(), activity()) {
		t.Errorf("%+v, %v", v.Claims(), err)
	}
	_, other := newDevice(t)
	for name, err := range map[string]error{
		"another key's":        errorOf(receipt.VerifyActivity(b, record.AcceptAny(other), "kiosk-7", origin)),
		"another kiosk's":      errorOf(receipt.VerifyActivity(b, record.AcceptAny(jwk), "kiosk-8", origin)),
		"for another registry": errorOf(receipt.VerifyActivity(b, record.AcceptAny(jwk), "kiosk-7", "other.example/log")),
		"as a sign-on":         errorOf(receipt.VerifySignOn(b, record.AcceptAny(jwk))),
	} {
		if !errors.Is(err, receipt.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	everyByte(t, b, func(b []byte) error {
		return errorOf(receipt.VerifyActivity(b, record.AcceptAny(jwk), "kiosk-7", origin))
	})
}

func errorOf[T receipt.Statement](_ receipt.Verified[T], err error) error { return err }

// A report has one form: days that are days, in order, each officer once.
func TestActivityForm(t *testing.T) {
	key, _ := newDevice(t)
	for name, change := range map[string]func(*receipt.Activity){
		"no kiosk":          func(a *receipt.Activity) { a.Kiosk = "" },
		"no day":            func(a *receipt.Activity) { a.From = "" },
		"no such day":       func(a *receipt.Activity) { a.Entries[2].Day = "2026-11-31" },
		"a day's long form": func(a *receipt.Activity) { a.Entries[2].Day = "2026-11-20T00:00:00Z" },
		"before the first":  func(a *receipt.Activity) { a.From = "2026-11-19" },
		"out of order":      func(a *receipt.Activity) { a.Entries[0], a.Entries[1] = a.Entries[1], a.Entries[0] },
		"an officer twice":  func(a *receipt.Activity) { a.Entries[1].Officer = a.Entries[0].Officer },
		"numbers too large": func(a *receipt.Activity) { a.Counter = 1 << 60 },
	} {
		a := activity()
		change(&a)
		b, err := receipt.SignActivity(t.Context(), a, key)
		if !errors.Is(err, receipt.ErrForm) {
			t.Errorf("%s: %v, %d bytes", name, err, len(b))
		}
	}
}

// FuzzVerifyActivity feeds the fuzzer's bytes as a report and, rightly signed, as
// its payload.
func FuzzVerifyActivity(f *testing.F) {
	key, _ := newDevice(f)
	good, err := receipt.SignActivity(f.Context(), activity(), key)
	if err != nil {
		f.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(string(good), ".")[1])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(payload)
	f.Fuzz(func(t *testing.T, b []byte) {
		signed, err := record.SignCompact(t.Context(), receipt.ActivityType, b, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, signed} {
			v, err := receipt.VerifyActivity(b, func(crypto.PublicKey) bool { return true }, "kiosk-7", origin)
			if err != nil {
				if !errors.Is(err, receipt.ErrForm) && !errors.Is(err, receipt.ErrSignature) {
					t.Errorf("untyped: %v", err)
				}
				continue
			}
			if again, err := receipt.SignActivity(t.Context(), v.Claims(), key); err != nil || strings.Split(string(again), ".")[1] != strings.Split(string(b), ".")[1] {
				t.Errorf("accepted, but not in the one form: %v", err)
			}
		}
	})
}

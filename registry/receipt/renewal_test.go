package receipt_test

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

var shown = []byte("a TLS certificate")

func TestRenewal(t *testing.T) {
	key, jwk := newDevice(t)
	b, err := receipt.SignRenewal(t.Context(), "kiosk-7", origin, shown, key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := receipt.VerifyRenewal(b, record.AcceptAny(jwk), "kiosk-7", origin, shown)
	if err != nil || v.Claims() != (receipt.Renewal{Kiosk: "kiosk-7", Audience: origin, Certificate: sha256.Sum256(shown)}) {
		t.Errorf("%+v, %v", v.Claims(), err)
	}
	_, other := newDevice(t)
	for name, err := range map[string]error{
		"another key's":             errorOf(receipt.VerifyRenewal(b, record.AcceptAny(other), "kiosk-7", origin, shown)),
		"another kiosk's":           errorOf(receipt.VerifyRenewal(b, record.AcceptAny(jwk), "kiosk-8", origin, shown)),
		"for another registry":      errorOf(receipt.VerifyRenewal(b, record.AcceptAny(jwk), "kiosk-7", "other.example/log", shown)),
		"under another certificate": errorOf(receipt.VerifyRenewal(b, record.AcceptAny(jwk), "kiosk-7", origin, shown[1:])),
		"as a farewell":             errorOf(receipt.VerifyFarewell(b, record.AcceptAny(jwk), "kiosk-7", origin)),
	} {
		if !errors.Is(err, receipt.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	everyByte(t, b, func(b []byte) error {
		return errorOf(receipt.VerifyRenewal(b, record.AcceptAny(jwk), "kiosk-7", origin, shown))
	})
	for name, one := range map[string]struct {
		id, audience string
		shown        []byte
	}{"no kiosk": {"", origin, shown}, "no registry": {"kiosk-7", "", shown}, "no certificate": {"kiosk-7", origin, nil}} {
		if b, err := receipt.SignRenewal(t.Context(), one.id, one.audience, one.shown, key); !errors.Is(err, receipt.ErrForm) {
			t.Errorf("%s: %v, %d bytes", name, err, len(b))
		}
	}
}

// FuzzVerifyRenewal feeds the fuzzer's bytes as a request and, rightly signed, as its
// payload.
func FuzzVerifyRenewal(f *testing.F) {
	key, _ := newDevice(f)
	good, err := receipt.SignRenewal(f.Context(), "kiosk-7", origin, shown, key)
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
		signed, err := record.SignCompact(t.Context(), receipt.RenewalType, b, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, signed} {
			v, err := receipt.VerifyRenewal(b, func(crypto.PublicKey) bool { return true }, "kiosk-7", origin, shown)
			if err != nil {
				if !errors.Is(err, receipt.ErrForm) && !errors.Is(err, receipt.ErrSignature) {
					t.Errorf("untyped: %v", err)
				}
				continue
			}
			if v.Claims().Certificate != sha256.Sum256(shown) || strings.Split(string(b), ".")[1] != strings.Split(string(good), ".")[1] {
				t.Error("accepted, but not in the one form")
			}
		}
	})
}

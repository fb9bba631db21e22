package receipt_test

import (
	"crypto"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

func farewell() receipt.Farewell {
	return receipt.Farewell{Kiosk: "kiosk-7", Audience: origin, Time: now, Sequence: 12, Recorded: 11, Head: [32]byte{1}, Abandoned: 2}
}

func TestFarewell(t *testing.T) {
	key, jwk := newDevice(t)
	b, err := receipt.SignFarewell(t.Context(), farewell(), key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := receipt.VerifyFarewell(b, record.AcceptAny(jwk), "kiosk-7", origin)
	if err != nil || v.Claims() != farewell() {
		t.Errorf("%+v, %v", v.Claims(), err)
	}
	_, other := newDevice(t)
	for name, err := range map[string]error{
		"another key's":        errorOf(receipt.VerifyFarewell(b, record.AcceptAny(other), "kiosk-7", origin)),
		"another kiosk's":      errorOf(receipt.VerifyFarewell(b, record.AcceptAny(jwk), "kiosk-8", origin)),
		"for another registry": errorOf(receipt.VerifyFarewell(b, record.AcceptAny(jwk), "kiosk-7", "other.example/log")),
		"as a report":          errorOf(receipt.VerifyActivity(b, record.AcceptAny(jwk), "kiosk-7", origin)),
	} {
		if !errors.Is(err, receipt.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	everyByte(t, b, func(b []byte) error {
		return errorOf(receipt.VerifyFarewell(b, record.AcceptAny(jwk), "kiosk-7", origin))
	})
}

func TestFarewellForm(t *testing.T) {
	key, jwk := newDevice(t)
	for name, change := range map[string]func(*receipt.Farewell){
		"no kiosk":         func(f *receipt.Farewell) { f.Kiosk = "" },
		"no registry":      func(f *receipt.Farewell) { f.Audience = "" },
		"no number":        func(f *receipt.Farewell) { f.Sequence, f.Recorded = 0, 0 },
		"more than it has": func(f *receipt.Farewell) { f.Recorded = 13 },
		"number too large": func(f *receipt.Farewell) { f.Sequence = 1 << 60 },
	} {
		f := farewell()
		change(&f)
		if b, err := receipt.SignFarewell(t.Context(), f, key); !errors.Is(err, receipt.ErrForm) {
			t.Errorf("%s: %v, %d bytes", name, err, len(b))
		}
	}
	// Signed by the right key all the same.
	wrong := `{"kiosk":"kiosk-7","audience":"` + origin + `","time":"2026-11-20T09:30:00Z","sequence":12,"recorded":13,"head":"` + strings.Repeat("A", 43) + `","abandoned":0}`
	b, err := record.SignCompact(t.Context(), receipt.FarewellType, []byte(wrong), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := receipt.VerifyFarewell(b, record.AcceptAny(jwk), "kiosk-7", origin); !errors.Is(err, receipt.ErrForm) || !strings.HasSuffix(err.Error(), "farewell") {
		t.Errorf("more than it has, signed: %v", err)
	}
}

// FuzzVerifyFarewell feeds the fuzzer's bytes as a farewell and, rightly signed, as
// its payload.
func FuzzVerifyFarewell(f *testing.F) {
	key, _ := newDevice(f)
	good, err := receipt.SignFarewell(f.Context(), farewell(), key)
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
		signed, err := record.SignCompact(t.Context(), receipt.FarewellType, b, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{b, signed} {
			v, err := receipt.VerifyFarewell(b, func(crypto.PublicKey) bool { return true }, "kiosk-7", origin)
			if err != nil {
				if !errors.Is(err, receipt.ErrForm) && !errors.Is(err, receipt.ErrSignature) {
					t.Errorf("untyped: %v", err)
				}
				continue
			}
			if again, err := receipt.SignFarewell(t.Context(), v.Claims(), key); err != nil || strings.Split(string(again), ".")[1] != strings.Split(string(b), ".")[1] {
				t.Errorf("accepted, but not in the one form: %v", err)
			}
		}
	})
}

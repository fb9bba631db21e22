package kiosk

import (
	"testing"

	"enrollkiosk/kiosk/secret"
)

func TestWeakPINsAreRefused(t *testing.T) {
	for pin, want := range map[string]PINProblem{
		"":          PINTooShort,
		"12345":     PINTooShort,
		"123456789": PINTooLong,
		"12a456":    PINNotDigits,
		"123456":    PINTooEasy, // also the factory PIN
		"654321":    PINTooEasy,
		"567890":    PINTooEasy,
		"111111":    PINTooEasy,
		"00000000":  PINTooEasy,
		"121212":    PINTooEasy,
		"123123":    PINTooEasy,
		"12341234":  PINTooEasy,
		"802469":    PINFine,
		"112358":    PINFine,
	} {
		if got := CheckPIN(secret.FromString(pin)); got != want {
			t.Errorf("%q: %q, want %q", pin, got, want)
		}
	}
}

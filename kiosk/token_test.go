package kiosk

import (
	"errors"
	"testing"

	"enrollkiosk/hsm"
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

// What is wrong with a token is told before anything is written, the worst first.
func TestUsableTokens(t *testing.T) {
	good := TokenInfo{Serial: 1, FactoryNew: true, CanAttest: true, CanAgree: true}
	for name, c := range map[string]struct {
		change func(*TokenInfo)
		want   error
	}{
		"good":               {func(*TokenInfo) {}, nil},
		"cannot attest":      {func(i *TokenInfo) { i.CanAttest, i.FactoryNew = false, false }, hsm.ErrCannotAttest},
		"PIN blocked":        {func(i *TokenInfo) { i.PINBlocked, i.FactoryNew = true, false }, hsm.ErrPINBlocked},
		"PUK blocked":        {func(i *TokenInfo) { i.PUKBlocked, i.FactoryNew = true, false }, hsm.ErrPUKBlocked},
		"used":               {func(i *TokenInfo) { i.FactoryNew, i.CanAgree = false, false }, hsm.ErrNotFactoryNew},
		"cannot agree":       {func(i *TokenInfo) { i.CanAgree = false }, hsm.ErrUnsupported},
		"nothing was probed": {func(i *TokenInfo) { *i = TokenInfo{} }, hsm.ErrCannotAttest},
	} {
		i := good
		c.change(&i)
		if err := i.Usable(); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

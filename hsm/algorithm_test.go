package hsm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"

	"enrollkiosk/hsm"
)

func TestAlgorithmOf(t *testing.T) {
	curve := func(c elliptic.Curve) crypto.PublicKey {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	modulus := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1), E: 65537}
	}
	small := modulus(2048)
	small.E = 3
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	for name, c := range map[string]struct {
		key  crypto.PublicKey
		want hsm.Algorithm // none: not one of ours
	}{
		"P-256": {curve(elliptic.P256()), hsm.P256}, "P-384": {curve(elliptic.P384()), hsm.P384}, "P-521": {curve(elliptic.P521()), ""},
		"Ed25519": {ed, hsm.Ed25519}, "short Ed25519": {ed[:31], ""}, "RSA-2048": {modulus(2048), hsm.RSA2048}, "RSA-1024": {modulus(1024), ""},
		"RSA-3072": {modulus(3072), ""}, "exponent 3": {small, ""}, "nothing": {nil, ""}, "no EC key": {(*ecdsa.PublicKey)(nil), ""}, "no RSA key": {(*rsa.PublicKey)(nil), ""},
	} {
		if got, ok := hsm.AlgorithmOf(c.key); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}

func TestCovers(t *testing.T) {
	touches := []hsm.TouchPolicy{hsm.TouchNever, hsm.TouchCached, hsm.TouchAlways}
	for i, p := range touches {
		for j, least := range touches {
			if p.Covers(least) != (i >= j) {
				t.Errorf("touch %s covers %s: %v", p, least, p.Covers(least))
			}
		}
		if p.Covers("") || hsm.TouchPolicy("").Covers(p) || hsm.TouchPolicy("often").Covers(p) {
			t.Errorf("an unknown policy against %s", p)
		}
	}
	if !hsm.PINAlways.Covers(hsm.PINOnce) || !hsm.PINOnce.Covers(hsm.PINOnce) || hsm.PINOnce.Covers(hsm.PINAlways) || hsm.PINOnce.Covers("never") || hsm.PINPolicy("").Covers(hsm.PINOnce) {
		t.Error("PIN policies")
	}
}

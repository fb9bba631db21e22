package hsm_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"enrollkiosk/hsm"
)

// device signs as the contract of hsm.Key says, whatever kind of key it has.
type device struct{ crypto.Signer }

func (d device) Sign(_ context.Context, digest []byte) ([]byte, error) {
	a, ok := hsm.AlgorithmOf(d.Public())
	if !ok {
		return nil, hsm.ErrUnsupported
	}
	if h := a.Hash(); h != 0 && len(digest) != h.Size() {
		return nil, fmt.Errorf("digest of %d bytes", len(digest))
	}
	return d.Signer.Sign(rand.Reader, digest, a.Hash())
}

func elliptical(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSignerAsksForTheRightDigest has crypto/x509 choose the hash for each
// kind of key and verify what comes out.
func TestSignerAsksForTheRightDigest(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, k := range map[hsm.Algorithm]crypto.Signer{
		hsm.P256: elliptical(t, elliptic.P256()), hsm.P384: elliptical(t, elliptic.P384()), hsm.Ed25519: edwards, hsm.RSA2048: rsaKey(t, 2048),
	} {
		if got, ok := hsm.AlgorithmOf(k.Public()); got != want || !ok || !got.Valid() {
			t.Errorf("%s is %q, %v", want, got, ok)
		}
		s := hsm.Signer(device{k}, time.Minute)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, s)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if csr, err := x509.ParseCertificateRequest(der); err != nil || csr.CheckSignature() != nil {
			t.Errorf("%s: %v, %v", want, err, csr.CheckSignature())
		}
		for _, opts := range []crypto.SignerOpts{crypto.SHA1, crypto.SHA512, &rsa.PSSOptions{Hash: want.Hash()}} {
			if _, err := s.Sign(rand.Reader, make([]byte, 20), opts); !errors.Is(err, hsm.ErrUnsupported) {
				t.Errorf("%s with %T %v: %v", want, opts, opts.HashFunc(), err)
			}
		}
	}
}

func TestOtherKeysHaveNoAlgorithm(t *testing.T) {
	odd := rsaKey(t, 2048).PublicKey
	odd.E = 3
	for name, k := range map[string]crypto.PublicKey{
		"nothing": nil, "P-224": elliptical(t, elliptic.P224()).Public(), "P-521": elliptical(t, elliptic.P521()).Public(), "RSA-3072": rsaKey(t, 3072).Public(), "exponent 3": &odd,
		"short Ed25519": ed25519.PublicKey{1}, "nil ECDSA": (*ecdsa.PublicKey)(nil), "no curve": &ecdsa.PublicKey{}, "nil RSA": (*rsa.PublicKey)(nil),
		"no modulus": &rsa.PublicKey{E: 65537}, "private key": elliptical(t, elliptic.P256()), "one bit too many": &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2048), E: 65537},
	} {
		if a, ok := hsm.AlgorithmOf(k); ok || a != "" || a.Valid() {
			t.Errorf("%s is %q", name, a)
		}
	}
}

func TestPoliciesCoverWeakerOnes(t *testing.T) {
	pins := []hsm.PINPolicy{hsm.PINOnce, hsm.PINAlways}
	for i, p := range pins {
		for j, least := range pins {
			if got := p.Covers(least); got != (i >= j) {
				t.Errorf("PIN %s covers %s: %v", p, least, got)
			}
		}
		for _, none := range []hsm.PINPolicy{"", "never", "Always"} {
			if p.Covers(none) || none.Covers(p) || none.Covers(none) || none.Valid() || !p.Valid() {
				t.Errorf("PIN %s and %q", p, none)
			}
		}
	}
	touches := []hsm.TouchPolicy{hsm.TouchNever, hsm.TouchCached, hsm.TouchAlways}
	for i, p := range touches {
		for j, least := range touches {
			if got := p.Covers(least); got != (i >= j) {
				t.Errorf("touch %s covers %s: %v", p, least, got)
			}
		}
		if none := hsm.TouchPolicy(""); p.Covers(none) || none.Covers(p) || none.Covers(none) || none.Valid() || !p.Valid() {
			t.Errorf("touch %s and nothing", p)
		}
	}
}

func TestLockoutIsErrLockout(t *testing.T) {
	until := time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)
	err := fmt.Errorf("sign: %w", &hsm.Lockout{Until: until})
	var l *hsm.Lockout
	if !errors.Is(err, hsm.ErrLockout) || errors.Is(err, hsm.ErrPINBlocked) || !errors.As(err, &l) || !l.Until.Equal(until) || !strings.Contains(err.Error(), "09:30") {
		t.Error(err)
	}
	if e := new(hsm.Lockout); !errors.Is(e, hsm.ErrLockout) || e.Error() != hsm.ErrLockout.Error() {
		t.Error(e)
	}
}

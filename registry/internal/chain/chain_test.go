package chain_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func issue(t *testing.T, c *x509.Certificate, by *authority) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = &authority{key, c}
	}
	c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

func ca(days int) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: start, NotAfter: start.AddDate(0, 0, days)}
}

func leaf(from, days int) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: start.AddDate(0, 0, from), NotAfter: start.AddDate(0, 0, days)}
}

// A chain that was verified once is judged at every time as one that was not, and
// vouches for no other.
func TestVerifyAgain(t *testing.T) {
	root, middle := issue(t, ca(100), nil), authority{}
	middle = issue(t, ca(50), &root)
	lookalike := issue(t, ca(100), nil) // of the same name
	signed, stranger := issue(t, leaf(10, 80), &middle), issue(t, leaf(10, 80), &lookalike)
	roots := func() chain.Roots {
		r, err := chain.Parse([]policy.Root{{Certificate: issue(t, ca(100), nil).cert.Raw, Class: record.Test}, {Certificate: root.cert.Raw, Class: record.Production}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	used := roots()
	for round := range 2 {
		for day, good := range map[int]bool{-1: false, 5: false, 10: true, 30: true, 50: true, 51: false, 81: false, 101: false} {
			for name, r := range map[string]chain.Roots{"used": used, "new": roots()} {
				at := start.AddDate(0, 0, day)
				class, err := r.Verify([]*x509.Certificate{signed.cert, middle.cert}, at)
				if good && (err != nil || class != record.Production) || !good && !errors.Is(err, chain.ErrUnknown) {
					t.Errorf("round %d, %s roots, day %d: %q, %v", round, name, day, class, err)
				}
				for _, other := range [][]*x509.Certificate{{stranger.cert, middle.cert}, {signed.cert}, {middle.cert, signed.cert}, {}} {
					if class, err := r.Verify(other, at); !errors.Is(err, chain.ErrUnknown) || class != "" {
						t.Errorf("round %d, %s roots, day %d: another chain is of class %q", round, name, day, class)
					}
				}
			}
		}
	}
}

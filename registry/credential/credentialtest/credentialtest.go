// Package credentialtest makes the certificates that tests of signing in need: an
// issuer's and sites', each under a CA of its own.
package credentialtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"enrollkiosk/registry/credential"
)

// CA is a root that lives for a test.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes one, good from a year before now to ten years after it.
func NewCA(t testing.TB, name string, now time.Time) CA {
	t.Helper()
	key := Key(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return CA{create(t, template, template, key.Public(), key), key}
}

// Roots is the CA as a pool.
func (ca CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// Leaf certifies key for a year under URI names and, if host is not empty, one DNS
// name.
func (ca CA) Leaf(t testing.TB, key crypto.Signer, host string, uris ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: ca.Cert.NotBefore, NotAfter: ca.Cert.NotBefore.AddDate(2, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if host != "" {
		template.DNSNames = []string{host}
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	return create(t, template, ca.Cert, key.Public(), ca.key)
}

// Issuer is an issuer under the CA that may issue both types of credential.
func (ca CA) Issuer(t testing.TB, id string) credential.Issuer {
	t.Helper()
	key := Key(t)
	leaf := ca.Leaf(t, key, "", id, credential.RealPerson(id), credential.LegalName(id))
	return credential.Issuer{ID: id, Chain: []*x509.Certificate{leaf}, Key: key}
}

// Site is a website under the CA that may ask what its URI names say
// (credential.MayAsk).
func (ca CA) Site(t testing.TB, host string, mayAsk ...string) credential.Site {
	t.Helper()
	key := Key(t)
	return credential.Site{Chain: []*x509.Certificate{ca.Leaf(t, key, host, mayAsk...)}, Key: key}
}

// Key is a fresh P-256 key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func create(t testing.TB, template, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

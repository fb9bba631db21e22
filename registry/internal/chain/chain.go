// Package chain judges what registry and vault both judge, neither trusting the
// other to: who signed a record, by certificate chains under roots that the
// policy names, and the time that this is judged at.
package chain

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// Roots are a policy's roots of one kind, parsed.
type Roots []root

type root struct {
	pool  *x509.CertPool
	class record.Class
}

// Parse prepares roots for Verify.
func Parse(list []policy.Root) (Roots, error) {
	var out Roots
	for _, r := range list {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("parse root: %w", err)
		}
		pool := x509.NewCertPool()
		pool.AddCert(c)
		out = append(out, root{pool, r.Class})
	}
	return out, nil
}

// ErrUnknown means that no root stands behind a chain at the time in question.
var ErrUnknown = errors.New("no configured root stands behind the certificate")

// Verify finds the root that chain, leaf first, leads to at a time. The leaf
// must be for signing. Roots are tried one by one, so that the class is that of
// the root used.
func (r Roots) Verify(chain []*x509.Certificate, at time.Time) (record.Class, error) {
	if len(chain) == 0 {
		return "", fmt.Errorf("%w: there is none", ErrUnknown)
	}
	leaf := chain[0]
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return "", fmt.Errorf("%w: it is not for signing", ErrUnknown)
	}
	var between *x509.CertPool
	if len(chain) > 1 {
		between = x509.NewCertPool()
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	err := errors.New("no root configured")
	for _, root := range r {
		if _, err = leaf.Verify(x509.VerifyOptions{Roots: root.pool, Intermediates: between, CurrentTime: at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			return root.class, nil
		}
	}
	return "", fmt.Errorf("%w: %w", ErrUnknown, err)
}

// Package chain judges what registry and vault both judge, neither trusting the
// other to: who signed a record, by certificate chains under roots that the
// policy names, and the time that this is judged at.
package chain

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// Roots are a policy's roots of one kind, parsed.
type Roots []root

type root struct {
	pool  *x509.CertPool
	class record.Class
	known *known
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
		out = append(out, root{pool, r.Class, &known{spans: map[[32]byte]span{}}})
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
	id, err := idOf(chain), errors.New("no root configured")
	for _, root := range r {
		if root.known.has(id, at) {
			return root.class, nil
		}
		var chains [][]*x509.Certificate
		if chains, err = leaf.Verify(x509.VerifyOptions{Roots: root.pool, Intermediates: between, CurrentTime: at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			root.known.add(id, chains[0])
			return root.class, nil
		}
	}
	return "", fmt.Errorf("%w: %w", ErrUnknown, err)
}

// known are chains that lead to a root, with the time in which all their
// certificates are valid: the same few officers and kiosks sign all day, and
// whether a CA signed a certificate does not change. Revocation is the caller's.
type known struct {
	mu    sync.RWMutex
	spans map[[32]byte]span
}

type span struct{ from, until time.Time }

// maxKnown bounds memory; more than a country's officers and kiosks.
const maxKnown = 1 << 17

func idOf(chain []*x509.Certificate) (id [32]byte) {
	h := sha256.New()
	for _, c := range chain { // DER says where it ends
		h.Write(c.Raw)
	}
	h.Sum(id[:0])
	return id
}

func (k *known) has(id [32]byte, at time.Time) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	s, ok := k.spans[id]
	return ok && !at.Before(s.from) && !at.After(s.until)
}

func (k *known) add(id [32]byte, verified []*x509.Certificate) {
	s := span{verified[0].NotBefore, verified[0].NotAfter}
	for _, c := range verified[1:] {
		if c.NotBefore.After(s.from) {
			s.from = c.NotBefore
		}
		if c.NotAfter.Before(s.until) {
			s.until = c.NotAfter
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.spans) >= maxKnown {
		clear(k.spans)
	}
	k.spans[id] = s
}

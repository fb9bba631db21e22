// Package attest verifies that a private key was born in hardware and cannot
// leave it: evidence of package hsm in, a [Proof] out.
//
// It opens no device and trusts nothing it is not given: roots, the expected
// key and names come from the caller. Evidence is foreign bytes; every parser
// here accepts exactly one encoding of a value and nothing behind it. A
// refusal is an [Error] that names the check. Only this package makes a valid
// Proof.
//
// A Proof says what it proves, and no more: [Proof.Fresh] tells a statement
// made for this occasion from a certificate that any holder of the public
// bytes could show again.
package attest

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Classes of roots. What rests on a test root is simulated, and is called so.
const (
	Production = "production"
	Test       = "test"
)

// Root is a certificate that the caller trusts for one kind of device.
type Root struct {
	Certificate *x509.Certificate
	Class       string // Production or Test
}

// Proof is a verified attestation. The zero value proves nothing and is not
// Valid.
type Proof struct {
	key   crypto.PublicKey
	where string
	class string
	fresh bool
}

// Devices that a key can live in.
const (
	PIV = "piv"
	TPM = "tpm"
)

// Valid reports whether a verifier of this package made p.
func (p Proof) Valid() bool { return p.key != nil }

// Key is the public key whose private half was born in the device.
func (p Proof) Key() crypto.PublicKey { return p.key }

// Where is the device: PIV or TPM.
func (p Proof) Where() string { return p.where }

// Class is that of the root everything rests on.
func (p Proof) Class() string { return p.class }

// Fresh reports whether the device made its statement for this verifier's
// nonce. Without it the proof is of origin only: that the key's holder is
// present must be shown by a signature of the key.
func (p Proof) Fresh() bool { return p.fresh }

// Check names what refused an attestation.
type Check string

// Checks of every kind of attestation.
const (
	CheckExpectation Check = "expectation" // the caller did not say what to expect
	CheckForm        Check = "form"        // not the one encoding of anything
	CheckChain       Check = "chain"       // no path to a configured root
	CheckKey         Check = "key"         // not the kind of key we accept
)

// ErrRejected is what every Error is.
var ErrRejected = errors.New("attestation refused")

// Error is a refused attestation.
type Error struct {
	Check Check
	Err   error // detail; holds no bytes of the evidence
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%v: %s", ErrRejected, e.Check)
	}
	return fmt.Sprintf("%v: %s: %v", ErrRejected, e.Check, e.Err)
}

// Is makes every Error an ErrRejected.
func (e *Error) Is(target error) bool { return target == ErrRejected }

func (e *Error) Unwrap() error { return e.Err }

func reject(c Check, format string, a ...any) error { return &Error{c, fmt.Errorf(format, a...)} }

// chain returns the class of the first root that leaf leads to at the given
// time over a path that accept is content with; accept may be nil. Roots are
// tried one by one, so that the class is that of the root used. Where there is
// no path, the error is a CheckChain, or accept's last one.
func chain(leaf *x509.Certificate, intermediates []*x509.Certificate, roots []Root, at time.Time, accept func(path []*x509.Certificate) error) (string, error) {
	if at.IsZero() {
		return "", reject(CheckExpectation, "no time to judge the chain at")
	}
	pool := x509.NewCertPool()
	for _, c := range intermediates {
		pool.AddCert(c)
	}
	none := reject(CheckChain, "no root configured")
	var refused error
	for _, r := range roots {
		if r.Certificate == nil || r.Class != Production && r.Class != Test {
			return "", reject(CheckExpectation, "root without certificate or class")
		}
		one := x509.NewCertPool()
		one.AddCert(r.Certificate)
		paths, err := leaf.Verify(x509.VerifyOptions{
			Roots: one, Intermediates: pool, CurrentTime: at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // the caller checks the leaf's own
		})
		if err != nil {
			none = &Error{CheckChain, err}
		}
		for _, path := range paths {
			if accept != nil {
				if refused = accept(path); refused != nil {
					continue
				}
			}
			return r.Class, nil
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", none
}

package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
)

// Algorithm is a kind of key that a citizen can be given (NIST SP 800-78-5,
// table 1). Its text stands in policies and on the command line.
type Algorithm string

// The algorithms; the list is closed.
const (
	P256    Algorithm = "p-256"
	P384    Algorithm = "p-384"
	Ed25519 Algorithm = "ed25519"
	RSA2048 Algorithm = "rsa-2048" // with exponent 65537
)

// AlgorithmOf names the algorithm of a public key; false for any other kind of
// key or size.
func AlgorithmOf(public crypto.PublicKey) (Algorithm, bool) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch {
		case k == nil:
		case k.Curve == elliptic.P256():
			return P256, true
		case k.Curve == elliptic.P384():
			return P384, true
		}
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return Ed25519, true
		}
	case *rsa.PublicKey:
		if k != nil && k.N != nil && k.N.BitLen() == 2048 && k.E == 65537 {
			return RSA2048, true
		}
	}
	return "", false
}

// Valid reports whether a is one of the list.
func (a Algorithm) Valid() bool { return a == P256 || a == P384 || a == Ed25519 || a == RSA2048 }

// Hash makes the digest that Key.Sign takes: SHA-384 for P-384, SHA-256 for
// P-256 and RSA. It is 0 for Ed25519, which signs the message itself.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case P384:
		return crypto.SHA384
	case Ed25519:
		return 0
	}
	return crypto.SHA256
}

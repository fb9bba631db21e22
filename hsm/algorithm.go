package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"slices"
)

// Algorithm is what a key signs or agrees with.
type Algorithm string

const (
	P256    Algorithm = "p-256"
	P384    Algorithm = "p-384"
	Ed25519 Algorithm = "ed25519"
	RSA2048 Algorithm = "rsa-2048"
)

// AlgorithmOf is the algorithm of a public key: ok is false for one of a kind or
// size that citizens' keys are not.
func AlgorithmOf(key crypto.PublicKey) (a Algorithm, ok bool) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch {
		case k == nil:
		case k.Curve == elliptic.P256():
			return P256, true
		case k.Curve == elliptic.P384():
			return P384, true
		}
	case ed25519.PublicKey:
		return Ed25519, len(k) == ed25519.PublicKeySize
	case *rsa.PublicKey:
		return RSA2048, k != nil && k.N.BitLen() == 2048 && k.E == 65537
	}
	return "", false
}

// PINPolicy says how often a token wants the PIN for a key.
type PINPolicy string

const (
	PINOnce   PINPolicy = "once" // in each session
	PINAlways PINPolicy = "always"
)

// Covers says whether a key of policy p wants the PIN at least as often as least
// says. An unknown policy covers nothing, and nothing covers one.
func (p PINPolicy) Covers(least PINPolicy) bool {
	return covers([]PINPolicy{PINOnce, PINAlways}, p, least)
}

// TouchPolicy says how often a token wants to be touched for a key.
type TouchPolicy string

const (
	TouchNever  TouchPolicy = "never"
	TouchCached TouchPolicy = "cached" // at most every 15 s
	TouchAlways TouchPolicy = "always"
)

// Covers says whether a key of policy p wants a touch at least as often as least
// says. An unknown policy covers nothing, and nothing covers one.
func (p TouchPolicy) Covers(least TouchPolicy) bool {
	return covers([]TouchPolicy{TouchNever, TouchCached, TouchAlways}, p, least)
}

// covers compares places in an order that goes up.
func covers[P comparable](order []P, p, least P) bool {
	from := slices.Index(order, least)
	return from >= 0 && slices.Index(order, p) >= from
}

// ErrFactoryCredentials means that a token must not be handed out.
var ErrFactoryCredentials = errors.New("the token still has its factory PIN, PUK or management key: reset it and prepare it again")

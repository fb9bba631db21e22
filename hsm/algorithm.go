package hsm

import "errors"

// Algorithm is what a key signs or agrees with.
type Algorithm string

const (
	P256    Algorithm = "p-256"
	P384    Algorithm = "p-384"
	Ed25519 Algorithm = "ed25519"
	RSA2048 Algorithm = "rsa-2048"
)

// PINPolicy says how often a token wants the PIN for a key.
type PINPolicy string

const (
	PINOnce   PINPolicy = "once" // in each session
	PINAlways PINPolicy = "always"
)

// TouchPolicy says how often a token wants to be touched for a key.
type TouchPolicy string

const (
	TouchNever  TouchPolicy = "never"
	TouchCached TouchPolicy = "cached" // at most every 15 s
	TouchAlways TouchPolicy = "always"
)

// ErrFactoryCredentials means that a token must not be handed out.
var ErrFactoryCredentials = errors.New("the token still has its factory PIN, PUK or management key: reset it and prepare it again")

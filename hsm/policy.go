package hsm

import "slices"

// PINPolicy says how often a token asks for its PIN before it uses a key. A
// policy that never asks has no name here: no key of ours may have it.
type PINPolicy string

// The PIN policies, weakest first.
const (
	PINOnce   PINPolicy = "once"   // once after the token was selected
	PINAlways PINPolicy = "always" // before every use
)

var pinPolicies = []PINPolicy{PINOnce, PINAlways}

// Valid reports whether p is one of the list.
func (p PINPolicy) Valid() bool { return slices.Contains(pinPolicies, p) }

// Covers reports whether p asks at least as often as least does. What is not
// Valid covers nothing and is covered by nothing.
func (p PINPolicy) Covers(least PINPolicy) bool { return covers(pinPolicies, p, least) }

// TouchPolicy says how often a token must be touched before it uses a key.
type TouchPolicy string

// The touch policies, weakest first.
const (
	TouchNever  TouchPolicy = "never"
	TouchCached TouchPolicy = "cached" // a touch is good for 15 s
	TouchAlways TouchPolicy = "always" // at every use
)

var touchPolicies = []TouchPolicy{TouchNever, TouchCached, TouchAlways}

// Valid reports whether p is one of the list.
func (p TouchPolicy) Valid() bool { return slices.Contains(touchPolicies, p) }

// Covers reports whether p asks at least as often as least does. What is not
// Valid covers nothing and is covered by nothing.
func (p TouchPolicy) Covers(least TouchPolicy) bool { return covers(touchPolicies, p, least) }

// covers compares places in a list that ascends.
func covers[P ~string](list []P, p, least P) bool {
	at := slices.Index(list, least)
	return at >= 0 && slices.Index(list, p) >= at
}

// KeyRule says how a token makes a key. An empty member leaves the choice to
// the driver.
type KeyRule struct {
	Algorithm Algorithm
	PIN       PINPolicy
	Touch     TouchPolicy
}

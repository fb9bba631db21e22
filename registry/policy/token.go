package policy

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// Token are the rules for citizens' keys. What is absent has the default that
// [Policy.TokenRules] fills in.
type Token struct {
	Algorithms        []Algorithm `json:"algorithms,omitzero"`          // of the key in 9A, the preferred one first
	PIN               PIN         `json:"pin,omitzero"`                 // of the key in 9A
	Touch             Touch       `json:"touch,omitzero"`               // of the key in 9A
	KeyAgreementTouch Touch       `json:"key_agreement_touch,omitzero"` // of the key in 9D
	Retired           uint64      `json:"retired,omitzero"`             // how many retired slots (82 to 95) get a key
	Custody           bool        `json:"custody,omitzero"`             // a citizen's key may live in the kiosk's TPM
}

// Algorithm is a kind of key, named as package hsm does.
type Algorithm string

// Algorithms of keys on tokens.
const (
	P256    Algorithm = "p-256"
	P384    Algorithm = "p-384"
	Ed25519 Algorithm = "ed25519"
	RSA2048 Algorithm = "rsa-2048"
)

// PIN says how often a key asks for the PIN.
type PIN string

// Touch says how often a key asks for a touch.
type Touch string

// Policies of keys on tokens (Yubico, "PIN and touch policies").
const (
	PINOnce     PIN   = "once" // in a session
	PINAlways   PIN   = "always"
	TouchNever  Touch = "never"
	TouchCached Touch = "cached" // for 15 s
	TouchAlways Touch = "always"
)

// retiredSlots is how many retired slots a token has (SP 800-73-4 Part 1 table 4b).
const retiredSlots = 20

// TokenRules are the rules for citizens' keys, complete: P-256 in 9A with PIN
// once and touch always, and 9D with touch cached, where the policy says nothing.
func (p Policy) TokenRules() Token {
	t := p.Token
	if len(t.Algorithms) == 0 {
		t.Algorithms = []Algorithm{P256}
	}
	if t.PIN == "" {
		t.PIN = PINOnce
	}
	if t.Touch == "" {
		t.Touch = TouchAlways
	}
	if t.KeyAgreementTouch == "" {
		t.KeyAgreementTouch = TouchCached
	}
	return t
}

// checkIntermediates holds that each leads to a root, over those before it.
func (p Policy) checkIntermediates() error {
	var known []*x509.Certificate
	for _, r := range p.PIVRoots {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return errors.New("piv root")
		}
		known = append(known, c)
	}
	for _, der := range p.PIVIntermediates {
		c, err := x509.ParseCertificate(der)
		if err != nil || !c.IsCA {
			return errors.New("piv intermediate: no certificate of an authority")
		}
		if !slices.ContainsFunc(known, func(issuer *x509.Certificate) bool {
			return bytes.Equal(issuer.RawSubject, c.RawIssuer) && c.CheckSignatureFrom(issuer) == nil
		}) {
			return errors.New("piv intermediate: none of the roots, nor an intermediate before it, has issued it")
		}
		known = append(known, c)
	}
	return nil
}

// checkToken holds that rules are known ones, and that every intermediate leads
// to a root.
func (p Policy) checkToken() error {
	t := p.TokenRules()
	for i, a := range t.Algorithms {
		switch {
		case !slices.Contains([]Algorithm{P256, P384, Ed25519, RSA2048}, a):
			return fmt.Errorf("token: unknown algorithm %q: p-256, p-384, ed25519 or rsa-2048", a)
		case a == Ed25519:
			return errors.New("token: ed25519 is not for 9A: a token signs the message itself, and takes none as long as a record")
		case slices.Contains(t.Algorithms[:i], a):
			return fmt.Errorf("token: algorithm %q is given twice", a)
		}
	}
	if t.PIN != PINOnce && t.PIN != PINAlways {
		return fmt.Errorf("token: unknown pin policy %q: once or always", t.PIN)
	}
	for name, touch := range map[string]Touch{"touch": t.Touch, "key_agreement_touch": t.KeyAgreementTouch} {
		if touch != TouchNever && touch != TouchCached && touch != TouchAlways {
			return fmt.Errorf("token: unknown %s policy %q: never, cached or always", name, touch)
		}
	}
	if t.Retired > retiredSlots {
		return fmt.Errorf("token: a token has %d retired slots", retiredSlots)
	}
	return p.checkIntermediates()
}

// Limits are what the registry tells people about when it is passed.
type Limits struct {
	// ReadsWithoutEnrollment is how many documents one officer opens on one day
	// (UTC) without an enrollment; what goes beyond is an alarm. 0: the first one is.
	ReadsWithoutEnrollment uint64 `json:"reads_without_enrollment,omitzero"`
	// EnrollmentsPerDay is how many one kiosk begins on one day (UTC); 0: no limit.
	EnrollmentsPerDay uint64 `json:"enrollments_per_day,omitzero"`
}

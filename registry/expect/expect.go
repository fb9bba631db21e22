// Package expect is what a policy asks of attestations. Kiosk and registry read it
// here, so that what the one lets pass the other does, too. It verifies nothing:
// hsm/attest does. A leaf.
package expect

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/policy"
)

// Slots of a PIV token (SP 800-73-4 part 1, section 3.1).
const (
	SlotAuthentication byte = 0x9A // where an enrolled key lives
	SlotKeyManagement  byte = 0x9D
)

// Roots reads a policy's attestation roots.
func Roots(list []policy.Root) ([]attest.Root, error) {
	var out []attest.Root
	for _, r := range list {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("attestation root: %w", err)
		}
		out = append(out, attest.Root{Certificate: c, Class: string(r.Class)})
	}
	return out, nil
}

// Intermediates reads the certificates between token makers' roots and their tokens.
func Intermediates(p policy.Policy) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, der := range p.PIVIntermediates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("piv intermediate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// Token is what a policy, whose Intermediates are between, wants a token to say about
// the key in a slot. Retired slots have the rules of 9A. Which serial number it must
// have is for the caller to set.
func Token(p policy.Policy, between []*x509.Certificate, slot byte, key crypto.PublicKey, at time.Time) attest.PIVExpect {
	least, rules := p.MinimumPIVFirmware, p.TokenRules()
	want := attest.PIVExpect{Slot: slot, Key: key, Minimum: [3]byte{byte(least.Major), byte(least.Minor), byte(least.Patch)},
		Revoked: p.RevokedTokens, Intermediates: between, RevokedCertificates: p.RevokedAttestations,
		PIN: hsm.PINPolicy(rules.PIN), Touch: hsm.TouchPolicy(rules.Touch), At: at}
	if slot == SlotKeyManagement {
		want.PIN, want.Touch = hsm.PINOnce, hsm.TouchPolicy(rules.KeyAgreementTouch)
	}
	return want
}

package registry

import (
	"errors"
	"fmt"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
)

// refusal is why a submission is bad for good.
type refusal struct {
	code string // of package record or api
	err  error
}

func (r *refusal) Error() string { return r.code + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(code, format string, a ...any) error { return &refusal{code, fmt.Errorf(format, a...)} }

// codeOf is the code of a refusal; "" for an error that says nothing about the
// submission.
func codeOf(err error) string {
	var r *refusal
	var e *record.Error
	switch {
	case errors.As(err, &r):
		return r.code
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, errFork):
		return api.CodeFork
	case errors.Is(err, errKeyTaken):
		return api.CodeDuplicateKey
	case errors.Is(err, errHolder):
		return api.CodeHolder
	}
	return ""
}

// rules are one policy with its roots parsed.
type rules struct {
	signed   policy.Signed
	policy   policy.Policy
	kiosks   chain.Roots
	officers chain.Roots
	tokens   []attest.Root
}

func newRules(s policy.Signed) (*rules, error) {
	r := &rules{signed: s, policy: s.Policy()}
	var err error
	if r.kiosks, err = chain.Parse(r.policy.KioskCA); err != nil {
		return nil, err
	}
	if r.officers, err = chain.Parse(r.policy.OfficerCA); err != nil {
		return nil, err
	}
	r.tokens, err = attestRoots(r.policy.PIVRoots)
	return r, err
}

// clockSkew is how wrong a kiosk's clock may be.
const clockSkew = 24 * time.Hour

// captured is the time of capture, which everything is judged at: what the kiosk
// says, but not before the last time that it had from here, and not after now. A
// clock that is worse than clockSkew, or a kiosk that was away from here for
// longer than offline allows, is refused.
func captured(t record.Times, now time.Time, offline time.Duration) (time.Time, error) {
	at, heard := t.Wall, t.Registry
	switch {
	case at.After(now.Add(clockSkew)) || heard.After(now.Add(clockSkew)):
		return at, refuse(api.CodeTime, "from the future")
	case heard.After(at.Add(clockSkew)):
		return at, refuse(api.CodeTime, "before the last time that the kiosk had from here")
	case !heard.IsZero() && at.Sub(heard) > offline:
		return at, refuse(api.CodeTime, "the kiosk was offline longer than allowed")
	}
	if at.Before(heard) {
		at = heard
	}
	if at.After(now) {
		at = now
	}
	return at, nil
}

// check decides what a submission, the policy and the sender decide. What other
// records decide is the store's: see intake.Add.
type check struct {
	origin     string
	production bool
	rules      map[[32]byte]*rules // by policy digest: every policy ever in force
}

// submission checks what sender sent under an id. A *refusal or *record.Error
// refuses it for good.
func (c check) submission(b []byte, id [32]byte, sender Kiosk, now time.Time) (entry, error) {
	s, err := record.ParseSubmission(b)
	if err != nil {
		return entry{}, err
	}
	r := s.Record()
	if r.ID() != id {
		return entry{}, refuse(api.CodeID, "sent under another id")
	}
	if err := r.CheckAudience(c.origin); err != nil {
		return entry{}, err
	}
	p := r.Payload()
	rules, known := c.rules[p.Context.PolicyDigest]
	if !known {
		return entry{}, refuse(api.CodePolicy, "unknown policy")
	}
	at, err := captured(p.Times, now, time.Duration(rules.policy.OfflineDays)*24*time.Hour)
	if err != nil {
		return entry{}, err
	}
	if err := rules.lawful(p, at); err != nil {
		return entry{}, err
	}
	classes := make([]record.Class, 0, 4)
	for _, sig := range r.Signatures() {
		class, err := rules.signer(sig, p, sender, at)
		if err != nil {
			return entry{}, err
		}
		classes = append(classes, class)
	}
	// A record that no kiosk signed (a holder's own revocation) may come through any.
	if k := p.Context.KioskID; k != "" && k != sender.ID {
		return entry{}, refuse(api.CodeKiosk, "another kiosk's record")
	}
	class, err := rules.holderKey(s, sender, at)
	if err != nil {
		return entry{}, err
	}
	classes = append(classes, class)
	for _, class := range classes {
		if c.production && class == record.Test {
			return entry{}, refuse(api.CodeSimulated, "rests on a root of class test")
		}
	}
	// What no kiosk signed may be asked for through any, too.
	e := entry{submission: s, received: now, first: sender.Counter}
	if p.Context.KioskID != "" {
		e.sender = sender.ID
	}
	switch p.Context.Purpose {
	case record.Enroll, record.Replace:
		e.newKey, e.personal = p.Holder.Key.Thumbprint(), true
	case record.Update:
		e.personal = true
	}
	return e, nil
}

// lawful checks a payload against the policy that it names.
func (r *rules) lawful(p record.Payload, at time.Time) error {
	if err := r.signed.CheckTime(at); err != nil {
		return refuse(api.CodePolicy, "at capture: %w", err)
	}
	if p.Context.AuthorityKeyID != r.policy.Authority.ID {
		return refuse(api.CodePolicy, "another authority's key")
	}
	if p.Context.Purpose != record.Enroll {
		return nil
	}
	for _, t := range r.policy.Consents {
		if t.Required && !consented(p, t) {
			return refuse(api.CodePolicy, "no consent to %s", t.ID)
		}
	}
	for _, c := range p.Purposes {
		if !offered(r.policy, c) {
			return refuse(api.CodePolicy, "consent to a text that the policy does not have")
		}
	}
	return nil
}

func consented(p record.Payload, t policy.Text) bool {
	for _, c := range p.Purposes {
		if c.ID == t.ID && c.Version == t.Version {
			return true
		}
	}
	return false
}

func offered(p policy.Policy, c record.Consent) bool {
	for _, t := range p.Consents {
		if c.ID == t.ID && c.Version == t.Version {
			return true
		}
	}
	return false
}

// signer checks who made a signature, and returns the class of the root behind
// them. Holders are judged by their attestation.
func (r *rules) signer(s record.Signature, p record.Payload, sender Kiosk, at time.Time) (record.Class, error) {
	switch s.Role {
	case record.Kiosk:
		class, err := r.kiosks.Verify(s.Chain, at)
		if err != nil {
			return "", refuse(api.CodeKiosk, "kiosk: %w", err)
		}
		if s.Chain[0].Subject.CommonName != p.Context.KioskID || !sender.hasRecordKey(s.Chain[0].RawSubjectPublicKeyInfo) {
			return "", refuse(api.CodeKiosk, "not the key that is registered for this kiosk")
		}
		return class, nil
	case record.Officer, record.Supervisor:
		class, err := r.officers.Verify(s.Chain, at)
		if err != nil {
			return "", refuse(api.CodeOfficer, "%s: %w", s.Role, err)
		}
		if s.Chain[0].Subject.SerialNumber == "" {
			return "", refuse(api.CodeOfficer, "%s: the certificate has no number", s.Role)
		}
		return class, nil
	}
	return "", nil
}

// slotAuthentication is where an enrolled key lives (SP 800-73-4 part 1, 3.1.1).
const slotAuthentication = 0x9A

// holderKey verifies that the holder's key was born in a device, and returns
// the class of the root behind it; "" where the record names no attestation.
func (r *rules) holderKey(s record.Submission, sender Kiosk, at time.Time) (record.Class, error) {
	evidence, ok := s.Attestation()
	if !ok {
		return "", nil // the record's form says where that may be
	}
	p := s.Record().Payload()
	key, err := p.Holder.Key.Public()
	if err != nil {
		return "", refuse(api.CodeAttestation, "holder's key: %w", err)
	}
	var proof attest.Proof
	switch {
	case evidence.PIV != nil:
		least := r.policy.MinimumPIVFirmware
		proof, err = attest.VerifyPIV(hsm.PIVEvidence(*evidence.PIV), r.tokens, attest.PIVExpect{Slot: slotAuthentication, AnySerial: true, Key: key,
			Minimum: [3]byte{byte(least.Major), byte(least.Minor), byte(least.Patch)}, Revoked: r.policy.RevokedTokens,
			TouchAlways: true, At: at})
	case evidence.TPM != nil:
		binding := p.Context.KeyBinding()
		proof, err = attest.VerifyTPM(hsm.TPMEvidence(*evidence.TPM), attest.TPMExpect{AK: sender.AttestationKey, Class: sender.Class,
			QualifyingData: binding[:], OutsideInfo: binding, ParentName: sender.StorageKeyName})
	}
	if err != nil {
		return "", refuse(api.CodeAttestation, "%w", err)
	}
	if !samePublic(proof.Key(), key) {
		return "", refuse(api.CodeAttestation, "the evidence is of another key")
	}
	if class := record.Class(proof.Class()); class != p.Holder.Class {
		return "", refuse(api.CodeAttestation, "the record claims class %s, the evidence is of class %s", p.Holder.Class, class)
	}
	return p.Holder.Class, nil
}

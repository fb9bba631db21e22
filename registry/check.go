package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// codeOf is the code of a refusal; "" for an error that says nothing about the
// submission.
func codeOf(err error) string {
	var r *chain.Refusal
	var e *record.Error
	var fork *forkError
	switch {
	case errors.As(err, &r):
		return r.Code
	case errors.As(err, &e):
		return e.Code
	case errors.As(err, &fork):
		return fork.Code
	case errors.Is(err, errSuspended):
		return api.CodeSuspended
	case errors.Is(err, errKeyTaken):
		return api.CodeDuplicateKey
	case errors.Is(err, errHolder):
		return api.CodeHolder
	}
	return ""
}

// rules are one policy with its roots parsed.
type rules struct {
	signed  policy.Signed
	policy  policy.Policy
	signers chain.Signers
	tokens  []attest.Root
	between []*x509.Certificate // the token makers' intermediates
	since   time.Time           // this registry has it
}

func newRules(s policy.Signed, since time.Time) (*rules, error) {
	r := &rules{signed: s, policy: s.Policy(), since: since}
	var err error
	if r.signers, err = chain.NewSigners(r.policy); err != nil {
		return nil, err
	}
	if r.tokens, err = expect.Roots(r.policy.PIVRoots); err != nil {
		return nil, err
	}
	if r.between, err = expect.Intermediates(r.policy); err != nil {
		return nil, err
	}
	return r, nil
}

// check decides what a submission, the policy and the sender decide. What other
// records decide is the store's: see intake.Add.
type check struct {
	origin     string
	production bool
	rules      map[[32]byte]*rules // by policy digest: every policy ever in force
	revoked    chain.Revocations
}

// errUnknownPolicy says nothing about the record: the policy may come yet.
var errUnknownPolicy = errors.New("the record was made under a policy that this registry does not know: give it the new one")

// submission checks what sender sent under an id. A *chain.Refusal or *record.Error
// refuses it for good; the entry says then, where that is proved, which place in
// the sender's chain it has.
func (c check) submission(b []byte, id [32]byte, sender Kiosk, now time.Time) (entry, error) {
	s, err := record.ParseSubmission(b)
	if err != nil {
		return entry{}, err
	}
	if s.ID() != id {
		return entry{}, chain.Refuse(api.CodeID, "sent under another id")
	}
	e := entry{submission: s, received: now, starts: sender.starts()}
	if r := s.Record(); signedBy(r, sender) {
		e.number, e.link = r.Payload().Context.Sequence, linkOf(r, now)
	}
	err = c.entry(&e, sender, now)
	return e, err
}

// signedBy says whether a record is the kiosk's own. Its signatures are verified.
func signedBy(r record.Record, k Kiosk) bool {
	if r.Payload().Context.KioskID != k.ID {
		return false
	}
	s, ok := r.Signature(record.Kiosk)
	return ok && len(s.Chain) > 0 && k.hasRecordKey(s.Chain[0].RawSubjectPublicKeyInfo)
}

// entry fills what the checks find out.
func (c check) entry(e *entry, sender Kiosk, now time.Time) error {
	s := e.submission
	r := s.Record()
	if err := r.CheckAudience(c.origin); err != nil {
		return err
	}
	p := r.Payload()
	// A record that no kiosk signed (a holder's own revocation) may come through any.
	if k := p.Context.KioskID; k != "" && k != sender.ID {
		return chain.Refuse(api.CodeReplay, "another kiosk's record")
	}
	if sender.Revoked != nil {
		return chain.Refuse(api.CodeKioskRevoked, "revoked since %s", sender.Revoked.Format(time.RFC3339))
	}
	rules, known := c.rules[p.Context.PolicyDigest]
	if !known {
		return errUnknownPolicy
	}
	classes := make([]record.Class, 0, 5)
	var earliest time.Time
	if p.Context.KioskID != "" {
		earliest = sender.Registered
		classes = append(classes, record.Class(sender.Class)) // its TPM holds the key that signs
	}
	at, err := chain.Captured(p.Times, earliest, now, chain.Offline(rules.policy))
	if err != nil {
		return err
	}
	if err := c.lawful(rules, p, at); err != nil {
		return err
	}
	if err := chain.TwoOfficers(r.Signatures()); err != nil {
		return err
	}
	for _, sig := range r.Signatures() {
		class, err := rules.signers.Verify(sig, p.Context.KioskID, at, c.revoked)
		if err != nil {
			return err
		}
		if sig.Role == record.Kiosk && !sender.hasRecordKey(sig.Chain[0].RawSubjectPublicKeyInfo) {
			return chain.Refuse(api.CodeKiosk, "not the key that is registered for this kiosk")
		}
		if sig.Role == record.Officer && p.Context.Purpose == record.Enroll {
			e.approval = approval{sha256.Sum256(sig.Chain[0].Raw), receipt.DayOf(at)}
			e.quota = rules.policy.OfficerRule(sig.Chain[0]).Quota
		}
		classes = append(classes, class)
	}
	class, err := rules.holderKey(s, sender, at)
	if err != nil {
		return err
	}
	classes = append(classes, class)
	if c.production && slices.Contains(classes, record.Test) {
		return chain.Refuse(api.CodeSimulated, "rests on a root of class test")
	}
	// What no kiosk signed may be asked for through any, too.
	if p.Context.KioskID != "" {
		e.sender = sender.ID
	}
	switch p.Context.Purpose {
	case record.Enroll, record.Replace:
		e.newKey, e.personal = p.Holder.Key.Thumbprint(), true
	case record.Update:
		e.personal = true
	}
	return nil
}

// lawful checks a payload against the policy that it names. A policy goes stale:
// when it expires, and when a newer one has been here for as long as a kiosk may
// work offline. Else an altered kiosk could choose, of all that ever were, the one
// that suits it.
func (c check) lawful(r *rules, p record.Payload, at time.Time) error {
	switch err := r.signed.CheckTime(at); {
	case errors.Is(err, policy.ErrExpired):
		return chain.Refuse(api.CodePolicyStale, "at capture: %w", err)
	case err != nil:
		return chain.Refuse(api.CodePolicy, "at capture: %w", err)
	}
	for _, newer := range c.rules {
		if newer.policy.Version > r.policy.Version && at.After(newer.since.Add(chain.Offline(r.policy))) {
			return chain.Refuse(api.CodePolicyStale, "version %d was in force when version %d had been for %v", newer.policy.Version, r.policy.Version, at.Sub(newer.since))
		}
	}
	if p.Context.AuthorityKeyID != r.policy.Authority.ID {
		return chain.Refuse(api.CodePolicy, "another authority's key")
	}
	// Which kind of document it was only the vault can see.
	if len(p.Exceptions) > 0 && !slices.ContainsFunc(r.policy.Documents, func(d policy.Document) bool { return d.Allows(p.Exceptions) }) {
		return chain.Refuse(api.CodePolicy, "no document may lack %v", p.Exceptions)
	}
	if p.Context.Purpose != record.Enroll {
		return nil
	}
	for _, t := range r.policy.Consents {
		if t.Required && !consented(p, t) {
			return chain.Refuse(api.CodePolicy, "no consent to %s", t.ID)
		}
	}
	for _, c := range p.Purposes {
		if !offered(r.policy, c) {
			return chain.Refuse(api.CodePolicy, "consent to a text that the policy does not have")
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
		return "", chain.Refuse(api.CodeAttestation, "holder's key: %w", err)
	}
	var proof attest.Proof
	switch {
	case evidence.PIV != nil:
		if a, _ := hsm.AlgorithmOf(key); !slices.Contains(r.policy.TokenRules().Algorithms, policy.Algorithm(a)) {
			return "", chain.Refuse(api.CodeAttestation, "the policy allows no key of algorithm %q", a)
		}
		want := expect.Token(r.policy, r.between, expect.SlotAuthentication, key, at)
		want.AnySerial = true
		proof, err = attest.VerifyPIV(hsm.PIVEvidence(*evidence.PIV), r.tokens, want)
	case evidence.TPM != nil:
		if !r.policy.TokenRules().Custody {
			return "", chain.Refuse(api.CodeAttestation, "the policy wants citizens' keys on tokens, none in a kiosk's TPM")
		}
		binding := p.Context.KeyBinding()
		proof, err = attest.VerifyTPM(hsm.TPMEvidence(*evidence.TPM), attest.TPMExpect{AK: sender.AttestationKey, Class: sender.Class,
			QualifyingData: binding[:], OutsideInfo: binding, ParentName: sender.StorageKeyName, UserAuth: true})
	}
	if err != nil {
		return "", chain.Refuse(api.CodeAttestation, "%w", err)
	}
	if !samePublic(proof.Key(), key) {
		return "", chain.Refuse(api.CodeAttestation, "the evidence is of another key")
	}
	if class := record.Class(proof.Class()); class != p.Holder.Class {
		return "", chain.Refuse(api.CodeAttestation, "the record claims class %s, the evidence is of class %s", p.Holder.Class, class)
	}
	return p.Holder.Class, nil
}

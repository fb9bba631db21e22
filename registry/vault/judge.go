package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/trust"
)

// refusal is why an identity does not hold. Its error holds nothing personal.
type refusal struct {
	code string
	err  error
}

func (r *refusal) Error() string { return r.code + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(code string, err error) error { return &refusal{code, err} }

// judge knows the rules of every policy.
type judge struct {
	production bool
	rules      map[[32]byte]*rules // by policy digest
}

// rules are one policy, prepared.
type rules struct {
	policy   policy.Policy
	anchors  trust.Anchors
	kiosks   chain.Roots
	officers chain.Roots
}

func newRules(s policy.Signed) (*rules, error) {
	r := &rules{policy: s.Policy()}
	var list []trust.Anchor
	for _, a := range r.policy.Anchors {
		list = append(list, trust.Anchor{Certificate: a.Certificate, Class: trust.Class(a.Class)})
	}
	var err error
	if r.anchors, err = trust.NewAnchors(list, r.policy.CRLs...); err != nil {
		return nil, fmt.Errorf("trust anchors: %w", err)
	}
	if r.kiosks, err = chain.Parse(r.policy.KioskCA); err != nil {
		return nil, err
	}
	r.officers, err = chain.Parse(r.policy.OfficerCA)
	return r, err
}

// captured is the time of capture: what the kiosk says, but not before the last
// time that it had from the registry.
func captured(t record.Times) time.Time {
	if t.Wall.Before(t.Registry) {
		return t.Registry
	}
	return t.Wall
}

// signers checks that a kiosk and an officer stand behind the record, as the
// registry must have: it is not trusted to.
func (r *rules) signers(rec record.Record) error {
	at := captured(rec.Payload().Times)
	for _, s := range rec.Signatures() {
		switch s.Role {
		case record.Kiosk:
			if _, err := r.kiosks.Verify(s.Chain, at); err != nil {
				return refuse(api.CodeKiosk, err)
			}
		case record.Officer, record.Supervisor:
			if _, err := r.officers.Verify(s.Chain, at); err != nil {
				return refuse(api.CodeOfficer, err)
			}
		}
	}
	return nil
}

// document verifies the document again, as of the time of capture. The chip
// must have answered the challenge of this record and this key. Where it has no
// key for that, the kiosk's signed word for Chip Authentication stands: nobody
// can prove that to a third party.
func (r *rules) document(p record.Payload, id record.Identity, production bool) (trust.Holder, error) {
	key, err := p.Holder.Key.Public()
	if err != nil {
		return trust.Holder{}, refuse(api.CodeDocument, err)
	}
	challenge, err := p.Context.ChipChallenge(key)
	if err != nil {
		return trust.Holder{}, refuse(api.CodeDocument, err)
	}
	doc := lds.Document{Files: map[lds.File][]byte{}, Access: id.Access}
	for f, b := range id.Files {
		doc.Files[lds.File(f)] = b.Reveal()
	}
	if a := id.Active; a != nil {
		doc.Active = &lds.ActiveAuthentication{Challenge: a.Challenge, Signature: a.Signature}
	}
	holder, report, err := trust.Verify(doc, r.anchors, captured(p.Times),
		trust.Options{ExpectedChallenge: &challenge, RefuseExpired: true, FaceWithheld: true})
	if err != nil {
		return trust.Holder{}, refuse(api.CodeDocument, err)
	}
	claimed := report.ActiveAuthentication == trust.Impossible && report.ChipAuthentication != trust.Impossible &&
		id.Chip != nil && id.Chip.Passed
	if report.ActiveAuthentication != trust.Passed && !claimed {
		return trust.Holder{}, refuse(api.CodeDocument, trust.ErrChip)
	}
	if production && holder.Simulated() {
		return trust.Holder{}, refuse(api.CodeSimulated, errors.New("the document's authority is of class test"))
	}
	return holder, nil
}

// consents checks that what was shown is what the policy has, and that it is
// what the record says: no more, no less, nothing required left out.
func (r *rules) consents(p record.Payload, id record.Identity) error {
	bad := func(what string) error { return refuse(api.CodePolicy, fmt.Errorf("consents: %s", what)) }
	if len(p.Purposes) != len(id.Consents) {
		return bad("sealed and open ones differ")
	}
	given := map[string]bool{}
	for i, shown := range id.Consents {
		if open := p.Purposes[i]; open.ID != shown.ID || open.Version != shown.Version || given[shown.ID] {
			return bad("sealed and open ones differ")
		}
		given[shown.ID] = true
		text, ok := r.text(shown.ID)
		if !ok || text.Version != shown.Version {
			return bad("a text that the policy does not have")
		}
		if digest, ok := text.Digest(shown.Language); !ok || digest != shown.Digest {
			return bad("other words than the policy's")
		}
	}
	for _, t := range r.policy.Consents {
		if t.Required && !given[t.ID] {
			return bad("a required one is missing")
		}
	}
	return nil
}

func (r *rules) text(id string) (policy.Text, bool) {
	for _, t := range r.policy.Consents {
		if t.ID == id {
			return t, true
		}
	}
	return policy.Text{}, false
}

// tokens stand for a person in the store: keyed hashes, useless without the
// vault's key. A person is found again by the same document, and by the same
// name and date of birth under the same issuer on another document.
type tokens struct {
	document [32]byte
	person   [32]byte
}

func (v *Vault) tokensOf(m lds.MRZ) tokens {
	text := func(s string) []byte { return []byte(strings.ToUpper(strings.TrimSpace(s))) }
	return tokens{
		document: v.token("enrollkiosk/document/v1", text(m.Issuer), m.Number.Reveal()),
		person:   v.token("enrollkiosk/person/v1", text(m.Issuer), m.Primary.Reveal(), m.Secondary.Reveal(), m.Birth.Text().Reveal()),
	}
}

// token is HMAC-SHA256 over label and fields, each with its length before it.
func (v *Vault) token(label string, fields ...[]byte) (out [32]byte) {
	mac := hmac.New(sha256.New, v.persons.Reveal())
	for _, f := range append([][]byte{[]byte(label)}, fields...) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(f)))
		mac.Write(n[:])
		mac.Write(f)
	}
	mac.Sum(out[:0])
	return out
}

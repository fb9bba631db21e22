package vault

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/chain"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/prcid"
	"enrollkiosk/smartcard/trust"
)

// judge knows the rules of every policy.
type judge struct {
	production bool
	rules      map[[32]byte]*rules // by policy digest
	revoked    chain.Revocations
}

// rules are one policy, prepared.
type rules struct {
	policy  policy.Policy
	anchors trust.Anchors
	signers chain.Signers
	tpms    []attest.Root // of endorsement certificates
}

func newRules(s policy.Signed) (*rules, error) {
	r := &rules{policy: s.Policy()}
	var err error
	if r.anchors, err = anchorsOf(r.policy); err != nil {
		return nil, fmt.Errorf("trust anchors: %w", err)
	}
	if r.tpms, err = tpmRoots(r.policy); err != nil {
		return nil, err
	}
	r.signers, err = chain.NewSigners(r.policy)
	return r, err
}

// signers checks that a kiosk and an officer stand behind the record, as the
// registry must have: it is not trusted to. It returns the time of capture.
func (j judge) signers(r *rules, rec record.Record, now time.Time) (time.Time, error) {
	p := rec.Payload()
	var issued time.Time // of the kiosk's certificate: the kiosk did not work before
	for _, s := range rec.Signatures() {
		if s.Role == record.Kiosk {
			issued = s.Chain[0].NotBefore
		}
	}
	at, err := chain.Captured(p.Times, issued, now, chain.Offline(r.policy))
	if err != nil {
		return at, err
	}
	if err := chain.TwoOfficers(rec.Signatures()); err != nil {
		return at, err
	}
	for _, s := range rec.Signatures() {
		class, err := r.signers.Verify(s, p.Context.KioskID, at, j.revoked)
		if err != nil {
			return at, err
		}
		if j.production && class == record.Test {
			return at, chain.Refuse(api.CodeSimulated, "%s: the authority is of class test", s.Role)
		}
	}
	return at, nil
}

// papers are a document as they were sealed, the holder's or the guardian's.
type papers struct {
	kind   record.Document
	files  map[uint16]secret.Text
	access string
	chip   *record.ChipClaim
	active *record.ActiveEvidence
}

func papersOf(id record.Identity) papers {
	return papers{id.Document, id.Files, id.Access, id.Chip, id.Active}
}

// party is whoever a verified document is of.
type party struct {
	identity.Holder
	lacks []record.Exception // what the document cannot prove
}

// people verifies the documents in an identity again, as of the time of capture:
// the holder's, and that of the guardian who must stand beside a child, and beside
// nobody else. What they lack must be what the record says, and what the policy
// accepts of their kinds. guardian is not valid where there is none.
func (r *rules) people(p record.Payload, id record.Identity, at time.Time, production bool) (holder, guardian identity.Holder, err error) {
	key, err := p.Holder.Key.Public()
	if err != nil {
		return holder, guardian, chain.Refuse(api.CodeDocument, "%w", err)
	}
	challenge, err := p.Context.ChipChallenge(key)
	if err != nil {
		return holder, guardian, chain.Refuse(api.CodeDocument, "%w", err)
	}
	own, err := r.document(papersOf(id), challenge, at, production)
	if err != nil {
		return holder, guardian, err
	}
	lacks, err := r.age(p, id, own, at)
	if err != nil {
		return holder, guardian, err
	}
	if id.Guardian != nil {
		other, err := r.guardian(p, id, own, at, production)
		if err != nil {
			return holder, guardian, err
		}
		guardian, lacks = other.Holder, append(lacks, other.lacks...)
	}
	slices.Sort(lacks)
	if lacks = slices.Compact(lacks); !slices.Equal(lacks, p.Exceptions) {
		return holder, guardian, chain.Refuse(api.CodeDocument, "the documents lack %v, the record says %v", lacks, p.Exceptions)
	}
	return own.Holder, guardian, nil
}

// document verifies one document, by its kind. Its chip must have signed the
// challenge, if it has a key for that.
func (r *rules) document(d papers, challenge [32]byte, at time.Time, production bool) (party, error) {
	rule, ok := r.policy.Document(d.kind)
	if !ok {
		return party{}, chain.Refuse(api.CodeDocument, "this kind of document is not accepted")
	}
	holder, err := r.verify(rule, d, challenge, at)
	if err != nil {
		return party{}, chain.Refuse(api.CodeDocument, "%w", err)
	}
	missing, err := lacks(d, holder)
	if err != nil {
		return party{}, chain.Refuse(api.CodeDocument, "%w", err)
	}
	if !rule.Allows(missing) {
		return party{}, chain.Refuse(api.CodeDocument, "the document lacks %v, which the policy does not accept", missing)
	}
	if production && holder.Simulated() {
		return party{}, chain.Refuse(api.CodeSimulated, "the document's authority is of class test")
	}
	return party{holder, missing}, nil
}

// verify has the verifier of the document's kind look at it.
func (r *rules) verify(rule policy.Document, d papers, challenge [32]byte, at time.Time) (identity.Holder, error) {
	switch d.kind {
	case record.BelgianEID:
		return r.verifyBelgian(rule, d, challenge, at)
	case record.PRCResident:
		return verifyResident(rule, d, at)
	}
	return r.verifyEMRTD(d, [8]byte(challenge[:8]), at)
}

func (r *rules) verifyEMRTD(d papers, challenge [8]byte, at time.Time) (identity.Holder, error) {
	doc := lds.Document{Files: map[lds.File][]byte{}, Access: d.access}
	for f, b := range d.files {
		doc.Files[lds.File(f)] = b.Reveal()
	}
	opts := trust.Options{ExpectedChallenge: &challenge, RefuseExpired: true, FaceWithheld: true}
	if a := d.active; a != nil {
		if len(a.Challenge) != len(challenge) {
			return identity.Holder{}, fmt.Errorf("%w: challenge of %d bytes", trust.ErrMalformed, len(a.Challenge))
		}
		doc.Active = &lds.ActiveAuthentication{Challenge: [8]byte(a.Challenge), Signature: a.Signature}
	}
	h, report, err := trust.Verify(doc, r.anchors, at, opts)
	if err != nil {
		return identity.Holder{}, err
	}
	if err := hidesKeys(h.Document()); err != nil {
		return identity.Holder{}, err
	}
	// A chip that can sign must have: neither the kiosk's word nor an exception is
	// a substitute.
	if report.ActiveAuthentication == trust.NotChecked {
		return identity.Holder{}, trust.ErrChip
	}
	return identity.OfEMRTD(h)
}

func (r *rules) verifyBelgian(rule policy.Document, d papers, challenge [32]byte, at time.Time) (identity.Holder, error) {
	roots, err := belgianRoots(rule)
	if err != nil {
		return identity.Holder{}, err
	}
	doc := beid.Document{Files: map[beid.File][]byte{}}
	for f, b := range d.files {
		doc.Files[beid.File(f)] = b.Reveal()
	}
	if a := d.active; a != nil {
		var e beid.ChipAuthentication
		if len(a.Challenge) != len(e.Challenge) || len(a.Signature) != len(e.Signature) {
			return identity.Holder{}, fmt.Errorf("%w: chip evidence", beid.ErrMalformed)
		}
		copy(e.Challenge[:], a.Challenge)
		copy(e.Signature[:], a.Signature)
		doc.Chip = &e
	}
	h, report, err := beid.Verify(doc, roots, at, beid.Options{ExpectedChallenge: &challenge, RefuseExpired: true, PhotoWithheld: true})
	if err != nil {
		return identity.Holder{}, err
	}
	if report.Chip == beid.NotChecked {
		return identity.Holder{}, beid.ErrChip
	}
	return identity.OfBelgian(h)
}

// verifyResident can only look at form and agreement: nobody signed the data.
func verifyResident(rule policy.Document, d papers, at time.Time) (identity.Holder, error) {
	doc, err := prcid.Parse(bytes.Clone(d.files[identity.ResidentText].Reveal()))
	if err != nil {
		return identity.Holder{}, err
	}
	unsigned := []record.Exception{record.NoChipProof, record.NoIssuerSignature}
	return identity.OfResident(doc, at, identity.Unsigned{Accept: rule.Allows(unsigned), Simulated: rule.Class != record.Production})
}

// consents checks that what was shown is what the policy has, and that it is
// what the record says: no more, no less, nothing required left out.
func (r *rules) consents(p record.Payload, id record.Identity) error {
	bad := func(what string) error { return chain.Refuse(api.CodePolicy, "consents: %s", what) }
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
// vault's key. A document is found again by issuer and number, a person by the
// same name and date of birth under the same issuer on another document.
type tokens struct {
	document [32]byte
	person   [32]byte
}

func tokensOf(key secret.Text, kind identity.Kind, p identity.Person) tokens {
	text := func(s string) []byte { return []byte(strings.ToUpper(strings.TrimSpace(s))) }
	return tokens{
		document: token(key, "enrollkiosk/document/v1", text(string(kind)), text(p.Issuer), p.Number.Reveal()),
		person:   token(key, "enrollkiosk/person/v1", text(p.Issuer), p.Surname.Reveal(), p.GivenNames.Reveal(), p.Birth.Reveal()),
	}
}

// token is HMAC-SHA256 over label and fields, each with its length before it.
func token(key secret.Text, label string, fields ...[]byte) (out [32]byte) {
	mac := hmac.New(sha256.New, key.Reveal())
	for _, f := range append([][]byte{[]byte(label)}, fields...) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(f)))
		mac.Write(n[:])
		mac.Write(f)
	}
	mac.Sum(out[:0])
	return out
}

package kiosk

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/sync/queue"
)

// currentPolicy is the policy in force; the kiosk does not enroll without one.
func (e *enrollment) currentPolicy() (policy.Signed, error) {
	p, err := e.newestPolicy()
	if err != nil {
		return p, err
	}
	if err := p.CheckTime(e.now()); err != nil {
		return p, err
	}
	for _, c := range p.Policy().Consents {
		for _, language := range e.d.base.Languages {
			digest, ok := c.Digest(language)
			if _, installed := e.texts(digest); !ok || !installed {
				return p, fmt.Errorf("%w: %s in %s", errText, c.ID, language)
			}
		}
	}
	return p, nil
}

// wording is the title and the body of a consent text; currentPolicy has made
// sure that it is there.
func (e *enrollment) wording(t policy.Text, language string) (title, body string) {
	digest, _ := t.Digest(language)
	text, _ := e.texts(digest)
	title, body, _ = strings.Cut(text, "\n")
	return title, strings.TrimSpace(body)
}

// payload is everything that gets signed. Nothing in it names or describes the
// citizen.
func (e *enrollment) payload(rc record.Context, previous [32]byte, key citizenKey, consents []record.ConsentText, sealed record.Sealed, lacks []record.Exception, cancelCode [16]byte) (record.Payload, error) {
	p := record.Payload{Context: rc, Previous: previous, Times: e.clock(), CancelSHA: record.CancelHash(cancelCode[:]),
		Identity: sealed, Exceptions: lacks}
	rand.Read(p.Blind[:])
	for _, c := range consents {
		p.Purposes = append(p.Purposes, record.Consent{ID: c.ID, Version: c.Version})
	}
	public := key.proof.Key()
	jwk, err := record.NewJWK(public)
	if err != nil {
		return p, err
	}
	did, err := record.DIDKey(public)
	if err != nil {
		return p, err
	}
	p.Holder = record.HolderKey{DID: did, Key: jwk, Where: record.Where(key.proof.Where()), Class: record.Class(key.proof.Class()),
		Attestation: key.evidence.Digest()}
	var signers []signer
	if e.old != nil {
		p.Replaces = e.old.did
		signers = append(signers, signer{record.OldHolder, e.old.key.Public(), nil})
	}
	if e.lost != "" {
		p.Replaces = e.lost
	}
	signers = append(signers, signer{record.Holder, public, nil}, signer{record.Officer, e.officer.leaf.PublicKey, e.officer.chain})
	if e.second.leaf != nil {
		signers = append(signers, signer{record.Supervisor, e.second.leaf.PublicKey, e.second.chain})
	}
	p.Signers, err = refs(append(signers, signer{record.Kiosk, e.tpm.RecordKey().Public(), e.cert}))
	return p, err
}

// withheld are the files with the citizen's face, which stays here unless policy
// asks for it.
var withheld = map[identity.Kind]uint16{identity.EMRTD: uint16(lds.DG2), identity.BelgianEID: uint16(beid.PhotoFile),
	identity.PRCResident: identity.ResidentPhoto}

// identity is what is sealed to the authority: what the vault needs to verify
// the document again, what the officers confirmed, and what administers the token if there is one.
func (e *enrollment) identity(doc *document, consents []record.ConsentText, admin *TokenAdmin) record.Identity {
	h := doc.holder
	id := record.Identity{Document: record.Document(h.Kind()), Files: e.sealedFiles(doc), Access: h.Access(), Report: h.Report(),
		Consents: consents, Checks: []record.Check{{Code: "face-matches", Passed: true}}}
	if admin != nil {
		id.TokenAdmin = &record.TokenAdmin{PUK: admin.PUK, ManagementKey: admin.ManagementKey}
	}
	for _, l := range e.exceptions(doc) {
		id.Checks = append(id.Checks, record.Check{Code: "agreed-" + string(l), Passed: true})
	}
	if e.lost != "" {
		id.Checks = append(id.Checks, record.Check{Code: "agreed-old-key-lost", Passed: true})
	}
	id.Chip, id.Active = proofsOf(h)
	if e.guardian != nil {
		id.Guardian = e.guardian.sealed()
	}
	return id
}

// sealedFiles are those of the citizen's document that are sealed.
func (e *enrollment) sealedFiles(doc *document) map[uint16]secret.Text {
	return evidenceOf(doc.holder, e.policy.Policy().Files...)
}

// evidenceOf are the files that the vault needs to verify a document again, and those
// asked for beside.
func evidenceOf(h identity.Holder, asked ...uint16) map[uint16]secret.Text {
	files := map[uint16]secret.Text{}
	for f, b := range h.Files() {
		if f != withheld[h.Kind()] && (h.Kind() != identity.EMRTD || slices.Contains(evidence, lds.File(f))) || slices.Contains(asked, f) {
			files[f] = secret.New(b)
		}
	}
	return files
}

// proofsOf are what a document's chip has proved: to this kiosk, and to others.
func proofsOf(h identity.Holder) (claim *record.ChipClaim, active *record.ActiveEvidence) {
	if c := h.ChipClaim(); c != nil {
		claim = &record.ChipClaim{Protocol: c.Protocol, KeyID: c.KeyID, Passed: c.Passed}
	}
	if a := h.Signed(); a != nil {
		active = &record.ActiveEvidence{Challenge: a.Challenge, Signature: a.Signature}
	}
	return claim, active
}

// evidence are the files of an eMRTD that the vault needs.
var evidence = []lds.File{lds.DG1, lds.EFSOD, lds.DG14, lds.DG15, lds.EFCardSecurity}

// itemOf names files for people; a file that is not here is one of "further-files".
var itemOf = map[record.Document]map[uint16]string{
	record.EMRTD: {uint16(lds.DG1): "dg1", uint16(lds.DG2): "dg2", uint16(lds.DG14): "dg14", uint16(lds.DG15): "dg15",
		uint16(lds.EFSOD): "sod", uint16(lds.EFCardSecurity): "dg14"},
	record.BelgianEID: {uint16(beid.IdentityFile): "identity-file", uint16(beid.AddressFile): "address-file", uint16(beid.PhotoFile): "dg2",
		uint16(beid.IdentitySignature): "card-signatures", uint16(beid.AddressSignature): "card-signatures",
		uint16(beid.RegisterCertificate): "card-signatures", uint16(beid.BasicKey): "dg14"},
	record.PRCResident: {identity.ResidentText: "resident-text", identity.ResidentAddress: "resident-text", identity.ResidentPhoto: "dg2"},
}

// sealedItems names what an identity holds, once each, for the citizen to read.
func sealedItems(id record.Identity) []string {
	var items []string
	add := func(item string) {
		if !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	for _, f := range slices.Sorted(maps.Keys(id.Files)) {
		if item, known := itemOf[id.Document][f]; known {
			add(item)
		} else {
			add("further-files")
		}
	}
	if id.Chip != nil || id.Active != nil {
		add("chip-proof")
	}
	items = append(items, "report", "consents", "officer-checks")
	if id.Guardian != nil {
		items = append(items, "guardian")
	}
	if id.TokenAdmin != nil {
		items = append(items, "token-admin")
	}
	return items
}

// review is what the citizen reads before signing.
func (e *enrollment) review(f *frozen, consents []record.ConsentText) *ReviewView {
	v := &ReviewView{DID: f.payload.Holder.DID, Sealed: f.sealed,
		Open: []string{"did", "public-key", "key-place", "attestation", "officer", "kiosk", "purposes", "times", "cancel-code"}}
	if f.payload.Holder.Where == record.TPM {
		v.Open[2], v.Open[3] = "key-place-kiosk", "attestation-kiosk"
	}
	if e.renews {
		v.Open[0] = "same-did"
	}
	if f.payload.Replaces != "" {
		v.Open = append(v.Open, "old-did")
	}
	if len(f.payload.Exceptions) > 0 {
		v.Open = append(v.Open, "exceptions")
	}
	if e.second.leaf != nil {
		v.Open = append(v.Open, "second-officer")
	}
	for _, c := range consents {
		for _, t := range e.policy.Policy().Consents {
			if t.ID == c.ID {
				title, _ := e.wording(t, e.d.base.Language)
				v.Consents = append(v.Consents, ConsentView{ID: t.ID, Title: title, Required: t.Required})
			}
		}
	}
	return v
}

// voidUnused queues the void record of a number that was reserved and not used.
func (e *enrollment) voidUnused(ctx context.Context) error {
	h, unused, err := e.chain.check(ctx)
	if err != nil || unused == 0 {
		return err
	}
	r, err := record.NewVoid(ctx, e.newContext(record.Void, unused), h.Previous, e.clock(), e.tpm.RecordKey(), e.cert)
	if err != nil {
		return err
	}
	return e.put(ctx, r, nil, unused)
}

// put queues a signed record with the chain's new head in one transaction.
func (e *enrollment) put(ctx context.Context, r record.Record, evidence *record.Attestation, sequence uint64) error {
	submission, err := record.NewSubmission(r, evidence)
	if err != nil {
		return err
	}
	head, err := e.chain.recorded(sequence, r.ID())
	if err != nil {
		return err
	}
	return e.queue.Put(ctx, queue.Item{ID: r.ID(), Data: submission.Bytes(), Head: head})
}

// provisional is the receipt that this kiosk signs at once, also offline.
func (e *enrollment) provisional(ctx context.Context, f *frozen, at time.Time) (string, error) {
	b, err := receipt.SignProvisional(ctx, receipt.Provisional{Record: f.draft.ID(), Audience: f.payload.Context.Audience,
		Kiosk: e.id, Sequence: f.sequence, Time: at.UTC().Truncate(time.Second), Claim: claim()}, e.tpm.RecordKey())
	return string(b), err
}

// claim is a code to collect credentials with later.
func claim() string {
	var b [10]byte
	rand.Read(b[:])
	return base32.StdEncoding.EncodeToString(b[:])
}

// NewTokenAdmin makes a random PUK of eight digits and a management key for
// AES-192 (SP 800-78-4 table 6-1).
func NewTokenAdmin() TokenAdmin {
	puk := make([]byte, 8)
	for i := range puk {
		n, err := rand.Int(rand.Reader, big.NewInt(10))
		if err != nil {
			panic(err) // crypto/rand never fails
		}
		puk[i] = '0' + byte(n.Int64())
	}
	key := make([]byte, 24)
	rand.Read(key)
	return TokenAdmin{PUK: secret.New(puk), ManagementKey: secret.New(key)}
}

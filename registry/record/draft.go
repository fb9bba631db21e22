package record

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"

	"enrollkiosk/registry/internal/canonical"
)

const recordType = "enrollkiosk-record+jws"

// Signer is a key in its device; hsm.Key is one.
//
// Sign gets what the key's algorithm signs: a SHA-256 digest for P-256 and RSA, a
// SHA-384 digest for P-384, the message itself for Ed25519, which hashes on its
// own. It returns what crypto.Signer would: ASN.1 DER for ECDSA, PKCS #1 v1.5 for
// RSA.
type Signer interface {
	Public() crypto.PublicKey
	Sign(ctx context.Context, digest []byte) ([]byte, error)
}

// PSSSigner is the ability of an RSA Signer to say that it signs with PSS and a
// salt of 32 bytes.
type PSSSigner interface{ PSS() bool }

// Draft is a frozen payload that collects its signatures, one role after
// another in the order of Payload.Signers.
type Draft struct {
	payload Payload
	signing
}

// signing is the bytes of a frozen payload with the signatures made so far, in
// the order of refs.
type signing struct {
	typ        string
	refs       []SignerRef
	bytes      []byte
	signatures []signature
}

// envelope is the general JWS JSON serialization (RFC 7515 7.2.1) without
// unprotected headers.
type envelope struct {
	Payload    []byte      `json:"payload"`
	Signatures []signature `json:"signatures"`
}

type signature struct {
	Protected []byte `json:"protected"`
	Signature []byte `json:"signature"`
}

// New checks p and freezes it. The error is an *Error with CodeForm,
// CodeSigners or CodeSize.
func New(p Payload) (*Draft, error) {
	b, err := p.Bytes()
	if err != nil {
		return nil, err
	}
	d := &Draft{}
	if err := canonical.Unmarshal(b, &d.payload); err != nil {
		return nil, fail(CodeForm, "payload: %w", err)
	}
	d.signing = signing{typ: recordType, refs: d.payload.Signers, bytes: b}
	return d, nil
}

// ID is the id that the record will have.
func (d *Draft) ID() [32]byte { return ID(d.bytes) }

// Next is the role that must sign now; "" when all have.
func (d *signing) Next() Role {
	if len(d.signatures) == len(d.refs) {
		return ""
	}
	return d.refs[len(d.signatures)].Role
}

// Sign signs for role, which must be Next, with the key that the payload names
// for it. chain is the certificate chain, leaf first, DER, or nil for a bare
// key. A device's error is wrapped; every other is an *Error. After an error the
// draft is as before and Sign may be called again.
func (d *signing) Sign(ctx context.Context, role Role, s Signer, chain [][]byte) error {
	if role != d.Next() {
		return fail(CodeSigners, "%s signs out of turn, next is %q", role, d.Next())
	}
	ref, err := SignerOf(role, s.Public(), chain)
	if err != nil {
		return fail(CodeSigners, "%s: %w", role, err)
	}
	if ref != d.refs[len(d.signatures)] {
		return fail(CodeSigners, "%s: not the key that the payload names", role)
	}
	h := header{Type: d.typ, Role: role}
	if h.Algorithm, err = algorithm(s); err != nil {
		return fail(CodeSigners, "%s: %w", role, err)
	}
	if ref.By == ByJWK {
		if h.JWK, err = NewJWK(s.Public()); err != nil {
			return fail(CodeSigners, "%s: %w", role, err)
		}
	}
	for _, der := range chain {
		h.X5C = append(h.X5C, base64.StdEncoding.EncodeToString(der))
	}
	if role == Kiosk {
		h.Prev = hashSignatures(d.signatures)
	}
	pub, _, err := h.key()
	if err != nil {
		return fail(CodeSigners, "%s: %w", role, err)
	}
	if !samePublic(pub, s.Public()) {
		return fail(CodeSigners, "%s: the certificate is not this key's", role)
	}
	protected := canonical.Marshal(h)
	sig, err := sign(ctx, s, h.Algorithm, signingInput(nil, protected, b64.AppendEncode(nil, d.bytes)))
	if err != nil {
		return fmt.Errorf("sign as %s: %w", role, err)
	}
	d.signatures = append(d.signatures, signature{protected, sig})
	return nil
}

// Record returns the finished record, through Parse like any other.
func (d *Draft) Record() (Record, error) {
	b, err := d.envelope()
	if err != nil {
		return Record{}, err
	}
	return Parse(b)
}

// envelope is the JWS once all have signed.
func (d *signing) envelope() ([]byte, error) {
	if next := d.Next(); next != "" {
		return nil, fail(CodeSigners, "%s has not signed", next)
	}
	return canonical.Marshal(envelope{d.bytes, d.signatures}), nil
}

// NewVoid makes the record of a sequence number that was reserved and not used:
// c names it, with purpose Void; only the kiosk signs.
func NewVoid(ctx context.Context, c Context, previous [32]byte, times Times, kiosk Signer, chain [][]byte) (Record, error) {
	ref, err := SignerOf(Kiosk, kiosk.Public(), chain)
	if err != nil {
		return Record{}, fail(CodeSigners, "kiosk: %w", err)
	}
	p := Payload{Context: c, Previous: previous, Times: times, Signers: []SignerRef{ref}}
	rand.Read(p.Blind[:])
	d, err := New(p)
	if err != nil {
		return Record{}, err
	}
	if c.Purpose != Void {
		return Record{}, fail(CodeForm, "purpose is not void")
	}
	if err := d.Sign(ctx, Kiosk, kiosk, chain); err != nil {
		return Record{}, err
	}
	return d.Record()
}

func hashSignatures(s []signature) [32]byte {
	var all []byte
	for _, s := range s {
		all = append(all, s.Signature...)
	}
	return sha256.Sum256(all)
}

// Bytes checks p and encodes it. The error is an *Error.
func (p Payload) Bytes() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	b := canonical.Marshal(p)
	if len(b) > MaxRecord {
		return nil, fail(CodeSize, "payload of %d bytes", len(b))
	}
	return b, nil
}

// check is everything about a payload that follows from its own members.
func (p Payload) check() error {
	if err := p.Context.Check(); err != nil {
		return err
	}
	if err := p.checkSigners(); err != nil {
		return err
	}
	if p.Times.Wall.IsZero() || p.Times.Monotonic > canonical.MaxNumber || p.Times.Boot == [16]byte{} {
		return fail(CodeForm, "times: wall, monotonic or boot is missing or out of range")
	}
	if p.Blind == [32]byte{} {
		return fail(CodeForm, "no blind")
	}
	if err := p.checkHolder(); err != nil {
		return err
	}
	purpose := p.Context.Purpose
	personal := purpose == Enroll || purpose == Replace || purpose == Update
	switch {
	case purpose == Enroll && len(p.Purposes) == 0, !personal && len(p.Purposes) > 0, len(p.Purposes) > 32:
		return fail(CodeForm, "%s with %d purposes", purpose, len(p.Purposes))
	case (purpose == Enroll || purpose == Replace) && p.CancelSHA == [32]byte{}, !personal && p.CancelSHA != [32]byte{}:
		return fail(CodeForm, "%s: cancel hash missing or out of place", purpose)
	case purpose != Replace && p.Replaces != "":
		return fail(CodeForm, "%s replaces nothing", purpose)
	}
	if err := p.checkExceptions(personal); err != nil {
		return err
	}
	for i, c := range p.Purposes {
		if !identifier(c.ID) || c.Version == 0 || c.Version > canonical.MaxNumber || slices.ContainsFunc(p.Purposes[:i], func(o Consent) bool { return o.ID == c.ID }) {
			return fail(CodeForm, "purpose %d", i)
		}
	}
	if p.Replaces != "" {
		if _, err := ParseDIDKey(p.Replaces); err != nil || p.Replaces == p.Holder.DID {
			return fail(CodeForm, "replaces no other DID")
		}
	}
	return p.Identity.check(p.Context, personal)
}

// checkExceptions holds that exceptions have the one order, and that a second
// officer signs for them and for nothing else, but for an old key that is lost.
func (p Payload) checkExceptions(personal bool) error {
	known := []Exception{NoAge, NoChipProof, NoIssuerSignature}
	if !slices.IsSorted(p.Exceptions) || len(slices.Compact(slices.Clone(p.Exceptions))) != len(p.Exceptions) ||
		slices.ContainsFunc(p.Exceptions, func(e Exception) bool { return !slices.Contains(known, e) }) ||
		!personal && len(p.Exceptions) > 0 {
		return fail(CodeForm, "%s with exceptions %v", p.Context.Purpose, p.Exceptions)
	}
	signs := func(r Role) bool {
		return slices.ContainsFunc(p.Signers, func(s SignerRef) bool { return s.Role == r })
	}
	second := signs(Supervisor)
	needless := second && (p.Context.Purpose == Enroll || p.Context.Purpose == Update || signs(OldHolder))
	if len(p.Exceptions) > 0 && !second || len(p.Exceptions) == 0 && needless {
		return fail(CodeSigners, "%d exceptions and the supervisor disagree", len(p.Exceptions))
	}
	return nil
}

func (p Payload) checkSigners() error {
	var roles []Role
	for i, s := range p.Signers {
		roles = append(roles, s.Role)
		switch {
		case s.By == ByJWK && (s.Role == Officer || s.Role == Supervisor),
			s.By == ByX5C && (s.Role == Holder || s.Role == OldHolder),
			s.By != ByJWK && s.By != ByX5C:
			return fail(CodeSigners, "%s by %q", s.Role, s.By)
		}
		if slices.ContainsFunc(p.Signers[:i], func(o SignerRef) bool { return o.SHA256 == s.SHA256 }) {
			return fail(CodeSigners, "%s has another role's key", s.Role)
		}
	}
	if !slices.ContainsFunc(signerSets[p.Context.Purpose], func(set []Role) bool { return slices.Equal(set, roles) }) {
		return fail(CodeSigners, "%s cannot be signed by %v", p.Context.Purpose, roles)
	}
	if slices.Contains(roles, Kiosk) == (p.Context.KioskID == "") {
		return fail(CodeForm, "kiosk id and signers disagree")
	}
	if p.Context.KioskID == "" && p.Previous != [32]byte{} {
		return fail(CodeForm, "previous without a kiosk")
	}
	return nil
}

func (p Payload) checkHolder() error {
	h, purpose := p.Holder, p.Context.Purpose
	if purpose == Void {
		if h.DID != "" || !h.Key.Equal(JWK{}) || h.Where != "" || h.Class != "" || h.Attestation != [32]byte{} {
			return fail(CodeForm, "void with a holder")
		}
		return nil
	}
	pub, err := h.Key.Public()
	if err != nil {
		return fail(CodeForm, "holder key: %w", err)
	}
	did, err := DIDKey(pub)
	if err != nil || did != h.DID {
		return fail(CodeForm, "the holder's DID is not its key's")
	}
	print := h.Key.Thumbprint()
	for _, s := range p.Signers {
		if (s.Role == Holder) != (s.SHA256 == print) && (s.Role == Holder || s.By == ByJWK) {
			return fail(CodeSigners, "%s and the holder's key", s.Role)
		}
	}
	where := h.Where == PIV || h.Where == TPM
	class := h.Class == Production || h.Class == Test
	attested := h.Attestation != [32]byte{}
	switch purpose {
	case Revoke:
		if h.Where != "" || h.Class != "" || attested {
			return fail(CodeForm, "revoke says where the key lives")
		}
	case Update:
		if !where || !class {
			return fail(CodeForm, "holder: where or class")
		}
	default:
		if !where || !class || !attested {
			return fail(CodeForm, "holder: where, class or attestation")
		}
	}
	return nil
}

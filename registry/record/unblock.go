package record

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"slices"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/internal/canonical"
)

// What unblocks an enrolled token whose citizen has forgotten the PIN: a request
// that an officer of the service desk and a kiosk sign, and the vault's answer.
// docs/unblocking.md describes both.
const (
	UnblockType       = "enrollkiosk-unblock+jws"
	UnblockAnswerType = "enrollkiosk-unblock-answer+jws"

	unblockSealInfo   = "enrollkiosk/unblock-admin/v1"  // HPKE's info of the new administrator
	unblockAnswerInfo = "enrollkiosk/unblock-answer/v1" // HKDF's info of the answer's key, before the request's id
)

// Desk is the role of an officer who serves at the desk for tokens. It signs no
// record.
const Desk Role = "desk"

// Limits of unblocking, in bytes and numbers.
const (
	MaxUnblock       = 32 << 10
	MaxUnblockAnswer = 16 << 10
	MaxCandidates    = 32
	maxEndorsements  = 8
)

// UnblockContext is what a request is about. The new administrator is sealed in it.
type UnblockContext struct {
	Version        uint64    `json:"version"`   // the constant Version
	Audience       string    `json:"audience"`  // the log's origin
	KioskID        string    `json:"kiosk"`     //
	DID            string    `json:"did"`       // of the token's holder: did:key of slot 9A
	Serial         uint32    `json:"serial"`    // of the token
	Time           time.Time `json:"time"`      // whole seconds, UTC
	Nonce          [32]byte  `json:"nonce"`     // random
	PolicyDigest   [32]byte  `json:"policy"`    // digest of the policy in force
	AuthorityKeyID string    `json:"authority"` // the key that the new administrator is sealed to

	// Names of the kiosk's TPM keys (TPM 2.0 Part 1, 16): whose TPM may open the
	// answer is what the officer signs, so that no registry can put in another.
	EKNames [][]byte `json:"ek_names"` // every endorsement key of that TPM; one of them is registered
	AKName  []byte   `json:"ak_name"`
}

// Bytes is the canonical encoding; it stands in the payload as it is.
func (c UnblockContext) Bytes() []byte { return canonical.Marshal(c) }

func (c UnblockContext) check() error {
	_, err := ParseDIDKey(c.DID)
	switch {
	case c.Version != Version:
		return fail(CodeForm, "unblock: version %d, want %d", c.Version, Version)
	case !printable(c.Audience, 255):
		return fail(CodeForm, "unblock: audience is no log origin")
	case !identifier(c.KioskID):
		return fail(CodeForm, "unblock: kiosk id")
	case err != nil:
		return fail(CodeForm, "unblock: %w", err)
	case c.Serial == 0:
		return fail(CodeForm, "unblock: no serial number")
	case c.Time.IsZero():
		return fail(CodeForm, "unblock: no time")
	case c.Nonce == [32]byte{}:
		return fail(CodeForm, "unblock: no nonce")
	case c.PolicyDigest == [32]byte{}:
		return fail(CodeForm, "unblock: no policy digest")
	case !identifier(c.AuthorityKeyID):
		return fail(CodeForm, "unblock: authority key id")
	case len(c.EKNames) == 0 || len(c.EKNames) > maxEndorsements || slices.ContainsFunc(c.EKNames, notTPMName) || len(c.AKName) != 34:
		return fail(CodeForm, "unblock: names of the TPM's keys")
	}
	return nil
}

// notTPMName: no two bytes of algorithm with a SHA-256, SHA-384 or SHA-512 digest.
func notTPMName(name []byte) bool { return len(name) != 34 && len(name) != 50 && len(name) != 66 }

// unblockPayload is what officer and kiosk sign.
type unblockPayload struct {
	Context UnblockContext `json:"context"`
	Signers []SignerRef    `json:"signers"` // desk, then kiosk, both by certificate
	Admin   Sealed         `json:"admin"`   // the administrator that the token will have
}

func (p unblockPayload) check() error {
	if err := p.Context.check(); err != nil {
		return err
	}
	for i, role := range []Role{Desk, Kiosk} {
		if len(p.Signers) != 2 || p.Signers[i].Role != role || p.Signers[i].By != ByX5C {
			return fail(CodeSigners, "unblock: not signed by desk and kiosk, by certificate")
		}
	}
	return p.Admin.checkSuite(p.Context.AuthorityKeyID)
}

// UnblockDraft is a request that collects its two signatures.
type UnblockDraft struct{ signing }

// NewUnblock seals the administrator that the token will have to the authority,
// bound to c, and freezes the request. officer and kiosk are certificate chains,
// leaf first, DER. The error is an *Error.
func NewUnblock(c UnblockContext, authority AuthorityKey, admin TokenAdmin, officer, kiosk [][]byte) (*UnblockDraft, error) {
	if len(officer) == 0 || len(kiosk) == 0 {
		return nil, fail(CodeSigners, "unblock: no certificate")
	}
	if authority.ID != c.AuthorityKeyID {
		return nil, fail(CodeSeal, "the request names another authority key")
	}
	plain := pad(admin.text())
	defer clear(plain)
	sealed, err := authority.seal(unblockSealInfo, c.Bytes(), plain)
	if err != nil {
		return nil, err
	}
	p := unblockPayload{c, []SignerRef{{Desk, ByX5C, sha256.Sum256(officer[0])}, {Kiosk, ByX5C, sha256.Sum256(kiosk[0])}}, sealed}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &UnblockDraft{signing{typ: UnblockType, refs: p.Signers, bytes: canonical.Marshal(p)}}, nil
}

// Unblock returns the finished request, through ParseUnblock like any other.
func (d *UnblockDraft) Unblock() (Unblock, error) {
	b, err := d.envelope()
	if err != nil {
		return Unblock{}, err
	}
	return ParseUnblock(b)
}

// Unblock is a checked request; only ParseUnblock makes one. Who issued its
// certificates is not checked. The zero value is refused everywhere.
type Unblock struct{ u *parsedUnblock }

type parsedUnblock struct {
	bytes      []byte
	id         [32]byte
	payload    unblockPayload
	signatures []Signature
}

// ParseUnblock reads and checks a request: encoding, form, signers, signatures.
// Every error is an *Error.
func ParseUnblock(b []byte) (Unblock, error) {
	if len(b) > MaxUnblock {
		return Unblock{}, fail(CodeSize, "request of %d bytes", len(b))
	}
	var e envelope
	if err := canonical.Unmarshal(b, &e); err != nil {
		return Unblock{}, fail(CodeCanonical, "envelope: %w", err)
	}
	u := &parsedUnblock{bytes: bytes.Clone(b), id: ID(e.Payload)}
	if err := canonical.Unmarshal(e.Payload, &u.payload); err != nil {
		return Unblock{}, fail(CodeCanonical, "payload: %w", err)
	}
	headers, err := e.headers()
	if err != nil {
		return Unblock{}, err
	}
	if err := u.payload.check(); err != nil {
		return Unblock{}, err
	}
	if u.signatures, err = e.signers(headers, UnblockType, u.payload.Signers); err != nil {
		return Unblock{}, err
	}
	if err := e.verify(u.bytes, u.signatures); err != nil {
		return Unblock{}, err
	}
	return Unblock{u}, nil
}

// Valid is false for the zero value.
func (u Unblock) Valid() bool { return u.u != nil }

// Bytes is the request's JSON; nil for the zero value.
func (u Unblock) Bytes() []byte {
	if u.u == nil {
		return nil
	}
	return bytes.Clone(u.u.bytes)
}

// ID is SHA-256 of the payload; zero for the zero value.
func (u Unblock) ID() [32]byte {
	if u.u == nil {
		return [32]byte{}
	}
	return u.u.id
}

// Context is what the request is about. Its slices are shared: do not write to them.
func (u Unblock) Context() UnblockContext {
	if u.u == nil {
		return UnblockContext{}
	}
	return u.u.payload.Context
}

// Signatures are the desk's and the kiosk's, in this order.
func (u Unblock) Signatures() []Signature {
	if u.u == nil {
		return nil
	}
	return slices.Clone(u.u.signatures)
}

// OpenAdmin opens the administrator that the token will have. The error is an
// *Error with CodeSeal, or CodeForm if a sealer wrote nonsense.
func (u Unblock) OpenAdmin(key AuthorityPrivateKey) (TokenAdmin, error) {
	if u.u == nil {
		return TokenAdmin{}, ErrZero
	}
	plain, err := key.open(unblockSealInfo, u.u.payload.Context.Bytes(), u.u.payload.Admin)
	if err != nil {
		return TokenAdmin{}, err
	}
	defer clear(plain)
	text, err := unpad(plain)
	if err != nil {
		return TokenAdmin{}, err
	}
	var w adminWire
	if err := canonical.Unmarshal(text, &w); err != nil {
		return TokenAdmin{}, fail(CodeForm, "administrator: %w", err)
	}
	a := w.admin()
	return a, a.check()
}

// text is the administrator's plaintext.
func (a TokenAdmin) text() []byte {
	return canonical.Marshal(adminWire{a.PUK.Reveal(), a.ManagementKey.Reveal()})
}

func (w adminWire) admin() TokenAdmin {
	return TokenAdmin{secret.New(w.PUK), secret.New(w.ManagementKey)}
}

// check holds lengths that a token takes (SP 800-73-4 Part 2, 2.4.3; SP 800-78-4
// table 6-2).
func (a TokenAdmin) check() error {
	if n := a.PUK.Len(); n < 6 || n > 8 {
		return fail(CodeForm, "administrator: PUK")
	}
	if n := a.ManagementKey.Len(); n != 16 && n != 24 && n != 32 {
		return fail(CodeForm, "administrator: management key")
	}
	return nil
}

// Wipe clears both secrets.
func (a TokenAdmin) Wipe() {
	a.PUK.Wipe()
	a.ManagementKey.Wipe()
}

// UnblockAnswer is the vault's answer to one request.
type UnblockAnswer struct {
	Request [32]byte  `json:"request"` // Unblock.ID
	Time    time.Time `json:"time"`    //
	EKName  []byte    `json:"ek_name"` // the endorsement key that opens the credential

	// A credential (TPM2_MakeCredential) for the request's AK, with 32 secret bytes.
	Blob      []byte `json:"blob"`      // contents of a TPM2B_ID_OBJECT
	Encrypted []byte `json:"encrypted"` // contents of a TPM2B_ENCRYPTED_SECRET

	// Ciphertext is AES-256-GCM over the candidates under a key from the secret, see
	// SealCandidates.
	Ciphertext []byte `json:"ciphertext"`
}

// SignUnblockAnswer makes the answer's compact JWS.
func SignUnblockAnswer(ctx context.Context, a UnblockAnswer, vault Signer) ([]byte, error) {
	b, err := SignCompact(ctx, UnblockAnswerType, canonical.Marshal(a), vault)
	if err == nil && len(b) > MaxUnblockAnswer {
		err = fail(CodeSize, "answer of %d bytes", len(b))
	}
	return b, err
}

// VerifyUnblockAnswer checks that one of the vault's keys signed b, in answer to u.
// Every error is an *Error.
func VerifyUnblockAnswer(b []byte, vault []JWK, u Unblock) (UnblockAnswer, error) {
	if u.u == nil {
		return UnblockAnswer{}, ErrZero
	}
	if len(b) > MaxUnblockAnswer {
		return UnblockAnswer{}, fail(CodeSize, "answer of %d bytes", len(b))
	}
	payload, err := VerifyCompact(b, UnblockAnswerType, AcceptAny(vault...))
	if err != nil {
		return UnblockAnswer{}, err
	}
	var a UnblockAnswer
	if err := canonical.Unmarshal(payload, &a); err != nil {
		return UnblockAnswer{}, fail(CodeCanonical, "answer: %w", err)
	}
	if a.Request != u.u.id {
		return UnblockAnswer{}, fail(CodeForm, "answer: to another request")
	}
	if a.Time.IsZero() || len(a.Blob) == 0 || len(a.Encrypted) == 0 ||
		!slices.ContainsFunc(u.u.payload.Context.EKNames, func(n []byte) bool { return bytes.Equal(n, a.EKName) }) {
		return UnblockAnswer{}, fail(CodeForm, "answer: time, credential or endorsement key")
	}
	return a, nil
}

// candidates is the answer's plaintext.
type candidates struct {
	Candidates []adminWire `json:"candidates"`
}

// SealCandidates encrypts administrators that the token may have, for the answer
// to the request of an id: AES-256-GCM, the id as associated data. Key and nonce,
// 44 bytes, come from HKDF-SHA-256 (RFC 5869) over key, 32 bytes that are used
// for nothing else, without salt, with info "enrollkiosk/unblock-answer/v1" || id.
func SealCandidates(key []byte, id [32]byte, list []TokenAdmin) ([]byte, error) {
	aead, nonce, err := answerCipher(key, id)
	if err != nil {
		return nil, err
	}
	var w candidates
	for _, a := range list {
		w.Candidates = append(w.Candidates, adminWire{a.PUK.Reveal(), a.ManagementKey.Reveal()})
	}
	text := canonical.Marshal(w)
	defer clear(text)
	plain := pad(text)
	defer clear(plain)
	return aead.Seal(nil, nonce, plain, id[:]), nil
}

// OpenCandidates is SealCandidates' inverse. Whoever calls it wipes them. The error
// is an *Error with CodeSeal, or CodeForm if the vault wrote nonsense.
func OpenCandidates(key []byte, id [32]byte, ciphertext []byte) ([]TokenAdmin, error) {
	aead, nonce, err := answerCipher(key, id)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nonce, ciphertext, id[:])
	if err != nil {
		return nil, fail(CodeSeal, "answer: %w", err)
	}
	defer clear(plain)
	text, err := unpad(plain)
	if err != nil {
		return nil, err
	}
	var w candidates
	if err := canonical.Unmarshal(text, &w); err != nil {
		return nil, fail(CodeForm, "answer: %w", err)
	}
	if len(w.Candidates) == 0 || len(w.Candidates) > MaxCandidates {
		return nil, fail(CodeForm, "answer: %d candidates", len(w.Candidates))
	}
	var out []TokenAdmin
	for _, c := range w.Candidates {
		a := c.admin()
		if err := a.check(); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func answerCipher(key []byte, id [32]byte) (cipher.AEAD, []byte, error) {
	if len(key) != 32 {
		return nil, nil, fail(CodeSeal, "answer: a secret of %d bytes", len(key))
	}
	const keySize, nonceSize = 32, 12
	okm, err := hkdf.Key(sha256.New, key, nil, unblockAnswerInfo+string(id[:]), keySize+nonceSize)
	if err != nil {
		return nil, nil, fail(CodeSeal, "answer: %w", err)
	}
	block, err := aes.NewCipher(okm[:keySize])
	if err != nil {
		return nil, nil, fail(CodeSeal, "answer: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	return aead, okm[keySize:], err
}

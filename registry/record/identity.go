package record

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/internal/canonical"
)

// File identifiers that the sealed identity of an eMRTD holds (ICAO 9303-10 4.7).
const (
	fileDG1 = 0x0101
	fileSOD = 0x011D
)

// HPKE suite (RFC 9180 7): MLKEM768-X25519, HKDF-SHA256, AES-256-GCM.
const (
	kemID, kdfID, aeadID = 0x647a, 0x0001, 0x0002

	encSize  = 1120 // ML-KEM-768 ciphertext and X25519 share
	padBlock = 1024 // lengths of names and files stay hidden within a block
	sealInfo = "enrollkiosk/identity/v1"
)

// Identity is the personal part of a record, to be sealed. It refuses to print
// and to marshal; Seal is its only way out of memory.
type Identity struct {
	Document   Document               // kind of identity document
	Files      map[uint16]secret.Text // by file identifier; of an eMRTD DG1 and EF.SOD at least
	Access     string                 // "PACE" or "BAC"
	Chip       *ChipClaim             // nil if Chip Authentication was not run
	Active     *ActiveEvidence        // nil if Active Authentication was not run
	Report     json.RawMessage        // the kiosk's verification report
	Consents   []ConsentText          //
	Checks     []Check                // what the officer confirmed, and exceptions
	TokenAdmin *TokenAdmin            // nil if the holder keeps no token
	Guardian   *Guardian              // nil if the holder decides alone
}

// Document is a kind of identity document.
type Document string

const (
	EMRTD       Document = "emrtd"        // ICAO Doc 9303
	BelgianEID  Document = "belgian-eid"  //
	PRCResident Document = "prc-resident" // China, second generation, through a SAM
)

// ChipClaim is the kiosk's statement about Chip Authentication. The evidence
// needs the terminal's ephemeral key and convinces only who made it, so a claim
// is all there is to pass on.
type ChipClaim struct {
	Protocol string `json:"protocol"`     // object identifier, dotted
	KeyID    []byte `json:"key,omitzero"` // key identifier in DG14, big endian; empty if none
	Passed   bool   `json:"passed"`
}

// ActiveEvidence lets the vault verify again that the document's chip signed the
// challenge: 8 bytes for Active Authentication, 32 for a Belgian card.
type ActiveEvidence struct {
	Challenge []byte `json:"challenge"`
	Signature []byte `json:"signature"`
}

// ConsentText is a Consent with what the holder was really shown.
type ConsentText struct {
	ID       string   `json:"id"`
	Version  uint64   `json:"version"`
	Digest   [32]byte `json:"digest"`   // SHA-256 of the exact text, UTF-8
	Language string   `json:"language"` // BCP 47
}

// Check is one thing that the officer confirmed, or an exception with its reason.
type Check struct {
	Code   string
	Passed bool
	Note   secret.Text // free text, may be empty
}

// TokenAdmin opens the holder's token when the holder cannot.
type TokenAdmin struct {
	PUK           secret.Text
	ManagementKey secret.Text
}

// AuthorityKey is the identity authority's public sealing key, from the policy.
type AuthorityKey struct {
	ID     string `json:"id"`
	Public []byte `json:"public"` // HPKE encoding, 1216 bytes
}

// Sealed is an identity sealed with HPKE (RFC 9180), base mode, single shot.
type Sealed struct {
	KEM        uint16 `json:"kem"`
	KDF        uint16 `json:"kdf"`
	AEAD       uint16 `json:"aead"`
	Key        string `json:"key"` // AuthorityKey.ID
	Enc        []byte `json:"enc"`
	Ciphertext []byte `json:"ciphertext"`
}

func (s Sealed) check(c Context, wanted bool) error {
	if !wanted {
		if s.KEM != 0 || s.KDF != 0 || s.AEAD != 0 || s.Key != "" || len(s.Enc)+len(s.Ciphertext) > 0 {
			return fail(CodeForm, "%s with an identity", c.Purpose)
		}
		return nil
	}
	return s.checkSuite(c.AuthorityKeyID)
}

func (s Sealed) checkSuite(key string) error {
	if s.KEM != kemID || s.KDF != kdfID || s.AEAD != aeadID || s.Key != key ||
		len(s.Enc) != encSize || len(s.Ciphertext)%padBlock != 16 {
		return fail(CodeForm, "sealed: suite, key or length")
	}
	return nil
}

// The plaintext's wire form. Only seal and OpenSealed use it.
type (
	identityWire struct {
		Document   Document        `json:"document"`
		Files      []fileWire      `json:"files"` // ascending
		Access     string          `json:"access"`
		Chip       *ChipClaim      `json:"chip,omitzero"`
		Active     *ActiveEvidence `json:"active,omitzero"`
		Report     []byte          `json:"report"`
		Consents   []ConsentText   `json:"consents"`
		Checks     []checkWire     `json:"checks"`
		TokenAdmin *adminWire      `json:"token_admin,omitzero"`
		Guardian   *guardianWire   `json:"guardian,omitzero"`
	}
	fileWire struct {
		ID    uint16 `json:"id"`
		Bytes []byte `json:"bytes"`
	}
	checkWire struct {
		Code   string `json:"code"`
		Passed bool   `json:"passed"`
		Note   string `json:"note"`
	}
	adminWire struct {
		PUK           []byte `json:"puk"`
		ManagementKey []byte `json:"management_key"`
	}
)

// Seal encrypts id to the authority, bound to c: it opens in no other context.
// Nothing here can open it again. The error is an *Error with CodeForm or
// CodeSeal.
func Seal(c Context, authority AuthorityKey, id Identity) (Sealed, error) {
	if err := c.Check(); err != nil {
		return Sealed{}, err
	}
	if authority.ID != c.AuthorityKeyID {
		return Sealed{}, fail(CodeSeal, "the context names another authority key")
	}
	if err := id.check(); err != nil {
		return Sealed{}, err
	}
	plain, err := id.plaintext()
	if err != nil {
		return Sealed{}, err
	}
	defer clear(plain)
	return authority.seal(sealInfo, c.Bytes(), plain)
}

func (k AuthorityKey) seal(info string, data, plain []byte) (Sealed, error) {
	pub, err := hpke.MLKEM768X25519().NewPublicKey(k.Public)
	if err != nil {
		return Sealed{}, fail(CodeSeal, "authority key: %w", err)
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return Sealed{}, fail(CodeSeal, "encapsulate: %w", err)
	}
	ciphertext, err := sender.Seal(data, plain)
	if err != nil {
		return Sealed{}, fail(CodeSeal, "encrypt: %w", err)
	}
	return Sealed{kemID, kdfID, aeadID, k.ID, enc, ciphertext}, nil
}

// check holds that the document, and the guardian's, is of a known kind and has
// what identifies it.
func (id Identity) check() error {
	if err := checkFiles(id.Document, id.Files); err != nil {
		return err
	}
	if id.Guardian != nil {
		return id.Guardian.check()
	}
	return nil
}

func checkFiles(kind Document, files map[uint16]secret.Text) error {
	switch kind {
	case EMRTD:
		if files[fileDG1].Len() == 0 || files[fileSOD].Len() == 0 {
			return fail(CodeForm, "identity without DG1 or EF.SOD")
		}
	case BelgianEID, PRCResident:
		if len(files) == 0 {
			return fail(CodeForm, "identity without a file")
		}
	default:
		return fail(CodeForm, "identity of an unknown kind of document")
	}
	return nil
}

// plaintext is the JSON, padded.
func (id Identity) plaintext() ([]byte, error) {
	w := identityWire{Document: id.Document, Files: filesWire(id.Files), Access: id.Access, Chip: id.Chip, Active: id.Active, Report: id.Report,
		Consents: id.Consents, Checks: checksWire(id.Checks)}
	if a := id.TokenAdmin; a != nil {
		w.TokenAdmin = &adminWire{a.PUK.Reveal(), a.ManagementKey.Reveal()}
	}
	if g := id.Guardian; g != nil {
		w.Guardian = g.wire()
	}
	text := canonical.Marshal(w)
	defer clear(text)
	if err := canonical.Unmarshal(text, new(identityWire)); err != nil {
		return nil, fail(CodeForm, "identity holds a value that has no encoding: %w", err)
	}
	if len(text) > MaxRecord {
		return nil, fail(CodeSize, "identity of %d bytes", len(text))
	}
	return pad(text), nil
}

func filesWire(files map[uint16]secret.Text) (w []fileWire) {
	for _, f := range slices.Sorted(maps.Keys(files)) {
		w = append(w, fileWire{f, files[f].Reveal()})
	}
	return w
}

func checksWire(checks []Check) (w []checkWire) {
	for _, c := range checks {
		w = append(w, checkWire{c.Code, c.Passed, string(c.Note.Reveal())})
	}
	return w
}

// parseFiles reads files, which stand in ascending order.
func parseFiles(w []fileWire) (map[uint16]secret.Text, error) {
	files, last := map[uint16]secret.Text{}, -1
	for _, f := range w {
		if int(f.ID) <= last {
			return nil, fail(CodeForm, "identity: files out of order")
		}
		last = int(f.ID)
		files[f.ID] = secret.New(f.Bytes)
	}
	return files, nil
}

func parseChecks(w []checkWire) (checks []Check) {
	for _, c := range w {
		checks = append(checks, Check{c.Code, c.Passed, secret.FromString(c.Note)})
	}
	return checks
}

// pad is the length of text in 4 bytes, text, and zeros to a full block.
func pad(text []byte) []byte {
	size := (4 + len(text) + padBlock - 1) / padBlock * padBlock
	plain := binary.BigEndian.AppendUint32(make([]byte, 0, size), uint32(len(text)))
	return append(plain, text...)[:size]
}

// unpad is pad's inverse; every other form is refused. The text stands in plain.
func unpad(plain []byte) ([]byte, error) {
	if len(plain) < 4 || uint64(binary.BigEndian.Uint32(plain)) > uint64(len(plain)-4) {
		return nil, fail(CodeForm, "sealed: length")
	}
	n := binary.BigEndian.Uint32(plain)
	if padding := plain[4+n:]; len(padding) >= padBlock || bytes.Trim(padding, "\x00") != nil {
		return nil, fail(CodeForm, "sealed: padding")
	}
	return plain[4 : 4+n], nil
}

// OpenSealed decrypts what Seal made in the same context. The error is an
// *Error with CodeSeal, or CodeForm if a sealer wrote nonsense.
func OpenSealed(c Context, key AuthorityPrivateKey, s Sealed) (Identity, error) {
	if key.p == nil {
		return Identity{}, ErrZero
	}
	if err := s.check(c, true); err != nil {
		return Identity{}, err
	}
	plain, err := key.open(sealInfo, c.Bytes(), s)
	if err != nil {
		return Identity{}, err
	}
	defer clear(plain)
	text, err := unpad(plain)
	if err != nil {
		return Identity{}, err
	}
	return parseIdentity(text)
}

// open is seal's inverse.
func (k AuthorityPrivateKey) open(info string, data []byte, s Sealed) ([]byte, error) {
	if k.p == nil {
		return nil, ErrZero
	}
	if s.Key != (*k.p).id {
		return nil, fail(CodeSeal, "sealed to another authority key")
	}
	recipient, err := hpke.NewRecipient(s.Enc, (*k.p).key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return nil, fail(CodeSeal, "decapsulate: %w", err)
	}
	plain, err := recipient.Open(data, s.Ciphertext)
	if err != nil {
		return nil, fail(CodeSeal, "decrypt: %w", err)
	}
	return plain, nil
}

func parseIdentity(text []byte) (Identity, error) {
	var w identityWire
	if err := canonical.Unmarshal(text, &w); err != nil {
		return Identity{}, fail(CodeForm, "identity: %w", err)
	}
	files, err := parseFiles(w.Files)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{Document: w.Document, Files: files, Access: w.Access, Chip: w.Chip, Active: w.Active, Report: w.Report, Consents: w.Consents,
		Checks: parseChecks(w.Checks)}
	if a := w.TokenAdmin; a != nil {
		admin := a.admin()
		id.TokenAdmin = &admin
	}
	if w.Guardian != nil {
		if id.Guardian, err = w.Guardian.guardian(); err != nil {
			return Identity{}, err
		}
	}
	return id, id.check()
}

// Format prints [secret.Redacted] for every verb.
func (Identity) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

// LogValue implements [slog.LogValuer].
func (Identity) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

func (Identity) MarshalJSON() ([]byte, error)   { return nil, secret.ErrMarshal }
func (Identity) MarshalText() ([]byte, error)   { return nil, secret.ErrMarshal }
func (Identity) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }
func (Identity) GobEncode() ([]byte, error)     { return nil, secret.ErrMarshal }

// AuthorityPrivateKey opens sealed identities; only the vault holds one. It
// refuses to print; two pointers keep fmt out where it cannot call Format, as in
// secret.Text.
type AuthorityPrivateKey struct{ p **authorityPrivate }

type authorityPrivate struct {
	id  string
	key hpke.PrivateKey
}

// GenerateAuthorityKey makes a new key.
func GenerateAuthorityKey() (AuthorityPrivateKey, error) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return AuthorityPrivateKey{}, fmt.Errorf("generate authority key: %w", err)
	}
	return authorityKey(key), nil
}

// ParseAuthorityKey reads what Bytes wrote.
func ParseAuthorityKey(b secret.Text) (AuthorityPrivateKey, error) {
	key, err := hpke.MLKEM768X25519().NewPrivateKey(b.Reveal())
	if err != nil {
		return AuthorityPrivateKey{}, errors.New("parse authority key: not a key of KEM 0x647a")
	}
	return authorityKey(key), nil
}

// authorityKey names a key after itself, so that two keys never share an id.
func authorityKey(key hpke.PrivateKey) AuthorityPrivateKey {
	sum := sha256.Sum256(key.PublicKey().Bytes())
	p := &authorityPrivate{base64.RawURLEncoding.EncodeToString(sum[:16]), key}
	return AuthorityPrivateKey{&p}
}

// Public is the key for the policy; zero for the zero value.
func (k AuthorityPrivateKey) Public() AuthorityKey {
	if k.p == nil {
		return AuthorityKey{}
	}
	return AuthorityKey{(*k.p).id, (*k.p).key.PublicKey().Bytes()}
}

// Bytes is the private key's HPKE encoding: a 32-byte seed.
func (k AuthorityPrivateKey) Bytes() (secret.Text, error) {
	if k.p == nil {
		return secret.Text{}, ErrZero
	}
	b, err := (*k.p).key.Bytes()
	return secret.New(b), err
}

// Format prints [secret.Redacted] for every verb.
func (AuthorityPrivateKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

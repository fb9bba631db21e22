package record

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"enrollkiosk/kiosk/secret"
)

// Guardian is who consents for a holder too young to do so: the own document, and
// how it was shown that this is the guardian. It stands in the sealed identity and
// nowhere else: that there is one says that the holder is a child. It refuses to
// print and to marshal.
type Guardian struct {
	Document Document               // kind of the guardian's document
	Files    map[uint16]secret.Text // as in Identity
	Access   string                 // likewise
	Chip     *ChipClaim             // likewise
	Active   *ActiveEvidence        // over Context.GuardianChallenge
	Report   json.RawMessage        // the kiosk's verification report
	Shown    Guardianship           // what was shown to the officer
	Note     secret.Text            // which one, in a few words; needed with OtherProof
	Checks   []Check                // what the officer confirmed, and what the guardian said
}

// Guardianship is a kind of paper that shows who somebody's guardian is.
type Guardianship string

// Kinds of proof of guardianship.
const (
	BirthCertificate Guardianship = "birth-certificate"
	FamilyRegister   Guardianship = "family-register"
	CourtOrder       Guardianship = "court-order"
	OtherProof       Guardianship = "other" // a note says what
)

// Guardianships are all kinds of proof of guardianship.
func Guardianships() []Guardianship {
	return []Guardianship{BirthCertificate, FamilyRegister, CourtOrder, OtherProof}
}

// MaxGuardianNote is the longest note on a proof of guardianship, in bytes.
const MaxGuardianNote = 40

// GuardianChallenge is what the chip of the guardian's document signs:
// SHA-256("enrollkiosk/guardian/v1" || context || SubjectPublicKeyInfo of the
// holder's key || SHA-256 of the holder's files). A chip that signs it stands for
// this child, in this enrollment, with this key. The files are those that are sealed,
// in ascending order: identifier (2 bytes), length (4 bytes), content; big endian.
// Active Authentication takes the first 8 bytes.
func (c Context) GuardianChallenge(holderKey crypto.PublicKey, holderFiles map[uint16]secret.Text) ([32]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(holderKey)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encode holder key: %w", err)
	}
	files := sha256.New()
	for _, f := range slices.Sorted(maps.Keys(holderFiles)) {
		content := holderFiles[f].Reveal()
		files.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, f), uint32(len(content))))
		files.Write(content)
	}
	b := append([]byte("enrollkiosk/guardian/v1"), c.Bytes()...)
	return sha256.Sum256(files.Sum(append(b, spki...))), nil
}

func (g Guardian) check() error {
	if err := checkFiles(g.Document, g.Files); err != nil {
		return fmt.Errorf("guardian: %w", err)
	}
	if !slices.Contains(Guardianships(), g.Shown) {
		return fail(CodeForm, "guardian: unknown kind of proof %q", string(g.Shown))
	}
	if n := g.Note.Len(); n > MaxGuardianNote || n == 0 && g.Shown == OtherProof {
		return fail(CodeForm, "guardian: note of %d bytes", n)
	}
	return nil
}

// guardianWire is its wire form.
type guardianWire struct {
	Document Document        `json:"document"`
	Files    []fileWire      `json:"files"` // ascending
	Access   string          `json:"access"`
	Chip     *ChipClaim      `json:"chip,omitzero"`
	Active   *ActiveEvidence `json:"active,omitzero"`
	Report   []byte          `json:"report"`
	Shown    Guardianship    `json:"shown"`
	Note     string          `json:"note,omitzero"`
	Checks   []checkWire     `json:"checks"`
}

func (g Guardian) wire() *guardianWire {
	return &guardianWire{Document: g.Document, Files: filesWire(g.Files), Access: g.Access, Chip: g.Chip, Active: g.Active, Report: g.Report,
		Shown: g.Shown, Note: string(g.Note.Reveal()), Checks: checksWire(g.Checks)}
}

func (w guardianWire) guardian() (*Guardian, error) {
	files, err := parseFiles(w.Files)
	if err != nil {
		return nil, fmt.Errorf("guardian: %w", err)
	}
	return &Guardian{Document: w.Document, Files: files, Access: w.Access, Chip: w.Chip, Active: w.Active, Report: w.Report,
		Shown: w.Shown, Note: secret.FromString(w.Note), Checks: parseChecks(w.Checks)}, nil
}

// Format prints [secret.Redacted] for every verb.
func (Guardian) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

// LogValue implements [slog.LogValuer].
func (Guardian) LogValue() slog.Value { return slog.StringValue(secret.Redacted) }

func (Guardian) MarshalJSON() ([]byte, error)   { return nil, secret.ErrMarshal }
func (Guardian) MarshalText() ([]byte, error)   { return nil, secret.ErrMarshal }
func (Guardian) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }
func (Guardian) GobEncode() ([]byte, error)     { return nil, secret.ErrMarshal }

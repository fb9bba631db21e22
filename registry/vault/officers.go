package vault

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/record"
	"enrollkiosk/smartcard/identity"
)

// Errors about officers' documents.
var (
	ErrOfficerDocument = errors.New("not a description of an officer's document")
	ErrUnknownOfficer  = errors.New("no document is kept of this officer")
)

// Officers are what a vault knows of officers as persons: keyed hashes of their
// own documents, under the number of their certificates, so that nobody enrolls
// himself. One file for each number: it can be changed while the vault serves.
type Officers struct {
	dir string
	key secret.Text
}

// OfficersIn opens those in a vault's directory. Close wipes its key.
func OfficersIn(dir string) (Officers, error) {
	key, err := readSecret(filepath.Join(dir, filePersons))
	return Officers{filepath.Join(dir, dirOfficers), key}, err
}

// Close wipes the key.
func (o Officers) Close() { o.key.Wipe() }

// KnownOfficer is what is kept of one officer.
type KnownOfficer struct {
	Number    string          `json:"number"`
	Documents []KnownDocument `json:"documents"`
}

// KnownDocument is a document as the vault finds it again.
type KnownDocument struct {
	Document hashed    `json:"document"`
	Person   hashed    `json:"person"`
	Added    time.Time `json:"added"`
}

// hashed is a keyed hash, hexadecimal in JSON.
type hashed [32]byte

func (h hashed) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

func (h *hashed) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(h)) {
		return errors.New("hash of another length")
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// OfficerDocument is an officer's own document. It refuses to print.
type OfficerDocument struct {
	kind   identity.Kind
	person identity.Person
}

// zone writes a name as the machine readable zone does (Doc 9303-3 section 4.6).
var zone = strings.NewReplacer("-", " ", "<", " ", "'", "", "’", "")

// maxDescription is more than a description of a document has, in bytes.
const maxDescription = 4096

// ParseOfficerDocument reads the JSON object {"kind", "issuer", "document",
// "surname", "given_names", "birth"}: names as the document's chip has them, which
// is as in the machine readable zone of eMRTDs; birth YYYY-MM-DD; kind is "emrtd"
// where it is left out. Errors wrap ErrOfficerDocument.
func ParseOfficerDocument(r io.Reader) (OfficerDocument, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDescription+1))
	defer clear(b)
	if err != nil {
		return OfficerDocument{}, fmt.Errorf("read officer's document: %w", err)
	}
	bad := func(what string) (OfficerDocument, error) {
		return OfficerDocument{}, fmt.Errorf("%w: %s", ErrOfficerDocument, what)
	}
	in := struct {
		Kind       record.Document `json:"kind"`
		Issuer     string          `json:"issuer"`
		Document   string          `json:"document"`
		Surname    string          `json:"surname"`
		GivenNames string          `json:"given_names"`
		Birth      string          `json:"birth"`
	}{Kind: record.EMRTD}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	// What the decoder says could quote the person.
	if err := d.Decode(&in); err != nil || d.More() || len(b) > maxDescription || !utf8.Valid(b) {
		return bad("want one JSON object of kind, issuer, document, surname, given_names and birth")
	}
	if in.Kind != record.EMRTD && in.Kind != record.BelgianEID && in.Kind != record.PRCResident {
		return bad("unknown kind")
	}
	for _, s := range []*string{&in.Issuer, &in.Document, &in.Surname, &in.GivenNames} {
		if in.Kind == record.EMRTD {
			*s = strings.ToUpper(zone.Replace(*s))
			if strings.Trim(*s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ") != "" {
				return bad("letters that no machine readable zone has: write A to Z, as printed there")
			}
		}
		*s = strings.Join(strings.Fields(*s), " ")
	}
	switch _, err := time.Parse(time.DateOnly, in.Birth); {
	case err != nil:
		return bad("birth is not YYYY-MM-DD")
	case len(in.Issuer) != 3 && (in.Issuer != "D" || in.Kind != record.EMRTD):
		return bad("issuer is no code of Doc 9303-3 section 5, such as UTO")
	case in.Document == "" || in.Surname == "":
		return bad("document or surname is missing")
	}
	return OfficerDocument{identity.Kind(in.Kind), identity.Person{Issuer: in.Issuer, Number: secret.FromString(in.Document),
		Surname: secret.FromString(in.Surname), GivenNames: secret.FromString(in.GivenNames), Birth: secret.FromString(in.Birth)}}, nil
}

// Add keeps the hashes of a document under an officer's number, beside those that
// are there.
func (o Officers) Add(number string, d OfficerDocument, now time.Time) error {
	if number == "" || len(number) > 64 {
		return fmt.Errorf("%w: the number is that of the officer's certificate, of 1 to 64 bytes", ErrOfficerDocument)
	}
	if d.person.Number.Len() == 0 {
		return fmt.Errorf("%w: it is empty", ErrOfficerDocument)
	}
	known, err := o.find(number)
	if err != nil {
		return err
	}
	if err := os.Mkdir(o.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("keep officer: %w", err)
	}
	t := tokensOf(o.key, d.kind, d.person)
	next := KnownDocument{t.document, t.person, now.UTC().Truncate(time.Second)}
	known.Number = number
	known.Documents = append(slices.DeleteFunc(known.Documents, func(k KnownDocument) bool {
		return k.Document == next.Document && k.Person == next.Person
	}), next)
	b, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	if err := keyfile.Replace(o.file(number), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep officer: %w", err)
	}
	return nil
}

// Remove forgets an officer; ErrUnknownOfficer if nothing is kept.
func (o Officers) Remove(number string) error {
	err := os.Remove(o.file(number))
	if errors.Is(err, os.ErrNotExist) {
		return ErrUnknownOfficer
	}
	if err == nil {
		err = durable.SyncDir(o.dir)
	}
	return err
}

// List is what is kept of all officers, by number.
func (o Officers) List() ([]KnownOfficer, error) {
	entries, err := os.ReadDir(o.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list officers: %w", err)
	}
	var out []KnownOfficer
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		number, err := hex.DecodeString(name)
		if !ok || err != nil {
			continue
		}
		known, err := o.find(string(number))
		if err != nil {
			return nil, err
		}
		out = append(out, known)
	}
	slices.SortFunc(out, func(a, b KnownOfficer) int { return strings.Compare(a.Number, b.Number) })
	return out, nil
}

// is says whether an officer is the person or the holder of the document that
// tokens stand for.
func (o Officers) is(number string, t tokens) (bool, error) {
	known, err := o.find(number)
	return slices.ContainsFunc(known.Documents, func(d KnownDocument) bool {
		return d.Document == hashed(t.document) || d.Person == hashed(t.person)
	}), err
}

// find is what is kept of an officer; nothing is no error.
func (o Officers) find(number string) (known KnownOfficer, err error) {
	b, err := os.ReadFile(o.file(number))
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return known, fmt.Errorf("read officer: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&known); err != nil || d.More() || known.Number != number || len(known.Documents) == 0 {
		return known, fmt.Errorf("read officer: %s is damaged", o.file(number))
	}
	return known, nil
}

// file is named by the number's bytes, as certificates have any.
func (o Officers) file(number string) string {
	return filepath.Join(o.dir, hex.EncodeToString([]byte(number))+".json")
}

// Package parcel is how records travel from a kiosk to the registry on a drive, and
// receipts back, where no network can be used.
//
//	<SHA-256>.manifest  what the kiosk has put there, signed with its record key
//	<SHA-256>.records   records, sealed to the registry
//	<SHA-256>.receipts  what the registry says about those records, sealed to the kiosk
//
// A parcel is a manifest and the files that it names; a drive holds any number of
// parcels of any number of kiosks. Manifests and records are named by their own
// SHA-256, receipts like the records that they answer. What is inside of the files
// is the caller's: the bodies that the network carries.
//
// Invariants: a [Signed] manifest was signed by a key that its caller knows as the
// kiosk's, and is well formed; its zero value is refused. A sealed file opens in
// its own place of its own manifest only. The manifest is written last, and every
// file is read back from the drive before it counts. Of a drive that comes from
// outside only plain files with names of this form are read, to their limit.
//
// Not its job: which records travel, whether a kiosk is in good standing, what
// becomes of records and receipts.
package parcel

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"enrollkiosk/registry/internal/canonical"
	"enrollkiosk/registry/record"
)

// Type is the typ of a manifest's JWS.
const Type = "enrollkiosk-export+jws"

// Version of the format.
const Version = 1

// Limits, in bytes and numbers. MaxItems records, each with its receipt and
// verdict, fit into one message of the HTTP contract.
const (
	MaxManifest = 128 << 10
	MaxPlain    = 1 << 20                       // what is sealed in a file
	Overhead    = encSize + padBlock + overhead // at most, around what is sealed in a file
	MaxFile     = MaxPlain + Overhead
	MaxFiles    = 32 // in a parcel
	MaxItems    = 24 // records in a file
)

// What separates this format's hashes and HPKE's uses from all others.
const (
	itemDomain  = "enrollkiosk/parcel-item/v1"
	recordsInfo = "enrollkiosk/parcel-records/v1"
	replyInfo   = "enrollkiosk/parcel-receipts/v1"
)

// Errors of this package.
var (
	ErrForm    = errors.New("parcel-form: not a manifest of this format")
	ErrSigner  = errors.New("parcel-signer: the manifest is not signed by the kiosk that it names")
	ErrDamaged = errors.New("parcel-damaged: the file is not the one that the manifest names: export again")
	ErrKey     = errors.New("parcel-key: sealed to a key that is not here")
	ErrSealed  = errors.New("parcel-sealed: the file does not open")
	ErrSize    = errors.New("parcel-size: too large for a parcel")
)

// Manifest says what a parcel holds.
type Manifest struct {
	Context Context `json:"context"`
	Files   []File  `json:"files"`
}

// Context is what every file of a parcel is bound to.
type Context struct {
	Version      uint64    `json:"version"`  // the constant Version
	KioskID      string    `json:"kiosk"`    //
	Audience     string    `json:"audience"` // the log's origin
	Time         time.Time `json:"time"`     // whole seconds, UTC
	PolicyDigest [32]byte  `json:"policy"`   // of the policy that the kiosk has
	KeyID        string    `json:"key"`      // the registry's Key that the records are sealed to
	Reply        Key       `json:"reply"`    // the kiosk's, for receipts
	Nonce        [32]byte  `json:"nonce"`    // random
}

// File is one file of records, named by its SHA-256.
type File struct {
	SHA256 [32]byte   `json:"sha256"`
	Size   uint64     `json:"size"`
	Items  [][32]byte `json:"items"` // Context.Item of each record inside, in order
}

// Name is the file's on the drive.
func (f File) Name() string { return Name(f.SHA256, Records) }

// ReceiptsName is the name of the file that answers it.
func (f File) ReceiptsName() string { return Name(f.SHA256, Receipts) }

// Item stands for a record in a manifest: SHA-256("enrollkiosk/parcel-item/v1" ||
// nonce || id). Who knows a record's id finds it; the ids themselves are not told.
func (c Context) Item(id [32]byte) [32]byte {
	b := append([]byte(itemDomain), c.Nonce[:]...)
	return sha256.Sum256(append(b, id[:]...))
}

// place is the associated data of the file of a number.
func (c Context) place(number int) []byte {
	return binary.BigEndian.AppendUint32(canonical.Marshal(c), uint32(number))
}

// Check holds the form.
func (m Manifest) Check() error {
	c := m.Context
	switch {
	case c.Version != Version:
		return fmt.Errorf("%w: version %d, want %d", ErrForm, c.Version, Version)
	case !plain(c.KioskID, 64) || !plain(c.KeyID, 64) || !plain(c.Audience, 255):
		return fmt.Errorf("%w: kiosk, key or audience", ErrForm)
	case c.Time.IsZero() || c.PolicyDigest == [32]byte{} || c.Nonce == [32]byte{}:
		return fmt.Errorf("%w: time, policy or nonce", ErrForm)
	case c.Reply.Check() != nil:
		return fmt.Errorf("%w: key for receipts", ErrForm)
	case len(m.Files) == 0 || len(m.Files) > MaxFiles:
		return fmt.Errorf("%w: %d files", ErrForm, len(m.Files))
	}
	for i, f := range m.Files {
		if f.Size > MaxFile || len(f.Items) == 0 || len(f.Items) > MaxItems {
			return fmt.Errorf("%w: file %d", ErrForm, i)
		}
		if slices.ContainsFunc(m.Files[:i], func(o File) bool { return o.SHA256 == f.SHA256 }) {
			return fmt.Errorf("%w: file %d is named twice", ErrForm, i)
		}
	}
	return nil
}

// plain is visible ASCII without quotes and backslash.
func plain(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// Add seals a body as the next file of m to a key of the registry, and returns
// the file's bytes. ids are those of the records in it.
func (m *Manifest) Add(to Key, body []byte, ids [][32]byte) ([]byte, error) {
	if to.ID != m.Context.KeyID {
		return nil, fmt.Errorf("%w: the manifest names another key", ErrKey)
	}
	if len(ids) == 0 || len(ids) > MaxItems || len(m.Files) == MaxFiles {
		return nil, fmt.Errorf("%w: %d records in file %d", ErrSize, len(ids), len(m.Files))
	}
	b, err := to.seal(recordsInfo, m.Context.place(len(m.Files)), body)
	if err != nil {
		return nil, err
	}
	f := File{SHA256: sha256.Sum256(b), Size: uint64(len(b))}
	for _, id := range ids {
		f.Items = append(f.Items, m.Context.Item(id))
	}
	m.Files = append(m.Files, f)
	return b, nil
}

// Sign checks a manifest and makes its compact JWS with the kiosk's record key.
func Sign(ctx context.Context, m Manifest, kiosk record.Signer) ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	b, err := record.SignCompact(ctx, Type, canonical.Marshal(m), kiosk)
	if err == nil && len(b) > MaxManifest {
		err = fmt.Errorf("%w: manifest of %d bytes", ErrSize, len(b))
	}
	return b, err
}

// Signed is a manifest that its kiosk has signed; only Verify makes it.
type Signed struct{ s *signed }

type signed struct {
	manifest Manifest
	digest   [32]byte
}

// Verify checks a manifest's form and signature. isKiosk says whether a key is the
// record key of a kiosk; its error is passed on. Other errors wrap ErrForm or
// ErrSigner.
func Verify(b []byte, isKiosk func(id string, key crypto.PublicKey) error) (Signed, error) {
	if len(b) > MaxManifest {
		return Signed{}, fmt.Errorf("%w: %d bytes", ErrForm, len(b))
	}
	var key crypto.PublicKey
	payload, err := record.VerifyCompact(b, Type, func(pub crypto.PublicKey) bool {
		key = pub
		return true
	})
	if errors.Is(err, record.ErrCanonical) {
		return Signed{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrSigner, err)
	}
	s := &signed{digest: sha256.Sum256(b)}
	if err := canonical.Unmarshal(payload, &s.manifest); err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err := s.manifest.Check(); err != nil {
		return Signed{}, err
	}
	if err := isKiosk(s.manifest.Context.KioskID, key); err != nil {
		return Signed{}, err
	}
	return Signed{s}, nil
}

// Valid is false for the zero value.
func (s Signed) Valid() bool { return s.s != nil }

// Manifest is what was signed; zero for the zero value. Its slices are shared: do
// not write to them.
func (s Signed) Manifest() Manifest {
	if s.s == nil {
		return Manifest{}
	}
	return s.s.manifest
}

// CheckFile says whether b is the file of a number: ErrDamaged.
func (s Signed) CheckFile(number int, b []byte) error {
	files := s.Manifest().Files
	if number < 0 || number >= len(files) {
		return fmt.Errorf("%w: no file %d", ErrForm, number)
	}
	if f := files[number]; uint64(len(b)) != f.Size || sha256.Sum256(b) != f.SHA256 {
		return ErrDamaged
	}
	return nil
}

// Open is Add's inverse: the body of the file of a number. Errors wrap ErrForm,
// ErrDamaged, ErrKey or ErrSealed.
func (s Signed) Open(number int, b []byte, keys []PrivateKey) ([]byte, error) {
	if err := s.CheckFile(number, b); err != nil {
		return nil, err
	}
	c := s.Manifest().Context
	for _, k := range keys {
		if k.Public().ID == c.KeyID {
			return k.open(recordsInfo, c.place(number), b)
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrKey, c.KeyID)
}

// CheckItems says whether these records, in this order, are those that the file of
// a number holds by the manifest: ErrForm.
func (s Signed) CheckItems(number int, ids [][32]byte) error {
	m := s.Manifest()
	if number < 0 || number >= len(m.Files) || !slices.EqualFunc(m.Files[number].Items, ids, func(item, id [32]byte) bool { return m.Context.Item(id) == item }) {
		return fmt.Errorf("%w: the file holds other records than the manifest says", ErrForm)
	}
	return nil
}

// SealReceipts seals the answer to the file of a number to the kiosk.
func (s Signed) SealReceipts(number int, body []byte) ([]byte, error) {
	m := s.Manifest()
	if number < 0 || number >= len(m.Files) {
		return nil, fmt.Errorf("%w: no file %d", ErrForm, number)
	}
	return m.Context.Reply.seal(replyInfo, m.Context.place(number), body)
}

// OpenReceipts is its inverse. Whoever has the manifest can have sealed it: what
// is inside is no proof of anything. Errors wrap ErrForm, ErrKey or ErrSealed.
func (s Signed) OpenReceipts(number int, b []byte, reply PrivateKey) ([]byte, error) {
	m := s.Manifest()
	switch {
	case number < 0 || number >= len(m.Files) || len(b) > MaxFile:
		return nil, fmt.Errorf("%w: no such file", ErrForm)
	case !bytes.Equal(reply.Public().Public, m.Context.Reply.Public):
		return nil, fmt.Errorf("%w: %s", ErrKey, m.Context.Reply.ID)
	}
	return reply.open(replyInfo, m.Context.place(number), b)
}

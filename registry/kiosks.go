package registry

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
)

// Errors about kiosks.
var (
	ErrRequest      = errors.New("the request does not prove that its keys live in a TPM")
	ErrOtherKiosk   = errors.New("another TPM has this id: give the new kiosk another one")
	ErrUnknownKiosk = errors.New("no kiosk of this id is registered")
)

// Kiosk is a registered kiosk.
type Kiosk struct {
	ID             string                `json:"id"`
	RecordKey      []byte                `json:"record_key"` // SubjectPublicKeyInfo
	TLSKey         []byte                `json:"tls_key"`    // SubjectPublicKeyInfo
	AttestationKey []byte                `json:"attestation_key"`
	StorageKeyName []byte                `json:"storage_key_name"`
	Class          string                `json:"class"`   // of the TPM's endorsement: production or test
	Counter        uint64                `json:"counter"` // before its first record
	Registered     time.Time             `json:"registered"`
	Revoked        *time.Time            `json:"revoked,omitempty"`
	Certificates   api.KioskCertificates `json:"certificates"`
}

// Kiosks is the register of kiosks: one file for each, so that it can be read
// and changed while the registry serves.
type Kiosks struct{ dir string }

// KiosksIn is the register in a registry's directory.
func KiosksIn(dir string) Kiosks { return Kiosks{filepath.Join(dir, dirKiosks)} }

// List is all kiosks, by id.
func (k Kiosks) List() ([]Kiosk, error) {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, fmt.Errorf("list kiosks: %w", err)
	}
	var out []Kiosk
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(id, ".") {
			continue
		}
		kiosk, err := k.Find(id)
		if err != nil {
			return nil, err
		}
		out = append(out, kiosk)
	}
	slices.SortFunc(out, func(a, b Kiosk) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// Find is the kiosk of an id; ErrUnknownKiosk if there is none.
func (k Kiosks) Find(id string) (Kiosk, error) {
	if !fileName(id) {
		return Kiosk{}, ErrUnknownKiosk
	}
	b, err := os.ReadFile(k.file(id))
	if errors.Is(err, os.ErrNotExist) {
		return Kiosk{}, fmt.Errorf("%s: %w", id, ErrUnknownKiosk)
	}
	if err != nil {
		return Kiosk{}, fmt.Errorf("read kiosk: %w", err)
	}
	var kiosk Kiosk
	if err := strictJSON(b, &kiosk); err != nil || kiosk.ID != id {
		return Kiosk{}, fmt.Errorf("read kiosk: %s is damaged: %w", k.file(id), err)
	}
	return kiosk, nil
}

// Revoke ends a kiosk's standing at a time. It may be said again; the first time stays.
func (k Kiosks) Revoke(id string, at time.Time) error {
	kiosk, err := k.Find(id)
	if err != nil || kiosk.Revoked != nil {
		return err
	}
	at = at.UTC().Truncate(time.Second)
	kiosk.Revoked = &at
	return keyfile.Replace(k.file(id), encode(kiosk), 0o600)
}

func (k Kiosks) file(id string) string { return filepath.Join(k.dir, id+".json") }

// fileName: kiosk ids are file names here, so only plain ones are taken.
func fileName(id string) bool {
	return id != "" && len(id) <= 64 && id[0] != '.' &&
		strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

func encode(k Kiosk) []byte {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		panic(err) // plain data always encodes
	}
	return append(b, '\n')
}

// maxRequest is more than a request with four certificates of a TPM's maker has.
const maxRequest = 256 << 10

// ParseKioskRequest reads the file that a new kiosk made.
func ParseKioskRequest(r io.Reader) (api.KioskRequest, error) {
	var q api.KioskRequest
	b, err := io.ReadAll(io.LimitReader(r, maxRequest+1))
	if err != nil {
		return q, fmt.Errorf("read kiosk request: %w", err)
	}
	if len(b) > maxRequest {
		return q, fmt.Errorf("%w: larger than a request can be", ErrRequest)
	}
	if err := strictJSON(b, &q); err != nil {
		return q, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if q.Version != 1 || !fileName(q.KioskID) || len(q.EKCertificates) > 8 {
		return q, fmt.Errorf("%w: version, id or number of certificates", ErrRequest)
	}
	return q, nil
}

func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("trailing data")
	}
	return nil
}

// Sign verifies what a new kiosk says about its keys, registers it and issues
// its certificates. tpmRoots are those that endorsement certificates are judged
// by; with none configured nobody vouches for the TPM, and the kiosk is of class
// test. A kiosk may ask again: the same keys get their certificates again;
// another TPM under the same id is refused with ErrOtherKiosk.
func (k Kiosks) Sign(dir string, q api.KioskRequest, tpmRoots []policy.Root, now time.Time) (Kiosk, error) {
	kiosk, err := verifyRequest(q, tpmRoots, now)
	if err != nil {
		return Kiosk{}, err
	}
	old, err := k.Find(q.KioskID)
	known := err == nil
	switch {
	case known && old.Revoked != nil:
		return Kiosk{}, fmt.Errorf("%s: %w: it was revoked", q.KioskID, ErrOtherKiosk)
	case known && !old.same(kiosk):
		return Kiosk{}, fmt.Errorf("%s: %w", q.KioskID, ErrOtherKiosk)
	case known && old.fresh(now):
		return old, nil
	case known:
		kiosk.Counter, kiosk.Registered = old.Counter, old.Registered
	case !errors.Is(err, ErrUnknownKiosk):
		return Kiosk{}, err
	}
	ca, err := keyfile.ReadAuthority(dir, nameKioskCA)
	if err != nil {
		return Kiosk{}, err
	}
	kiosk.Certificates = api.KioskCertificates{Version: 1, KioskID: q.KioskID}
	for _, c := range []struct {
		spki  []byte
		usage []x509.ExtKeyUsage
		out   *[][]byte
	}{
		{kiosk.RecordKey, nil, &kiosk.Certificates.Record},
		{kiosk.TLSKey, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, &kiosk.Certificates.TLS},
	} {
		pub, err := x509.ParsePKIXPublicKey(c.spki)
		if err != nil {
			return Kiosk{}, err
		}
		der, err := ca.Issue(x509.Certificate{Subject: pkix.Name{CommonName: q.KioskID}, ExtKeyUsage: c.usage}, pub, now)
		if err != nil {
			return Kiosk{}, err
		}
		*c.out = [][]byte{der}
	}
	if known {
		return kiosk, keyfile.Replace(k.file(kiosk.ID), encode(kiosk), 0o600)
	}
	if err := keyfile.WriteNew(k.file(kiosk.ID), encode(kiosk), 0o600); err != nil {
		return Kiosk{}, fmt.Errorf("register kiosk: %w", err)
	}
	return kiosk, nil
}

// same says whether both are one TPM with one set of keys.
func (k Kiosk) same(o Kiosk) bool {
	return bytes.Equal(k.RecordKey, o.RecordKey) && bytes.Equal(k.TLSKey, o.TLSKey) &&
		bytes.Equal(k.AttestationKey, o.AttestationKey) && bytes.Equal(k.StorageKeyName, o.StorageKeyName)
}

func (k Kiosk) hasRecordKey(spki []byte) bool { return bytes.Equal(k.RecordKey, spki) }

// fresh says whether k's certificates last for a good while yet.
func (k Kiosk) fresh(now time.Time) bool {
	for _, chain := range [][][]byte{k.Certificates.Record, k.Certificates.TLS} {
		if len(chain) == 0 {
			return false
		}
		if c, err := x509.ParseCertificate(chain[0]); err != nil || c.NotAfter.Before(now.AddDate(0, 6, 0)) {
			return false
		}
	}
	return true
}

// verifyRequest checks both keys' evidence, both certificate requests, that
// they speak of the same keys, and the endorsement.
func verifyRequest(q api.KioskRequest, tpmRoots []policy.Root, now time.Time) (Kiosk, error) {
	class, err := endorsed(q.EKCertificates, tpmRoots, now)
	if err != nil {
		return Kiosk{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	kiosk := Kiosk{ID: q.KioskID, AttestationKey: q.AttestationKey, StorageKeyName: q.StorageKeyName, Class: class,
		Counter: q.CounterAtInit, Registered: now.UTC().Truncate(time.Second)}
	binding := api.KioskBinding(q.KioskID)
	for _, key := range []struct {
		name     string
		evidence api.TPMEvidence
		csr      []byte
		spki     *[]byte
	}{
		{"record key", q.RecordEvidence, q.RecordCSR, &kiosk.RecordKey},
		{"tls key", q.TLSEvidence, q.TLSCSR, &kiosk.TLSKey},
	} {
		proof, err := attest.VerifyTPM(hsm.TPMEvidence(key.evidence), attest.TPMExpect{AK: q.AttestationKey, Class: class,
			QualifyingData: binding[:], OutsideInfo: binding, ParentName: q.StorageKeyName})
		if err != nil {
			return Kiosk{}, fmt.Errorf("%w: %s: %w", ErrRequest, key.name, err)
		}
		csr, err := x509.ParseCertificateRequest(key.csr)
		if err != nil {
			return Kiosk{}, fmt.Errorf("%w: %s: certificate request: %w", ErrRequest, key.name, err)
		}
		if err := csr.CheckSignature(); err != nil {
			return Kiosk{}, fmt.Errorf("%w: %s: certificate request: %w", ErrRequest, key.name, err)
		}
		if !samePublic(csr.PublicKey, proof.Key()) {
			return Kiosk{}, fmt.Errorf("%w: %s: the certificate request is for another key", ErrRequest, key.name)
		}
		if *key.spki, err = x509.MarshalPKIXPublicKey(proof.Key()); err != nil {
			return Kiosk{}, err
		}
	}
	if bytes.Equal(kiosk.RecordKey, kiosk.TLSKey) {
		return Kiosk{}, fmt.Errorf("%w: one key for two uses", ErrRequest)
	}
	return kiosk, nil
}

// endorsed is the class of the root behind one of a TPM's endorsement
// certificates; the others may be its intermediates.
func endorsed(certificates [][]byte, roots []policy.Root, now time.Time) (string, error) {
	if len(roots) == 0 {
		return attest.Test, nil
	}
	list, err := attestRoots(roots)
	if err != nil {
		return "", err
	}
	err = errors.New("no endorsement certificate")
	for _, der := range certificates {
		var e attest.Endorsement
		if e, err = attest.VerifyEndorsement(der, certificates, list, now); err == nil {
			return e.Class(), nil
		}
	}
	return "", err
}

func attestRoots(list []policy.Root) ([]attest.Root, error) {
	var out []attest.Root
	for _, r := range list {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fmt.Errorf("parse attestation root: %w", err)
		}
		out = append(out, attest.Root{Certificate: c, Class: string(r.Class)})
	}
	return out, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

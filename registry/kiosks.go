package registry

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
)

// Errors about kiosks.
var (
	ErrUnknownKiosk = errors.New("no kiosk of this id is registered")
	ErrNotWaiting   = errors.New("no kiosk of this id waits for approval")
	ErrFingerprint  = errors.New("another TPM waits under this id: compare the fingerprint with the one that the kiosk itself shows")
	ErrKioskID      = errors.New("a kiosk's id has up to 64 letters, digits, dots, hyphens and underscores")
	ErrRevoked      = errors.New("the kiosk of this id was revoked: give the machine another id")
)

// Kiosk is a registered kiosk, or one that has proved itself and waits.
type Kiosk struct {
	ID             string                `json:"id"`
	RecordKey      []byte                `json:"record_key"`      // SubjectPublicKeyInfo
	TLSKey         []byte                `json:"tls_key"`         // SubjectPublicKeyInfo
	EndorsementKey []byte                `json:"endorsement_key"` // SubjectPublicKeyInfo: which TPM it is
	Endorsement    api.Endorsement       `json:"endorsement"`     // the same key, as its maker knows it
	AttestationKey []byte                `json:"attestation_key"` // TPMT_PUBLIC
	StorageKeyName []byte                `json:"storage_key_name"`
	BootPCRs       [][]byte              `json:"boot_pcrs"` // SHA-256 PCRs 0 to 7 when it was approved
	Class          string                `json:"class"`     // of the TPM's endorsement: production or test
	Manufacturer   string                `json:"manufacturer"`
	Model          string                `json:"model"`
	Counter        uint64                `json:"counter"`            // before its first record
	Restarts       []uint64              `json:"restarts,omitempty"` // likewise, each time that it was provisioned anew
	Registered     time.Time             `json:"registered"`
	Revoked        *time.Time            `json:"revoked,omitempty"`
	Retired        *Retirement           `json:"retired,omitempty"` // then Revoked is when
	Certificates   api.KioskCertificates `json:"certificates"`
}

// Fingerprint of the endorsement key, for people.
func (k Kiosk) Fingerprint() string { return api.Fingerprint(k.EndorsementKey) }

// Provision is a provisioning code that was given out, and what came of it.
type Provision struct {
	ID      string    `json:"id"`
	Secret  []byte    `json:"secret_sha256"` // the secret itself stands on paper only
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
	Wrong   int       `json:"wrong"` // times that somebody came with another secret
	// EndorsementKey is of the first TPM that has shown the code and proved
	// itself; the code is of no use to another.
	EndorsementKey []byte    `json:"endorsement_key,omitempty"`
	Waiting        *Kiosk    `json:"waiting,omitempty"` // for a person to approve
	Since          time.Time `json:"since,omitzero"`    // it waits
	Rejected       bool      `json:"rejected,omitempty"`
}

// Kiosks is the register of kiosks and of the codes that they are provisioned
// with. It can be read and changed while the registry serves.
type Kiosks struct {
	dir   string // the registry's: its authorities over kiosks are there
	store register
	named []policy.Root // authorities over kiosks that the policy in force names; nil: it is not known
}

// KiosksIn is the register in the directory of a registry that has no database.
func KiosksIn(dir string) Kiosks { return Kiosks{dir: dir, store: files{dir}} }

// Under is the register for issuing certificates under a policy: the latest authority
// that it names signs them.
func (k Kiosks) Under(p policy.Policy) Kiosks {
	k.named = p.KioskCA
	return k
}

// List is all kiosks, by id.
func (k Kiosks) List(ctx context.Context) ([]Kiosk, error) { return k.store.Kiosks(ctx) }

// Provisions is all codes that were given out, by their kiosk's id.
func (k Kiosks) Provisions(ctx context.Context) ([]Provision, error) { return k.store.Provisions(ctx) }

// Find is the kiosk of an id; ErrUnknownKiosk if there is none.
func (k Kiosks) Find(ctx context.Context, id string) (Kiosk, error) {
	if !api.ValidKioskID(id) {
		return Kiosk{}, ErrUnknownKiosk
	}
	return k.store.Kiosk(ctx, id)
}

func (k Kiosks) findProvision(ctx context.Context, id string) (Provision, error) {
	if !api.ValidKioskID(id) {
		return Provision{}, ErrUnknownKiosk
	}
	return k.store.Provision(ctx, id)
}

// change alters what is kept of an id, while nobody else does.
func (k Kiosks) change(ctx context.Context, id string, f func(*standing) error) error {
	if !api.ValidKioskID(id) {
		return ErrUnknownKiosk
	}
	return k.store.ChangeKiosk(ctx, id, f)
}

// Revoke ends a kiosk's standing, and its code with it. It may be said again; the
// earliest time stays. What was taken on and was made, or came, after it is suspect.
func (k Kiosks) Revoke(ctx context.Context, id string, at time.Time) error {
	return k.change(ctx, id, func(s *standing) error {
		if s.kiosk == nil {
			return fmt.Errorf("%s: %w", id, ErrUnknownKiosk)
		}
		at := at.UTC().Truncate(time.Second)
		if s.kiosk.Revoked == nil || at.Before(*s.kiosk.Revoked) {
			s.kiosk.Revoked = &at
		}
		return nil
	})
}

// NewCode gives out a provisioning code for a kiosk: it is good until it expires,
// for the first TPM that proves itself. An earlier code of the same kiosk ends.
// root is the hash of the authority's root key.
func (k Kiosks) NewCode(ctx context.Context, id string, root [32]byte, valid time.Duration, now time.Time) (api.Code, error) {
	if !api.ValidKioskID(id) {
		return api.Code{}, ErrKioskID
	}
	server, err := keyfile.ReadCertificate(filepath.Join(k.dir, keyfile.Latest(k.dir, nameServer)+".crt"))
	if err != nil {
		return api.Code{}, err
	}
	code := api.NewCode(root, api.KeyHash(server.RawSubjectPublicKeyInfo))
	hash := sha256.Sum256(code.Secret.Reveal())
	now = now.UTC().Truncate(time.Second)
	return code, k.change(ctx, id, func(s *standing) error {
		if s.kiosk != nil && s.kiosk.Revoked != nil {
			return fmt.Errorf("%s: %w", id, ErrRevoked)
		}
		s.provision = &Provision{ID: id, Secret: hash[:], Made: now, Expires: now.Add(valid)}
		return nil
	})
}

// errCode is every reason for which a code is not taken. Which one it was stays
// here.
var errCode = errors.New("no such code")

// checkCode says whether a secret is that of the kiosk's code. A wrong one is
// counted, for the people who list the kiosks; the secret is too long for a
// limit to be needed, and with one anybody could use up another's code.
func (k Kiosks) checkCode(ctx context.Context, id string, secret []byte, now time.Time) (Provision, error) {
	p, err := k.findProvision(ctx, id)
	if errors.Is(err, ErrUnknownKiosk) {
		return Provision{}, errCode
	}
	if err != nil {
		return Provision{}, err
	}
	hash := sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(hash[:], p.Secret) != 1 {
		err := k.change(ctx, id, func(s *standing) error {
			if s.provision != nil {
				s.provision.Wrong++
			}
			return nil
		})
		return Provision{}, errors.Join(errCode, err)
	}
	if !now.Before(p.Expires) {
		return Provision{}, errCode
	}
	return p, nil
}

// Approve registers the kiosk that waits and issues its certificates. fingerprint
// is what a person has compared with the kiosk's own screen.
func (k Kiosks) Approve(ctx context.Context, id, fingerprint string, now time.Time) (Kiosk, error) {
	var kiosk Kiosk
	err := k.change(ctx, id, func(s *standing) error {
		if s.provision == nil || s.provision.Waiting == nil {
			return fmt.Errorf("%s: %w", id, ErrNotWaiting)
		}
		kiosk = *s.provision.Waiting
		if !api.SameFingerprint(fingerprint, kiosk.Fingerprint()) {
			return fmt.Errorf("%s: %w", id, ErrFingerprint)
		}
		if old := s.kiosk; old != nil {
			if old.Revoked != nil {
				return fmt.Errorf("%s: %w", id, ErrRevoked)
			}
			// With the same endorsement key: another does not get to wait.
			// Its disk may be empty now: then its chain begins again where its counter is.
			kiosk.Restarts = old.restartsWith(kiosk.Counter)
			kiosk.Counter, kiosk.Registered = old.Counter, old.Registered
		}
		if err := k.issue(&kiosk, now); err != nil {
			return err
		}
		s.kiosk, s.provision.Waiting = &kiosk, nil
		return nil
	})
	if errors.Is(err, ErrUnknownKiosk) {
		err = fmt.Errorf("%s: %w", id, ErrNotWaiting)
	}
	if err != nil {
		return Kiosk{}, err
	}
	return kiosk, nil
}

// Reject sends the kiosk that waits away and ends its code.
func (k Kiosks) Reject(ctx context.Context, id string) error {
	err := k.change(ctx, id, func(s *standing) error {
		if s.provision == nil || s.provision.Waiting == nil {
			return fmt.Errorf("%s: %w", id, ErrNotWaiting)
		}
		s.provision.Waiting, s.provision.Rejected = nil, true
		return nil
	})
	if errors.Is(err, ErrUnknownKiosk) {
		return fmt.Errorf("%s: %w", id, ErrNotWaiting)
	}
	return err
}

// oidAIKCertificate is the extended key usage of an attestation key's
// certificate (TCG Credential Profiles 3.3: tcg-kp-AIKCertificate).
var oidAIKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 3}

// issue certifies a kiosk's three keys.
func (k Kiosks) issue(kiosk *Kiosk, now time.Time) error {
	ca, err := k.authority()
	if err != nil {
		return err
	}
	ak, err := attestationSPKI(kiosk.AttestationKey)
	if err != nil {
		return err
	}
	kiosk.Certificates = api.KioskCertificates{Version: 1, KioskID: kiosk.ID}
	for _, c := range []struct {
		spki     []byte
		template x509.Certificate
		out      *[][]byte
	}{
		{ak, x509.Certificate{UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidAIKCertificate}}, &kiosk.Certificates.Attestation},
		{kiosk.RecordKey, x509.Certificate{}, &kiosk.Certificates.Record},
		{kiosk.TLSKey, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, &kiosk.Certificates.TLS},
	} {
		pub, err := x509.ParsePKIXPublicKey(c.spki)
		if err != nil {
			return fmt.Errorf("certify kiosk: %w", err)
		}
		c.template.Subject = pkix.Name{CommonName: kiosk.ID}
		der, err := ca.Issue(c.template, pub, now)
		if err != nil {
			return err
		}
		*c.out = [][]byte{der}
	}
	return nil
}

// restartsWith is Restarts with one more.
func (k Kiosk) restartsWith(counter uint64) []uint64 {
	if slices.Contains(k.starts(), counter) {
		return k.Restarts
	}
	return append(slices.Clone(k.Restarts), counter)
}

// starts are the values of the counter after which its chain may begin.
func (k Kiosk) starts() []uint64 { return append([]uint64{k.Counter}, k.Restarts...) }

// same says whether both are one TPM with one set of keys.
func (k Kiosk) same(o Kiosk) bool {
	return bytes.Equal(k.RecordKey, o.RecordKey) && bytes.Equal(k.TLSKey, o.TLSKey) && bytes.Equal(k.EndorsementKey, o.EndorsementKey) &&
		bytes.Equal(k.AttestationKey, o.AttestationKey) && bytes.Equal(k.StorageKeyName, o.StorageKeyName)
}

// bootsLike says whether both have started the same firmware and boot loader.
func (k Kiosk) bootsLike(o Kiosk) bool { return slices.EqualFunc(k.BootPCRs, o.BootPCRs, bytes.Equal) }

func (k Kiosk) hasRecordKey(spki []byte) bool { return bytes.Equal(k.RecordKey, spki) }

// signs says whether a key is the kiosk's record key.
func (k Kiosk) signs(key crypto.PublicKey) bool {
	spki, err := x509.MarshalPKIXPublicKey(key)
	return err == nil && k.hasRecordKey(spki)
}

// fresh says whether k's certificates last for a good while yet.
func (k Kiosk) fresh(now time.Time) bool {
	due, err := k.Certificates.Due()
	return err == nil && now.Before(due)
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

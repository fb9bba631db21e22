package api

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// ProvisionBegin is the body of POST /v1/provision/begin: a new kiosk shows its
// code and says which keys its TPM has. Bytes are base64 in these messages;
// names are those of docs/openapi.yaml.
type ProvisionBegin struct {
	Version        int           `json:"version"`          // 1
	KioskID        string        `json:"kiosk"`            // e.g. "KIOSK-0001"
	Secret         []byte        `json:"secret"`           // of the code, 16 bytes
	Endorsements   []Endorsement `json:"endorsements"`     // every endorsement key of the TPM
	AttestationKey []byte        `json:"attestation_key"`  // TPMT_PUBLIC of the AK
	StorageKeyName []byte        `json:"storage_key_name"` // Name of the parent of all the kiosk's keys
	RecordCSR      []byte        `json:"record_csr"`       // PKCS #10, DER
	TLSCSR         []byte        `json:"tls_csr"`          // PKCS #10, DER
	Counter        uint64        `json:"counter"`          // the NV counter's value now
}

// Endorsement is an endorsement key with its maker's certificate.
type Endorsement struct {
	Certificate []byte `json:"certificate"` // X.509, DER
	Public      []byte `json:"public"`      // TPMT_PUBLIC
}

// ProvisionChallenge answers a ProvisionBegin. Only a TPM that has both the
// endorsement key and the AK can open the credential.
type ProvisionChallenge struct {
	Session     ID     `json:"session"`
	Endorsement int    `json:"endorsement"` // which of ProvisionBegin's the credential is for
	Blob        []byte `json:"blob"`        // contents of a TPM2B_ID_OBJECT
	Encrypted   []byte `json:"encrypted"`   // contents of a TPM2B_ENCRYPTED_SECRET
	Nonce       []byte `json:"nonce"`       // 32 bytes, that the statements are made for
}

// ProvisionProof is the body of POST /v1/provision/prove.
type ProvisionProof struct {
	Session        ID          `json:"session"`
	Secret         []byte      `json:"secret"` // that was in the credential
	Quote          TPMQuote    `json:"quote"`
	RecordEvidence TPMEvidence `json:"record_evidence"` // TPM2_CertifyCreation by the AK, outsideInfo KioskBinding
	TLSEvidence    TPMEvidence `json:"tls_evidence"`
}

// ProvisionStatus says how far a session is.
type ProvisionStatus struct {
	Status       Status             `json:"status"` // Waiting or Approved
	Certificates *KioskCertificates `json:"certificates,omitempty"`
}

// Statuses of a kiosk that has proved itself.
const (
	Waiting  Status = "waiting" // for a person at the registry
	Approved Status = "approved"
)

// TPMEvidence has the members of hsm.TPMEvidence.
type TPMEvidence struct {
	Public       []byte `json:"public"`
	CreationData []byte `json:"creation_data"`
	Attest       []byte `json:"attest"`
	Signature    []byte `json:"signature"`
}

// TPMQuote has the members of hsm.TPMQuote.
type TPMQuote struct {
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
	PCRs      []PCR  `json:"pcrs"`
}

// PCR is a platform configuration register with its value.
type PCR struct {
	Index int    `json:"index"`
	Value []byte `json:"sha256"`
}

// KioskCertificates are certificate chains, leaf first, DER, without the root.
type KioskCertificates struct {
	Version     int      `json:"version"` // 1
	KioskID     string   `json:"kiosk"`
	Attestation [][]byte `json:"attestation"` // of the AK
	Record      [][]byte `json:"record"`
	TLS         [][]byte `json:"tls"`
}

// EndsSoon is how long before their end certificates that were not renewed are an
// alarm.
const EndsSoon = 30 * 24 * time.Hour

// Due is when the certificates are to be renewed: as soon as one of the leaves is in the
// last third of its life.
func (c KioskCertificates) Due() (time.Time, error) {
	return c.earliest(func(x *x509.Certificate) time.Time { return x.NotAfter.Add(-x.NotAfter.Sub(x.NotBefore) / 3) })
}

// End is when the first of the leaves ends.
func (c KioskCertificates) End() (time.Time, error) {
	return c.earliest(func(x *x509.Certificate) time.Time { return x.NotAfter })
}

func (c KioskCertificates) earliest(of func(*x509.Certificate) time.Time) (first time.Time, err error) {
	for _, chain := range [][][]byte{c.Attestation, c.Record, c.TLS} {
		if len(chain) == 0 {
			return first, fmt.Errorf("%w: an empty chain", ErrForm)
		}
		x, err := x509.ParseCertificate(chain[0])
		if err != nil {
			return first, fmt.Errorf("%w: certificate: %w", ErrForm, err)
		}
		if t := of(x); first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first, nil
}

// Check holds the form.
func (c KioskCertificates) Check() error {
	if c.Version != 1 || !ValidKioskID(c.KioskID) || len(c.Attestation) == 0 || len(c.Record) == 0 || len(c.TLS) == 0 {
		return fmt.Errorf("%w: version, id or chains", ErrForm)
	}
	return nil
}

// Check holds the form; what the bytes are is for the verifier.
func (b ProvisionBegin) Check() error {
	if b.Version != 1 || !ValidKioskID(b.KioskID) || len(b.Secret) != 16 || len(b.Endorsements) == 0 || len(b.Endorsements) > 8 {
		return fmt.Errorf("%w: version, id, secret or endorsements", ErrForm)
	}
	return nil
}

// Check holds the form.
func (c ProvisionChallenge) Check() error {
	if c.Endorsement < 0 || len(c.Nonce) != 32 || len(c.Blob) == 0 || len(c.Encrypted) == 0 {
		return fmt.Errorf("%w: challenge", ErrForm)
	}
	return nil
}

// Check holds the form.
func (p ProvisionProof) Check() error {
	if len(p.Secret) == 0 || len(p.Secret) > 64 {
		return fmt.Errorf("%w: secret of %d bytes", ErrForm, len(p.Secret))
	}
	if len(p.Quote.PCRs) != 8 {
		return fmt.Errorf("%w: %d PCRs", ErrForm, len(p.Quote.PCRs))
	}
	return nil
}

// Check holds that certificates come exactly with approval.
func (s ProvisionStatus) Check() error {
	if s.Status != Waiting && s.Status != Approved || (s.Status == Approved) != (s.Certificates != nil) {
		return fmt.Errorf("%w: provisioning status", ErrForm)
	}
	return nil
}

// ValidKioskID says whether s may be a kiosk's id: it is a file's name at the
// registry, so only plain ones are taken.
func ValidKioskID(s string) bool {
	return s != "" && len(s) <= 64 && s[0] != '.' &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

// KioskBinding is what a kiosk's keys are bound to at birth (outsideInfo):
// SHA-256("enrollkiosk/init/v1" || id).
func KioskBinding(kioskID string) [32]byte {
	return sha256.Sum256(append([]byte("enrollkiosk/init/v1"), kioskID...))
}

// Fingerprint is how people compare endorsement keys: the first 16 bytes of
// SHA-256 of the SubjectPublicKeyInfo, in groups of four hexadecimal digits.
func Fingerprint(spki []byte) string {
	h := KeyHash(spki)
	var groups []string
	for i := 0; i < 16; i += 2 {
		groups = append(groups, hex.EncodeToString(h[i:i+2]))
	}
	return strings.Join(groups, " ")
}

// SameFingerprint compares one that a person typed.
func SameFingerprint(typed, fingerprint string) bool {
	plain := strings.NewReplacer(" ", "", ":", "", "-", "")
	return fingerprint != "" && strings.EqualFold(plain.Replace(typed), plain.Replace(fingerprint))
}

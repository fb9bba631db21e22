package record

import (
	"bytes"
	"crypto/sha256"

	"enrollkiosk/registry/internal/canonical"
)

// PIVEvidence has the members of hsm.PIVEvidence, so that
// (*record.PIVEvidence)(e) converts; this package is a leaf and does not import
// that one.
type PIVEvidence struct {
	Certificate  []byte `json:"certificate"`
	Intermediate []byte `json:"intermediate"`
}

// TPMEvidence has the members of hsm.TPMEvidence, see PIVEvidence.
type TPMEvidence struct {
	Public       []byte `json:"public"`
	CreationData []byte `json:"creation_data"`
	Attest       []byte `json:"attest"`
	Signature    []byte `json:"signature"`
}

// Attestation is evidence about the holder's key: exactly one member is set. It
// travels beside the record, because a token's serial number identifies it.
// Untrusted until hsm/attest has verified it.
type Attestation struct {
	PIV *PIVEvidence `json:"piv,omitzero"`
	TPM *TPMEvidence `json:"tpm,omitzero"`
}

// Bytes is the canonical encoding, to archive.
func (a Attestation) Bytes() []byte { return canonical.Marshal(a) }

// Digest is SHA-256 of Bytes: what the payload names.
func (a Attestation) Digest() [32]byte { return sha256.Sum256(a.Bytes()) }

// Submission is a record with its attestation: what is queued and sent. Only
// NewSubmission and ParseSubmission make one; the zero value is refused.
type Submission struct {
	record      Record
	attestation *Attestation
	bytes       []byte
}

type submission struct {
	Attestation *Attestation `json:"attestation,omitzero"`
	Record      envelope     `json:"record"`
}

// NewSubmission joins a record and the attestation that its payload names; nil
// where it names none.
func NewSubmission(r Record, a *Attestation) (Submission, error) {
	if !r.Valid() {
		return Submission{}, ErrZero
	}
	b := []byte("{")
	if a != nil {
		b = append(b, `"attestation":`...)
		b = append(b, a.Bytes()...)
		b = append(b, ',')
	}
	b = append(b, `"record":`...)
	b = append(b, r.r.bytes...)
	return ParseSubmission(append(b, '}'))
}

// ParseSubmission reads a submission and checks all that Parse checks, and that
// the attestation is the one that the payload names. Every error is an *Error.
func ParseSubmission(b []byte) (Submission, error) {
	if len(b) > MaxSubmission {
		return Submission{}, fail(CodeSize, "submission of %d bytes", len(b))
	}
	var w submission
	if err := canonical.Unmarshal(b, &w); err != nil {
		return Submission{}, fail(CodeCanonical, "submission: %w", err)
	}
	s := Submission{attestation: w.Attestation, bytes: bytes.Clone(b)}
	inner := s.bytes[len(`{"record":`) : len(b)-1]
	if a := w.Attestation; a != nil {
		if (a.PIV == nil) == (a.TPM == nil) {
			return Submission{}, fail(CodeAttestation, "not exactly one kind of evidence")
		}
		inner = inner[len(`"attestation":,`)+len(a.Bytes()):]
	}
	if len(inner) > MaxRecord {
		return Submission{}, fail(CodeSize, "record of %d bytes", len(inner))
	}
	var err error
	if s.record, err = open(inner, w.Record); err != nil {
		return Submission{}, err
	}
	holder := s.record.r.payload.Holder
	switch a := w.Attestation; {
	case a == nil && holder.Attestation != [32]byte{}:
		return Submission{}, fail(CodeAttestation, "the attestation is missing")
	case a != nil && a.Digest() != holder.Attestation:
		return Submission{}, fail(CodeAttestation, "the record names another attestation")
	case a != nil && (holder.Where == PIV) != (a.PIV != nil):
		return Submission{}, fail(CodeAttestation, "evidence of another kind of device")
	}
	return s, nil
}

// PayloadOf reads the payload that id names from a submission that was verified
// before: id is the payload's hash, so it is that payload or an error. Signatures
// and the rest are not looked at. Every error is an *Error.
func PayloadOf(b []byte, id [32]byte) (p Payload, err error) {
	if len(b) > MaxSubmission {
		return p, fail(CodeSize, "submission of %d bytes", len(b))
	}
	var w submission
	if err := canonical.Unmarshal(b, &w); err != nil {
		return p, fail(CodeCanonical, "submission: %w", err)
	}
	if ID(w.Record.Payload) != id {
		return p, fail(CodeForm, "the payload has another id")
	}
	if err := canonical.Unmarshal(w.Record.Payload, &p); err != nil {
		return Payload{}, fail(CodeCanonical, "payload: %w", err)
	}
	return p, nil
}

// Valid is false for the zero value.
func (s Submission) Valid() bool { return s.record.Valid() }

// Record is the checked record.
func (s Submission) Record() Record { return s.record }

// ID is the record's id.
func (s Submission) ID() [32]byte { return s.record.ID() }

// Bytes is the canonical encoding; nil for the zero value.
func (s Submission) Bytes() []byte { return bytes.Clone(s.bytes) }

// Attestation is the evidence beside the record, if the payload names one.
func (s Submission) Attestation() (Attestation, bool) {
	if s.attestation == nil {
		return Attestation{}, false
	}
	return *s.attestation, true
}

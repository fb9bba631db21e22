package record

import (
	"crypto"
	"crypto/sha256"
	"time"
)

// Payload is what is signed: pseudonymous, nothing in it names or describes the
// citizen.
type Payload struct {
	Context  Context     `json:"context"`
	Previous [32]byte    `json:"previous"`          // record id before this one at this kiosk; zero for the first
	Times    Times       `json:"times"`             //
	Holder   HolderKey   `json:"holder,omitzero"`   // absent in void
	Replaces string      `json:"replaces,omitzero"` // DID that ends with this record; replace only
	Signers  []SignerRef `json:"signers"`           // in signing order; SignerOf makes one
	Purposes []Consent   `json:"purposes,omitzero"` // what the holder consents to

	// Exceptions are the proofs that the holder's document could not give; a record
	// with any is signed by a supervisor too. What kind of document it was is in
	// the sealed identity: it would describe the citizen.
	Exceptions []Exception `json:"exceptions,omitzero"`

	Blind     [32]byte `json:"blind"`             // random; hides the id in the log's leaf
	CancelSHA [32]byte `json:"cancel,omitzero"`   // CancelHash of the code on the receipt
	Identity  Sealed   `json:"identity,omitzero"` //
}

// Times says when, and how well the kiosk knows it.
type Times struct {
	Wall         time.Time `json:"wall"`              // whole seconds, UTC
	Synchronised bool      `json:"synchronised"`      // the system says that a time source has set the clock
	Monotonic    uint64    `json:"monotonic"`         // milliseconds since this boot
	Boot         [16]byte  `json:"boot"`              // random number of this boot
	Registry     time.Time `json:"registry,omitzero"` // last time that the registry signed; a lower bound
}

// HolderKey is the holder's key and what is claimed about it.
type HolderKey struct {
	DID         string   `json:"did"`                  // DIDKey of Key
	Key         JWK      `json:"key"`                  //
	Where       Where    `json:"where,omitzero"`       // absent in revoke
	Class       Class    `json:"class,omitzero"`       // class of the root behind the attestation
	Attestation [32]byte `json:"attestation,omitzero"` // Attestation.Digest; zero only in update and revoke
}

// Where a holder's key lives.
type Where string

const (
	PIV Where = "piv"
	TPM Where = "tpm" // station custody: in the kiosk's TPM
)

// Class of a root certificate, and of what rests on it.
type Class string

const (
	Production Class = "production"
	Test       Class = "test"
)

// SignerRef names the key that must sign for a role: SHA-256 of the RFC 7638
// thumbprint input of a bare key, or of the leaf certificate's DER.
type SignerRef struct {
	Role   Role     `json:"role"`
	By     KeyForm  `json:"by"`
	SHA256 [32]byte `json:"sha256"`
}

// KeyForm is the protected header's member that carries the key.
type KeyForm string

const (
	ByJWK KeyForm = "jwk" // holders; the kiosk if it has no certificate
	ByX5C KeyForm = "x5c" // officers, supervisors; the kiosk
)

// Consent is one text that the holder agreed to. Its language and digest are in
// the sealed identity, as a language describes a person.
type Consent struct {
	ID      string `json:"id"`
	Version uint64 `json:"version"`
}

// Exception is a proof that complete documents give and the holder's, or the
// guardian's, did not.
type Exception string

const (
	NoAge             Exception = "no-age"              // nothing shows that the holder is old enough to decide alone
	NoChipProof       Exception = "no-chip-proof"       // nothing shows that the chip is the original
	NoIssuerSignature Exception = "no-issuer-signature" // no signature of the issuer protects the data
)

// SignerOf makes the reference for a role's key: by certificate if chain (leaf
// first, DER) is given.
func SignerOf(role Role, pub crypto.PublicKey, chain [][]byte) (SignerRef, error) {
	if len(chain) > 0 {
		return SignerRef{role, ByX5C, sha256.Sum256(chain[0])}, nil
	}
	jwk, err := NewJWK(pub)
	if err != nil {
		return SignerRef{}, err
	}
	return SignerRef{role, ByJWK, jwk.Thumbprint()}, nil
}

// ID is the record id: SHA-256 of the payload's bytes.
func ID(payload []byte) [32]byte { return sha256.Sum256(payload) }

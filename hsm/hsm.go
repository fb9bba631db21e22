// Package hsm names what the kiosk asks of hardware that keeps keys: a PIV
// token (hsm/piv), a TPM 2.0 (hsm/tpm), and the evidence that a key was born
// there (verified by hsm/attest).
//
// It holds small interfaces, evidence as bytes, and typed errors; no device
// code. There is no software key behind these interfaces and no fallback to
// one.
package hsm

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"time"
)

// Key is a private key that never leaves its device.
//
// Sign signs a digest made with the hash of the key's [Algorithm], or for
// Ed25519 the message itself, and returns what crypto.Signer would: ASN.1 DER
// for ECDSA, PKCS #1 v1.5 for RSA. It waits for the device, and for a person's
// touch, no longer than ctx allows. It never retries a PIN.
type Key interface {
	Public() crypto.PublicKey
	Sign(ctx context.Context, digest []byte) ([]byte, error)
}

// Signer adapts k to crypto.Signer for TLS and X.509; each signature gets at
// most limit. Another hash than the one that k takes, or RSA with PSS, is
// ErrUnsupported.
func Signer(k Key, limit time.Duration) crypto.Signer { return signer{k, limit} }

type signer struct {
	key   Key
	limit time.Duration
}

func (s signer) Public() crypto.PublicKey { return s.key.Public() }

func (s signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	want := crypto.SHA256 // also of what is no Algorithm, such as an officer's longer RSA key
	if a, ok := AlgorithmOf(s.key.Public()); ok {
		want = a.Hash()
	}
	if _, pss := opts.(*rsa.PSSOptions); pss || opts.HashFunc() != want {
		return nil, fmt.Errorf("sign with %v: %w", opts.HashFunc(), ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	defer cancel()
	return s.key.Sign(ctx, digest)
}

// PIVEvidence is what a PIV token says about a key it generated: the
// attestation certificate of the slot and the token's own F9 certificate, both
// DER. Untrusted until hsm/attest has verified it.
type PIVEvidence struct {
	Certificate  []byte `json:"certificate"`
	Intermediate []byte `json:"intermediate"`
}

// TPMEvidence is TPM2_CertifyCreation's output with what is needed to check it
// (TPM 2.0 Part 2): TPMT_PUBLIC, TPMS_CREATION_DATA, TPMS_ATTEST and
// TPMT_SIGNATURE, raw. Untrusted until hsm/attest has verified it.
type TPMEvidence struct {
	Public       []byte `json:"public"`
	CreationData []byte `json:"creation_data"`
	Attest       []byte `json:"attest"`
	Signature    []byte `json:"signature"`
}

// TPMQuote is TPM2_Quote's output over the PCRs that firmware and boot loader
// measure themselves into, 0 to 7 of the SHA-256 bank, with the values it speaks
// of: TPMS_ATTEST and TPMT_SIGNATURE, raw. Untrusted until hsm/attest has
// verified it.
type TPMQuote struct {
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
	PCRs      []PCR  `json:"pcrs"`
}

// PCR is a platform configuration register with its value, 32 bytes.
type PCR struct {
	Index int    `json:"index"`
	Value []byte `json:"sha256"`
}

// TPMCredential is a secret that only the TPM with a certain endorsement key
// opens, and only while a key of a certain name is loaded in it (TPM 2.0 Part 1,
// 24): the contents of a TPM2B_ID_OBJECT and of a TPM2B_ENCRYPTED_SECRET.
type TPMCredential struct {
	Blob   []byte `json:"blob"`
	Secret []byte `json:"secret"`
}

// Attestation is evidence of one kind: exactly one member is set.
type Attestation struct {
	PIV *PIVEvidence `json:"piv,omitempty"`
	TPM *TPMEvidence `json:"tpm,omitempty"`
}

// Progress is a moment of a slow device operation, for the screen.
type Progress string

const (
	Verifying  Progress = "verifying"
	Generating Progress = "generating"
	Attesting  Progress = "attesting"
	TouchNow   Progress = "touch-now"
	Storing    Progress = "storing"
)

// Errors of every device: a closed list. Each says, in its own words, what the
// person can do. ErrLockout may also come as a *[Lockout], a wrong PIN comes as a
// *[WrongPIN].
var (
	ErrNoDevice      = errors.New("no device found: connect it and try again")
	ErrBusy          = errors.New("the device is in use by another program: close it and try again")
	ErrRemoved       = errors.New("the token was taken away: put it back and try again")
	ErrNotPIV        = errors.New("this is not a PIV token: use another one")
	ErrCannotAttest  = errors.New("this token cannot prove where its keys were made: use another one")
	ErrNotFactoryNew = errors.New("this token has been used before: reset it or use another one")
	ErrPINBlocked    = errors.New("the PIN is blocked: unblock it at the service desk")
	ErrPUKBlocked    = errors.New("the PUK is blocked: the token must be reset")
	ErrTouchTimeout  = errors.New("the token was not touched in time: try again and touch it when it blinks")
	ErrUnsupported   = errors.New("the device cannot do this: use another one")
	ErrUnavailable   = errors.New("the device stopped answering: call staff")
	ErrLockout       = errors.New("the TPM refuses for a while after wrong attempts: call staff")

	ErrFactoryCredentials = errors.New("the token still has its factory PIN, PUK or management key: give it new ones first")
)

// Lockout is ErrLockout with the time when the device will listen again; a zero
// Until means that nobody knows.
type Lockout struct{ Until time.Time }

func (e *Lockout) Error() string {
	if e.Until.IsZero() {
		return ErrLockout.Error()
	}
	return fmt.Sprintf("the TPM refuses until %s after wrong attempts: try again then or call staff", e.Until.Format(time.RFC3339))
}

// Is makes every Lockout an ErrLockout.
func (e *Lockout) Is(target error) bool { return target == ErrLockout }

// WrongPIN is a refused PIN with Left tries before it blocks.
type WrongPIN struct{ Left int }

func (e *WrongPIN) Error() string {
	return fmt.Sprintf("wrong PIN, %d tries left", e.Left)
}

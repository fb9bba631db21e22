// Package record is the enrollment record: what a kiosk makes, the holder, the
// officer and the kiosk sign, the registry checks and the vault opens.
//
// A record is a JWS in general JSON serialization (RFC 7515 7.2.1), so any JOSE
// library can check its signatures; docs/record-format.md is its description.
// Its making has one order, and the types follow it:
//
//	Context  -> what everything else binds to
//	Seal     -> the personal part, readable by the identity authority only
//	Payload  -> frozen by New
//	Draft    -> signed by one role after another
//	Record   -> checked; only Parse makes it
//	Submission -> a record with its attestation, as it is queued and sent
//
// Invariants: a Record has passed every check of form, signatures and signer
// set that needs no outside knowledge, its bytes are canonical, and its zero
// value is refused. Roles are read from protected headers only.
//
// Not its job: certificate chains, attestations, policy, standing of kiosks and
// officers, duplicates. Whoever holds the anchors checks those.
package record

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"

	"enrollkiosk/registry/internal/canonical"
)

// Version is the format version that this package reads and writes.
const Version = 1

// Limits of size, in bytes. A larger input is refused before it is looked at.
const (
	MaxRecord     = 448 << 10
	MaxSubmission = 512 << 10
	maxChain      = 4
)

// Purpose says what a record asks of the registry.
type Purpose string

const (
	Enroll  Purpose = "enroll"  // a new holder: holder, officer, kiosk; a supervisor for exceptions
	Replace Purpose = "replace" // a new key: old holder or supervisor beside holder, officer, kiosk
	Update  Purpose = "update"  // a renewed card, the same key: as enroll
	Revoke  Purpose = "revoke"  // holder alone, or officer, supervisor, kiosk
	Void    Purpose = "void"    // a sequence number reserved and not used: kiosk
)

// Role is what a signature stands for.
type Role string

// Roles, in the order of their signatures.
const (
	OldHolder  Role = "old_holder"
	Holder     Role = "holder"
	Officer    Role = "officer"
	Supervisor Role = "supervisor"
	Kiosk      Role = "kiosk"
)

// signerSets lists, in signing order, the sets of roles that fit a purpose.
var signerSets = map[Purpose][][]Role{
	Enroll:  {{Holder, Officer, Kiosk}, {Holder, Officer, Supervisor, Kiosk}},
	Replace: {{OldHolder, Holder, Officer, Kiosk}, {OldHolder, Holder, Officer, Supervisor, Kiosk}, {Holder, Officer, Supervisor, Kiosk}},
	Update:  {{Holder, Officer, Kiosk}, {Holder, Officer, Supervisor, Kiosk}},
	Revoke:  {{Holder}, {Officer, Supervisor, Kiosk}},
	Void:    {{Kiosk}},
}

// Codes of [Error]: a closed list, stable, shown to people and put in verdicts.
const (
	CodeSize        = "record-size"        // larger than the limit
	CodeCanonical   = "record-canonical"   // not the one encoding: a byte, member or space too many, too few or other
	CodeForm        = "record-form"        // canonical, but a value is missing, out of range or contradicts another
	CodeSigners     = "record-signers"     // roles, keys or certificates differ from signers, repeat, or do not fit the purpose
	CodeSignature   = "record-signature"   // a signature does not verify
	CodeAudience    = "record-audience"    // made for another registry
	CodeAttestation = "record-attestation" // the attestation beside the record is not the one it names
	CodeSeal        = "record-seal"        // the sealed identity cannot be made or opened with this key and context
	CodeZero        = "record-zero"        // a value that no check has made was passed on
)

// Error is a refused record or a failed step of making one. [errors.Is] matches
// it by its code against the sentinels below.
type Error struct {
	Code string
	Err  error // the particulars; nil in the sentinels
}

// Sentinels for [errors.Is].
var (
	ErrSize        = &Error{Code: CodeSize}
	ErrCanonical   = &Error{Code: CodeCanonical}
	ErrForm        = &Error{Code: CodeForm}
	ErrSigners     = &Error{Code: CodeSigners}
	ErrSignature   = &Error{Code: CodeSignature}
	ErrAudience    = &Error{Code: CodeAudience}
	ErrAttestation = &Error{Code: CodeAttestation}
	ErrSeal        = &Error{Code: CodeSeal}
	ErrZero        = &Error{Code: CodeZero}
)

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code
	}
	return e.Code + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is an Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Err == nil && t.Code == e.Code
}

func fail(code, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// Context is what every part of a record binds to: sealed identity, key
// attestation, the chip's challenge. It exists before them.
type Context struct {
	Version        uint64   `json:"version"`   // the constant Version
	Audience       string   `json:"audience"`  // the log's origin
	Purpose        Purpose  `json:"purpose"`   //
	KioskID        string   `json:"kiosk"`     // empty only where no kiosk signs
	Sequence       uint64   `json:"sequence"`  // the kiosk's counter, from 1; 0 only where no kiosk signs
	Nonce          [32]byte `json:"nonce"`     // random
	PolicyDigest   [32]byte `json:"policy"`    // digest of the policy in force
	AuthorityKeyID string   `json:"authority"` // the key that the identity is sealed to
}

// Bytes is the canonical encoding; it stands in the payload as it is.
func (c Context) Bytes() []byte { return canonical.Marshal(c) }

// KeyBinding is SHA-256("enrollkiosk/key/v1" || context): a TPM's OutsideInfo.
func (c Context) KeyBinding() [32]byte {
	return sha256.Sum256(append([]byte("enrollkiosk/key/v1"), c.Bytes()...))
}

// ChipChallenge is what the chip of the holder's document signs:
// SHA-256("enrollkiosk/aa/v1" || context || SubjectPublicKeyInfo of the holder's
// key). A chip that signs it signs for this enrollment and this key. Active
// Authentication takes its first 8 bytes.
func (c Context) ChipChallenge(holderKey crypto.PublicKey) ([32]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(holderKey)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encode holder key: %w", err)
	}
	b := append([]byte("enrollkiosk/aa/v1"), c.Bytes()...)
	return sha256.Sum256(append(b, spki...)), nil
}

// Check reports whether every member is in range; kiosk id and sequence may
// both be empty, which only a holder's own revocation may use.
func (c Context) Check() error {
	switch {
	case c.Version != Version:
		return fail(CodeForm, "context: version %d, want %d", c.Version, Version)
	case !printable(c.Audience, 255):
		return fail(CodeForm, "context: audience is no log origin")
	case signerSets[c.Purpose] == nil:
		return fail(CodeForm, "context: unknown purpose")
	case (c.KioskID == "") != (c.Sequence == 0) || c.KioskID != "" && !identifier(c.KioskID):
		return fail(CodeForm, "context: kiosk id or sequence")
	case c.Sequence > canonical.MaxNumber:
		return fail(CodeForm, "context: sequence above 2^53-1")
	case c.Nonce == [32]byte{}:
		return fail(CodeForm, "context: no nonce")
	case c.PolicyDigest == [32]byte{}:
		return fail(CodeForm, "context: no policy digest")
	case !identifier(c.AuthorityKeyID):
		return fail(CodeForm, "context: authority key id")
	}
	return nil
}

// identifier: 1 to 64 of A-Z a-z 0-9 . _ : -
func identifier(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") == ""
}

// printable: visible ASCII without quotes and backslash, as origins and URLs are.
func printable(s string, limit int) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

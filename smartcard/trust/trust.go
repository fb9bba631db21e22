// Package trust decides whether an identity document is genuine: passive
// authentication (ICAO Doc 9303-11 5.1, Doc 9303-12), and the evidence that the
// chip is the original one (Chip and Active Authentication).
//
// [Verify] is the only maker of a [Holder]. It is a pure function of its
// arguments, does no I/O, and computes everything again each time: a kiosk
// calls it once when the card has been read, and again when Active
// Authentication has been run for the record's context.
//
// Anchors are given by the caller; the package has no opinion on whom to trust
// and ships none.
package trust

import (
	"errors"
	"time"

	"enrollkiosk/smartcard/lds"
)

// Class says what an anchor is good for.
type Class string

// Classes of anchors.
const (
	Production Class = "production"
	Test       Class = "test"
)

// Anchor is a trusted CSCA certificate.
type Anchor struct {
	Certificate []byte // DER
	Class       Class
}

// Anchors are trusted CSCA certificates with the revocation lists they signed.
// The zero value trusts nobody.
type Anchors struct{ list []anchor }

type anchor struct{}

// NewAnchors takes CSCA certificates and CRLs (DER). Each CRL must be signed by
// one of the certificates. One key cannot be of two classes.
func NewAnchors(certs []Anchor, crls ...[]byte) (Anchors, error) { return Anchors{}, errors.New("x") }

// Check names what was looked at.
type Check string

// Checks, in the order in which they are made.
const (
	CheckContent              Check = "content"
	CheckHashes               Check = "hashes"
	CheckSignature            Check = "signature"
	CheckChain                Check = "chain"
	CheckRevocation           Check = "revocation"
	CheckChipAuthentication   Check = "chip-authentication"
	CheckActiveAuthentication Check = "active-authentication"
	CheckChip                 Check = "chip" // what Options require of the chip
	CheckValidity             Check = "validity"
)

// Error says which check failed and why. Err is or wraps one of the sentinels.
type Error struct {
	Check Check
	Err   error
}

func (e *Error) Error() string { return string(e.Check) + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Reasons for refusing a document.
var (
	ErrMissing          = errors.New("trust: a required file is missing")
	ErrMalformed        = errors.New("trust: malformed")
	ErrUnsupported      = errors.New("trust: algorithm not supported")
	ErrHash             = errors.New("trust: a file was altered or is not part of the document")
	ErrSignature        = errors.New("trust: the document's signature does not verify")
	ErrUnknownAuthority = errors.New("trust: the issuing authority is not known")
	ErrCertificate      = errors.New("trust: the document signer's certificate is not acceptable")
	ErrSignerExpired    = errors.New("trust: the document signer's certificate was not valid at the time")
	ErrRevoked          = errors.New("trust: the document signer's certificate is revoked")
	ErrChip             = errors.New("trust: the chip has not proved that it is the original")
	ErrChipCannotProve  = errors.New("trust: the document has no key to prove its chip with")
	ErrExpired          = errors.New("trust: the document has expired")
)

// Verdict is the outcome of one check.
type Verdict string

// Verdicts.
const (
	Passed     Verdict = "passed"
	Failed     Verdict = "failed"
	NotChecked Verdict = "not-checked"
	Impossible Verdict = "impossible" // the document has no means for it
)

// Options are the caller's policy.
type Options struct {
	// ExpectedChallenge is what the Active Authentication challenge must be.
	// Nil accepts any challenge, which proves a chip but not its presence now.
	ExpectedChallenge *[8]byte
	RequireChip       bool // Chip or Active Authentication must have succeeded
	RequireActive     bool // Active Authentication must have succeeded
	RefuseExpired     bool // an expired document is an error
}

// Report tells what was checked and how it ended. It holds no personal data
// and marshals to JSON.
type Report struct {
	Hashes               Verdict  `json:"hashes"`
	Signature            Verdict  `json:"signature"`
	Chain                Verdict  `json:"chain"`
	Revocation           Verdict  `json:"revocation"`
	ChipAuthentication   Verdict  `json:"chip_authentication"`
	ActiveAuthentication Verdict  `json:"active_authentication"`
	Validity             Verdict  `json:"validity"`
	Access               string   `json:"access"`    // "PACE", "BAC"
	Simulated            bool     `json:"simulated"` // the anchor is of class test
	Warnings             []string `json:"warnings,omitempty"`
}

// Holder is a verified document. Only [Verify] makes one; the zero value is not
// valid. It refuses to print and to marshal.
type Holder struct{ p *holder }

type holder struct{}

// Valid says whether h comes from Verify.
func (h Holder) Valid() bool { return h.p != nil }

// MRZ is the machine readable zone of the document.
func (h Holder) MRZ() lds.MRZ { return lds.MRZ{} }

// Face is the first face of DG2.
func (h Holder) Face() (lds.Face, error) { return lds.Face{}, nil }

// Document is what was verified: SOD and the data groups it vouches for, and
// chip evidence. Files that nobody signed (EF.COM, EF.CardAccess) are left out.
func (h Holder) Document() lds.Document { return lds.Document{} }

// Simulated says that the document's authority is of class test.
func (h Holder) Simulated() bool { return true }

// Report is the report that Verify returned with h.
func (h Holder) Report() Report { return Report{} }

// Verify checks doc as of at. It returns a valid Holder only with a nil error;
// the Report tells as much as was found out in either case. Errors are *Error.
func Verify(doc lds.Document, anchors Anchors, at time.Time, opts Options) (Holder, Report, error) {
	return Holder{}, Report{}, &Error{CheckContent, ErrMalformed}
}

// Package trust decides whether an identity document is genuine: passive
// authentication (ICAO Doc 9303-11 5.1, Doc 9303-12), and the evidence that the
// chip is the original one (Chip Authentication, PACE with Chip Authentication
// Mapping, Active Authentication).
//
// [Verify] is the only maker of a [Holder]. It is a pure function of its
// arguments, does no I/O, and computes everything again each time: a kiosk
// calls it once when the card has been read, and again when Active
// Authentication has been run for the record's context. [Precheck] tells early
// what Verify would refuse, while the rest still streams from the card.
//
// Anchors are given by the caller; the package has no opinion on whom to trust
// and ships none. [ParseMasterList] reads the list of a state that the caller
// trusts. Not here: Terminal Authentication, DSA.
package trust

import (
	"errors"
	"fmt"
	"slices"

	"enrollkiosk/smartcard/lds"
)

// Check names what was looked at.
type Check string

// Checks, in the order in which they are made.
const (
	CheckContent              Check = "content"
	CheckSignature            Check = "signature"
	CheckHashes               Check = "hashes"
	CheckChain                Check = "chain"
	CheckRevocation           Check = "revocation"
	CheckStructure            Check = "structure"
	CheckCardSecurity         Check = "card-security"
	CheckChipAuthentication   Check = "chip-authentication"
	CheckChipMapping          Check = "chip-mapping"
	CheckActiveAuthentication Check = "active-authentication"
	CheckChip                 Check = "chip" // what Options require of the chip
	CheckValidity             Check = "validity"
)

// Error says which check failed and why. Err is or wraps one of the sentinels.
type Error struct {
	Check Check
	Err   error
}

func (e *Error) Error() string { return "check " + string(e.Check) + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Reasons for refusing a document.
var (
	ErrMissing          = errors.New("trust: a required file is missing")
	ErrMalformed        = errors.New("trust: malformed")
	ErrUnsupported      = errors.New("trust: not supported")
	ErrHash             = errors.New("trust: a file was altered or is not part of the document")
	ErrSignature        = errors.New("trust: the signature does not verify")
	ErrUnknownAuthority = errors.New("trust: the issuing authority is not known")
	ErrCertificate      = errors.New("trust: the certificate is not acceptable")
	ErrSignerExpired    = errors.New("trust: the document signer's certificate was not valid at the time")
	ErrRevoked          = errors.New("trust: the document signer's certificate is revoked")
	ErrChip             = errors.New("trust: the chip has not proved that it is the original")
	ErrChipCannotProve  = errors.New("trust: the document has no key to prove its chip with")
	ErrExpired          = errors.New("trust: the document has expired")
)

func unsupported(err error) error { return fmt.Errorf("%w: %w", ErrUnsupported, err) }

// ofParsing classes an error of package lds.
func ofParsing(err error) error {
	if errors.Is(err, lds.ErrUnsupported) {
		return unsupported(err)
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

// Verdict is the outcome of one check.
type Verdict string

// Verdicts.
const (
	Passed     Verdict = "passed"
	Failed     Verdict = "failed"
	NotChecked Verdict = "not-checked"
	Impossible Verdict = "impossible" // the document has no means for it
)

// Warning is something worth a look that is no reason to refuse. What package
// lds warns of in a file is a Warning too.
type Warning string

// Warnings.
const (
	WarnSHA1                Warning = "sha-1"                 // somewhere in the signatures
	WarnContentType         Warning = "content-type"          // the security object has an identifier from before Doc 9303's
	WarnLDSVersion          Warning = "lds-version-later"     // the document follows a later data structure than this program knows
	WarnIssuerName          Warning = "issuer-name"           // of the signer's certificate, breaks ICAO's rules for names
	WarnIssuer              Warning = "issuer-country"        // state in the zone is not the signer's country
	WarnFaceUnreadable      Warning = "face-unreadable"       // genuine, but this program cannot show it
	WarnChallenge           Warning = "challenge-not-bound"   // Options named no challenge to expect
	WarnCardAccess          Warning = "card-access-differs"   // EF.CardAccess offers what the signed DG14 does not
	WarnPACENotUsed         Warning = "pace-not-used"         // opened with BAC although the chip can do PACE
	WarnRevocationListStale Warning = "revocation-list-stale" // a newer list is due
	WarnNoExpiry            Warning = "expiry-unknown"        // the zone states no date of expiry
)

// Options are the caller's policy.
type Options struct {
	// ExpectedChallenge is what the Active Authentication challenge must be.
	// Nil accepts any challenge, which proves a chip but not its presence now.
	ExpectedChallenge *[8]byte
	RequireChip       bool // the chip must have proved itself, in whatever way
	RequireActive     bool // Active Authentication must have succeeded
	RefuseExpired     bool // an expired document is an error
	// FaceWithheld takes a document without DG2: whoever verifies it again, away
	// from the card, need not be given the face.
	FaceWithheld bool
}

// Report tells what was checked and how it ended. It holds no personal data
// and marshals to JSON. Matching hashes alone say nothing: whoever altered a
// file can alter its hash.
type Report struct {
	Hashes               Verdict   `json:"hashes"`
	Signature            Verdict   `json:"signature"`
	Chain                Verdict   `json:"chain"`
	Revocation           Verdict   `json:"revocation"`
	Structure            Verdict   `json:"structure"`     // the files are built as Doc 9303 asks
	CardSecurity         Verdict   `json:"card_security"` // signed as the document is, and agrees with EF.CardAccess
	ChipAuthentication   Verdict   `json:"chip_authentication"`
	ChipMapping          Verdict   `json:"chip_mapping"` // PACE with Chip Authentication Mapping
	ActiveAuthentication Verdict   `json:"active_authentication"`
	Validity             Verdict   `json:"validity"`
	Access               string    `json:"access,omitempty"`    // "PACE", "BAC", "none"
	Signer               string    `json:"signer,omitempty"`    // SHA-256 of the document signer's certificate, hex
	Links                []string  `json:"links,omitempty"`     // SHA-256 of the link certificates between signer and anchor
	Authority            string    `json:"authority,omitempty"` // SHA-256 of the anchor, hex
	Simulated            bool      `json:"simulated"`           // the anchor is of class test
	Warnings             []Warning `json:"warnings,omitempty"`
}

// Proof is something that has been shown of a document.
type Proof string

// Proofs.
const (
	ProofData               Proof = "data"                  // the issuing state signed what was read (passive authentication)
	ProofChipAuthentication Proof = "chip-authentication"   // the chip holds the key of DG14
	ProofChipMapping        Proof = "chip-mapping"          // the chip holds the key of EF.CardSecurity
	ProofActive             Proof = "active-authentication" // the chip holds the key of DG15
)

// Proofs are what the report amounts to.
func (r Report) Proofs() []Proof {
	var proofs []Proof
	if r.Hashes == Passed && r.Signature == Passed && r.Chain == Passed && r.Revocation != Failed {
		proofs = append(proofs, ProofData)
	}
	for _, p := range []struct {
		verdict Verdict
		proof   Proof
	}{
		{r.ChipAuthentication, ProofChipAuthentication},
		{r.ChipMapping, ProofChipMapping},
		{r.ActiveAuthentication, ProofActive},
	} {
		// What a chip proves is worth the signature on its key.
		if p.verdict == Passed && len(proofs) > 0 {
			proofs = append(proofs, p.proof)
		}
	}
	return proofs
}

func (r Report) clone() Report {
	r.Warnings, r.Links = slices.Clone(r.Warnings), slices.Clone(r.Links)
	return r
}

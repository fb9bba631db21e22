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
// and ships none. Not here: master lists, Terminal Authentication, brainpool
// curves, Diffie-Hellman without curves.
package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
)

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

// Warning is something worth a look that is no reason to refuse.
type Warning string

// Warnings.
const (
	WarnSHA1                Warning = "sha-1"                 // somewhere in the signatures
	WarnIssuer              Warning = "issuer-country"        // state in the zone is not the signer's country
	WarnCheckDigit          Warning = "check-digit"           // in the signed zone
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
	RequireChip       bool // Chip or Active Authentication must have succeeded
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
	ChipAuthentication   Verdict   `json:"chip_authentication"`
	ActiveAuthentication Verdict   `json:"active_authentication"`
	Validity             Verdict   `json:"validity"`
	Access               string    `json:"access,omitempty"`    // "PACE", "BAC"
	Signer               string    `json:"signer,omitempty"`    // SHA-256 of the document signer's certificate, hex
	Authority            string    `json:"authority,omitempty"` // SHA-256 of the anchor, hex
	Simulated            bool      `json:"simulated"`           // the anchor is of class test
	Warnings             []Warning `json:"warnings,omitempty"`
}

// Holder is a verified document. Only [Verify] makes one; the zero value is not
// valid. It refuses to print and to marshal; two pointers keep it closed in
// unexported fields too, as they do in [secret.Text].
type Holder struct{ p **holder }

// holder keeps bytes, not what was parsed from them: everything handed out is
// made anew, so that nobody can alter it behind the next caller's back.
type holder struct {
	doc    lds.Document
	report Report
}

// Valid says whether h comes from Verify. The other methods give zero values
// when it does not.
func (h Holder) Valid() bool { return h.p != nil }

// MRZ is the machine readable zone of the document.
func (h Holder) MRZ() lds.MRZ {
	if h.p == nil {
		return lds.MRZ{}
	}
	m, _ := lds.ParseDG1((*h.p).doc.Files[lds.DG1]) // Verify has seen it parse, but for a check digit
	return m
}

// Face is the first face of DG2. It fails when the image is in a form that
// package lds does not read.
func (h Holder) Face() (lds.Face, error) {
	if h.p == nil {
		return lds.Face{}, ErrMissing
	}
	faces, err := lds.ParseDG2((*h.p).doc.Files[lds.DG2])
	if err != nil {
		return lds.Face{}, err
	}
	return faces[0], nil
}

// Document is what was verified: SOD and the data groups it vouches for, and
// the chip's evidence. Files that nobody signed (EF.COM, EF.CardAccess) are
// left out.
func (h Holder) Document() lds.Document {
	if h.p == nil {
		return lds.Document{}
	}
	return clone((*h.p).doc)
}

// Simulated says that the document's authority is of class test. It is true
// of the zero value.
func (h Holder) Simulated() bool { return h.p == nil || (*h.p).report.Simulated }

// Report is the report that Verify returned with h.
func (h Holder) Report() Report {
	if h.p == nil {
		return Report{}
	}
	r := (*h.p).report
	r.Warnings = slices.Clone(r.Warnings)
	return r
}

// Format prints [secret.Redacted] for every verb.
func (Holder) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

func (Holder) LogValue() slog.Value         { return slog.StringValue(secret.Redacted) }
func (Holder) MarshalJSON() ([]byte, error) { return nil, secret.ErrMarshal }
func (Holder) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }
func (Holder) GobEncode() ([]byte, error)   { return nil, secret.ErrMarshal }

// clone copies a document deeply.
func clone(d lds.Document) lds.Document {
	c := lds.Document{Files: make(map[lds.File][]byte, len(d.Files)), Access: d.Access}
	for f, b := range d.Files {
		c.Files[f] = bytes.Clone(b)
	}
	if e := d.Chip; e != nil {
		c.Chip = &lds.ChipAuthentication{
			Protocol: slices.Clone(e.Protocol), TerminalKey: secret.New(bytes.Clone(e.TerminalKey.Reveal())),
			Command: bytes.Clone(e.Command), Response: bytes.Clone(e.Response), SSC: bytes.Clone(e.SSC),
		}
		if e.KeyID != nil {
			c.Chip.KeyID = new(big.Int).Set(e.KeyID)
		}
	}
	if e := d.Active; e != nil {
		c.Active = &lds.ActiveAuthentication{Challenge: e.Challenge, Signature: bytes.Clone(e.Signature)}
	}
	return c
}

// Verify checks doc as of at. DG1, EF.SOD and, but for Options.FaceWithheld, DG2
// must be there; every data group that is there must have its hash in the SOD.
// It returns a valid Holder only with a nil error; the Report tells as much as
// was found out in either case. Errors are *Error.
//
// The signer's and the authority's certificates must have been valid at at, or,
// for a document that has expired since, on the document's last day.
//
// Evidence of the chip that doc carries must hold, required or not. Missing
// evidence is an error only as opts say.
func Verify(doc lds.Document, anchors Anchors, at time.Time, opts Options) (Holder, Report, error) {
	v := verification{doc: clone(doc), anchors: anchors, at: at.UTC(), opts: opts}
	v.report = Report{
		Hashes: NotChecked, Signature: NotChecked, Chain: NotChecked, Revocation: NotChecked,
		ChipAuthentication: NotChecked, ActiveAuthentication: NotChecked, Validity: NotChecked,
	}
	if doc.Access == "PACE" || doc.Access == "BAC" {
		v.report.Access = doc.Access
	}
	if err := v.run(); err != nil {
		return Holder{}, v.report, err
	}
	p := &holder{v.doc, v.report}
	h := Holder{&p}
	return h, h.Report(), nil
}

// verification is one run of Verify.
type verification struct {
	doc     lds.Document
	anchors Anchors
	at      time.Time
	opts    Options
	report  Report
	failure *Error

	sod         lds.SOD
	signer      *certificate
	signingTime time.Time
	authority   *authority
	mrz         lds.MRZ
	infos       lds.SecurityInfos
}

func (v *verification) run() error {
	// What the document says; nothing of it is believed yet.
	for _, f := range []lds.File{lds.EFSOD, lds.DG1, lds.DG2} {
		if len(v.doc.Files[f]) == 0 && !(f == lds.DG2 && v.opts.FaceWithheld) {
			return &Error{CheckContent, fmt.Errorf("%w: %v", ErrMissing, f)}
		}
	}
	var err error
	if v.sod, err = lds.ParseSOD(v.doc.Files[lds.EFSOD]); err != nil {
		return &Error{CheckContent, ofParsing(err)}
	}
	mrz, mrzErr := lds.ParseDG1(v.doc.Files[lds.DG1])
	v.mrz = mrz

	v.check(CheckHashes, &v.report.Hashes, v.hashes)
	v.check(CheckSignature, &v.report.Signature, v.signature)
	if v.signer != nil {
		v.check(CheckChain, &v.report.Chain, v.chain)
	}
	if v.authority != nil {
		v.check(CheckRevocation, &v.report.Revocation, v.revocation)
	}
	if v.failure != nil {
		return v.failure
	}

	// From here on the data groups are the issuer's words.
	switch {
	case errors.Is(mrzErr, lds.ErrCheckDigit):
		v.warn(WarnCheckDigit)
	case mrzErr != nil:
		return &Error{CheckContent, ofParsing(mrzErr)}
	}
	if face := v.doc.Files[lds.DG2]; face != nil {
		if _, err := lds.ParseDG2(face); err != nil {
			v.warn(WarnFaceUnreadable)
		}
	}
	if dg14 := v.doc.Files[lds.DG14]; dg14 != nil {
		if v.infos, err = lds.ParseDG14(dg14); err != nil {
			return &Error{CheckContent, ofParsing(err)}
		}
	}
	v.unsigned()
	if state, signer := alpha2(v.mrz.Issuer), country(v.signer.subject); state != "" && signer != "" && state != signer {
		v.warn(WarnIssuer)
	}

	v.check(CheckChipAuthentication, &v.report.ChipAuthentication, v.chipAuthentication)
	v.check(CheckActiveAuthentication, &v.report.ActiveAuthentication, v.activeAuthentication)
	v.check(CheckChip, new(Verdict), v.chipPolicy)
	v.check(CheckValidity, &v.report.Validity, v.validity)
	if v.failure != nil {
		return v.failure
	}
	return nil
}

// check runs one check, sets its verdict and keeps the first failure.
func (v *verification) check(name Check, verdict *Verdict, f func() (Verdict, error)) {
	var err error
	if *verdict, err = f(); err != nil && v.failure == nil {
		v.failure = &Error{name, err}
	}
}

func (v *verification) warn(w Warning) {
	if !slices.Contains(v.report.Warnings, w) {
		v.report.Warnings = append(v.report.Warnings, w)
	}
}

func (v *verification) hashes() (Verdict, error) {
	for f, content := range v.doc.Files {
		if f.Group() == 0 {
			continue
		}
		if hash, listed := v.sod.Hashes[f]; !listed || !bytes.Equal(hash, sum(v.sod.Digest, content)) {
			return Failed, fmt.Errorf("%w: %v", ErrHash, f)
		}
	}
	return Passed, nil
}

func (v *verification) signature() (Verdict, error) {
	signer, signingTime, hash, err := checkSOD(v.sod)
	if err != nil {
		return Failed, err
	}
	v.signer, v.signingTime = signer, signingTime
	v.report.Signer = thumbprint(signer.raw)
	if hash == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	return Passed, nil
}

func thumbprint(der []byte) string {
	digest := sha256.Sum256(der)
	return hex.EncodeToString(digest[:])
}

// chain judges the document signer's certificate (Doc 9303-12 7.1).
func (v *verification) chain() (Verdict, error) {
	ca, hash, err := v.anchors.issuerOf(v.signer)
	if err != nil {
		return Failed, err
	}
	c := v.signer
	switch {
	case c.isCA || c.keyUsage&digitalSignature == 0:
		return Failed, fmt.Errorf("%w: not a signer's", ErrCertificate)
	case c.extendedUsage:
		// Signers of master lists, deviation lists and seals stand under the same authorities.
		return Failed, fmt.Errorf("%w: made for another use", ErrCertificate)
	case c.unknownCritical != nil:
		return Failed, fmt.Errorf("%w: critical extension %v", ErrCertificate, c.unknownCritical)
	case country(c.subject) != country(ca.subject):
		return Failed, fmt.Errorf("%w: signer and authority are of different countries", ErrCertificate)
	}
	when := v.at
	if day, ok := v.mrz.Expiry.Expiry(v.at); ok && !v.at.Before(day.AddDate(0, 0, 1)) {
		when = day
	}
	if !c.validAt(when) || !ca.validAt(when) {
		return Failed, ErrSignerExpired
	}
	if t := v.signingTime; !t.IsZero() && (!c.validAt(t) || t.After(v.at)) {
		return Failed, fmt.Errorf("%w: signing time", ErrSignerExpired)
	}
	v.authority = ca
	v.report.Authority, v.report.Simulated = thumbprint(ca.raw), ca.class != Production
	if hash == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	return Passed, nil
}

func (v *verification) revocation() (Verdict, error) {
	list := v.anchors.crls[string(v.authority.subject)]
	if list == nil {
		return NotChecked, nil
	}
	if list.serials[v.signer.serial.String()] {
		return Failed, ErrRevoked
	}
	if v.at.After(list.nextUpdate) {
		v.warn(WarnRevocationListStale)
	}
	return Passed, nil
}

// unsigned compares what nobody signed with what was, and drops it.
func (v *verification) unsigned() {
	if file := v.doc.Files[lds.EFCardAccess]; file != nil && v.doc.Files[lds.DG14] != nil {
		access, err := lds.ParseCardAccess(file)
		if err != nil {
			v.warn(WarnCardAccess)
		}
		for _, info := range access.Raw {
			if !slices.ContainsFunc(v.infos.Raw, func(signed []byte) bool { return bytes.Equal(info, signed) }) {
				v.warn(WarnCardAccess)
			}
		}
	}
	if v.doc.Access == "BAC" && len(v.infos.PACE) > 0 {
		v.warn(WarnPACENotUsed)
	}
	for f := range v.doc.Files {
		if f.Group() == 0 && f != lds.EFSOD {
			delete(v.doc.Files, f)
		}
	}
}

// unproven is the verdict on a protocol that was not run: whether the signed
// list of data groups has file f with its keys decides.
func (v *verification) unproven(f lds.File, noKeys bool) Verdict {
	if _, listed := v.sod.Hashes[f]; !listed || v.doc.Files[f] != nil && noKeys {
		return Impossible
	}
	return NotChecked
}

func (v *verification) chipAuthentication() (Verdict, error) {
	if v.doc.Chip == nil {
		return v.unproven(lds.DG14, len(v.infos.ChipAuthenticationKeys) == 0), nil
	}
	if v.doc.Files[lds.DG14] == nil {
		return Failed, fmt.Errorf("%w: %v", ErrMissing, lds.DG14)
	}
	if err := checkChipAuthentication(v.infos, *v.doc.Chip); err != nil {
		return Failed, err
	}
	return Passed, nil
}

func (v *verification) activeAuthentication() (Verdict, error) {
	e := v.doc.Active
	if e == nil {
		return v.unproven(lds.DG15, false), nil
	}
	file := v.doc.Files[lds.DG15]
	if file == nil {
		return Failed, fmt.Errorf("%w: %v", ErrMissing, lds.DG15)
	}
	switch want := v.opts.ExpectedChallenge; {
	case want == nil:
		v.warn(WarnChallenge)
	case *want != e.Challenge:
		return Failed, fmt.Errorf("%w: another challenge was answered", ErrChip)
	}
	key, err := lds.ParseDG15(file)
	if err != nil {
		return Failed, ofParsing(err)
	}
	hash, err := checkActiveAuthentication(key, v.infos, *e)
	if err != nil {
		return Failed, err
	}
	if hash == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	return Passed, nil
}

func (v *verification) chipPolicy() (Verdict, error) {
	chip, active := v.report.ChipAuthentication, v.report.ActiveAuthentication
	switch {
	case v.opts.RequireActive && active == Impossible,
		v.opts.RequireChip && chip == Impossible && active == Impossible:
		return Failed, ErrChipCannotProve
	case v.opts.RequireActive && active != Passed,
		v.opts.RequireChip && chip != Passed && active != Passed:
		return Failed, ErrChip
	}
	return Passed, nil
}

func (v *verification) validity() (Verdict, error) {
	day, ok := v.mrz.Expiry.Expiry(v.at)
	if !ok {
		v.warn(WarnNoExpiry)
		return NotChecked, nil
	}
	if v.at.Before(day.AddDate(0, 0, 1)) { // valid to the end of the last day, UTC
		return Passed, nil
	}
	if v.opts.RefuseExpired {
		return Failed, ErrExpired
	}
	return Failed, nil
}

package trust

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/smartcard/lds"
)

// Verify checks doc as of at. DG1, EF.SOD and, but for Options.FaceWithheld, DG2
// must be there; every data group that is there must have its hash in the SOD.
// It returns a valid Holder only with a nil error; the Report tells as much as
// was found out in either case. Errors are *Error.
//
// The signer's and the authority's certificates must have been valid at at, or,
// for a document that has expired since, on the document's last day. A revoked
// signer is refused whatever the day of its revocation: nobody knows since when
// another had its key.
//
// Evidence of the chip that doc carries must hold, required or not. Missing
// evidence is an error only as opts say.
func Verify(doc lds.Document, anchors Anchors, at time.Time, opts Options) (Holder, Report, error) {
	v := newVerification(clone(doc), anchors, at, opts)
	if err := v.run(); err != nil {
		return Holder{}, v.report, err
	}
	p := &holder{EMRTD, v.doc, v.report}
	h := Holder{&p}
	return h, h.Report(), nil
}

// Precheck tells what Verify will say of the SOD and of the data groups that are
// there already: signature, chain, revocation and hashes. It wants EF.SOD and
// DG1, and is for not reading on when a document is refused anyway; passing it
// is worth nothing, and Verify relies on nothing of it.
func Precheck(doc lds.Document, anchors Anchors, at time.Time) (Report, error) {
	v := newVerification(doc, anchors, at, Options{FaceWithheld: true})
	err := v.passive()
	return v.report, err
}

func newVerification(doc lds.Document, anchors Anchors, at time.Time, opts Options) *verification {
	v := &verification{doc: doc, anchors: anchors, at: at.UTC(), opts: opts}
	v.report = Report{
		Hashes: NotChecked, Signature: NotChecked, Chain: NotChecked, Revocation: NotChecked, Structure: NotChecked, CardSecurity: NotChecked,
		ChipAuthentication: NotChecked, ChipMapping: NotChecked, ActiveAuthentication: NotChecked, Validity: NotChecked,
	}
	if slices.Contains([]string{"PACE", "BAC", "none"}, doc.Access) {
		v.report.Access = doc.Access
	}
	return v
}

// verification is one run of Verify.
type verification struct {
	doc     lds.Document
	anchors Anchors
	at      time.Time
	opts    Options
	report  Report
	failure *Error

	sod       lds.SOD
	signer    signed
	authority *authority
	mrz       lds.MRZ
	mrzErr    error
	infos     lds.SecurityInfos // of DG14
	security  *lds.CardSecurity
}

func (v *verification) run() error {
	if err := v.passive(); err != nil {
		return err
	}
	// From here on the data groups are the issuer's words.
	v.check(CheckStructure, &v.report.Structure, v.structure)
	if v.failure != nil {
		return v.failure
	}
	v.check(CheckCardSecurity, &v.report.CardSecurity, v.cardSecurity)
	v.remarks()
	v.check(CheckChipAuthentication, &v.report.ChipAuthentication, v.chipAuthentication)
	v.check(CheckChipMapping, &v.report.ChipMapping, v.chipMapping)
	v.check(CheckActiveAuthentication, &v.report.ActiveAuthentication, v.activeAuthentication)
	v.check(CheckChip, new(Verdict), v.chipPolicy)
	v.check(CheckValidity, &v.report.Validity, v.validity)
	if v.failure != nil {
		return v.failure
	}
	for f := range v.doc.Files {
		if f.Group() == 0 && f != lds.EFSOD && f != lds.EFCardSecurity {
			delete(v.doc.Files, f)
		}
	}
	return nil
}

// passive is passive authentication (Doc 9303-11 5.1). Nothing that the document
// says is believed before its signature is known to be the issuer's.
func (v *verification) passive() error {
	missing := func(f lds.File) error { return &Error{CheckContent, fmt.Errorf("%w: %v", ErrMissing, f)} }
	if len(v.doc.Files[lds.EFSOD]) == 0 {
		return missing(lds.EFSOD)
	}
	var err error
	if v.sod, err = lds.ParseSOD(v.doc.Files[lds.EFSOD]); err != nil {
		return &Error{CheckContent, ofParsing(err)} // whatever else is missing: nobody reads on without its list
	}
	for _, f := range []lds.File{lds.DG1, lds.DG2} {
		if len(v.doc.Files[f]) == 0 && !(f == lds.DG2 && v.opts.FaceWithheld) {
			return missing(f)
		}
	}
	v.mrz, v.mrzErr = lds.ParseDG1(v.doc.Files[lds.DG1]) // for the last day, which chain looks at

	v.check(CheckSignature, &v.report.Signature, v.signature)
	v.check(CheckHashes, &v.report.Hashes, v.hashes)
	if v.signer.certificate != nil {
		v.check(CheckChain, &v.report.Chain, v.chain)
	}
	if v.authority != nil {
		v.check(CheckRevocation, &v.report.Revocation, v.revocation)
	}
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

func (v *verification) signature() (Verdict, error) {
	s, err := checkSigned(v.sod.SignedData, v.anchors.signers)
	if err != nil {
		return Failed, err
	}
	v.signer = s
	v.report.Signer = s.thumbprint()
	if s.hash == crypto.SHA1 || v.sod.Digest == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	if !v.sod.ContentType.Equal(lds.OIDSecurityObject) {
		v.warn(WarnContentType)
	}
	if v.sod.LDSVersion > lds18 {
		v.warn(WarnLDSVersion)
	}
	return Passed, nil
}

func thumbprint(der []byte) string {
	digest := sha256.Sum256(der)
	return hex.EncodeToString(digest[:])
}

// day is when the certificates must be valid.
func (v *verification) day() time.Time {
	if day, ok := v.mrz.Expiry.Expiry(v.at); ok && !v.at.Before(day.AddDate(0, 0, 1)) {
		return day
	}
	return v.at
}

func (v *verification) chain() (Verdict, error) {
	ca, hash, err := v.anchors.documentSigner(v.signer, v.day(), v.at)
	if err != nil {
		return Failed, err
	}
	v.authority = ca
	v.report.Authority, v.report.Simulated = ca.anchor().thumbprint(), ca.class != Production
	for link := ca; link.via != nil; link = link.via {
		v.report.Links = append(v.report.Links, link.thumbprint())
	}
	if hash == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	if slip, _ := v.signer.issuer.check(); slip {
		v.warn(WarnIssuerName)
	}
	return Passed, nil
}

func (v *verification) revocation() (Verdict, error) {
	verdict, stale, err := v.anchors.revoked(v.signer.certificate, v.authority, v.at)
	if stale {
		v.warn(WarnRevocationListStale)
	}
	return verdict, err
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

// lds18 is the last data structure that this program knows (Doc 9303-10 4.6.1).
const lds18 = "0108"

// structure holds every file to its standard, and EF.COM to the SOD. A signed
// file that is built wrong has an issuer who is not to be relied on.
func (v *verification) structure() (Verdict, error) {
	for _, f := range sortedFiles(v.doc.Files) {
		if f == lds.EFSOD || f == lds.EFCardSecurity || f == lds.EFCOM && v.sod.LDSVersion > lds18 {
			continue // a check of its own; or this program does not know what its standard asks
		}
		warnings, err := lds.Check(f, v.doc.Files[f])
		for _, w := range warnings {
			v.warn(Warning(w))
		}
		switch {
		case errors.Is(err, lds.ErrUnsupported):
			if f == lds.DG2 {
				v.warn(WarnFaceUnreadable)
			}
		case err != nil:
			return Failed, ofParsing(err)
		}
	}
	if v.mrzErr != nil {
		return Failed, ofParsing(v.mrzErr)
	}
	if dg14 := v.doc.Files[lds.DG14]; dg14 != nil {
		var err error
		if v.infos, err = lds.ParseDG14(dg14); err != nil {
			return Failed, ofParsing(err)
		}
	}
	if file := v.doc.Files[lds.EFCOM]; file != nil {
		com, err := lds.ParseCOM(file)
		if err != nil {
			return Failed, ofParsing(err)
		}
		for f := range v.sod.Hashes {
			if !slices.Contains(com.Groups, f) {
				return Failed, fmt.Errorf("%w: EF.COM does not list %v, which EF.SOD has", ErrMalformed, f)
			}
		}
		for _, f := range com.Groups {
			if v.sod.Hashes[f] == nil {
				return Failed, fmt.Errorf("%w: EF.COM lists %v, which EF.SOD has not", ErrMalformed, f)
			}
		}
	}
	return Passed, nil
}

func sortedFiles(files map[lds.File][]byte) []lds.File {
	var list []lds.File
	for f := range files {
		list = append(list, f)
	}
	slices.Sort(list)
	return list
}

// remarks are warnings about what is in order.
func (v *verification) remarks() {
	if file := v.doc.Files[lds.EFCardAccess]; file != nil && v.doc.Files[lds.DG14] != nil {
		access, err := lds.ParseCardAccess(file)
		if err != nil || !covers(v.infos, access) {
			v.warn(WarnCardAccess)
		}
	}
	if v.doc.Access == "BAC" && len(v.infos.PACE) > 0 {
		v.warn(WarnPACENotUsed)
	}
	if state, signer := alpha2(v.mrz.Issuer), v.signer.country(); state != "" && signer != "" && state != signer {
		v.warn(WarnIssuer)
	}
}

// covers says whether signed has every info of access.
func covers(signed, access lds.SecurityInfos) bool {
	for _, info := range access.Raw {
		if !slices.ContainsFunc(signed.Raw, func(s []byte) bool { return bytes.Equal(info, s) }) {
			return false
		}
	}
	return true
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

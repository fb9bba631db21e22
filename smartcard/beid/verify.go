package beid

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Check names what was looked at.
type Check string

// Checks, in the order in which they are made.
const (
	CheckContent           Check = "content"
	CheckIdentitySignature Check = "identity-signature"
	CheckAddressSignature  Check = "address-signature"
	CheckChain             Check = "chain"
	CheckPhotoHash         Check = "photo-hash"
	CheckChip              Check = "chip"
	CheckValidity          Check = "validity"
)

// Error says which check failed and why. Err is or wraps one of the sentinels.
type Error struct {
	Check Check
	Err   error
}

func (e *Error) Error() string { return "check " + string(e.Check) + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Reasons for refusing a document, besides ErrMalformed and ErrNoBasicKey.
var (
	ErrMissing          = errors.New("beid: a required file is missing")
	ErrUnsupported      = errors.New("beid: not supported")
	ErrHash             = errors.New("beid: a file was altered or is not part of the card")
	ErrSignature        = errors.New("beid: the signature does not verify")
	ErrUnknownAuthority = errors.New("beid: the root is not known")
	ErrCertificate      = errors.New("beid: the certificate is not acceptable")
	ErrSignerExpired    = errors.New("beid: the National Register's certificate was not valid at the time")
	ErrChip             = errors.New("beid: the card has not proved that it is the original")
	ErrExpired          = errors.New("beid: the card has expired")
	ErrNotYetValid      = errors.New("beid: the card is not valid yet")
)

// Verdict is the outcome of one check.
type Verdict string

// Verdicts.
const (
	Passed     Verdict = "passed"
	Failed     Verdict = "failed"
	NotChecked Verdict = "not-checked"
	Impossible Verdict = "impossible" // the card has no means for it
)

// Warning is something worth a look that is no reason to refuse.
type Warning string

// Warnings.
const (
	WarnSHA1      Warning = "sha-1"               // somewhere in the signatures or of the photo
	WarnWeakKey   Warning = "weak-key"            // RSA of less than 2048 bits
	WarnChip      Warning = "chip-not-proven"     // the files may have been copied from the original
	WarnChallenge Warning = "challenge-not-bound" // Options named no challenge to expect
	WarnNoExpiry  Warning = "expiry-unknown"      // the identity's last day cannot be read
	WarnUnread    Warning = "field-unread"        // a signed field cannot be read; its bytes can
)

// Options are the caller's policy.
type Options struct {
	// ExpectedChallenge is what the challenge of chip authentication must be.
	// Nil accepts any, which proves a card but not its presence now.
	ExpectedChallenge *[32]byte
	RequireChip       bool // the card must have proved itself
	RefuseExpired     bool // a card that is not valid at the time is an error
	// PhotoWithheld takes a document without the photo: whoever verifies it
	// again, away from the card, need not be given the face.
	PhotoWithheld bool
}

// Report tells what was checked and how it ended. It holds no personal data and
// marshals to JSON. Without Chip nothing says that this was the original card.
type Report struct {
	IdentitySignature Verdict   `json:"identity_signature"`
	AddressSignature  Verdict   `json:"address_signature"`
	Chain             Verdict   `json:"chain"`
	PhotoHash         Verdict   `json:"photo_hash"`
	Chip              Verdict   `json:"chip"`
	Validity          Verdict   `json:"validity"`
	Signer            string    `json:"signer,omitempty"`    // SHA-256 of the National Register's certificate, hex
	Authority         string    `json:"authority,omitempty"` // SHA-256 of the root, hex
	Simulated         bool      `json:"simulated"`           // the root is of class test
	Warnings          []Warning `json:"warnings,omitempty"`
}

// Holder is a verified card. Only [Verify] makes one; the zero value is not
// valid. It refuses to print and to marshal; two pointers keep it closed in
// unexported fields too, as they do in secret.Text.
type Holder struct {
	private
	p **holder
}

// holder keeps bytes, not what was parsed from them, so that nobody can alter it
// behind the next caller's back.
type holder struct {
	doc    Document
	report Report
}

// Valid says whether h comes from Verify. The other methods give zero values
// when it does not.
func (h Holder) Valid() bool { return h.p != nil }

// Identity is the signed identity.
func (h Holder) Identity() Identity {
	if h.p == nil {
		return Identity{}
	}
	id, _ := ParseIdentity((*h.p).doc.Files[IdentityFile]) // Verify has seen it parse
	return id
}

// Address is the signed address.
func (h Holder) Address() Address {
	if h.p == nil {
		return Address{}
	}
	a, _ := ParseAddress((*h.p).doc.Files[AddressFile])
	return a
}

// Photo is the photo whose hash is signed, a JPEG; nil if it was withheld.
func (h Holder) Photo() []byte {
	if h.p == nil {
		return nil
	}
	return bytes.Clone((*h.p).doc.Files[PhotoFile])
}

// Document is what was verified, and the card's evidence. Files that nobody
// vouches for are left out.
func (h Holder) Document() Document {
	if h.p == nil {
		return Document{}
	}
	return clone((*h.p).doc)
}

// Simulated says that the root is of class test. It is true of the zero value.
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

func clone(d Document) Document {
	c := Document{Files: make(map[File][]byte, len(d.Files))}
	for f, b := range d.Files {
		c.Files[f] = bytes.Clone(b)
	}
	if d.Chip != nil {
		e := *d.Chip
		c.Chip = &e
	}
	return c
}

// Verify checks doc as of at. Identity, address, their signatures, the National
// Register's certificate and, but for Options.PhotoWithheld, the photo must be
// there. It returns a valid Holder only with a nil error; the Report tells as
// much as was found out in either case. Errors are *Error.
//
// The certificates must have been valid at at, or, for a card that has expired
// since, on its last day. Evidence of the card that doc carries must hold,
// required or not.
func Verify(doc Document, roots Roots, at time.Time, opts Options) (Holder, Report, error) {
	v := verification{doc: clone(doc), roots: roots, at: at.UTC(), opts: opts}
	v.report = Report{IdentitySignature: NotChecked, AddressSignature: NotChecked, Chain: NotChecked, PhotoHash: NotChecked,
		Chip: NotChecked, Validity: NotChecked}
	if err := v.run(); err != nil {
		return Holder{}, v.report, err
	}
	p := &holder{v.doc, v.report}
	h := Holder{p: &p}
	return h, h.Report(), nil
}

// verification is one run of Verify.
type verification struct {
	doc     Document
	roots   Roots
	at      time.Time
	opts    Options
	report  Report
	failure *Error

	register *x509.Certificate
	identity Identity
}

func (v *verification) run() error {
	for _, f := range []File{IdentityFile, IdentitySignature, AddressFile, AddressSignature, RegisterCertificate, PhotoFile} {
		if len(v.doc.Files[f]) == 0 && !(f == PhotoFile && v.opts.PhotoWithheld) {
			return &Error{CheckContent, fmt.Errorf("%w: %v", ErrMissing, f)}
		}
	}
	if err := v.readRegister(); err != nil {
		return &Error{CheckContent, err}
	}
	// What the identity says of itself; nothing of it is believed yet.
	var malformed error
	v.identity, malformed = ParseIdentity(v.doc.Files[IdentityFile])

	v.check(CheckIdentitySignature, &v.report.IdentitySignature, func() (Verdict, error) {
		return v.signature(v.doc.Files[IdentityFile], IdentitySignature)
	})
	v.check(CheckAddressSignature, &v.report.AddressSignature, func() (Verdict, error) {
		return v.signature(slices.Concat(trimmed(v.doc.Files[AddressFile]), v.doc.Files[IdentitySignature]), AddressSignature)
	})
	v.check(CheckChain, &v.report.Chain, v.chain)
	v.check(CheckPhotoHash, &v.report.PhotoHash, v.photoHash)
	if v.failure != nil {
		return v.failure
	}

	// From here on identity and address are the issuer's words.
	address, err := ParseAddress(v.doc.Files[AddressFile])
	if malformed != nil || err != nil {
		return &Error{CheckContent, errors.Join(malformed, err)}
	}
	if len(v.identity.Unread)+len(address.Unread) > 0 {
		v.warn(WarnUnread)
	}
	v.check(CheckChip, &v.report.Chip, v.chip)
	v.check(CheckValidity, &v.report.Validity, v.validity)
	if v.failure != nil {
		return v.failure
	}
	v.dropUnsigned()
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

// warnOf warns of a hash or a key that is weak by today's measure.
func (v *verification) warnOf(hash crypto.Hash, key any) {
	if hash == crypto.SHA1 {
		v.warn(WarnSHA1)
	}
	if k, ok := key.(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
		v.warn(WarnWeakKey)
	}
}

func (v *verification) readRegister() error {
	file := v.doc.Files[RegisterCertificate]
	size, _ := certificateSize(file)
	der, ok := unfilled(file, size)
	if !ok {
		return fmt.Errorf("%w: %v", ErrMalformed, RegisterCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("%w: %v: %w", ErrMalformed, RegisterCertificate, err)
	}
	v.register, v.report.Signer = c, thumbprint(der)
	v.doc.Files[RegisterCertificate] = der
	return nil
}

func (v *verification) signature(message []byte, f File) (Verdict, error) {
	hash, err := checkSignature(v.register.PublicKey, message, v.doc.Files[f])
	if err != nil {
		return Failed, err
	}
	v.warnOf(hash, v.register.PublicKey)
	return Passed, nil
}

func (v *verification) chain() (Verdict, error) {
	ca, hash, err := v.roots.issuerOf(v.register)
	if err != nil {
		return Failed, err
	}
	if err := checkRegister(v.register); err != nil {
		return Failed, err
	}
	when := v.at
	if last := v.identity.ValidUntil; !last.IsZero() && !v.at.Before(last.AddDate(0, 0, 1)) {
		when = last
	}
	if !validAt(v.register, when) || !validAt(ca.Certificate, when) {
		return Failed, ErrSignerExpired
	}
	v.report.Authority, v.report.Simulated = thumbprint(ca.Raw), ca.class != Production
	v.warnOf(hash, ca.PublicKey)
	return Passed, nil
}

func (v *verification) photoHash() (Verdict, error) {
	photo := v.doc.Files[PhotoFile]
	if photo == nil {
		return NotChecked, nil
	}
	want := v.identity.PhotoHash
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384} {
		if len(want) == hash.Size() && bytes.Equal(want, sum(hash, photo)) {
			v.warnOf(hash, nil)
			return Passed, nil
		}
	}
	return Failed, fmt.Errorf("%w: %v", ErrHash, PhotoFile)
}

// chip judges the card's own signature by the key whose hash is in the identity.
func (v *verification) chip() (Verdict, error) {
	hash, e := v.identity.BasicKeyHash, v.doc.Chip
	switch {
	case e == nil && len(hash) == 0 && v.opts.RequireChip:
		return Impossible, ErrNoBasicKey
	case e == nil && v.opts.RequireChip:
		return NotChecked, ErrChip
	case e == nil:
		v.warn(WarnChip)
		if len(hash) == 0 {
			return Impossible, nil
		}
		return NotChecked, nil
	case len(hash) == 0:
		return Failed, fmt.Errorf("%w: evidence by a key that the identity does not name", ErrChip)
	case len(v.doc.Files[BasicKey]) == 0:
		return Failed, fmt.Errorf("%w: %v", ErrMissing, BasicKey)
	case !bytes.Equal(hash, sum(crypto.SHA384, v.doc.Files[BasicKey])):
		return Failed, fmt.Errorf("%w: %v", ErrHash, BasicKey)
	case v.opts.ExpectedChallenge == nil:
		v.warn(WarnChallenge)
	case *v.opts.ExpectedChallenge != e.Challenge:
		return Failed, fmt.Errorf("%w: another challenge was answered", ErrChip)
	}
	key, err := basicKey(v.doc.Files[BasicKey])
	if err != nil {
		return Failed, err
	}
	digest := sha512.Sum384(e.Challenge[:])
	r, s := new(big.Int).SetBytes(e.Signature[:48]), new(big.Int).SetBytes(e.Signature[48:])
	if !ecdsa.Verify(key, digest[:], r, s) {
		return Failed, ErrChip
	}
	return Passed, nil
}

func (v *verification) validity() (Verdict, error) {
	first, last := v.identity.ValidFrom, v.identity.ValidUntil
	var err error
	switch {
	case last.IsZero():
		v.warn(WarnNoExpiry)
		return NotChecked, nil
	case !v.at.Before(last.AddDate(0, 0, 1)): // valid to the end of the last day, UTC
		err = ErrExpired
	case v.at.Before(first):
		err = ErrNotYetValid
	default:
		return Passed, nil
	}
	if v.opts.RefuseExpired {
		return Failed, err
	}
	return Failed, nil
}

// dropUnsigned drops what nobody vouches for.
func (v *verification) dropUnsigned() {
	for f := range v.doc.Files {
		switch f {
		case IdentityFile, IdentitySignature, AddressFile, AddressSignature, PhotoFile, RegisterCertificate:
		case BasicKey:
			if !bytes.Equal(v.identity.BasicKeyHash, sum(crypto.SHA384, v.doc.Files[f])) {
				delete(v.doc.Files, f)
			}
		default:
			delete(v.doc.Files, f)
		}
	}
}

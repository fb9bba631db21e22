// Package identity is the verified holder of an identity document of any kind:
// who it is, which proofs the document gave, and which it cannot give.
//
// Each kind of document has a verifier of its own, and a [Holder] comes from
// what such a verifier returned: [OfEMRTD] from smartcard/trust, [OfBelgian]
// from smartcard/beid. Data that no signature of the issuer protects becomes one
// only through [OfResident], whose caller says in so many words that it accepts
// that. The zero value is not valid and is refused everywhere.
//
// The package does no I/O and decides nothing about what is enough: it says what
// is lacking.
package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/prcid"
	"enrollkiosk/smartcard/trust"
)

// Kind is a kind of identity document.
type Kind string

// Kinds.
const (
	EMRTD       Kind = "emrtd"        // ICAO Doc 9303
	BelgianEID  Kind = "belgian-eid"  //
	PRCResident Kind = "prc-resident" // China, second generation, through a SAM
)

// Lack is a proof that a document could not give.
type Lack string

// Lacks, in the order in which they are listed.
const (
	NoChipProof       Lack = "no-chip-proof"       // nothing shows that the chip is the original
	NoIssuerSignature Lack = "no-issuer-signature" // no signature of the issuer protects the data
)

// Errors.
var (
	// ErrNotVerified: a zero value was passed for a verified one.
	ErrNotVerified = errors.New("identity: the document was not verified")
	// ErrUnsigned: nobody's signature protects the data, and the caller does not accept that.
	ErrUnsigned = errors.New("identity: no signature of the issuer protects the data")
	// ErrNoFace: the document was read without a face.
	ErrNoFace = errors.New("identity: no face")
	// ErrIncomplete: the document does not say who the holder is.
	ErrIncomplete = errors.New("identity: the document lacks a name, a number or a date of birth")
	// ErrContradiction: the number fails its check digit, or birth or sex disagrees with it.
	ErrContradiction = errors.New("identity: the document contradicts itself")
)

// Person is what a document says of its holder. It refuses to print and to
// marshal. Dates are YYYY-MM-DD, or as far as the document knows them.
type Person struct {
	private
	Surname     secret.Text // all of the name where a document does not divide it
	GivenNames  secret.Text
	Number      secret.Text // of the document; of the person where the document has none
	Birth       secret.Text
	Expiry      secret.Text // empty: does not expire
	Sex         string      // "F", "M", "<": unspecified
	Nationality secret.Text // a code of three letters, or as the document words it
	Issuer      string      // code of Doc 9303-3 section 5
}

// Check is one thing that was looked at.
type Check struct {
	Name    CheckName
	Verdict trust.Verdict
}

// CheckName names what was looked at, alike for every kind of document.
type CheckName string

// Checks.
const (
	Unaltered   CheckName = "unaltered" // files are those that were signed
	SignatureOK CheckName = "signature" // the signature over them
	Chain       CheckName = "chain"     // the signer stands under a trusted authority
	Revoked     CheckName = "revoked"   // the signer is not revoked
	Chip        CheckName = "chip"      // the chip is the original
	Validity    CheckName = "validity"  // the document has not expired
)

// Holder is a verified document. It refuses to print and to marshal; two
// pointers keep it closed in unexported fields too, as they do in [secret.Text].
type Holder struct {
	private
	p **holder
}

type holder struct {
	kind      Kind
	person    func(at time.Time) Person
	born      func(at time.Time) (first, last time.Time)
	face      func() ([]byte, error)
	files     map[uint16][]byte
	lacks     []Lack
	checks    []Check
	warnings  []string
	report    any
	simulated bool

	access string
	claim  *ChipClaim
	privy  bool // the chip proves itself only to whoever speaks with it
	signed *Signature
}

// ChipClaim says how Chip Authentication ended, or PACE with Chip Authentication
// Mapping. Their evidence convinces only who made it.
type ChipClaim struct {
	Protocol string // object identifier, dotted
	KeyID    []byte // of the chip's key, big endian; nil if it has none
	Passed   bool
}

// Signature is a challenge and the chip's signature over it.
type Signature struct{ Challenge, Signature []byte }

func newHolder(h holder) (Holder, error) {
	if p := h.person(time.Now()); p.Surname.Len() == 0 || p.Number.Len() == 0 || p.Birth.Len() == 0 {
		return Holder{}, ErrIncomplete
	}
	p := &h
	return Holder{p: &p}, nil
}

// Valid says whether h was made by one of this package's functions.
func (h Holder) Valid() bool { return h.p != nil }

// Kind is the kind of document, "" for the zero value.
func (h Holder) Kind() Kind {
	if h.p == nil {
		return ""
	}
	return (*h.p).kind
}

// Person is what the document says of its holder; at tells centuries apart.
func (h Holder) Person(at time.Time) Person {
	if h.p == nil {
		return Person{}
	}
	return (*h.p).person(at)
}

// Born is the first and the last day on which the document lets its holder have been
// born, seen at a time; midnight UTC. They differ where it does not know the century,
// the month or the day. The first is zero where it could be any day up to the last.
func (h Holder) Born(at time.Time) (first, last time.Time) {
	if h.p == nil {
		return time.Time{}, at
	}
	return (*h.p).born(at)
}

// Face is the image on the document in its own format. It is foreign bytes:
// only smartcard/portrait should look into it. It fails where there is none that
// can be read.
func (h Holder) Face() ([]byte, error) {
	if h.p == nil {
		return nil, ErrNotVerified
	}
	return (*h.p).face()
}

// Files are the document's files by identifier, for sealing: whoever has them
// can verify the document again. The face's is among them.
func (h Holder) Files() map[uint16][]byte {
	if h.p == nil {
		return nil
	}
	files := maps.Clone((*h.p).files)
	for f, b := range files {
		files[f] = bytes.Clone(b)
	}
	return files
}

// Lacks are the proofs that the document could not give. The zero value lacks
// everything.
func (h Holder) Lacks() []Lack {
	if h.p == nil {
		return []Lack{NoChipProof, NoIssuerSignature}
	}
	return slices.Clone((*h.p).lacks)
}

// Checks are what was looked at, in order.
func (h Holder) Checks() []Check {
	if h.p == nil {
		return nil
	}
	return slices.Clone((*h.p).checks)
}

// Warnings are things worth a look that were no reason to refuse.
func (h Holder) Warnings() []string {
	if h.p == nil {
		return nil
	}
	return slices.Clone((*h.p).warnings)
}

// Report is the verifier's own report in JSON. It holds no personal data.
func (h Holder) Report() json.RawMessage {
	if h.p == nil {
		return nil
	}
	b, err := json.Marshal((*h.p).report)
	if err != nil {
		panic(err) // reports are plain values
	}
	return b
}

// Access is how the chip was opened: "PACE", "BAC", "none"; "" for other kinds.
func (h Holder) Access() string {
	if h.p == nil {
		return ""
	}
	return (*h.p).access
}

// ChipClaim is how Chip Authentication ended, nil if it was not run.
func (h Holder) ChipClaim() *ChipClaim {
	if h.p == nil || (*h.p).claim == nil {
		return nil
	}
	c := *(*h.p).claim
	return &c
}

// ChipProvesInPrivate says that the chip signs nothing and can prove itself by
// key agreement alone: to others, the word of who spoke with it is all there is.
// It is true, too, of a chip whose DG14 or DG15 was left out.
func (h Holder) ChipProvesInPrivate() bool { return h.p != nil && (*h.p).privy }

// Signed is what the chip signed last, nil if it signed nothing.
func (h Holder) Signed() *Signature {
	if h.p == nil || (*h.p).signed == nil {
		return nil
	}
	s := *(*h.p).signed
	return &s
}

// Simulated says that what vouches for the document is of class test. It is
// true of the zero value.
func (h Holder) Simulated() bool { return h.p == nil || (*h.p).simulated }

// texts names a verifier's warnings.
func texts[W ~string](warnings []W) []string {
	var s []string
	for _, w := range warnings {
		s = append(s, string(w))
	}
	return s
}

func day(t time.Time) secret.Text {
	if t.IsZero() {
		return secret.Text{}
	}
	return secret.FromString(t.Format(time.DateOnly))
}

// OfEMRTD takes what trust.Verify returned.
func OfEMRTD(h trust.Holder) (Holder, error) {
	if !h.Valid() {
		return Holder{}, ErrNotVerified
	}
	doc, r := h.Document(), h.Report()
	files := map[uint16][]byte{}
	for f, b := range doc.Files {
		files[uint16(f)] = b
	}
	chip := chipVerdict(r.ActiveAuthentication, r.ChipAuthentication, r.ChipMapping)
	var lacks []Lack
	if chip != trust.Passed {
		lacks = append(lacks, NoChipProof)
	}
	var claim *ChipClaim
	if c := doc.Chip; c != nil {
		claim = &ChipClaim{Protocol: c.Protocol.String(), Passed: r.ChipAuthentication == trust.Passed}
		if c.KeyID != nil {
			claim.KeyID = c.KeyID.Bytes()
		}
	}
	var signed *Signature
	if a := doc.Active; a != nil {
		signed = &Signature{a.Challenge[:], a.Signature}
	}
	if c := doc.CAM; c != nil && claim == nil {
		claim = &ChipClaim{Protocol: c.Protocol.String(), Passed: r.ChipMapping == trust.Passed}
	}
	security, err := lds.ParseCardSecurity(doc.Files[lds.EFCardSecurity])
	mapping := err == nil && r.CardSecurity == trust.Passed && len(security.Infos.ChipAuthenticationKeys) > 0
	privy := r.ActiveAuthentication == trust.Impossible && (r.ChipAuthentication != trust.Impossible || mapping)
	return newHolder(holder{kind: EMRTD, access: doc.Access, privy: privy, claim: claim, signed: signed, files: files, lacks: lacks, warnings: texts(r.Warnings), report: r, simulated: h.Simulated(),
		checks: []Check{{Unaltered, r.Hashes}, {SignatureOK, r.Signature}, {Chain, r.Chain}, {Revoked, r.Revocation}, {Chip, chip}, {Validity, r.Validity}},
		face: func() ([]byte, error) {
			f, err := h.Face()
			return f.Image, err
		},
		person: func(at time.Time) Person { return ofMRZ(h.MRZ(), at) },
		born:   func(at time.Time) (first, last time.Time) { return h.MRZ().Birth.Born(at) },
	})
}

// chipVerdict is the best of several ways to prove a chip.
func chipVerdict(ways ...trust.Verdict) trust.Verdict {
	for _, v := range []trust.Verdict{trust.Passed, trust.Failed, trust.NotChecked} {
		if slices.Contains(ways, v) {
			return v
		}
	}
	return trust.Impossible
}

func ofMRZ(m lds.MRZ, at time.Time) Person {
	p := Person{Surname: m.Primary, GivenNames: m.Secondary, Number: m.Number, Sex: string(m.Sex), Nationality: m.Nationality,
		Issuer: m.Issuer, Birth: m.Birth.Text(), Expiry: m.Expiry.Text()}
	if d, ok := m.Birth.Birth(at); ok {
		p.Birth = day(d)
	}
	if d, ok := m.Expiry.Expiry(at); ok {
		p.Expiry = day(d)
	}
	return p
}

// OfBelgian takes what beid.Verify returned.
func OfBelgian(h beid.Holder) (Holder, error) {
	if !h.Valid() {
		return Holder{}, ErrNotVerified
	}
	doc, r := h.Document(), h.Report()
	files := map[uint16][]byte{}
	for f, b := range doc.Files {
		files[uint16(f)] = b
	}
	var lacks []Lack
	if r.Chip != beid.Passed {
		lacks = append(lacks, NoChipProof)
	}
	signatures := trust.Verdict(r.IdentitySignature)
	if r.AddressSignature != beid.Passed {
		signatures = trust.Verdict(r.AddressSignature)
	}
	var signed *Signature
	if c := doc.Chip; c != nil {
		signed = &Signature{c.Challenge[:], c.Signature[:]}
	}
	return newHolder(holder{kind: BelgianEID, signed: signed, files: files, lacks: lacks, warnings: texts(r.Warnings), report: r, simulated: h.Simulated(),
		checks: []Check{{Unaltered, trust.Verdict(r.PhotoHash)}, {SignatureOK, signatures}, {Chain, trust.Verdict(r.Chain)},
			{Revoked, trust.Impossible}, {Chip, trust.Verdict(r.Chip)}, {Validity, trust.Verdict(r.Validity)}},
		face: func() ([]byte, error) {
			if photo := h.Photo(); photo != nil {
				return photo, nil
			}
			return nil, ErrNoFace
		},
		person: func(time.Time) Person { return ofBelgian(h.Identity()) },
		born:   func(at time.Time) (first, last time.Time) { return bornBelgian(h.Identity().Birth, at) },
	})
}

func ofBelgian(id beid.Identity) Person {
	p := Person{Surname: id.Surname, GivenNames: id.FirstNames, Number: id.CardNumber, Nationality: id.Nationality, Issuer: "BEL",
		Birth: id.Birth.Text(), Expiry: day(id.ValidUntil), Sex: sex(string(id.Sex))}
	if y, m, d, ok := id.Birth.Date(); ok && m > 0 && d > 0 {
		p.Birth = day(time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC))
	}
	return p
}

func bornBelgian(b beid.Birth, at time.Time) (first, last time.Time) {
	y, m, d, ok := b.Date()
	day := func(m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	switch {
	case !ok:
		return time.Time{}, at
	case m == 0:
		return day(1, 1), day(12, 31)
	case d == 0:
		return day(m, 1), day(m+1, 0)
	}
	return day(m, d), day(m, d)
}

func sex(code string) string {
	if code == "F" || code == "M" {
		return code
	}
	return "<"
}

// Files of a resident identity card. The numbers are this package's own.
const (
	ResidentText    uint16 = 0x0001
	ResidentPhoto   uint16 = 0x0002
	ResidentAddress uint16 = 0x0003
)

// Unsigned is what a caller says who accepts data that no signature protects.
type Unsigned struct {
	Accept    bool // the policy accepts it, and a second officer will agree
	Simulated bool // the policy's class of such data is test
}

// OfResident takes what a module read, as of at, if the caller accepts that
// nothing of it is signed. Its report says what the data are worth. The number is
// how a person is found again, and its agreement with birth and sex all that data
// without a signature have to show for themselves.
func OfResident(doc prcid.Document, at time.Time, accept Unsigned) (Holder, error) {
	if !accept.Accept {
		return Holder{}, ErrUnsigned
	}
	for _, p := range doc.Problems {
		if p.Field == prcid.FieldNumber || p.Field == prcid.FieldBirth || errors.Is(p.Err, prcid.ErrMismatch) {
			return Holder{}, fmt.Errorf("%w: %s: %w", ErrContradiction, p.Field, p.Err)
		}
	}
	files := map[uint16][]byte{}
	for f, t := range map[uint16]secret.Text{ResidentText: doc.Text, ResidentPhoto: doc.Photo, ResidentAddress: doc.AddressText} {
		if t.Len() > 0 {
			files[f] = bytes.Clone(t.Reveal())
		}
	}
	validity := trust.NotChecked
	if until, ok := doc.Until.Day(); ok {
		validity = trust.Failed
		if at.Before(until.AddDate(0, 0, 1)) {
			validity = trust.Passed
		}
	} else if doc.LongTerm {
		validity = trust.Passed
	}
	if validity == trust.Failed {
		return Holder{}, fmt.Errorf("resident identity card: %w", trust.ErrExpired)
	}
	problems := texts(problemNames(doc.Problems))
	report := struct {
		Worth    string        `json:"worth"`
		Validity trust.Verdict `json:"validity"`
		Problems []string      `json:"problems,omitempty"`
	}{prcid.Worth, validity, problems}
	person := ofResident(doc)
	return newHolder(holder{kind: PRCResident, files: files, lacks: []Lack{NoChipProof, NoIssuerSignature}, warnings: problems,
		report: report, simulated: accept.Simulated,
		checks: []Check{{Unaltered, trust.Impossible}, {SignatureOK, trust.Impossible}, {Chain, trust.Impossible},
			{Revoked, trust.Impossible}, {Chip, trust.Impossible}, {Validity, validity}},
		face: func() ([]byte, error) {
			if doc.Photo.Len() == 0 {
				return nil, ErrNoFace
			}
			return bytes.Clone(doc.Photo.Reveal()), nil
		},
		person: func(time.Time) Person { return person },
		born: func(at time.Time) (first, last time.Time) {
			if d, ok := doc.Birth.Day(); ok {
				return d, d
			}
			return time.Time{}, at
		},
	})
}

func problemNames(list []prcid.Problem) []string {
	var s []string
	for _, p := range list {
		s = append(s, p.String())
	}
	return s
}

func ofResident(doc prcid.Document) Person {
	p := Person{Surname: doc.Name, Number: doc.Number, Nationality: doc.Nationality, Issuer: "CHN", Sex: "<"}
	if p.Surname.Len() == 0 {
		p.Surname = doc.EnglishName
	}
	if p.Nationality.Len() == 0 {
		p.Nationality = secret.FromString("CHN")
	}
	switch string(doc.Sex.Value.Reveal()) { // GB/T 2261.1
	case "1":
		p.Sex = "M"
	case "2":
		p.Sex = "F"
	}
	if d, ok := doc.Birth.Day(); ok {
		p.Birth = day(d)
	}
	if d, ok := doc.Until.Day(); ok {
		p.Expiry = day(d)
	}
	return p
}

// private makes the type that embeds it refuse to print and to marshal.
type private = secret.Private

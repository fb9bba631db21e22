// Package policy is the identity authority's signed policy: it names every
// other key that kiosks, registry and vault trust, and the limits they keep.
//
// It is a compact JWS by the authority's offline root key, whose hash a kiosk
// gets once, when it is provisioned. The registry distributes the policy and
// cannot alter it. Its payload is canonical like a record's.
//
// Invariants: a [Signed] was signed by the pinned root, or by one that follows it in
// an unbroken line of [Succession]s, and is well formed; its zero value is refused. Not its job: deciding by the policy, and remembering
// the last one (callers pass it to [Signed.CheckSuccessor]).
package policy

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/canonical"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/record"
)

// Type is the typ of the policy's JWS.
const Type = "enrollkiosk-policy+jws"

// MaxSize is the largest policy, in bytes; a full set of national trust anchors
// fits in.
const MaxSize = 4 << 20

// Errors of this package.
var (
	ErrForm      = errors.New("policy-form: the policy is malformed")
	ErrSignature = errors.New("policy-signature: the policy is not signed by the authority")
	ErrExpired   = errors.New("policy-expired: the policy has expired: connect to the registry for a new one")
	ErrNotYet    = errors.New("policy-not-yet: the policy is from the future: check the clock")
	ErrRollback  = errors.New("policy-rollback: the policy is older than the one in force, or contradicts it")
)

// Policy is what the authority decides. An empty list of roots or keys trusts
// nobody.
type Policy struct {
	Version   uint64    `json:"version"` // from 1, never reused
	Issued    time.Time `json:"issued"`  // whole seconds, UTC
	Expires   time.Time `json:"expires"`
	LogOrigin string    `json:"log_origin"` // audience of every record
	LogKey    string    `json:"log_key"`    // note verifier key (C2SP signed-note), name = LogOrigin

	// EarlierLogs are the keys that the log signed with before LogKey, the latest first,
	// each with the tree at which it ended.
	EarlierLogs []checkpoint.Earlier `json:"earlier_logs,omitzero"`

	// Witnesses are verifier keys (C2SP tlog-cosignature, Ed25519) of those who watch
	// the log grow; WitnessQuorum of them must have cosigned what a receipt rests on,
	// from the WitnessFrom'th leaf on. A witness that retires stays in the list while
	// receipts rest on it. No witnesses: none is asked for.
	Witnesses     []string `json:"witnesses,omitzero"`
	WitnessQuorum uint64   `json:"witness_quorum,omitzero"`
	WitnessFrom   uint64   `json:"witness_from,omitzero"`

	Authority record.AuthorityKey `json:"authority"`

	Anchors     []Root   `json:"anchors"` // CSCA certificates; any curve
	CRLs        [][]byte `json:"crls"`    // of the CSCAs, DER
	PIVRoots    []Root   `json:"piv_roots"`
	TPMRoots    []Root   `json:"tpm_roots"` // of EK certificates
	OfficerCA   []Root   `json:"officer_ca"`
	KioskCA     []Root   `json:"kiosk_ca"`
	RegistryTLS []Root   `json:"registry_tls"`

	VerdictKeys VerdictKeys `json:"verdict_keys"`

	// Issuer issues credentials for signing in. Zero: nobody does.
	Issuer Issuer `json:"issuer,omitzero"`

	MinimumPIVFirmware Firmware `json:"minimum_piv_firmware"`
	RevokedTokens      []uint64 `json:"revoked_tokens"` // serial numbers

	// RevokedOfficers are SHA-256 of officers' certificates, DER: lost and stolen cards.
	RevokedOfficers [][32]byte `json:"revoked_officers"`

	// RevokedAttestations are SHA-256 of attestation certificates, DER, that count no
	// more: tokens' own (F9), and authorities' above them.
	RevokedAttestations [][32]byte `json:"revoked_attestations,omitzero"`

	// PIVIntermediates are certificates between PIVRoots and tokens' own, DER, each
	// after the one that issued it.
	PIVIntermediates [][]byte `json:"piv_intermediates,omitzero"`

	// OfficerCRLs are complete CRLs of the officers' CA, DER. A certificate that is on
	// one signs nothing from its revocation on, wherever that was not yet known. A
	// CRL that is past its next update still counts, and refuses nobody else: how
	// long a kiosk works with what it has, the policy's expiry and OfflineDays say.
	OfficerCRLs [][]byte `json:"officer_crls,omitzero"`

	// OfficerRules say what officers may do, at most one rule for each unit. Whoever
	// has none is no officer here: an empty list trusts nobody.
	OfficerRules []OfficerRule `json:"officer_roles,omitzero"`

	// Exchange are the registry's keys that a kiosk may seal a drive to; it takes the
	// first. Without one nothing can be exported.
	Exchange []parcel.Key `json:"exchange,omitzero"`

	Token  Token  `json:"token,omitzero"`
	Limits Limits `json:"limits,omitzero"`
	Minors Minors `json:"minors,omitzero"`

	// Documents are rules for kinds of identity documents, at most one for each. A
	// kind without a rule is not accepted, but for eMRTDs that prove everything.
	Documents []Document `json:"documents,omitzero"`

	Consents    []Text   `json:"consents"`
	Languages   []string `json:"languages"`    // BCP 47, first is the default
	Files       []uint16 `json:"files"`        // LDS file identifiers to seal beside DG1 and EF.SOD
	OfflineDays uint64   `json:"offline_days"` // days that a kiosk may work without the registry

	// Successions are those of all root keys before the one that signs, the first
	// first: what ParseSuccession reads.
	Successions []string `json:"successions,omitzero"`
}

// Document is the rule for a kind of identity document: who vouches for it, and
// which proofs an enrollment may do without.
type Document struct {
	Kind record.Document `json:"kind"`
	// MayLack are the proofs that a document may be unable to give. Such an
	// enrollment says so and takes a second officer. A proof that a document can
	// give is never waived.
	MayLack []record.Exception `json:"may_lack"`
	// Roots vouch for Belgian cards: "Belgium Root CA" certificates. Other kinds
	// have none: eMRTDs stand under the policy's Anchors, and nobody vouches for
	// resident cards.
	Roots []Root `json:"roots"`
	// Class is that of resident cards, which have no root to take it from; empty
	// for other kinds.
	Class record.Class `json:"class,omitzero"`
}

// Log is what the log's checkpoints, and receipts, are held against.
func (p Policy) Log() checkpoint.Log {
	return checkpoint.Log{Key: p.LogKey, Earlier: p.EarlierLogs, Witnesses: p.Witnesses, Quorum: int(p.WitnessQuorum), From: p.WitnessFrom}
}

// Document is the rule for a kind of document; ok is false if the kind is not
// accepted. An eMRTD without a rule must prove everything.
func (p Policy) Document(kind record.Document) (rule Document, ok bool) {
	for _, d := range p.Documents {
		if d.Kind == kind {
			return d, true
		}
	}
	return Document{Kind: kind}, kind == record.EMRTD
}

// Allows says whether one document of this kind may lack all of these proofs
// together.
func (d Document) Allows(lacks []record.Exception) bool {
	return !slices.ContainsFunc(lacks, func(e record.Exception) bool { return !slices.Contains(d.MayLack, e) })
}

// Root is a trusted certificate, DER. What rests on one of class test is
// simulated.
type Root struct {
	Certificate []byte       `json:"certificate"`
	Class       record.Class `json:"class"`
}

// Issuer is who issues credentials: its identifier, an https address without path,
// and the authority of its certificates. The certificates name what each may issue.
type Issuer struct {
	ID    string `json:"id"`
	Roots []Root `json:"roots"`
}

// check holds that it is all there, or nothing of it.
func (i Issuer) check() error {
	if i.ID == "" && len(i.Roots) == 0 {
		return nil
	}
	u, err := url.Parse(i.ID)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.String() != "https://"+u.Host || len(i.Roots) == 0 {
		return errors.New("issuer: an https address without path, and its roots")
	}
	return nil
}

// VerdictKeys sign verdicts: the registry's rejections and times, the vault's
// decisions.
type VerdictKeys struct {
	Registry []record.JWK `json:"registry"`
	Vault    []record.JWK `json:"vault"`
}

// Firmware is a token's version.
type Firmware struct {
	Major uint16 `json:"major"`
	Minor uint16 `json:"minor"`
	Patch uint16 `json:"patch"`
}

// Compare orders versions like cmp.Compare.
func (f Firmware) Compare(o Firmware) int {
	return slices.Compare([]uint16{f.Major, f.Minor, f.Patch}, []uint16{o.Major, o.Minor, o.Patch})
}

// Text is one thing to consent to, with the digest of its exact words in each
// language.
type Text struct {
	ID       string        `json:"id"`
	Version  uint64        `json:"version"`
	Required bool          `json:"required"`
	Digests  []Translation `json:"digests"`
}

// Translation is the SHA-256 of a text in UTF-8.
type Translation struct {
	Language string   `json:"language"`
	SHA256   [32]byte `json:"sha256"`
}

// Sign checks p and signs it with the authority's root key, to which p.Successions
// must lead.
func Sign(ctx context.Context, p Policy, root record.Signer) ([]byte, error) {
	by, err := RootHash(root.Public())
	if err != nil {
		return nil, err
	}
	if _, err := Line(p.Successions, by); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	payload := canonical.Marshal(p)
	if _, err := decode(payload); err != nil {
		return nil, err
	}
	b, err := record.SignCompact(ctx, Type, payload, root)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrForm, len(b))
	}
	return b, nil
}

// RootHash is what Parse pins: SHA-256 of the key's SubjectPublicKeyInfo.
func RootHash(root crypto.PublicKey) ([32]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(root)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encode root key: %w", err)
	}
	return sha256.Sum256(spki), nil
}

// Signed is a policy that the pinned root has signed, or one after it; only Parse
// makes it.
type Signed struct{ s *signed }

type signed struct {
	policy Policy
	digest [32]byte
	bytes  []byte
	line   [][32]byte // of roots, from the first to the one that signed
}

// SignedBy is the hash of the key that signed a policy. It says who claims to be
// the authority, for people to compare, and is nothing to trust.
func SignedBy(b []byte) (hash [32]byte, err error) {
	if len(b) > MaxSize {
		return hash, fmt.Errorf("%w: %d bytes", ErrForm, len(b))
	}
	_, err = record.VerifyCompact(b, Type, func(pub crypto.PublicKey) bool {
		hash, err = RootHash(pub)
		return err == nil
	})
	if err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return hash, nil
}

// Parse verifies a signed policy: by the root of this hash, or by a later one to
// which the policy's successions lead from there. Errors wrap ErrForm or
// ErrSignature. It does not look at the clock: see CheckTime and CheckSuccessor.
func Parse(b []byte, rootKeyHash [32]byte) (Signed, error) {
	return parse(b, func(hash [32]byte) bool { return hash == rootKeyHash })
}

// ParseShort is Parse for a kiosk that knows only how the root key's hash
// begins, from its provisioning code. It returns the whole hash, which the kiosk
// pins from then on. 128 bits are enough where the attacker would need a second
// key for a hash that others chose.
func ParseShort(b []byte, prefix [16]byte) (s Signed, rootKeyHash [32]byte, err error) {
	s, err = parse(b, func(hash [32]byte) bool {
		if [16]byte(hash[:]) != prefix {
			return false
		}
		rootKeyHash = hash
		return true
	})
	if err != nil {
		return Signed{}, [32]byte{}, err
	}
	return s, rootKeyHash, nil
}

// ParseEarlier is Parse for what was in force before s: the root of s vouches for
// all before it, whichever of them is pinned.
func (s Signed) ParseEarlier(b []byte) (Signed, error) {
	if s.s == nil {
		return Signed{}, ErrSignature
	}
	by, err := SignedBy(b)
	if err != nil {
		return Signed{}, err
	}
	if !slices.Contains(s.s.line, by) {
		return Signed{}, fmt.Errorf("%w: its root is not of this line", ErrSignature)
	}
	return Parse(b, by)
}

func parse(b []byte, pinned func(rootKeyHash [32]byte) bool) (Signed, error) {
	if len(b) > MaxSize {
		return Signed{}, fmt.Errorf("%w: %d bytes", ErrForm, len(b))
	}
	var by [32]byte
	payload, err := record.VerifyCompact(b, Type, func(pub crypto.PublicKey) bool {
		hash, err := RootHash(pub)
		by = hash
		return err == nil
	})
	if errors.Is(err, record.ErrCanonical) {
		return Signed{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	// Up to here anybody may have signed: what fails before the line is known says
	// nothing of the authority.
	stranger := ErrSignature
	if pinned(by) {
		stranger = ErrForm
	}
	var p Policy
	if err := canonical.Unmarshal(payload, &p); err != nil {
		return Signed{}, fmt.Errorf("%w: %w", stranger, err)
	}
	line, err := Line(p.Successions, by)
	if err != nil {
		return Signed{}, fmt.Errorf("%w: %w", stranger, err)
	}
	if !slices.ContainsFunc(line, pinned) {
		return Signed{}, fmt.Errorf("%w: by another root", ErrSignature)
	}
	if err := p.check(); err != nil {
		return Signed{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return Signed{&signed{p, sha256.Sum256(payload), bytes.Clone(b), line}}, nil
}

// Valid is false for the zero value.
func (s Signed) Valid() bool { return s.s != nil }

// Policy is the content; zero for the zero value. Its slices are shared: do not
// write to them.
func (s Signed) Policy() Policy {
	if s.s == nil {
		return Policy{}
	}
	return s.s.policy
}

// Digest is SHA-256 of the payload, which a record's context names.
func (s Signed) Digest() [32]byte {
	if s.s == nil {
		return [32]byte{}
	}
	return s.s.digest
}

// Payload is what was signed: JSON in the one encoding.
func (s Signed) Payload() []byte {
	if s.s == nil {
		return nil
	}
	return canonical.Marshal(s.s.policy)
}

// Bytes is the compact JWS.
func (s Signed) Bytes() []byte {
	if s.s == nil {
		return nil
	}
	return bytes.Clone(s.s.bytes)
}

// CheckTime says whether the policy is in force at a time.
func (s Signed) CheckTime(at time.Time) error {
	switch p := s.Policy(); {
	case s.s == nil:
		return ErrForm
	case at.Before(p.Issued):
		return ErrNotYet
	case !at.Before(p.Expires):
		return ErrExpired
	}
	return nil
}

// Roots are the hashes of the authority's root keys from the first to the one that
// signed this policy.
func (s Signed) Roots() [][32]byte {
	if s.s == nil {
		return nil
	}
	return slices.Clone(s.s.line)
}

// Root is the last of Roots: the root that provisioning codes name.
func (s Signed) Root() [32]byte {
	if s.s == nil {
		return [32]byte{}
	}
	return s.s.line[len(s.s.line)-1]
}

// CheckSuccessor refuses a policy older than the last one known, another one of the
// same version, and one by a root that another has followed: ErrRollback. Where
// another root stands in the place of one that is known it is ErrFork. Nothing is
// known with the zero value.
func (s Signed) CheckSuccessor(last Signed) error {
	if s.s == nil {
		return ErrForm
	}
	if last.s == nil {
		return nil
	}
	if err := follows(s.s.line, last.s.line); err != nil {
		return err
	}
	if v, known := s.s.policy.Version, last.s.policy.Version; v < known || v == known && s.s.digest != last.s.digest {
		return fmt.Errorf("%w: version %d after %d", ErrRollback, v, known)
	}
	return nil
}

func decode(payload []byte) (Policy, error) {
	var p Policy
	if err := canonical.Unmarshal(payload, &p); err != nil {
		return Policy{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err := p.check(); err != nil {
		return Policy{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return p, nil
}

func (p Policy) check() error {
	if p.Version == 0 || p.Issued.IsZero() || !p.Issued.Before(p.Expires) || p.OfflineDays > 3660 {
		return errors.New("version, dates or offline days")
	}
	if v, err := note.NewVerifier(p.LogKey); err != nil || v.Name() != p.LogOrigin {
		return errors.New("log key, or its name is not the log's origin")
	}
	if (len(p.Witnesses) == 0) != (p.WitnessQuorum == 0) || p.WitnessQuorum > checkpoint.MaxWitnesses {
		return errors.New("witnesses and their quorum: one without the other")
	}
	if err := p.Log().Check(); err != nil {
		return err
	}
	if _, err := hpke.MLKEM768X25519().NewPublicKey(p.Authority.Public); err != nil || p.Authority.ID == "" {
		return errors.New("authority key")
	}
	for _, r := range p.Anchors {
		// Go's X.509 parser does not know the curves that travel documents use.
		var der asn1.RawValue
		if rest, err := asn1.Unmarshal(r.Certificate, &der); err != nil || len(rest) > 0 || !r.valid() {
			return errors.New("trust anchor")
		}
	}
	for i, d := range p.Documents {
		if slices.ContainsFunc(p.Documents[:i], func(o Document) bool { return o.Kind == d.Kind }) {
			return fmt.Errorf("document %q: given twice", d.Kind)
		}
		if err := d.check(); err != nil {
			return fmt.Errorf("document %q: %w", d.Kind, err)
		}
	}
	for name, roots := range map[string][]Root{"piv": p.PIVRoots, "tpm": p.TPMRoots, "officer": p.OfficerCA, "kiosk": p.KioskCA, "tls": p.RegistryTLS, "issuer": p.Issuer.Roots} {
		for _, r := range roots {
			if _, err := x509.ParseCertificate(r.Certificate); err != nil || !r.valid() {
				return fmt.Errorf("%s root", name)
			}
		}
	}
	if err := p.Issuer.check(); err != nil {
		return err
	}
	if err := p.checkOfficers(); err != nil {
		return err
	}
	if err := p.checkToken(); err != nil {
		return err
	}
	if err := p.Minors.check(); err != nil {
		return err
	}
	for i, k := range p.Exchange {
		if err := k.Check(); err != nil || slices.ContainsFunc(p.Exchange[:i], func(o parcel.Key) bool { return o.ID == k.ID }) {
			return errors.New("exchange key")
		}
	}
	for _, k := range slices.Concat(p.VerdictKeys.Registry, p.VerdictKeys.Vault) {
		if _, err := k.Public(); err != nil {
			return errors.New("verdict key")
		}
	}
	for i, l := range p.Languages {
		if !language(l) || slices.Contains(p.Languages[:i], l) {
			return errors.New("languages")
		}
	}
	for i, c := range p.Consents {
		if c.ID == "" || c.Version == 0 || slices.ContainsFunc(p.Consents[:i], func(o Text) bool { return o.ID == c.ID }) {
			return errors.New("consent: id, version, or given twice")
		}
		for _, l := range p.Languages {
			if _, ok := c.Digest(l); !ok {
				return fmt.Errorf("consent %s is missing in %s", c.ID, l)
			}
		}
	}
	return nil
}

// check holds that a rule names who vouches for its kind, in the one way that the
// kind has.
func (d Document) check() error {
	for _, e := range d.MayLack {
		if e != record.NoAge && e != record.NoChipProof && e != record.NoIssuerSignature {
			return fmt.Errorf("unknown exception %q", e)
		}
	}
	for _, r := range d.Roots {
		if _, err := x509.ParseCertificate(r.Certificate); err != nil || !r.valid() {
			return errors.New("root")
		}
	}
	switch d.Kind {
	case record.EMRTD:
		if len(d.Roots) > 0 || d.Class != "" {
			return errors.New("roots or a class: those of this kind are the anchors'")
		}
	case record.BelgianEID:
		if len(d.Roots) == 0 || d.Class != "" {
			return errors.New("it takes roots, and a class for each, none of its own")
		}
	case record.PRCResident:
		if len(d.Roots) > 0 || !(Root{Class: d.Class}).valid() {
			return errors.New("it takes a class and no roots: nobody signs it")
		}
	default:
		return errors.New("unknown kind")
	}
	return nil
}

func (r Root) valid() bool { return r.Class == record.Production || r.Class == record.Test }

func language(s string) bool {
	return s != "" && len(s) <= 35 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Digest is the digest of the text in a language.
func (t Text) Digest(language string) ([32]byte, bool) {
	for _, d := range t.Digests {
		if d.Language == language {
			return d.SHA256, true
		}
	}
	return [32]byte{}, false
}

// Package registrytest is a registry and a vault with all that surrounds them,
// for their tests: a policy, an officers' authority, a maker of tokens, kiosks
// that sign records. Its keys are in software, made anew for each test, and of
// class test. It knows no simulator: documents come from its caller.
package registrytest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/smartcard/lds"
)

// Origin is the log of every World.
const Origin = "registry.example/log"

// ConsentText is the one text that its policies require, in English.
const ConsentText = "Enrollment\nYou agree."

// Device is a P-256 key in software.
type Device struct{ *ecdsa.PrivateKey }

// NewDevice makes a key.
func NewDevice(t testing.TB) Device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Device{key}
}

// Sign makes it a record.Signer.
func (d Device) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return d.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

// CA is an authority in software.
type CA struct {
	Key  Device
	Cert *x509.Certificate
}

// NewCA makes one.
func NewCA(t testing.TB, name string) CA {
	t.Helper()
	key := NewDevice(t)
	c := authority(name)
	return CA{key, issue(t, c, c, key.Public(), key)}
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0)}
}

func issue(t testing.TB, c, parent *x509.Certificate, pub crypto.PublicKey, by Device) *x509.Certificate {
	t.Helper()
	if c.SerialNumber == nil {
		c.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, by.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Officer is an officer's card.
type Officer struct {
	Device
	Chain [][]byte
}

// Officer issues a card; edit, if not nil, alters the certificate.
func (ca CA) Officer(t testing.TB, number string, edit func(*x509.Certificate)) Officer {
	t.Helper()
	key := NewDevice(t)
	c := &x509.Certificate{Subject: pkix.Name{SerialNumber: number}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(2, 0, 0)}
	if edit != nil {
		edit(c)
	}
	return Officer{key, [][]byte{issue(t, c, ca.Cert, key.Public(), ca.Key).Raw}}
}

// World is one test's registry and vault on disk.
type World struct {
	Dir        string
	Policy     policy.Signed
	Root       [32]byte
	Officers   CA
	Officer    Officer
	Supervisor Officer // another one
	Tokens     CA      // maker of PIV tokens
	own        CA      // a token's own certificate, under Tokens
	keys       api.RegistryKeys
	vault      api.VaultKeys
	kiosks     record.Class // of the TPMs of its kiosks
	tokens     record.Class // of Tokens
}

// What a World rests on: see World.Production.
const (
	TPMs      = "tpms" // of kiosks that are made from then on
	KioskCA   = "registry"
	OfficerCA = "officer_ca"
	PIVRoots  = "piv_roots"
	Anchors   = "anchors"
	Documents = "documents" // what Accept added that nobody signs
	Issuers   = "documents.roots"
)

// Production makes everything of class production but simulated.
func (w *World) Production(t testing.TB, simulated string) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(w.Dir, "policy.body"))
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.SplitAfter(string(body), "\n[")
	for i, section := range sections {
		if !strings.HasPrefix(strings.TrimLeft(section, "["), simulated+"]") {
			sections[i] = strings.Replace(section, `class = "test"`, `class = "production"`, 1)
		}
	}
	w.write(t, "policy.body", []byte(strings.Join(sections, "")))
	w.kiosks, w.tokens = record.Production, record.Production
	switch simulated {
	case TPMs:
		w.kiosks = record.Test
	case PIVRoots:
		w.tokens = record.Test
	}
	w.Policy = w.Sign(t, 1, time.Now().Add(-time.Hour))
}

// Accept adds documents, as a policy's description has them, to the World's
// policy. Files are written beside it.
func (w *World) Accept(t testing.TB, documents string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		w.write(t, name, b)
	}
	body, err := os.ReadFile(filepath.Join(w.Dir, "policy.body"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "policy.body", append(body, documents...))
	w.Policy = w.Sign(t, 1, time.Now().Add(-time.Hour))
}

// Revoke signs the next policy, in which officers' cards are revoked.
func (w *World) Revoke(t testing.TB, version int, issued time.Time, officers ...Officer) policy.Signed {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(w.Dir, "policy.body"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, o := range officers {
		list = append(list, fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(o.Chain[0]))))
	}
	w.write(t, "policy.body", append(fmt.Appendf(nil, "revoked_officers = [%s]\n", strings.Join(list, ",")), body...))
	return w.Sign(t, version, issued)
}

// New makes a World. anchors are CSCA certificates that its policy trusts, DER.
func New(t testing.TB, anchors ...[]byte) *World {
	t.Helper()
	w := &World{Dir: t.TempDir(), Officers: NewCA(t, "Officers"), Tokens: NewCA(t, "Tokens"), kiosks: record.Test, tokens: record.Test}
	now := time.Now()
	var err error
	if w.keys, err = registry.Init(w.RegistryDir(), Origin, nil, now); err != nil {
		t.Fatal(err)
	}
	if w.vault, err = vault.Init(w.VaultDir(), nil, now); err != nil {
		t.Fatal(err)
	}
	w.Root = w.vault.RootHash
	w.Officer, w.Supervisor = w.Officers.Officer(t, "4711", nil), w.Officers.Officer(t, "4710", nil)
	own := NewDevice(t)
	c := authority("token")
	c.MaxPathLenZero = true
	w.own = CA{own, issue(t, c, w.Tokens.Cert, own.Public(), w.Tokens.Key)}

	w.write(t, "enrollment.en.txt", []byte(ConsentText))
	w.write(t, "officers.der", w.Officers.Cert.Raw)
	w.write(t, "tokens.der", w.Tokens.Cert.Raw)
	text := `valid_days = 365
offline_days = 30
languages = ["en"]
minimum_piv_firmware = "5.2.3"
revoked_tokens = [666]
[registry]
public = "registry/public.json"
class = "test"
[consents]
dir = "."
required = ["enrollment"]
[[officer_ca]]
file = "officers.der"
class = "test"
[[piv_roots]]
file = "tokens.der"
class = "test"
`
	for i, der := range anchors {
		name := fmt.Sprintf("csca%d.der", i)
		w.write(t, name, der)
		text += fmt.Sprintf("[[anchors]]\nfile = %q\nclass = \"test\"\n", name)
	}
	w.write(t, "policy.body", []byte(text))
	w.Policy = w.Sign(t, 1, now.Add(-time.Hour))
	return w
}

// Sign signs the World's policy in another version, issued at another time.
func (w *World) Sign(t testing.TB, version int, issued time.Time) policy.Signed {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(w.Dir, "policy.body"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "policy.toml", append(fmt.Appendf(nil, "version = %d\nissued = %s\n", version, issued.UTC().Format(time.RFC3339)), body...))
	b, err := vault.SignPolicy(t.Context(), w.VaultDir(), filepath.Join(w.Dir, "policy.toml"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.Parse(b, w.Root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// RegistryDir is the registry's directory.
func (w *World) RegistryDir() string { return filepath.Join(w.Dir, "registry") }

// VaultDir is the vault's directory.
func (w *World) VaultDir() string { return filepath.Join(w.Dir, "vault") }

func (w *World) write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.Dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// RegistryOptions open the World's registry with its vault at an address.
func (w *World) RegistryOptions(vaultAddress string) registry.Options {
	return registry.Options{Dir: w.RegistryDir(), Root: w.Root, Policy: w.Policy,
		Vault: registry.VaultLink{URL: "https://" + vaultAddress, Root: w.vault.TLSRoot}}
}

// VaultOptions open the World's vault.
func (w *World) VaultOptions() vault.Options {
	return vault.Options{Dir: w.VaultDir(), Root: w.Root, Policy: w.Policy, Client: w.keys.VaultClient}
}

// TLS is a client's configuration for the registry, with a certificate if given.
func (w *World) TLS(t testing.TB, certificates ...tls.Certificate) *tls.Config {
	t.Helper()
	return TLS(t, w.keys.TLSRoot, certificates...)
}

// TLS is a client's configuration that trusts one root, DER.
func TLS(t testing.TB, root []byte, certificates ...tls.Certificate) *tls.Config {
	t.Helper()
	c, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: certificates}
}

// Kiosk is a kiosk whose keys are in software.
type Kiosk struct {
	ID       string
	World    *World
	Record   Device
	Chain    [][]byte
	TLS      tls.Certificate
	Sequence uint64   // of its last record
	Previous [32]byte // its last record's id
}

// Kiosk makes a kiosk and puts it on the register, as if its TPM had been
// looked at.
func (w *World) Kiosk(t testing.TB, id string) *Kiosk {
	t.Helper()
	k := &Kiosk{ID: id, World: w, Record: NewDevice(t)}
	ca, err := keyfile.ReadAuthority(w.RegistryDir(), "kiosk-ca")
	if err != nil {
		t.Fatal(err)
	}
	certify := func(key Device, usage ...x509.ExtKeyUsage) []byte {
		der, err := ca.Issue(x509.Certificate{Subject: pkix.Name{CommonName: id}, ExtKeyUsage: usage}, key.Public(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	spki := func(key Device) []byte {
		b, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	link := NewDevice(t)
	k.Chain = [][]byte{certify(k.Record)}
	k.TLS = tls.Certificate{Certificate: [][]byte{certify(link, x509.ExtKeyUsageClientAuth)}, PrivateKey: link.PrivateKey}
	b, err := json.Marshal(registry.Kiosk{ID: id, RecordKey: spki(k.Record), TLSKey: spki(link), Class: string(w.kiosks), Registered: time.Now().UTC().AddDate(0, 0, -60),
		Certificates: api.KioskCertificates{Version: 1, KioskID: id, Record: k.Chain, TLS: k.TLS.Certificate}})
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, filepath.Join("registry", "kiosks", id+".json"), b)
	return k
}

// Spec says what is special about a record. The zero value is an ordinary
// enrollment of a new key.
type Spec struct {
	Purpose    record.Purpose // default Enroll
	Context    func(*record.Context)
	Holder     *Device // default a new one
	Old        *Device // old holder, for Replace
	Officer    *Officer
	Exceptions []record.Exception // what the document lacks; a supervisor signs too
	Supervisor *Officer
	Kiosk      *Kiosk                                                             // who signs instead
	Attest     func(own *CA, leaf *x509.Certificate)                              // alters what the token says
	Identity   func(c record.Context, holder crypto.PublicKey) record.Identity    // default: nothing that verifies
	Payload    func(*record.Payload)                                              //
	Roles      func([]record.SignerRef, map[record.Role]Party) []record.SignerRef // alters who signs
}

// Party signs for a role.
type Party struct {
	Signer record.Signer
	Chain  [][]byte
}

// Make makes a record and joins it with its attestation.
func (k *Kiosk) Make(t testing.TB, s Spec) record.Submission {
	t.Helper()
	w := k.World
	if s.Purpose == "" {
		s.Purpose = record.Enroll
	}
	if s.Holder == nil {
		d := NewDevice(t)
		s.Holder = &d
	}
	if s.Officer == nil {
		s.Officer = &w.Officer
	}
	if s.Supervisor == nil {
		s.Supervisor = &w.Supervisor
	}
	c := record.Context{Version: record.Version, Audience: Origin, Purpose: s.Purpose, KioskID: k.ID, Sequence: k.Sequence + 1,
		PolicyDigest: w.Policy.Digest(), AuthorityKeyID: w.Policy.Policy().Authority.ID}
	rand.Read(c.Nonce[:])
	if s.Context != nil {
		s.Context(&c)
	}
	previous := k.Previous
	if c.KioskID == "" {
		previous = [32]byte{}
	} else {
		k.Sequence++
	}
	now := time.Now().UTC().Truncate(time.Second)
	p := record.Payload{Context: c, Previous: previous, Times: record.Times{Wall: now, Synchronised: true, Monotonic: 1000, Boot: [16]byte{1}, Registry: now.Add(-time.Hour)}}
	rand.Read(p.Blind[:])
	did, err := record.DIDKey(s.Holder.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := record.NewJWK(s.Holder.Public())
	if err != nil {
		t.Fatal(err)
	}
	var evidence *record.Attestation
	switch s.Purpose {
	case record.Enroll, record.Replace, record.Update:
		evidence = w.attest(t, s.Holder.Public(), s.Attest)
		p.Holder = record.HolderKey{DID: did, Key: jwk, Where: record.PIV, Class: w.tokens, Attestation: evidence.Digest()}
		p.Purposes = []record.Consent{{ID: "enrollment", Version: 1}}
		p.CancelSHA = record.CancelHash([]byte("cancel"))
		p.Exceptions = s.Exceptions
		if s.Identity == nil {
			s.Identity = Unverifiable
		}
		if p.Identity, err = record.Seal(c, w.vault.Authority, s.Identity(c, s.Holder.Public())); err != nil {
			t.Fatal(err)
		}
	case record.Revoke:
		p.Holder = record.HolderKey{DID: did, Key: jwk}
	}
	by := k
	if s.Kiosk != nil {
		by = s.Kiosk
	}
	parties := map[record.Role]Party{record.Holder: {*s.Holder, nil}, record.Officer: {*s.Officer, s.Officer.Chain},
		record.Supervisor: {*s.Supervisor, s.Supervisor.Chain}, record.Kiosk: {by.Record, by.Chain}}
	roles := []record.Role{record.Holder, record.Officer, record.Kiosk}
	if len(s.Exceptions) > 0 {
		roles = []record.Role{record.Holder, record.Officer, record.Supervisor, record.Kiosk}
	}
	switch {
	case s.Purpose == record.Void:
		roles = roles[2:]
	case s.Purpose == record.Revoke:
		roles = roles[:1]
	case s.Old != nil:
		roles = append([]record.Role{record.OldHolder}, roles...)
		parties[record.OldHolder] = Party{*s.Old, nil}
		if p.Replaces, err = record.DIDKey(s.Old.Public()); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range roles {
		ref, err := record.SignerOf(role, parties[role].Signer.Public(), parties[role].Chain)
		if err != nil {
			t.Fatal(err)
		}
		p.Signers = append(p.Signers, ref)
	}
	if s.Roles != nil {
		p.Signers = s.Roles(p.Signers, parties)
	}
	if s.Payload != nil {
		s.Payload(&p)
	}
	d, err := record.New(p)
	if err != nil {
		t.Fatal(err)
	}
	for role := d.Next(); role != ""; role = d.Next() {
		if err := d.Sign(t.Context(), role, parties[role].Signer, parties[role].Chain); err != nil {
			t.Fatal(err)
		}
	}
	r, err := d.Record()
	if err != nil {
		t.Fatal(err)
	}
	out, err := record.NewSubmission(r, evidence)
	if err != nil {
		t.Fatal(err)
	}
	if c.KioskID != "" {
		k.Previous = out.ID()
	}
	return out
}

// Unverifiable is an identity that no vault accepts.
func Unverifiable(record.Context, crypto.PublicKey) record.Identity {
	return record.Identity{Document: record.EMRTD, Access: "PACE", Report: []byte(`{}`), Consents: Consents(),
		Files: map[uint16]secret.Text{0x0101: secret.FromString("no DG1"), 0x011D: secret.FromString("no EF.SOD")}}
}

// Identity is what a kiosk seals of a document that it has read.
func Identity(doc lds.Document) record.Identity {
	id := record.Identity{Document: record.EMRTD, Access: doc.Access, Report: []byte(`{}`), Consents: Consents(), Files: map[uint16]secret.Text{}}
	for _, f := range []lds.File{lds.DG1, lds.DG14, lds.DG15, lds.EFSOD} {
		if b := doc.Files[f]; b != nil {
			id.Files[uint16(f)] = secret.New(bytes.Clone(b))
		}
	}
	if a := doc.Active; a != nil {
		id.Active = &record.ActiveEvidence{Challenge: a.Challenge[:], Signature: a.Signature}
	}
	return id
}

// Consents are those that go with a Spec's purposes.
func Consents() []record.ConsentText {
	return []record.ConsentText{{ID: "enrollment", Version: 1, Digest: sha256.Sum256([]byte(ConsentText)), Language: "en"}}
}

// attest is what a token of firmware 5.4.3 with serial number 1234567 says
// about a key in 9A (Yubico, "PIV Attestation").
func (w *World) attest(t testing.TB, key crypto.PublicKey, edit func(*CA, *x509.Certificate)) *record.Attestation {
	t.Helper()
	say := func(n int, value ...byte) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, n}, Value: value}
	}
	serial, err := asn1.Marshal(1234567)
	if err != nil {
		t.Fatal(err)
	}
	own := w.own
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "YubiKey PIV Attestation 9a"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0),
		ExtraExtensions: []pkix.Extension{say(3, 5, 4, 3), say(7, serial...), say(8, 2, 2), say(9, 1)}}
	if edit != nil {
		edit(&own, leaf)
	}
	cert := issue(t, leaf, own.Cert, key, own.Key)
	return &record.Attestation{PIV: &record.PIVEvidence{Certificate: cert.Raw, Intermediate: own.Cert.Raw}}
}

// Lookalike is a token's certificate under a maker that nobody trusts.
func (w *World) Lookalike(t testing.TB) CA {
	t.Helper()
	maker, key := NewCA(t, "Tokens"), NewDevice(t)
	c := authority("token")
	c.MaxPathLenZero = true
	return CA{key, issue(t, c, maker.Cert, key.Public(), maker.Key)}
}

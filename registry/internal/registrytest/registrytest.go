// Package registrytest is a registry and a vault with all that surrounds them,
// for their tests: a policy, an officers' authority, a maker of tokens, kiosks
// that sign records. Its keys are in software, made anew for each test, and of
// class test. It knows no simulator: documents come from its caller.
package registrytest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
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
	return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
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
	w.describe(t, "", documents, files)
}

// Set adds keys that stand before all sections to the World's policy. Files are
// written beside it.
func (w *World) Set(t testing.TB, keys string, files map[string][]byte) {
	t.Helper()
	w.describe(t, keys, "", files)
}

func (w *World) describe(t testing.TB, before, after string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		w.write(t, name, b)
	}
	body, err := os.ReadFile(filepath.Join(w.Dir, "policy.body"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "policy.body", []byte(before+string(body)+after))
	w.Policy = w.Sign(t, 1, time.Now().Add(-time.Hour))
}

// CRL lists officers' cards as lost since a time.
func (ca CA) CRL(t testing.TB, since time.Time, lost ...Officer) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().AddDate(0, 0, 7)}
	for _, o := range lost {
		c, err := x509.ParseCertificate(o.Chain[0])
		if err != nil {
			t.Fatal(err)
		}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: since})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.Cert, ca.Key.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
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
[[officer_roles]]
roles = ["officer", "supervisor"]
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

// Rotated makes the World's kiosks know the keys that registry and vault have now.
// Sign names them in the next policy.
func (w *World) Rotated(t testing.TB) {
	t.Helper()
	var err error
	if w.keys, err = registry.ReadPublic(w.RegistryDir()); err != nil {
		t.Fatal(err)
	}
	if w.vault, err = vault.ReadPublic(w.VaultDir()); err != nil {
		t.Fatal(err)
	}
}

// RegistryDir is the registry's directory.
func (w *World) RegistryDir() string { return filepath.Join(w.Dir, "registry") }

// Replica makes a directory with the registry's keys, and its log behind a link:
// what one more registry on a database has.
func (w *World) Replica(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	shared := filepath.Join(w.RegistryDir(), "log")
	if err := errors.Join(os.MkdirAll(shared, 0o700), os.Symlink(shared, filepath.Join(dir, "log"))); err != nil {
		t.Fatal(err)
	}
	own := os.DirFS(w.RegistryDir())
	if err := fs.WalkDir(own, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case slices.Contains([]string{"log", "kiosks", "provisions", "activity"}, name):
			return fs.SkipDir
		case e.IsDir():
			return os.Mkdir(filepath.Join(dir, name), 0o700)
		case !e.Type().IsRegular() || name == "registry.db":
			return nil
		}
		b, err := fs.ReadFile(own, name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), b, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	return dir
}

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

// Issue gives the World's registry an issuer of credentials, in the policy too.
func (w *World) Issue(t testing.TB, id string) {
	t.Helper()
	var err error
	if w.keys, err = registry.InitIssuer(w.RegistryDir(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	w.Policy = w.Sign(t, 1, time.Now().Add(-time.Hour))
}

// Package keyfile keeps the keys of registry and vault in files: PKCS #8 in
// PEM, readable by their owner only, made once and never written over.
package keyfile

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/secret"
)

// Generations are the names under which a directory has generations of one thing,
// the latest first: name-3, name-2, name, each with a file of the extension.
func Generations(dir, name, extension string) []string {
	var out []string
	for n := 1; ; n++ {
		one := generation(name, n)
		if _, err := os.Stat(filepath.Join(dir, one+extension)); err != nil {
			break
		}
		out = append([]string{one}, out...)
	}
	return out
}

// Latest is the name of the latest generation of a key with a certificate.
func Latest(dir, name string) string {
	if all := Generations(dir, name, ".crt"); len(all) > 0 {
		return all[0]
	}
	return name
}

// ErrNotKnown means that none of a key's generations is known.
var ErrNotKnown = errors.New("no generation of the key is known")

// LatestKnown reads the latest generation of a key that is known; ErrNotKnown if
// none is.
func LatestKnown(dir, name string, known func(crypto.PublicKey) bool) (Key, error) {
	for _, one := range Generations(dir, name, ".key") {
		key, err := Read(filepath.Join(dir, one+".key"))
		if err != nil {
			return Key{}, err
		}
		if known(key.Public()) {
			return key, nil
		}
	}
	return Key{}, ErrNotKnown
}

// Next is the name of the generation to come.
func Next(dir, name, extension string) string {
	return generation(name, len(Generations(dir, name, extension))+1)
}

func generation(name string, n int) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, n)
}

// ErrExists means that a directory holds keys already.
var ErrExists = errors.New("there are keys already: keys are made once and not replaced")

// Key is a P-256 private key. It refuses to print; the zero value cannot sign.
type Key struct{ key **ecdsa.PrivateKey }

// Public is the public half; nil for the zero value.
func (k Key) Public() crypto.PublicKey {
	if k.key == nil {
		return nil
	}
	return (*k.key).Public()
}

// Sign makes k a record.Signer.
func (k Key) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return (*k.key).Sign(rand.Reader, digest, crypto.SHA256)
}

// Format prints [secret.Redacted] for every verb.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

func (Key) LogValue() slog.Value         { return slog.StringValue(secret.Redacted) }
func (Key) MarshalJSON() ([]byte, error) { return nil, secret.ErrMarshal }
func (Key) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// Create makes a key in a new file.
func Create(file string) (Key, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Key{}, fmt.Errorf("encode key: %w", err)
	}
	return Key{&key}, WriteNew(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// Read reads what Create wrote.
func Read(file string) (Key, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return Key{}, fmt.Errorf("read key: %s holds none", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %s holds none that can be read", file)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return Key{}, fmt.Errorf("read key: %s holds none of P-256", file)
	}
	return Key{&key}, nil
}

// WriteNew writes a file that must not exist, durably: it is there whole or not
// at all.
func WriteNew(file string, b []byte, mode os.FileMode) error {
	made, err := temporary(file, b, mode)
	if err != nil {
		return err
	}
	defer os.Remove(made)
	if err := os.Link(made, file); err != nil { // unlike rename, refuses to replace
		return err
	}
	return durable.SyncDir(filepath.Dir(file))
}

func temporary(file string, b []byte, mode os.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// NewDir makes a directory with what fill puts into it, all or nothing. It
// refuses one that exists and is not empty: ErrExists.
func NewDir(dir string, fill func(dir string) error) error {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: %w", dir, ErrExists)
	}
	made, err := os.MkdirTemp(parent, filepath.Base(dir)+".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	if err := fill(made); err != nil {
		return err
	}
	if err := durable.SyncDir(made); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) { // only an empty one goes
		return fmt.Errorf("%s: %w: %w", dir, ErrExists, err)
	}
	if err := os.Rename(made, dir); err != nil {
		return err
	}
	return durable.SyncDir(parent)
}

// Replace writes a file anew, durably, so that a reader sees the old or the new.
func Replace(file string, b []byte, mode os.FileMode) error {
	made, err := temporary(file, b, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(made, file); err != nil {
		os.Remove(made)
		return err
	}
	return durable.SyncDir(filepath.Dir(file))
}

// Authority issues certificates: name.key and name.crt of a directory.
type Authority struct {
	Certificate *x509.Certificate
	key         Key
}

const (
	rootYears  = 20
	leafPeriod = 825 * 24 * time.Hour
)

// CreateAuthority makes a self-signed authority.
func CreateAuthority(dir, name, subject string, now time.Time) (Authority, error) {
	key, err := Create(filepath.Join(dir, name+".key"))
	if err != nil {
		return Authority{}, err
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: subject}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(rootYears, 0, 0),
		SerialNumber: serial(), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), *key.key)
	if err != nil {
		return Authority{}, fmt.Errorf("certify %s: %w", name, err)
	}
	if err := writeCertificate(filepath.Join(dir, name+".crt"), der); err != nil {
		return Authority{}, err
	}
	return ReadAuthority(dir, name)
}

// ReadAuthority reads what CreateAuthority wrote.
func ReadAuthority(dir, name string) (Authority, error) {
	key, err := Read(filepath.Join(dir, name+".key"))
	if err != nil {
		return Authority{}, err
	}
	cert, err := ReadCertificate(filepath.Join(dir, name+".crt"))
	return Authority{cert, key}, err
}

// Issue certifies a key; template's serial number and validity are set here.
func (a Authority) Issue(template x509.Certificate, pub crypto.PublicKey, now time.Time) ([]byte, error) {
	template.SerialNumber = serial()
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(leafPeriod)
	if a.Certificate.NotAfter.Before(template.NotAfter) {
		template.NotAfter = a.Certificate.NotAfter // it is of no use for longer
	}
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, &template, a.Certificate, pub, *a.key.key)
	if err != nil {
		return nil, fmt.Errorf("certify: %w", err)
	}
	return der, nil
}

// IssueServer makes name.key and name.crt for a TLS server at hosts: names or
// addresses; localhost is always one.
func (a Authority) IssueServer(dir, name string, hosts []string, now time.Time) error {
	t := x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return a.IssueNew(dir, name, t, now)
}

// IssueClient makes name.key and name.crt for a TLS client.
func (a Authority) IssueClient(dir, name string, now time.Time) error {
	return a.IssueNew(dir, name, x509.Certificate{Subject: pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, now)
}

// IssueNew makes name.key and name.crt for what t says.
func (a Authority) IssueNew(dir, name string, t x509.Certificate, now time.Time) error {
	key, err := Create(filepath.Join(dir, name+".key"))
	if err != nil {
		return err
	}
	der, err := a.Issue(t, key.Public(), now)
	if err != nil {
		return err
	}
	return writeCertificate(filepath.Join(dir, name+".crt"), der)
}

// TLS reads name.key and name.crt for a TLS configuration.
func TLS(dir, name string) (tls.Certificate, error) {
	key, err := Read(filepath.Join(dir, name+".key"))
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := ReadCertificate(filepath.Join(dir, name+".crt"))
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: *key.key, Leaf: cert}, nil
}

func writeCertificate(file string, der []byte) error {
	return WriteNew(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// ReadCertificate reads one certificate, PEM or DER.
func ReadCertificate(file string) (*x509.Certificate, error) {
	der, err := ReadDER(file)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", file, err)
	}
	return cert, nil
}

// ReadDER reads one object that stands in PEM or DER in a file.
func ReadDER(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil {
		return b, nil
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("%s holds more than one object: one file for each", file)
	}
	return block.Bytes, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7F
	b[0] |= 1 << 6 // positive, and of one length
	return new(big.Int).SetBytes(b)
}

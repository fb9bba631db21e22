// Package specimen keeps everybody who issues something in the simulated
// country of Utopia: the state, the token maker, the police force. Programs that
// share a folder share the issuers.
package specimen

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// Authority is everybody who issues something: the state its ID cards, the
// maker its tokens, the force its officers' cards.
//
// Its folder:
//
//	csca.der  piv-root.der  officers-ca.der    root certificates, for a policy
//	idcard/                                    the state's keys
//	piv-root.seed                              the token maker's
//	officers-ca.key                            the force's
//	officers/0001/officer.{key,crt}            officers' keys and certificates
//	belgium.der                                see Belgium
type Authority struct {
	State     *idcard.Authority
	Tokens    *pivtoken.Authority
	Officers  []Officer
	OfficerCA []byte // DER

	dir string // "" if nothing stays
}

// OfficersUnit is the unit in the officers' certificates.
const OfficersUnit = "Citizen Services"

const (
	stateDir     = "idcard"
	tokenSeed    = "piv-root.seed"
	officersDir  = "officers"
	officersKey  = "officers-ca.key"
	rootState    = "csca.der"
	rootTokens   = "piv-root.der"
	rootOfficers = "officers-ca.der"
	officerCount = 2
	day          = 24 * time.Hour
)

// Open loads the authority of a folder, or makes it there if the folder
// is missing or empty. Several processes may do so at once: one makes it, all
// load the same. Without a folder it is new and nothing stays.
func Open(dir string) (*Authority, error) {
	kept := dir
	if dir == "" {
		temporary, err := os.MkdirTemp("", "authority")
		if err != nil {
			return nil, fmt.Errorf("make authority: %w", err)
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	if err := Make(dir); err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	a, err := loadAuthority(dir)
	if err != nil {
		return nil, fmt.Errorf("load authority from %s: %w", dir, err)
	}
	a.dir = kept
	return a, nil
}

// Make builds the folder beside its place and renames it: it is there
// whole or not at all, and the first of several wins.
func Make(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	building, err := os.MkdirTemp(filepath.Dir(dir), ".authority")
	if err != nil {
		return err
	}
	defer os.RemoveAll(building)
	if err := writeAuthority(building); err != nil {
		return err
	}
	os.Remove(dir) // an empty folder gives way, nothing else does
	err = os.Rename(building, dir)
	if errors.Is(err, fs.ErrExist) { // somebody else was quicker
		return nil
	}
	return err
}

func writeAuthority(dir string) error {
	state, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		return err
	}
	if err := state.Save(filepath.Join(dir, stateDir)); err != nil {
		return err
	}
	seed := make([]byte, 32)
	rand.Read(seed)
	tokens, err := pivtoken.NewAuthority(seed)
	if err != nil {
		return err
	}
	ca, caKey, err := writeOfficers(dir)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		rootState:    state.CSCA(),
		rootTokens:   tokens.Root(),
		rootOfficers: ca,
		tokenSeed:    seed,
		officersKey:  caKey,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeOfficers makes the force's authority and its officers. Certificates of
// officers carry a number and a unit, and no name.
func writeOfficers(dir string) (ca, caKey []byte, err error) {
	rootKey, caKey, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	root := &x509.Certificate{
		Subject:               pkix.Name{Country: []string{"UT"}, Organization: []string{"Utopia Police"}, CommonName: "SPECIMEN Officers CA"},
		SerialNumber:          newSerial(),
		NotBefore:             now.Add(-day),
		NotAfter:              now.Add(10 * 365 * day),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if ca, err = x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey); err != nil {
		return nil, nil, err
	}
	for i := range officerCount {
		number := fmt.Sprintf("%04d", i+1)
		key, keyPEM, err := newKey()
		if err != nil {
			return nil, nil, err
		}
		leaf := &x509.Certificate{
			Subject:      pkix.Name{Country: []string{"UT"}, Organization: []string{"Utopia Police"}, OrganizationalUnit: []string{OfficersUnit}, SerialNumber: number},
			SerialNumber: newSerial(),
			NotBefore:    now.Add(-day),
			NotAfter:     now.Add(3 * 365 * day),
			KeyUsage:     x509.KeyUsageDigitalSignature,
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
		if err != nil {
			return nil, nil, err
		}
		folder := filepath.Join(dir, officersDir, number)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, nil, err
		}
		if err := os.WriteFile(filepath.Join(folder, officerKeyFile), keyPEM, 0o600); err != nil {
			return nil, nil, err
		}
		certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(folder, officerCertFile), certPEM, 0o600); err != nil {
			return nil, nil, err
		}
	}
	return ca, caKey, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newSerial is a positive random number of 16 bytes (RFC 5280 4.1.2.2).
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7F | 0x40
	return new(big.Int).SetBytes(b)
}

func loadAuthority(dir string) (*Authority, error) {
	state, err := idcard.LoadAuthority(filepath.Join(dir, stateDir))
	if err != nil {
		return nil, err
	}
	seed, err := os.ReadFile(filepath.Join(dir, tokenSeed))
	if err != nil {
		return nil, err
	}
	tokens, err := pivtoken.NewAuthority(seed)
	if err != nil {
		return nil, err
	}
	a := &Authority{State: state, Tokens: tokens}
	if a.OfficerCA, err = os.ReadFile(filepath.Join(dir, rootOfficers)); err != nil {
		return nil, err
	}
	for i := range officerCount {
		o, err := ReadOfficer(filepath.Join(dir, officersDir, fmt.Sprintf("%04d", i+1)))
		if err != nil {
			return nil, err
		}
		a.Officers = append(a.Officers, o)
	}
	return a, nil
}

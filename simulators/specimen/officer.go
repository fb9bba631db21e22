package specimen

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"enrollkiosk/simulators/pivtoken"
)

// Officer is an officer's signing key and certificate.
type Officer struct {
	Key         crypto.Signer
	Certificate *x509.Certificate
}

// slotSignature is PIV's digital signature slot (SP 800-73-4 Part 1 table 4b).
const slotSignature = 0x9C

// Card makes the officer's PIV card with the key in slot 9C.
func (o Officer) Card(maker *pivtoken.Authority, pin string) (*pivtoken.Token, error) {
	// Two officers' cards differ in their serial numbers, as any two tokens do.
	digest := sha256.Sum256(o.Certificate.Raw)
	token := pivtoken.New(pivtoken.Options{Root: maker, Serial: 20_000_000 + binary.BigEndian.Uint32(digest[:])%1_000_000})
	if err := token.InstallKey(slotSignature, o.Key, o.Certificate.Raw); err != nil {
		return nil, fmt.Errorf("make officer's card: %w", err)
	}
	if err := token.SetPIN(pin); err != nil {
		return nil, fmt.Errorf("officer's PIN: %w", err)
	}
	return token, nil
}

const (
	officerKeyFile  = "officer.key"
	officerCertFile = "officer.crt"
)

var errKeyMismatch = errors.New("key and certificate do not belong together")

// ReadOfficer reads a PKCS #8 key and a certificate chain, leaf first, from PEM
// files.
func ReadOfficer(dir string) (Officer, error) {
	key, err := readPEM(filepath.Join(dir, officerKeyFile), "PRIVATE KEY")
	if err != nil {
		return Officer{}, err
	}
	private, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return Officer{}, fmt.Errorf("%s: %w", officerKeyFile, err)
	}
	der, err := readPEM(filepath.Join(dir, officerCertFile), "CERTIFICATE")
	if err != nil {
		return Officer{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return Officer{}, fmt.Errorf("%s: %w", officerCertFile, err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return Officer{}, errKeyMismatch
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil || !bytes.Equal(public, certificate.RawSubjectPublicKeyInfo) {
		return Officer{}, errKeyMismatch
	}
	return Officer{signer, certificate}, nil
}

// readPEM returns the first block of a file, which must have that type.
func readPEM(path, kind string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: no PEM block %q", path, kind)
	}
	return block.Bytes, nil
}

package main

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
	"strings"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// slotSignature is PIV's digital signature slot (SP 800-73-4 Part 1 table 4b).
const slotSignature = 0x9C

// choice is what the command line says about the cards.
type choice struct {
	authority            string
	idcard, idcardFaults string
	token, tokenFaults   string
	officer, officerPIN  string
}

const none = "none"

// single is the one card for a virtual reader.
func (c choice) single(a *authority, given map[string]bool) (pcscd.Card, error) {
	var card pcscd.Card
	for name, make := range map[string]func(*authority) (pcscd.Card, error){
		"idcard": c.idCardOrNone, "token": c.tokenOrNone, "officer": c.officerOrNone,
	} {
		if !given[name] {
			continue
		}
		if card != nil {
			return nil, fmt.Errorf("%w: --vpcd takes one of --idcard, --token and --officer", errUsage)
		}
		var err error
		if card, err = make(a); err != nil {
			return nil, err
		}
	}
	if card == nil {
		return nil, fmt.Errorf("%w: --vpcd takes one of --idcard, --token and --officer", errUsage)
	}
	return card, nil
}

func (c choice) idCardOrNone(a *authority) (pcscd.Card, error) {
	if c.idcard == none {
		return nil, nil
	}
	return c.idCard(a)
}

func (c choice) idCard(a *authority) (*idcard.Chip, error) {
	person := idcard.SpecimenPerson()
	switch c.idcard {
	case "specimen":
	case none:
		return nil, fmt.Errorf("%w: there is no ID card to show", errUsage)
	default:
		f, err := os.Open(c.idcard)
		if err != nil {
			return nil, fmt.Errorf("read person: %w", err)
		}
		defer f.Close()
		if person, err = idcard.ParsePerson(f); err != nil {
			return nil, fmt.Errorf("read person from %s: %w", c.idcard, err)
		}
	}
	var options idcard.Options
	for name := range strings.SplitSeq(c.idcardFaults, ",") {
		if name == "" {
			continue
		}
		fault, err := idcard.ParseFault(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		options.Faults = append(options.Faults, fault)
	}
	chip, err := a.state.Personalise(person, options)
	if err != nil {
		return nil, fmt.Errorf("make ID card: %w", err)
	}
	return chip, nil
}

func (c choice) tokenOrNone(a *authority) (pcscd.Card, error) {
	var faults pivtoken.Fault
	if c.tokenFaults != "" {
		var err error
		if faults, err = pivtoken.ParseFault(c.tokenFaults); err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	switch c.token {
	case none:
		return nil, nil
	case "factory":
	case "provisioned":
		faults |= pivtoken.Provisioned
	default:
		return nil, fmt.Errorf("%w: --token is factory, provisioned or none", errUsage)
	}
	return pivtoken.New(pivtoken.Options{Root: a.tokens, Faults: faults}), nil
}

func (c choice) officerOrNone(a *authority) (pcscd.Card, error) {
	var o officer
	var err error
	switch c.officer {
	case none:
		return nil, nil
	case "":
		o = a.officers[0]
	default:
		if o, err = readOfficer(c.officer); err != nil {
			return nil, fmt.Errorf("read officer: %w", err)
		}
	}
	// Two officers' cards differ in their serial numbers, as any two tokens do.
	digest := sha256.Sum256(o.certificate.Raw)
	token := pivtoken.New(pivtoken.Options{
		Root:   a.tokens,
		Serial: 20_000_000 + binary.BigEndian.Uint32(digest[:])%1_000_000,
	})
	if err := token.InstallKey(slotSignature, o.key, o.certificate.Raw); err != nil {
		return nil, fmt.Errorf("make officer's card: %w", err)
	}
	if err := token.SetPIN(c.officerPIN); err != nil {
		return nil, fmt.Errorf("%w: --officer-pin: %w", errUsage, err)
	}
	return token, nil
}

// officer is an officer's signing key and certificate.
type officer struct {
	key         crypto.Signer
	certificate *x509.Certificate
}

const (
	officerKeyFile  = "officer.key"
	officerCertFile = "officer.crt"
)

var errKeyMismatch = errors.New("key and certificate do not belong together")

// readOfficer reads a PKCS #8 key and a certificate chain, leaf first, from PEM
// files.
func readOfficer(dir string) (officer, error) {
	key, err := readPEM(filepath.Join(dir, officerKeyFile), "PRIVATE KEY")
	if err != nil {
		return officer{}, err
	}
	private, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return officer{}, fmt.Errorf("%s: %w", officerKeyFile, err)
	}
	der, err := readPEM(filepath.Join(dir, officerCertFile), "CERTIFICATE")
	if err != nil {
		return officer{}, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return officer{}, fmt.Errorf("%s: %w", officerCertFile, err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return officer{}, errKeyMismatch
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil || !bytes.Equal(public, certificate.RawSubjectPublicKeyInfo) {
		return officer{}, errKeyMismatch
	}
	return officer{signer, certificate}, nil
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

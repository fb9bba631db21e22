package idcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Algorithm is a kind of signature.
type Algorithm string

// Algorithms of authorities (all three) and of Active Authentication (the first two).
const (
	ECDSA Algorithm = "ecdsa"   // P-256 with SHA-256
	RSA   Algorithm = "rsa"     // PKCS #1 v1.5 with SHA-256
	PSS   Algorithm = "rsa-pss" // RSASSA-PSS with SHA-256
)

// Authority is a specimen issuing state: a country signing CA and one document
// signer under it, with certificate profiles of 9303-12 7.1. Its keys are made at
// random and lie in the open: every certificate calls itself a specimen, and
// whoever trusts it must give it the class "test".
//
// Elliptic curve parameters are written as named curves; 9303-12 4.4.2 asks for
// explicit ones, which many TLS libraries refuse.
type Authority struct {
	algorithm Algorithm
	csca      certified
	signer    certified
}

// certified is a private key with its certificate.
type certified struct {
	key  crypto.Signer
	cert *x509.Certificate
}

const (
	year  = 365 * 24 * time.Hour
	state = "UTO" // Utopia; its two letters are UT
)

// NewAuthority makes keys and certificates, valid from a year ago for sixteen
// years (document signer: twelve), so that ten-year documents fit.
func NewAuthority(alg Algorithm) (*Authority, error) {
	a := &Authority{algorithm: alg}
	now := time.Now().UTC().Truncate(time.Second)
	start := now.Add(-year)

	root, err := newKey(alg, 3072)
	if err != nil {
		return nil, fmt.Errorf("make CSCA key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               subject("SPECIMEN CSCA"),
		NotBefore:             start,
		NotAfter:              start.Add(16 * year),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtraExtensions:       append(alternativeNames(), usagePeriod(start, start.Add(5*year))),
	}
	if a.csca, err = a.certify(template, root, certified{key: root, cert: template}); err != nil {
		return nil, fmt.Errorf("make CSCA certificate: %w", err)
	}

	key, err := newKey(alg, 2048)
	if err != nil {
		return nil, fmt.Errorf("make document signer key: %w", err)
	}
	template = &x509.Certificate{
		Subject:         subject("SPECIMEN Document Signer 1"),
		NotBefore:       start,
		NotAfter:        start.Add(12 * year),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtraExtensions: append(alternativeNames(), usagePeriod(start, now.Add(year)), documentTypes()),
	}
	if a.signer, err = a.certify(template, key, a.csca); err != nil {
		return nil, fmt.Errorf("make document signer certificate: %w", err)
	}
	return a, nil
}

func newKey(alg Algorithm, bits int) (crypto.Signer, error) {
	switch alg {
	case ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA, PSS:
		return rsa.GenerateKey(rand.Reader, bits)
	}
	return nil, fmt.Errorf("idcard: no algorithm is called %q", alg)
}

func (a *Authority) certify(template *x509.Certificate, key crypto.Signer, issuer certified) (certified, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return certified{}, err
	}
	template.SerialNumber = serial.SetBit(serial, 119, 1)
	template.SignatureAlgorithm = map[Algorithm]x509.SignatureAlgorithm{
		ECDSA: x509.ECDSAWithSHA256, RSA: x509.SHA256WithRSA, PSS: x509.SHA256WithRSAPSS,
	}[a.algorithm]
	template.CRLDistributionPoints = []string{"http://specimen.invalid/csca.crl"}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		return certified{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return certified{key, cert}, err
}

func subject(name string) pkix.Name {
	return pkix.Name{Country: []string{"UT"}, Organization: []string{"Specimen Authority"}, CommonName: name}
}

// alternativeNames gives subject and issuer the state's three letters as a
// locality (9303-12 7.1.1.2).
func alternativeNames() []pkix.Extension {
	locality := tlv(0x30, tlv(0x31, tlv(0x30, oid(2, 5, 4, 7), tlv(0x13, []byte(state)))))
	names := tlv(0x30, tlv(0xA4, locality))
	return []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: names},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 18}, Value: names},
	}
}

// usagePeriod says when the private key signs (RFC 3280 4.2.1.4).
func usagePeriod(from, to time.Time) pkix.Extension {
	const form = "20060102150405Z"
	return pkix.Extension{
		Id:    asn1.ObjectIdentifier{2, 5, 29, 16},
		Value: tlv(0x30, tlv(0x80, []byte(from.Format(form))), tlv(0x81, []byte(to.Format(form)))),
	}
}

// documentTypes lists what the signer signs: identity cards and passports (9303-12 7.1.1.6).
func documentTypes() pkix.Extension {
	return pkix.Extension{
		Id:    asn1.ObjectIdentifier{2, 23, 136, 1, 1, 6, 2},
		Value: tlv(0x30, tlv(0x02, []byte{0}), tlv(0x31, tlv(0x13, []byte("I")), tlv(0x13, []byte("P")))),
	}
}

// CSCA is the certificate of the country signing CA, DER.
func (a *Authority) CSCA() []byte { return append([]byte(nil), a.csca.cert.Raw...) }

// Signer is the certificate of the document signer, DER.
func (a *Authority) Signer() []byte { return append([]byte(nil), a.signer.cert.Raw...) }

// CRL is a fresh revocation list of the CSCA, DER; it lists the document signer when told to.
func (a *Authority) CRL(revokeSigner bool) ([]byte, error) {
	now := time.Now().UTC()
	list := &x509.RevocationList{
		Number: big.NewInt(now.Unix()), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(90 * 24 * time.Hour),
		SignatureAlgorithm: a.csca.cert.SignatureAlgorithm,
	}
	if revokeSigner {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{{
			SerialNumber: a.signer.cert.SerialNumber, RevocationTime: now.Add(-time.Hour),
		}}
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.csca.cert, a.csca.key)
	if err != nil {
		return nil, fmt.Errorf("make CRL: %w", err)
	}
	return der, nil
}

// Files of a saved authority.
const (
	fileCSCA      = "csca.pem"
	fileCSCAKey   = "csca-key.pem"
	fileSigner    = "signer.pem"
	fileSignerKey = "signer-key.pem"
)

// Save writes the authority into dir, which it makes if need be, as four PEM files.
func (a *Authority) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	for _, f := range []struct {
		cert, key string
		certified
	}{{fileCSCA, fileCSCAKey, a.csca}, {fileSigner, fileSignerKey, a.signer}} {
		der, err := x509.MarshalPKCS8PrivateKey(f.certified.key)
		if err != nil {
			return fmt.Errorf("save authority: %w", err)
		}
		for name, block := range map[string]*pem.Block{
			f.cert: {Type: "CERTIFICATE", Bytes: f.certified.cert.Raw},
			f.key:  {Type: "PRIVATE KEY", Bytes: der},
		} {
			if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
				return fmt.Errorf("save authority: %w", err)
			}
		}
	}
	return nil
}

// LoadAuthority reads what Save wrote and checks that it belongs together.
func LoadAuthority(dir string) (*Authority, error) {
	var a Authority
	var err error
	if a.csca, err = load(dir, fileCSCA, fileCSCAKey); err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if a.signer, err = load(dir, fileSigner, fileSignerKey); err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	if err := a.signer.cert.CheckSignatureFrom(a.csca.cert); err != nil {
		return nil, fmt.Errorf("load authority: check document signer: %w", err)
	}
	switch a.signer.cert.SignatureAlgorithm {
	case x509.ECDSAWithSHA256:
		a.algorithm = ECDSA
	case x509.SHA256WithRSA:
		a.algorithm = RSA
	case x509.SHA256WithRSAPSS:
		a.algorithm = PSS
	default:
		return nil, fmt.Errorf("load authority: signature algorithm %v is not one of ours", a.signer.cert.SignatureAlgorithm)
	}
	return &a, nil
}

func load(dir, certFile, keyFile string) (certified, error) {
	read := func(name, kind string) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		block, rest := pem.Decode(b)
		if block == nil || block.Type != kind || len(rest) > 0 {
			return nil, fmt.Errorf("%s: not one %s in PEM", name, kind)
		}
		return block.Bytes, nil
	}
	der, err := read(certFile, "CERTIFICATE")
	if err != nil {
		return certified{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return certified{}, fmt.Errorf("%s: %w", certFile, err)
	}
	if der, err = read(keyFile, "PRIVATE KEY"); err != nil {
		return certified{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return certified{}, fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return certified{}, fmt.Errorf("%s: not a signing key", keyFile)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return certified{}, errors.New(keyFile + ": not the key of " + certFile)
	}
	return certified{key, cert}, nil
}

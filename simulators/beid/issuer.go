package beid

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // what cards of the first years were signed with
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// Generation is a generation of cards.
type Generation string

// Generations.
const (
	Applet11 Generation = "1.1" // of 2003: RSA-1024 with SHA-1 throughout
	Applet17 Generation = "1.7" // RSA-2048 with SHA-256
	Applet18 Generation = "1.8" // since 2020: ECDSA on P-384 with SHA-384, and a basic key
)

func (g Generation) hash() crypto.Hash {
	switch g {
	case Applet11:
		return crypto.SHA1
	case Applet18:
		return crypto.SHA384
	}
	return crypto.SHA256
}

func (g Generation) key() (crypto.Signer, error) {
	switch g {
	case Applet11:
		return rsa.GenerateKey(rand.Reader, 1024)
	case Applet17:
		return rsa.GenerateKey(rand.Reader, 2048)
	case Applet18:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, fmt.Errorf("beid: no generation is called %q", string(g))
}

func (g Generation) certificateAlgorithm() x509.SignatureAlgorithm {
	switch g {
	case Applet11:
		return x509.SHA1WithRSA
	case Applet18:
		return x509.ECDSAWithSHA384
	}
	return x509.SHA256WithRSA
}

// Issuer is a specimen of the Belgian authorities: a root, the National
// Register's signer (RRN) and a citizen authority under it. Whoever trusts it
// must give it the class "test".
type Issuer struct {
	generation Generation
	root       certified
	register   certified
	citizen    certified // a citizen's own signature key, under the citizen authority
	basic      *ecdsa.PrivateKey
}

// certified is a private key with its certificate.
type certified struct {
	key crypto.Signer
	der []byte
}

const year = 365 * 24 * time.Hour

// NewIssuer makes keys and certificates, valid from three years ago for 25.
func NewIssuer(g Generation) (*Issuer, error) {
	i := &Issuer{generation: g}
	var authority certified
	for serial, c := range []struct {
		made, under *certified
		name        string
		usage       x509.KeyUsage
		ca          bool
	}{
		{&i.root, &i.root, "Belgium Root CA SPECIMEN", x509.KeyUsageCertSign | x509.KeyUsageCRLSign, true},
		{&i.register, &i.root, "RRN", x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, false},
		{&authority, &i.root, "Citizen CA SPECIMEN", x509.KeyUsageCertSign | x509.KeyUsageCRLSign, true},
		{&i.citizen, &authority, "Voorbeeld (Signature)", x509.KeyUsageContentCommitment, false},
	} {
		key, err := g.key()
		if err != nil {
			return nil, err
		}
		now := time.Now().UTC().Truncate(time.Second)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial) + 1), SignatureAlgorithm: g.certificateAlgorithm(),
			Subject:   pkix.Name{Country: []string{"BE"}, Organization: []string{"SPECIMEN"}, CommonName: c.name},
			NotBefore: now.Add(-3 * year), NotAfter: now.Add(22 * year),
			KeyUsage: c.usage, BasicConstraintsValid: true, IsCA: c.ca,
		}
		c.made.key = key
		parent := template
		if c.under != c.made {
			if parent, err = x509.ParseCertificate(c.under.der); err != nil {
				return nil, fmt.Errorf("parse issuer of %s: %w", c.name, err)
			}
		}
		if c.made.der, err = x509.CreateCertificate(rand.Reader, template, parent, key.Public(), c.under.key); err != nil {
			return nil, fmt.Errorf("certify %s: %w", c.name, err)
		}
	}
	var err error
	if i.basic, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make basic key: %w", err)
	}
	return i, nil
}

// Root is the root's certificate (DER).
func (i *Issuer) Root() []byte { return i.root.der }

func (i *Issuer) sign(signer certified, message []byte) ([]byte, error) {
	h := i.generation.hash().New()
	h.Write(message)
	s, err := signer.key.Sign(rand.Reader, h.Sum(nil), i.generation.hash())
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if i.generation == Applet18 { // the file is longer than any signature in DER
		s = padded(s, 256)
	}
	return s, nil
}

// files of a card, by directory and identifier.
func (i *Issuer) files(p Person, signer certified) (map[uint32][]byte, error) {
	photo, err := p.photo()
	if err != nil {
		return nil, err
	}
	h := i.generation.hash().New()
	h.Write(photo)
	f := map[uint32][]byte{photoFile: photo, rootFile: padded(i.root.der, 1300), registerFile: padded(signer.der, 1300)}
	var keyHash []byte
	if i.generation == Applet18 {
		key, err := x509.MarshalPKIXPublicKey(i.basic.Public())
		if err != nil {
			return nil, fmt.Errorf("encode basic key: %w", err)
		}
		digest := sha512.Sum384(key)
		f[basicKeyFile], keyHash = key, digest[:]
	}
	f[identityFile] = p.identityFile(i.generation, h.Sum(nil), keyHash)
	f[addressFile] = p.addressFile()
	if f[identitySignatureFile], err = i.sign(signer, f[identityFile]); err != nil {
		return nil, err
	}
	// The address is signed without its filling, together with the signature
	// of the identity: neither can be exchanged alone.
	content := append([]byte(nil), trimmed(f[addressFile])...)
	if f[addressSignatureFile], err = i.sign(signer, append(content, f[identitySignatureFile]...)); err != nil {
		return nil, err
	}
	return f, nil
}

func trimmed(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

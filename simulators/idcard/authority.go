package idcard

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Authority is a specimen issuing state: a country signing CA and one document
// signer under it, with certificate profiles of 9303-12 7.1. Its keys are made at
// random and lie in the open: every certificate calls itself a specimen, and
// whoever trusts it must give it the class "test".
type Authority struct {
	opts   AuthorityOptions // all filled in
	csca   certified
	signer certified
}

// AuthorityOptions choose the state and its keys. The zero value is Utopia with
// ECDSA on P-256 and SHA-256.
//
// CSCA signs certificates and CRLs, Signer the SOD, each by its scheme. Curve
// parameters are named unless told otherwise; 9303-12 4.4.2 asks for explicit
// ones, which many TLS libraries refuse.
type AuthorityOptions struct {
	CSCA, Signer Scheme
	Country      string     // "": UT
	State        string     // three letters; "": UTO
	Name         string     // of the CSCA; "": SPECIMEN CSCA
	CSCAValid    Period     // zero: sixteen years from a year ago
	SignerValid  Period     // zero: twelve years from a year ago
	Keys         *Authority // its keys are used where they fit the schemes; nil: keys are made

	EditCSCATBS, EditSignerTBS Edit // what is signed of a certificate, before it is signed
	EditCSCA, EditSigner       Edit // the whole certificate, after
	EditLinkTBS, EditLink      Edit // of Renew
}

const year = 365 * 24 * time.Hour

// NewAuthority makes keys and certificates of one algorithm with SHA-256, valid
// from a year ago for sixteen years (document signer: twelve), so that ten-year
// documents fit.
func NewAuthority(alg Algorithm) (*Authority, error) {
	return NewAuthorityWith(AuthorityOptions{CSCA: Scheme{Algorithm: alg}, Signer: Scheme{Algorithm: alg}})
}

// NewAuthorityWith makes keys and certificates to order.
func NewAuthorityWith(o AuthorityOptions) (*Authority, error) {
	var err error
	if o.CSCA, err = o.CSCA.filled(3072); err != nil {
		return nil, err
	}
	if o.Signer, err = o.Signer.filled(2048); err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	start := now.Add(-year)
	if o.Country == "" {
		o.Country = "UT"
	}
	if o.State == "" {
		o.State = "UTO"
	}
	if o.Name == "" {
		o.Name = "SPECIMEN CSCA"
	}
	if o.CSCAValid == (Period{}) {
		o.CSCAValid = Period{start, start.Add(16 * year)}
	}
	if o.SignerValid == (Period{}) {
		o.SignerValid = Period{start, start.Add(12 * year)}
	}
	var have []privateKey
	if o.Keys != nil {
		have = []privateKey{o.Keys.csca.key, o.Keys.signer.key}
	}
	take := func(i int, s Scheme) (privateKey, error) {
		if i < len(have) && have[i].fits(s) {
			return have[i], nil
		}
		return newPrivateKey(s)
	}
	o.Keys = nil
	a := &Authority{opts: o}
	root, err := take(0, o.CSCA)
	if err != nil {
		return nil, fmt.Errorf("make CSCA key: %w", err)
	}
	from := o.CSCAValid.From
	a.csca, err = certify(template{
		subject: name(o.Country, o.Name), valid: o.CSCAValid, key: root, scheme: o.CSCA,
		extensions: cscaExtensions(o.State, Period{from, from.Add(5 * year)}, false),
	}, certified{}, o.EditCSCATBS, o.EditCSCA)
	if err != nil {
		return nil, fmt.Errorf("make CSCA certificate: %w", err)
	}
	key, err := take(1, o.Signer)
	if err != nil {
		return nil, fmt.Errorf("make document signer key: %w", err)
	}
	a.signer, err = certify(a.signerTemplate(key, o.SignerValid), a.csca, o.EditSignerTBS, o.EditSigner)
	if err != nil {
		return nil, fmt.Errorf("make document signer certificate: %w", err)
	}
	return a, nil
}

// signerTemplate is a document signer's certificate; it signs for two years of its life.
func (a *Authority) signerTemplate(key privateKey, valid Period) template {
	return template{
		subject: name(a.opts.Country, "SPECIMEN Document Signer 1"), valid: valid, key: key, scheme: a.opts.Signer,
		extensions: signerExtensions(a.opts.State, Period{valid.From, valid.From.Add(2 * year)}),
	}
}

// CSCA is the certificate of the country signing CA, DER.
func (a *Authority) CSCA() []byte { return slices.Clone(a.csca.raw) }

// Signer is the certificate of the document signer, DER.
func (a *Authority) Signer() []byte { return slices.Clone(a.signer.raw) }

// Files of a saved authority.
const (
	fileCSCA      = "csca.pem"
	fileCSCAKey   = "csca-key.pem"
	fileSigner    = "signer.pem"
	fileSignerKey = "signer-key.pem"
)

// Save writes the authority into dir, which it makes if need be, as four PEM
// files. They do not say how the signer signs: it must sign as the CSCA does.
func (a *Authority) Save(dir string) error {
	if a.csca.scheme.Algorithm != a.signer.scheme.Algorithm || a.csca.scheme.Hash != a.signer.scheme.Hash {
		return errors.New("save authority: the signer signs otherwise than the CSCA")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save authority: %w", err)
	}
	for _, f := range []struct {
		cert, key string
		certified
	}{{fileCSCA, fileCSCAKey, a.csca}, {fileSigner, fileSignerKey, a.signer}} {
		der, err := f.certified.key.pkcs8()
		if err != nil {
			return fmt.Errorf("save authority: %w", err)
		}
		for name, block := range map[string]*pem.Block{
			f.cert: {Type: "CERTIFICATE", Bytes: f.raw},
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
	csca, root, err := load(dir, fileCSCA, fileCSCAKey)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	signer, leaf, err := load(dir, fileSigner, fileSignerKey)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	for _, f := range []fields{root, leaf} {
		scheme, ok := schemeOf(f.algorithm)
		if !ok || scheme.Algorithm.isRSA() != (csca.key.rsa != nil) {
			return nil, errors.New("load authority: signature algorithm is not one of ours")
		}
		if err := csca.key.verify(scheme, f.tbs, f.signature); err != nil {
			return nil, fmt.Errorf("load authority: check certificate: %w", err)
		}
		csca.scheme.Algorithm, csca.scheme.Hash = scheme.Algorithm, scheme.Hash
	}
	signer.scheme.Algorithm, signer.scheme.Hash = csca.scheme.Algorithm, csca.scheme.Hash
	if csca.scheme.Algorithm.isRSA() != (signer.key.rsa != nil) {
		return nil, errors.New("load authority: the signer's key is of another algorithm")
	}
	a := &Authority{csca: csca, signer: signer}
	a.opts = AuthorityOptions{CSCA: csca.scheme, Signer: signer.scheme}
	if a.opts.Country, a.opts.State, a.opts.Name, err = stateOf(csca.raw); err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	a.opts.CSCAValid = Period{now.Add(-year), now.Add(15 * year)}
	a.opts.SignerValid = Period{now.Add(-year), now.Add(11 * year)}
	return a, nil
}

func load(dir, certFile, keyFile string) (certified, fields, error) {
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
	c := certified{}
	var err error
	if c.raw, err = read(certFile, "CERTIFICATE"); err != nil {
		return certified{}, fields{}, err
	}
	f, err := certificateFields(c.raw)
	if err != nil {
		return certified{}, fields{}, fmt.Errorf("%s: %w", certFile, err)
	}
	der, err := read(keyFile, "PRIVATE KEY")
	if err != nil {
		return certified{}, fields{}, err
	}
	if c.key, err = parsePKCS8(der); err != nil {
		return certified{}, fields{}, fmt.Errorf("%s: %w", keyFile, err)
	}
	c.issuer, c.subject, c.serial, c.keyID = f.issuer, f.subject, f.serial, f.keyID
	if c.key.rsa != nil {
		c.scheme.Bits = c.key.rsa.N.BitLen()
	}
	c.scheme.Domain = c.key.domain
	for _, how := range []Parameters{Named, Explicit, Standardized} {
		if info, err := c.key.info(how); err == nil && bytes.Equal(info, f.key) {
			c.scheme.Parameters = how
			return c, f, nil
		}
	}
	return certified{}, fields{}, errors.New(keyFile + ": not the key of " + certFile)
}

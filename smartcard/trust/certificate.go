package trust

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// certificate is what passive authentication needs of an X.509 certificate. The
// standard library's parser refuses what Doc 9303-12 demands of ECDSA
// certificates: curves that are spelled out.
type certificate struct {
	raw, tbs        []byte
	algorithm       pkix.AlgorithmIdentifier
	signature       []byte
	serial          *big.Int
	issuer, subject distinguished
	notBefore       time.Time
	notAfter        time.Time
	longYears       bool // a time until 2049 is written as GeneralizedTime
	spki            []byte
	key             crypto.PublicKey
	keyErr          error // why key is nil
	onlyPSS         bool  // the key says that it makes no other signatures (RFC 4055 1.2)

	isCA            bool
	keyUsage        int // bits of the extension, 0 if absent
	usageCritical   bool
	extendedUsage   []asn1.ObjectIdentifier
	keyID           []byte
	authorityKeyID  []byte
	unknownCritical asn1.ObjectIdentifier
}

// Bits of keyUsage, RFC 5280 4.2.1.3.
const (
	digitalSignature = 1 << 0
	keyCertSign      = 1 << 5
	crlSign          = 1 << 6
)

var (
	oidSubjectKeyID   = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasic          = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtendedUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}

	// harmless extensions change nothing for passive authentication: private key
	// usage period, alternative names, policies, distribution points, and
	// ICAO's name change and document types.
	harmless = []asn1.ObjectIdentifier{
		{2, 5, 29, 16}, {2, 5, 29, 17}, {2, 5, 29, 18}, {2, 5, 29, 31}, {2, 5, 29, 32},
		{2, 23, 136, 1, 1, 6, 1}, {2, 23, 136, 1, 1, 6, 2},
	}
)

// decode reads one DER value strictly.
func decode(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("trailing bytes")
	}
	if err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return nil
}

func parseCertificate(der []byte) (*certificate, error) {
	c, err := readCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w: %w", ErrMalformed, err)
	}
	return c, nil
}

func readCertificate(der []byte) (*certificate, error) {
	outer, err := tlv.ParseOne(der, 0x30)
	if err != nil {
		return nil, err
	}
	top := outer.Cursor()
	body, algorithm, signature := top.Next(0x30), top.Next(0x30), top.Next(0x03)
	if err := top.Done(); err != nil {
		return nil, err
	}
	c := &certificate{raw: bytes.Clone(der), tbs: bytes.Clone(body.Raw)}
	var bits asn1.BitString
	if err := decode(algorithm.Raw, &c.algorithm); err != nil {
		return nil, err
	}
	if err := decode(signature.Raw, &bits); err != nil || bits.BitLength%8 != 0 {
		return nil, fmt.Errorf("signature: %w", ErrMalformed)
	}
	c.signature = bits.Bytes

	// TBSCertificate, RFC 5280 4.1
	tbs := body.Cursor()
	version := tbs.Next(0xA0)
	serial, inner := tbs.Next(0x02), tbs.Next(0x30)
	issuer, validity, subject, spki := tbs.Next(0x30), tbs.Next(0x30), tbs.Next(0x30), tbs.Next(0x30)
	tbs.Optional(0x81)
	tbs.Optional(0x82)
	extensions, _ := tbs.Optional(0xA3)
	if err := tbs.Done(); err != nil {
		return nil, err
	}
	if !bytes.Equal(inner.Raw, algorithm.Raw) {
		return nil, fmt.Errorf("signature algorithm is stated in two ways")
	}
	if !bytes.Equal(version.Value, []byte{0x02, 1, 2}) {
		return nil, fmt.Errorf("version is not 3")
	}
	if err := decode(serial.Raw, &c.serial); err != nil {
		return nil, err
	}
	c.issuer, c.subject = newName(issuer.Raw), newName(subject.Raw)
	period := validity.Cursor()
	from, to := period.Any(), period.Any()
	if err := period.Done(); err != nil {
		return nil, err
	}
	if err := decode(from.Raw, &c.notBefore); err != nil {
		return nil, err
	}
	if err := decode(to.Raw, &c.notAfter); err != nil {
		return nil, err
	}
	const generalized = 0x18
	c.longYears = from.Tag == generalized && c.notBefore.Year() < 2050 || to.Tag == generalized && c.notAfter.Year() < 2050
	c.spki = bytes.Clone(spki.Raw)
	c.key, c.keyErr = lds.ParsePublicKey(c.spki)
	var keyAlgorithm asn1.ObjectIdentifier
	if err := decode(spki.Cursor().Next(0x30).Cursor().Next(0x06).Raw, &keyAlgorithm); err != nil {
		return nil, err
	}
	c.onlyPSS = keyAlgorithm.Equal(oidPSS)
	if extensions.Raw != nil {
		list := extensions.Cursor()
		sequence := list.Next(0x30)
		if err := list.Done(); err != nil {
			return nil, err
		}
		nodes, err := sequence.Children()
		if err != nil {
			return nil, err
		}
		if err := c.readExtensions(nodes); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *certificate) readExtensions(nodes []tlv.Node) error {
	seen := make(map[string]bool)
	for _, n := range nodes {
		e, err := readExtension(n)
		if err != nil {
			return err
		}
		if seen[e.Id.String()] {
			return fmt.Errorf("extension %v twice", e.Id)
		}
		seen[e.Id.String()] = true
		switch {
		case e.Id.Equal(oidBasic):
			basic, err := tlv.ParseOne(e.Value, 0x30)
			if err != nil {
				return err
			}
			b := basic.Cursor()
			ca, _ := b.Optional(boolean)
			b.Optional(0x02) // path length
			if err := b.Done(); err != nil {
				return err
			}
			c.isCA = isTrue(ca)
		case e.Id.Equal(oidKeyUsage):
			var bits asn1.BitString
			if err := decode(e.Value, &bits); err != nil {
				return err
			}
			c.usageCritical = e.Critical
			for i := range min(bits.BitLength, 9) {
				c.keyUsage |= bits.At(i) << i
			}
		case e.Id.Equal(oidSubjectKeyID):
			if err := decode(e.Value, &c.keyID); err != nil {
				return err
			}
		case e.Id.Equal(oidAuthorityKeyID):
			var a struct {
				KeyID asn1.RawValue `asn1:"optional,tag:0"`
			}
			if _, err := asn1.Unmarshal(e.Value, &a); err != nil { // issuer and serial may follow
				return err
			}
			c.authorityKeyID = bytes.Clone(a.KeyID.Bytes)
		case e.Id.Equal(oidExtendedUsage):
			if err := decode(e.Value, &c.extendedUsage); err != nil {
				return err
			}
		default:
			known := false
			for _, oid := range harmless {
				known = known || e.Id.Equal(oid)
			}
			if e.Critical && !known {
				c.unknownCritical = e.Id
			}
		}
	}
	return nil
}

// country is the state that the certificate names, in upper case.
func (c *certificate) country() string { return c.subject.country() }

// verify checks a signature that the certificate's key made. digest is as in
// checkSignature.
func (c *certificate) verify(algorithm pkix.AlgorithmIdentifier, digest crypto.Hash, message, signature []byte) (crypto.Hash, error) {
	if c.keyErr != nil {
		return 0, unsupported(c.keyErr)
	}
	if c.onlyPSS && !algorithm.Algorithm.Equal(oidPSS) {
		return 0, fmt.Errorf("%w: the key is for RSASSA-PSS only", ErrSignature)
	}
	return checkSignature(c.key, algorithm, digest, message, signature)
}

func (c *certificate) thumbprint() string { return thumbprint(c.raw) }

func (c *certificate) validAt(t time.Time) bool {
	return !t.Before(c.notBefore) && !t.After(c.notAfter)
}

// boolean is the tag of BOOLEAN. A state writes true as 01, which is not DER.
const boolean = tlv.Tag(0x01)

func isTrue(n tlv.Node) bool { return len(n.Value) == 1 && n.Value[0] != 0 }

// readExtension reads Extension (RFC 5280 4.1).
func readExtension(n tlv.Node) (e pkix.Extension, err error) {
	c := n.Cursor()
	id := c.Next(0x06)
	critical, _ := c.Optional(boolean)
	value := c.Next(0x04)
	if err := c.Done(); err != nil {
		return e, err
	}
	e.Critical, e.Value = isTrue(critical), value.Value
	return e, decode(id.Raw, &e.Id)
}

// checkSigner holds the certificate of a signer to the profile of Doc 9303-12
// 7.1 table 6, as far as it is meant to protect the reader.
func (c *certificate) checkSigner() error {
	switch {
	case c.isCA:
		return fmt.Errorf("%w: an authority's", ErrCertificate)
	case c.keyUsage&digitalSignature == 0 || !c.usageCritical:
		return fmt.Errorf("%w: key usage", ErrCertificate)
	case len(c.authorityKeyID) == 0:
		return fmt.Errorf("%w: no authority key identifier", ErrCertificate)
	case c.longYears:
		return fmt.Errorf("%w: form of its validity", ErrCertificate)
	case c.unknownCritical != nil:
		return fmt.Errorf("%w: critical extension %v", ErrCertificate, c.unknownCritical)
	}
	if _, err := c.issuer.check(); err != nil {
		return fmt.Errorf("%w: issuer's name: %v", ErrCertificate, err)
	}
	return nil
}

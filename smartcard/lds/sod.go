package lds

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"

	"enrollkiosk/smartcard/tlv"
)

// SOD is EF.SOD taken apart (Doc 9303-10 4.6.2, RFC 5652): nothing in it is
// verified yet.
type SOD struct {
	Version        int // of the LDS security object: 0 or 1
	Digest         crypto.Hash
	Hashes         map[File][]byte // data group hashes under Digest
	LDSVersion     string          // "0108"; version 1 only
	UnicodeVersion string

	ContentType  asn1.ObjectIdentifier
	Content      []byte   // LDSSecurityObject, DER: what the signature speaks of
	Certificates [][]byte // DER, in the card's order
	Signer       Signer
}

// Signer is the one SignerInfo of an SOD.
type Signer struct {
	Issuer             []byte   // Name, DER; with Serial
	Serial             *big.Int // nil when KeyID is set
	KeyID              []byte   // subject key identifier
	Digest             pkix.AlgorithmIdentifier
	Attributes         []byte // signed attributes as they were signed: SET OF, DER
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
}

// Object identifiers of the security object.
var (
	OIDSecurityObject = asn1.ObjectIdentifier{2, 23, 136, 1, 1, 1}
	oidSignedData     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
)

// DigestAlgorithm finds the hash that an object identifier names: SHA-1 and
// SHA-2.
func DigestAlgorithm(oid asn1.ObjectIdentifier) (crypto.Hash, bool) {
	h, ok := digestAlgorithms[oid.String()]
	return h, ok
}

var digestAlgorithms = map[string]crypto.Hash{
	"1.3.14.3.2.26":          crypto.SHA1,
	"2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"2.16.840.1.101.3.4.2.3": crypto.SHA512,
	"2.16.840.1.101.3.4.2.4": crypto.SHA224,
}

// maxCertificates bounds the certificates of one SOD.
const maxCertificates = 8

// ParseSOD reads EF.SOD. It fails with ErrIndefinite for BER of indefinite
// length.
func ParseSOD(file []byte) (SOD, error) {
	sod, err := parseSOD(file)
	if err != nil {
		return SOD{}, malformed("EF.SOD", err)
	}
	return sod, nil
}

func parseSOD(file []byte) (sod SOD, err error) {
	outer, err := tlv.ParseOne(file, EFSOD.Tag())
	if err != nil {
		return sod, err
	}
	// ContentInfo ::= SEQUENCE { contentType, content [0] EXPLICIT }
	c := outer.Cursor()
	contentInfo := c.Next(0x30)
	if err := c.Done(); err != nil {
		return sod, err
	}
	c = contentInfo.Cursor()
	var oid asn1.ObjectIdentifier
	if err := primitive(c.Next(0x06), &oid); err != nil {
		return sod, err
	}
	if !oid.Equal(oidSignedData) {
		return sod, fmt.Errorf("%w: content type %v", ErrUnsupported, oid)
	}
	explicit := c.Next(0xA0)
	if err := c.Done(); err != nil {
		return sod, err
	}
	c = explicit.Cursor()
	signedData := c.Next(0x30)
	if err := c.Done(); err != nil {
		return sod, err
	}

	// SignedData, RFC 5652 5.1
	c = signedData.Cursor()
	var version int
	if err := smallInt(c.Next(0x02), &version); err != nil {
		return sod, err
	}
	c.Next(0x31) // digestAlgorithms: a hint for readers in one pass, signed by nobody
	content := c.Next(0x30)
	certificates, _ := c.Optional(0xA0)
	c.Optional(0xA1) // crls: those of the document itself are of no use
	signers := c.Next(0x31)
	if err := c.Done(); err != nil {
		return sod, err
	}
	if version != 1 && version != 3 && version != 4 && version != 5 {
		return sod, fmt.Errorf("%w: SignedData version %d", ErrUnsupported, version)
	}
	if err := sod.parseContent(content); err != nil {
		return sod, err
	}
	if certificates.Raw != nil {
		nodes, err := certificates.Children()
		if err != nil {
			return sod, err
		}
		if len(nodes) > maxCertificates {
			return sod, fmt.Errorf("%w: %d certificates", ErrMalformed, len(nodes))
		}
		for _, n := range nodes {
			if n.Tag != 0x30 {
				return sod, fmt.Errorf("%w: certificate of another format", ErrUnsupported)
			}
			sod.Certificates = append(sod.Certificates, bytes.Clone(n.Raw))
		}
	}
	infos, err := signers.Children()
	if err != nil {
		return sod, err
	}
	if len(infos) != 1 || infos[0].Tag != 0x30 {
		return sod, fmt.Errorf("%w: %d signers", ErrUnsupported, len(infos))
	}
	sod.Signer, err = parseSigner(infos[0])
	return sod, err
}

// parseContent reads EncapsulatedContentInfo (RFC 5652 5.2) and the
// LDSSecurityObject in it (Doc 9303-10 4.6.2.2).
func (s *SOD) parseContent(n tlv.Node) error {
	c := n.Cursor()
	if err := primitive(c.Next(0x06), &s.ContentType); err != nil {
		return err
	}
	explicit := c.Next(0xA0)
	if err := c.Done(); err != nil {
		return err
	}
	c = explicit.Cursor()
	s.Content = bytes.Clone(c.Next(0x04).Value)
	if err := c.Done(); err != nil {
		return err
	}
	if !s.ContentType.Equal(OIDSecurityObject) {
		return fmt.Errorf("%w: content type %v", ErrUnsupported, s.ContentType)
	}

	object, err := tlv.ParseOne(s.Content, 0x30)
	if err != nil {
		return err
	}
	c = object.Cursor()
	if err := smallInt(c.Next(0x02), &s.Version); err != nil {
		return err
	}
	algorithm, err := parseAlgorithm(c.Next(0x30))
	if err != nil {
		return err
	}
	hashes := c.Next(0x30)
	switch s.Version {
	case 0:
	case 1:
		info := c.Next(0x30).Cursor()
		s.LDSVersion, s.UnicodeVersion = string(info.Next(0x13).Value), string(info.Next(0x13).Value)
		if err := info.Done(); err != nil {
			return err
		}
		if !digits(s.LDSVersion, 4) || !digits(s.UnicodeVersion, 6) {
			return fmt.Errorf("%w: LDS version", ErrMalformed)
		}
	default:
		return fmt.Errorf("%w: security object version %d", ErrUnsupported, s.Version)
	}
	if err := c.Done(); err != nil {
		return err
	}
	var ok bool
	if s.Digest, ok = DigestAlgorithm(algorithm.Algorithm); !ok {
		return fmt.Errorf("%w: digest %v", ErrUnsupported, algorithm.Algorithm)
	}
	groups, err := hashes.Children()
	if err != nil {
		return err
	}
	s.Hashes = make(map[File][]byte)
	for _, g := range groups {
		if g.Tag != 0x30 {
			return fmt.Errorf("%w: data group hash", ErrMalformed)
		}
		c := g.Cursor()
		var number int
		if err := smallInt(c.Next(0x02), &number); err != nil {
			return err
		}
		hash := c.Next(0x04).Value
		if err := c.Done(); err != nil {
			return err
		}
		file, ok := DataGroup(number)
		if _, twice := s.Hashes[file]; !ok || twice || len(hash) != s.Digest.Size() {
			return fmt.Errorf("%w: hash of data group %d", ErrMalformed, number)
		}
		s.Hashes[file] = bytes.Clone(hash)
	}
	return nil
}

// parseSigner reads SignerInfo (RFC 5652 5.3).
func parseSigner(n tlv.Node) (s Signer, err error) {
	c := n.Cursor()
	var version int
	if err := smallInt(c.Next(0x02), &version); err != nil {
		return s, err
	}
	if keyID, ok := c.Optional(0x80); ok {
		s.KeyID = bytes.Clone(keyID.Value)
	} else {
		id := c.Next(0x30).Cursor()
		s.Issuer = bytes.Clone(id.Next(0x30).Raw)
		if err := errorsFirst(primitive(id.Next(0x02), &s.Serial), id.Done()); err != nil {
			return s, err
		}
	}
	if version != 1 && version != 3 {
		return s, fmt.Errorf("%w: SignerInfo version %d", ErrUnsupported, version)
	}
	if s.Digest, err = parseAlgorithm(c.Next(0x30)); err != nil {
		return s, err
	}
	attributes := c.Next(0xA0)
	if s.SignatureAlgorithm, err = parseAlgorithm(c.Next(0x30)); err != nil {
		return s, err
	}
	s.Signature = bytes.Clone(c.Next(0x04).Value)
	c.Optional(0xA1) // unsigned attributes
	if err := c.Done(); err != nil {
		return s, err
	}
	s.Attributes = bytes.Clone(attributes.Raw)
	s.Attributes[0] = 0x31 // signed as SET OF, stored as [0] IMPLICIT (RFC 5652 5.4)
	return s, nil
}

// parseAlgorithm reads AlgorithmIdentifier ::= SEQUENCE { algorithm OID, parameters ANY OPTIONAL }.
func parseAlgorithm(n tlv.Node) (a pkix.AlgorithmIdentifier, err error) {
	if n.Tag != 0x30 {
		return a, fmt.Errorf("%w: algorithm identifier", ErrMalformed)
	}
	c := n.Cursor()
	if err := primitive(c.Next(0x06), &a.Algorithm); err != nil {
		return a, err
	}
	if c.More() {
		parameters := c.Any()
		if err := primitive(parameters, &a.Parameters); err != nil {
			return a, err
		}
	}
	a.Parameters.FullBytes = bytes.Clone(a.Parameters.FullBytes)
	a.Parameters.Bytes = bytes.Clone(a.Parameters.Bytes)
	return a, c.Done()
}

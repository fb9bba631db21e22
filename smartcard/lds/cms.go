package lds

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/smartcard/tlv"
)

// SignedData is a CMS SignedData (RFC 5652 5) of one signer, as EF.SOD,
// EF.CardSecurity and master lists are: nothing in it is verified yet.
type SignedData struct {
	ContentType  asn1.ObjectIdentifier
	Content      []byte   // the octets that the signature speaks of
	Certificates [][]byte // DER, in the object's order
	Signer       Signer
}

// Signer is the SignerInfo (RFC 5652 5.3).
type Signer struct {
	Issuer             []byte   // Name, DER; with Serial
	Serial             *big.Int // nil when KeyID is set
	KeyID              []byte   // subject key identifier
	Digest             pkix.AlgorithmIdentifier
	Attributes         []byte // signed attributes as they were signed: SET OF, DER
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
}

var (
	oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
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

// Bounds of one object.
const (
	maxCertificates = 8
	maxAttributes   = 16
)

// parseSignedData reads a ContentInfo that toDER has seen. The version numbers
// and algorithm lists, which nobody signs, must be what RFC 5652 5.1 and Doc
// 9303-10 table 37 want of them.
func parseSignedData(contentInfo tlv.Node) (s SignedData, err error) {
	c := contentInfo.Cursor()
	var oid asn1.ObjectIdentifier
	if err := primitive(c.Next(0x06), &oid); err != nil {
		return s, err
	}
	if !oid.Equal(oidSignedData) {
		return s, fmt.Errorf("%w: content type %v", ErrUnsupported, oid)
	}
	explicit := c.Next(0xA0)
	if err := c.Done(); err != nil {
		return s, err
	}
	c = explicit.Cursor()
	signedData := c.Next(0x30)
	if err := c.Done(); err != nil {
		return s, err
	}

	c = signedData.Cursor()
	var version int
	if err := smallInt(c.Next(0x02), &version); err != nil {
		return s, err
	}
	digests, content := c.Next(0x31), c.Next(0x30)
	certificates, _ := c.Optional(0xA0)
	c.Optional(0xA1) // crls: those that an object brings along are of no use
	signers := c.Next(0x31)
	if err := c.Done(); err != nil {
		return s, err
	}
	if err := parseDigests(digests); err != nil {
		return s, err
	}
	c = content.Cursor()
	if err := primitive(c.Next(0x06), &s.ContentType); err != nil {
		return s, err
	}
	explicit = c.Next(0xA0)
	if err := c.Done(); err != nil {
		return s, err
	}
	c = explicit.Cursor()
	s.Content = bytes.Clone(c.Next(octets).Value)
	if err := c.Done(); err != nil {
		return s, err
	}
	if s.Certificates, err = parseCertificates(certificates); err != nil {
		return s, err
	}
	infos, err := signers.Children()
	if err != nil {
		return s, err
	}
	if len(infos) != 1 || infos[0].Tag != 0x30 {
		return s, fmt.Errorf("%w: %d signers", ErrUnsupported, len(infos))
	}
	if s.Signer, err = parseSigner(infos[0]); err != nil {
		return s, err
	}
	if plain := s.ContentType.Equal(oidData) && s.Signer.KeyID == nil; version != 3 && !(plain && version == 1) {
		return s, fmt.Errorf("%w: SignedData version %d", ErrUnsupported, version)
	}
	return s, nil
}

// parseDigests wants digestAlgorithms, a hint for readers in one pass, to name
// allowed ones only.
func parseDigests(set tlv.Node) error {
	nodes, err := set.Children()
	if err != nil {
		return err
	}
	if len(nodes) == 0 || len(nodes) > maxCertificates {
		return fmt.Errorf("%w: %d digest algorithms", ErrMalformed, len(nodes))
	}
	for _, n := range nodes {
		a, err := parseAlgorithm(n)
		if err != nil {
			return err
		}
		if _, ok := DigestAlgorithm(a.Algorithm); !ok {
			return fmt.Errorf("%w: digest %v", ErrUnsupported, a.Algorithm)
		}
	}
	return nil
}

func parseCertificates(set tlv.Node) ([][]byte, error) {
	if set.Raw == nil {
		return nil, nil
	}
	nodes, err := set.Children()
	if err != nil {
		return nil, err
	}
	if len(nodes) > maxCertificates {
		return nil, fmt.Errorf("%w: %d certificates", ErrMalformed, len(nodes))
	}
	var list [][]byte
	for _, n := range nodes {
		if n.Tag != 0x30 {
			return nil, fmt.Errorf("%w: certificate of another format", ErrUnsupported)
		}
		list = append(list, bytes.Clone(n.Raw))
	}
	return list, nil
}

// parseSigner reads SignerInfo. Its version follows from how it names the
// signer.
func parseSigner(n tlv.Node) (s Signer, err error) {
	c := n.Cursor()
	var version int
	if err := smallInt(c.Next(0x02), &version); err != nil {
		return s, err
	}
	want := 3
	if keyID, ok := c.Optional(0x80); ok {
		s.KeyID = bytes.Clone(keyID.Value)
	} else {
		want = 1
		id := c.Next(0x30).Cursor()
		s.Issuer = bytes.Clone(id.Next(0x30).Raw)
		if err := errorsFirst(primitive(id.Next(0x02), &s.Serial), id.Done()); err != nil {
			return s, err
		}
	}
	if version != want || s.Serial == nil && len(s.KeyID) == 0 {
		return s, fmt.Errorf("%w: SignerInfo version %d", ErrUnsupported, version)
	}
	if s.Digest, err = parseAlgorithm(c.Next(0x30)); err != nil {
		return s, err
	}
	attributes := c.Next(0xA0)
	if s.SignatureAlgorithm, err = parseAlgorithm(c.Next(0x30)); err != nil {
		return s, err
	}
	s.Signature = bytes.Clone(c.Next(octets).Value)
	c.Optional(0xA1) // unsigned attributes
	if err := c.Done(); err != nil {
		return s, err
	}
	// Stored as [0] IMPLICIT, signed as SET OF in DER (RFC 5652 5.4).
	if list, err := attributes.Children(); err != nil || len(list) > maxAttributes {
		return s, fmt.Errorf("%w: signed attributes", ErrMalformed)
	}
	s.Attributes, err = canonical(tlv.Node{Tag: 0x31, Value: attributes.Value})
	return s, err
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
	a.Parameters.FullBytes = slices.Clone(a.Parameters.FullBytes)
	a.Parameters.Bytes = slices.Clone(a.Parameters.Bytes)
	return a, c.Done()
}

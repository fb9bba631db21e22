package lds

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/tlv"
)

// AgreementKey is a chip's static public key for key agreement (Doc 9303-11
// 9.2.6): of Chip Authentication, or of PACE with Chip Authentication Mapping.
type AgreementKey struct {
	Group  domain.Group
	Public domain.Element
}

// ParseDG15 reads the Active Authentication key: *rsa.PublicKey or
// *ecdsa.PublicKey.
func ParseDG15(file []byte) (crypto.PublicKey, error) {
	outer, err := tlv.ParseOne(file, DG15.Tag())
	if err != nil {
		return nil, malformed("DG15", err)
	}
	key, err := ParsePublicKey(outer.Value)
	if err != nil {
		return nil, malformed("DG15", err)
	}
	return key, nil
}

var (
	oidRSA          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidEC           = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidECDH         = asn1.ObjectIdentifier{1, 3, 132, 1, 12}
	oidStandardized = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 2} // BSI TR-03110-3 A.2.1.1
	oidPrimeField   = asn1.ObjectIdentifier{1, 2, 840, 10045, 1, 1}
	oidDHPublic     = asn1.ObjectIdentifier{1, 2, 840, 10046, 2, 1}     // X9.42, RFC 3279 2.3.3
	oidDHAgreement  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 3, 1} // PKCS #3
)

// maxModulus bounds RSA keys, so that no card can buy minutes of arithmetic.
const maxModulus = 8192

// subjectKey is a SubjectPublicKeyInfo taken apart (RFC 5280 4.1).
type subjectKey struct {
	algorithm  asn1.ObjectIdentifier
	parameters tlv.Node // zero if absent
	bits       []byte
}

func parseSubjectKey(spki []byte) (k subjectKey, err error) {
	outer, err := tlv.ParseOne(spki, 0x30)
	if err != nil {
		return k, err
	}
	c := outer.Cursor()
	algorithm := c.Next(0x30)
	bits := c.Next(0x03)
	if err := c.Done(); err != nil {
		return k, err
	}
	var key asn1.BitString
	if err := primitive(bits, &key); err != nil || key.BitLength%8 != 0 {
		return k, fmt.Errorf("%w: bit string", ErrMalformed)
	}
	k.bits = key.Bytes
	c = algorithm.Cursor()
	if err := primitive(c.Next(0x06), &k.algorithm); err != nil {
		return k, err
	}
	if c.More() {
		k.parameters = c.Any()
	}
	return k, c.Done()
}

// ParsePublicKey reads a SubjectPublicKeyInfo that verifies signatures: RSA, or
// ECDSA on every curve of package domain, which is named, numbered (Doc 9303-11
// 9.5.1) or spelled out (Doc 9303-12 has certificates do so), with an
// uncompressed point (TR-03111 3.2.1). It fails with ErrUnsupported for other
// algorithms and curves.
func ParsePublicKey(spki []byte) (crypto.PublicKey, error) {
	key, err := parsePublicKey(spki)
	if err != nil {
		return nil, malformed("public key", err)
	}
	return key, nil
}

func parsePublicKey(spki []byte) (crypto.PublicKey, error) {
	k, err := parseSubjectKey(spki)
	if err != nil {
		return nil, err
	}
	switch {
	case k.algorithm.Equal(oidRSA), k.algorithm.Equal(oidRSAPSS):
		return parseRSA(k.bits)
	case k.elliptic():
		curve, point, err := k.point()
		if err != nil {
			return nil, err
		}
		size := (len(point) - 1) / 2
		//lint:ignore SA1019 the library has no other way to keys on other curves than its own
		return &ecdsa.PublicKey{Curve: curve, X: new(big.Int).SetBytes(point[1 : 1+size]), Y: new(big.Int).SetBytes(point[1+size:])}, nil
	}
	return nil, fmt.Errorf("%w: algorithm %v", ErrUnsupported, k.algorithm)
}

func parseRSA(bits []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKCS1PublicKey(bits)
	if err != nil {
		return nil, err
	}
	if key.N.BitLen() > maxModulus || key.N.Bit(0) == 0 || key.E < 3 || key.E%2 == 0 {
		return nil, fmt.Errorf("%w: RSA key", ErrUnsupported)
	}
	return key, nil
}

// ParseAgreementKey reads a SubjectPublicKeyInfo for key agreement: over a
// curve, as ParsePublicKey does, or in a finite field. PKCS #3 states no order
// of the generator, without which no element can be checked: such parameters
// are taken when they are those of a standardized group.
func ParseAgreementKey(spki []byte) (AgreementKey, error) {
	key, err := parseAgreementKey(spki)
	if err != nil {
		return AgreementKey{}, malformed("key agreement key", err)
	}
	return key, nil
}

func parseAgreementKey(spki []byte) (key AgreementKey, err error) {
	k, err := parseSubjectKey(spki)
	if err != nil {
		return key, err
	}
	finite := false
	switch {
	case k.algorithm.Equal(oidDHPublic), k.algorithm.Equal(oidDHAgreement):
		key.Group, err = k.field()
		finite = true
	case k.algorithm.Equal(oidStandardized):
		var id int
		if err := smallInt(k.parameters, &id); err != nil {
			return key, err
		}
		var ok bool
		if key.Group, ok = domain.Standardized(id); !ok {
			return key, fmt.Errorf("%w: domain parameters %d", ErrUnsupported, id)
		}
		finite = !key.Group.Elliptic()
	case k.elliptic():
		curve, _, err := k.point()
		if err != nil {
			return key, err
		}
		key.Group, _ = domain.OfCurve(curve)
	default:
		return key, fmt.Errorf("%w: algorithm %v", ErrUnsupported, k.algorithm)
	}
	if err != nil {
		return key, err
	}
	public := k.bits
	if finite {
		var y *big.Int
		if rest, err := asn1.Unmarshal(k.bits, &y); err != nil || len(rest) != 0 || y.Sign() <= 0 {
			return key, fmt.Errorf("%w: Diffie-Hellman public key", ErrMalformed)
		}
		public = y.Bytes()
	}
	if key.Public, err = key.Group.Parse(public); err != nil {
		return key, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return key, nil
}

// field reads the domain parameters of X9.42 (p, g, q and what validates them)
// or of PKCS #3 (p, g and perhaps a length).
func (k subjectKey) field() (domain.Group, error) {
	c := k.parameters.Cursor()
	var p, g, q *big.Int
	if err := errorsFirst(primitive(c.Next(0x02), &p), primitive(c.Next(0x02), &g)); err != nil {
		return nil, err
	}
	if k.algorithm.Equal(oidDHAgreement) {
		c.Optional(0x02)
		if err := c.Done(); err != nil {
			return nil, err
		}
		for _, id := range domain.IDs() {
			standard, _ := domain.Standardized(id)
			if standard.Elliptic() {
				break
			}
			if group, err := domain.FiniteField(p, standard.Order(), g); err == nil && group == standard {
				return group, nil
			}
		}
		return nil, fmt.Errorf("%w: Diffie-Hellman parameters without the order", ErrUnsupported)
	}
	if err := primitive(c.Next(0x02), &q); err != nil {
		return nil, err
	}
	c.Optional(0x02) // cofactor
	c.Optional(0x30) // seed and counter
	if err := c.Done(); err != nil {
		return nil, err
	}
	group, err := domain.FiniteField(p, q, g)
	if errors.Is(err, domain.ErrParameters) {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return group, err
}

func (k subjectKey) elliptic() bool {
	return k.algorithm.Equal(oidEC) || k.algorithm.Equal(oidECDH) || k.algorithm.Equal(oidStandardized)
}

// point finds the curve and checks that the key lies on it.
func (k subjectKey) point() (elliptic.Curve, []byte, error) {
	curve, err := parseCurve(k.parameters)
	if err != nil {
		return nil, nil, err
	}
	if len(k.bits) > 0 && (k.bits[0] == 2 || k.bits[0] == 3) {
		return nil, nil, fmt.Errorf("%w: compressed point", ErrUnsupported)
	}
	group, _ := domain.OfCurve(curve)
	if _, err := group.Parse(k.bits); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return curve, k.bits, nil
}

func parseCurve(parameters tlv.Node) (elliptic.Curve, error) {
	switch parameters.Tag {
	case 0x06:
		var oid asn1.ObjectIdentifier
		if err := primitive(parameters, &oid); err != nil {
			return nil, err
		}
		if curve, _, ok := domain.NamedCurve(oid); ok {
			return curve, nil
		}
	case 0x02:
		var id int
		if err := smallInt(parameters, &id); err != nil {
			return nil, err
		}
		if curve, ok := domain.Curve(id); ok {
			return curve, nil
		}
	case 0x30:
		return parseExplicitCurve(parameters)
	}
	return nil, fmt.Errorf("%w: curve", ErrUnsupported)
}

// parseExplicitCurve reads ECParameters (RFC 3279 2.3.5) and finds the curve
// they spell out.
func parseExplicitCurve(parameters tlv.Node) (elliptic.Curve, error) {
	c := parameters.Cursor()
	var version int
	var prime, order, cofactor *big.Int
	var oid asn1.ObjectIdentifier
	err := smallInt(c.Next(0x02), &version)
	field, coefficients, base, orderNode := c.Next(0x30), c.Next(0x30), c.Next(0x04).Value, c.Next(0x02)
	err = errorsFirst(err, primitive(orderNode, &order), optionalInt(c, &cofactor), c.Done())
	if err != nil {
		return nil, err
	}
	c = field.Cursor()
	if err := primitive(c.Next(0x06), &oid); err != nil {
		return nil, err
	}
	if !oid.Equal(oidPrimeField) {
		return nil, fmt.Errorf("%w: field %v", ErrUnsupported, oid)
	}
	if err := errorsFirst(primitive(c.Next(0x02), &prime), c.Done()); err != nil {
		return nil, err
	}
	c = coefficients.Cursor()
	a, b := new(big.Int).SetBytes(c.Next(0x04).Value), new(big.Int).SetBytes(c.Next(0x04).Value)
	c.Optional(0x03) // seed
	if err := c.Done(); err != nil {
		return nil, err
	}
	if curve, _, ok := domain.ExplicitCurve(prime, a, b, base, order, cofactor); ok {
		return curve, nil
	}
	return nil, fmt.Errorf("%w: explicit curve", ErrUnsupported)
}

package lds

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/smartcard/tlv"
)

// ParseDG15 reads the Active Authentication key: *rsa.PublicKey, or
// *ecdsa.PublicKey on a NIST curve.
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
	oidEC           = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidECDH         = asn1.ObjectIdentifier{1, 3, 132, 1, 12}
	oidStandardized = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 2} // BSI TR-03110-3 A.2.1.1
	oidPrimeField   = asn1.ObjectIdentifier{1, 2, 840, 10045, 1, 1}
	namedCurves     = map[string]elliptic.Curve{
		"1.3.132.0.33":        elliptic.P224(),
		"1.2.840.10045.3.1.7": elliptic.P256(),
		"1.3.132.0.34":        elliptic.P384(),
		"1.3.132.0.35":        elliptic.P521(),
	}
	// Doc 9303-11 table 10.
	standardizedCurves = map[int]elliptic.Curve{10: elliptic.P224(), 12: elliptic.P256(), 15: elliptic.P384(), 18: elliptic.P521()}
)

// maxModulus bounds RSA keys, so that no card can buy minutes of arithmetic.
const maxModulus = 8192

// ParsePublicKey reads a SubjectPublicKeyInfo as documents carry it: RSA, or
// ECDSA and ECDH on NIST curves that are named, numbered (Doc 9303-11 9.5.1) or
// spelled out (Doc 9303-12 4.1.6.3 has them so). It fails with ErrUnsupported
// for other algorithms and curves.
func ParsePublicKey(spki []byte) (crypto.PublicKey, error) {
	outer, err := tlv.ParseOne(spki, 0x30)
	if err != nil {
		return nil, malformed("public key", err)
	}
	c := outer.Cursor()
	algorithm := c.Next(0x30)
	bits := c.Next(0x03)
	if err := c.Done(); err != nil {
		return nil, malformed("public key", err)
	}
	var key asn1.BitString
	if err := primitive(bits, &key); err != nil || key.BitLength%8 != 0 {
		return nil, malformed("public key", ErrMalformed)
	}
	c = algorithm.Cursor()
	var oid asn1.ObjectIdentifier
	if err := primitive(c.Next(0x06), &oid); err != nil {
		return nil, malformed("public key", err)
	}
	switch {
	case oid.Equal(oidRSA):
		key, err := x509.ParsePKCS1PublicKey(key.Bytes)
		if err != nil {
			return nil, malformed("public key", err)
		}
		if key.N.BitLen() > maxModulus || key.N.Bit(0) == 0 || key.E < 3 || key.E%2 == 0 {
			return nil, malformed("public key", fmt.Errorf("%w: RSA key", ErrUnsupported))
		}
		return key, nil
	case oid.Equal(oidEC), oid.Equal(oidECDH), oid.Equal(oidStandardized):
		parameters := c.Any()
		if err := c.Done(); err != nil {
			return nil, malformed("public key", err)
		}
		curve, err := parseCurve(parameters)
		if err != nil {
			return nil, malformed("public key", err)
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, key.Bytes)
		if err != nil {
			return nil, malformed("public key", err)
		}
		return key, nil
	}
	return nil, malformed("public key", fmt.Errorf("%w: algorithm %v", ErrUnsupported, oid))
}

func parseCurve(parameters tlv.Node) (elliptic.Curve, error) {
	var curve elliptic.Curve
	switch parameters.Tag {
	case 0x06:
		var oid asn1.ObjectIdentifier
		if err := primitive(parameters, &oid); err != nil {
			return nil, err
		}
		curve = namedCurves[oid.String()]
	case 0x02:
		var id int
		if err := smallInt(parameters, &id); err != nil {
			return nil, err
		}
		curve = standardizedCurves[id]
	case 0x30:
		return parseExplicitCurve(parameters)
	}
	if curve == nil {
		return nil, fmt.Errorf("%w: curve", ErrUnsupported)
	}
	return curve, nil
}

// parseExplicitCurve reads ECParameters (RFC 3279 2.3.5) and finds the curve
// they spell out. Every parameter counts, the base point too: with one of its
// own choosing an attacker has a private key for any public key (CVE-2020-0601).
func parseExplicitCurve(parameters tlv.Node) (elliptic.Curve, error) {
	c := parameters.Cursor()
	var version int
	var prime, order *big.Int
	var oid asn1.ObjectIdentifier
	err := smallInt(c.Next(0x02), &version)
	field, coefficients, base, orderNode := c.Next(0x30), c.Next(0x30), c.Next(0x04).Value, c.Next(0x02)
	cofactor := big.NewInt(1)
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
	for _, curve := range namedCurves {
		p := curve.Params()
		if prime.Cmp(p.P) != 0 {
			continue
		}
		size := (p.BitSize + 7) / 8
		x, y := p.Gx.FillBytes(make([]byte, size)), p.Gy.FillBytes(make([]byte, size))
		full := slices.Concat([]byte{4}, x, y)
		short := slices.Concat([]byte{2 + byte(p.Gy.Bit(0))}, x)
		minus3 := new(big.Int).Sub(p.P, big.NewInt(3))
		if a.Cmp(minus3) == 0 && b.Cmp(p.B) == 0 && order.Cmp(p.N) == 0 && cofactor.IsInt64() && cofactor.Int64() == 1 &&
			(bytes.Equal(base, full) || bytes.Equal(base, short)) {
			return curve, nil
		}
	}
	return nil, fmt.Errorf("%w: explicit curve", ErrUnsupported)
}

package lds

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"slices"

	"enrollkiosk/smartcard/tlv"
)

// SOD is EF.SOD taken apart (Doc 9303-10 4.6.2, RFC 5652): nothing in it is
// verified yet.
type SOD struct {
	SignedData
	Version        int // of the LDS security object: 0 or 1
	Digest         crypto.Hash
	Hashes         map[File][]byte // data group hashes under Digest
	LDSVersion     string          // "0108"; version 1 only
	UnicodeVersion string
}

// OIDSecurityObject is id-icao-mrtd-security-ldsSecurityObject.
var OIDSecurityObject = asn1.ObjectIdentifier{2, 23, 136, 1, 1, 1}

// oldSecurityObjects are what documents in circulation call the same thing: ICAO's
// identifier before the arc 2.23.136, a producer's own, and plain data.
var oldSecurityObjects = []asn1.ObjectIdentifier{{1, 3, 27, 1, 1, 1}, {1, 2, 528, 1, 1006, 1, 20, 1}, oidData}

// ParseSOD reads EF.SOD, in BER too.
func ParseSOD(file []byte) (SOD, error) {
	sod, err := parseSOD(file)
	if err != nil {
		return SOD{}, malformed("EF.SOD", err)
	}
	return sod, nil
}

func parseSOD(file []byte) (sod SOD, err error) {
	der, err := toDER(file)
	if err != nil {
		return sod, err
	}
	outer, err := tlv.ParseOne(der, EFSOD.Tag())
	if err != nil {
		return sod, err
	}
	c := outer.Cursor()
	contentInfo := c.Next(0x30)
	if err := c.Done(); err != nil {
		return sod, err
	}
	if sod.SignedData, err = parseSignedData(contentInfo); err != nil {
		return sod, err
	}
	return sod, sod.parseObject()
}

// parseObject reads the LDSSecurityObject (Doc 9303-10 4.6.2.2).
func (s *SOD) parseObject() error {
	if !s.ContentType.Equal(OIDSecurityObject) && !slices.ContainsFunc(oldSecurityObjects, s.ContentType.Equal) {
		return fmt.Errorf("%w: content type %v", ErrUnsupported, s.ContentType)
	}
	der, err := toDER(s.Content)
	if err != nil {
		return err
	}
	object, err := tlv.ParseOne(der, 0x30)
	if err != nil {
		return err
	}
	c := object.Cursor()
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
	case 1: // LDS 1.8 and later
		info := c.Next(0x30).Cursor()
		s.LDSVersion, s.UnicodeVersion = string(info.Next(0x13).Value), string(info.Next(0x13).Value)
		if err := info.Done(); err != nil {
			return err
		}
		if !digits(s.LDSVersion, 4) || !digits(s.UnicodeVersion, 6) || s.LDSVersion < "0108" {
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
		hash := c.Next(octets).Value
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

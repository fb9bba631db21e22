package lds

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/smartcard/tlv"
)

// SecurityInfos are the protocols a chip says it can (Doc 9303-11 9.2), from
// EF.CardAccess (unsigned) or DG14 (signed through the SOD).
type SecurityInfos struct {
	PACE                   []PACEInfo
	PACEDomains            []PACEDomainParameterInfo
	ChipAuthentication     []ChipAuthenticationInfo
	ChipAuthenticationKeys []ChipAuthenticationPublicKeyInfo
	ActiveAuthentication   []ActiveAuthenticationInfo
	TerminalAuthentication []TerminalAuthenticationInfo
	Others                 []asn1.ObjectIdentifier // not interpreted
	Raw                    [][]byte                // every SecurityInfo, DER, in file order
}

// PACEInfo names one PACE protocol (Doc 9303-11 9.2.1).
type PACEInfo struct {
	Protocol    asn1.ObjectIdentifier
	Version     int
	ParameterID int // standardized domain parameters or key reference; -1 if absent
}

// PACEDomainParameterInfo gives domain parameters (Doc 9303-11 9.2.2).
type PACEDomainParameterInfo struct {
	Protocol    asn1.ObjectIdentifier
	Parameters  []byte // AlgorithmIdentifier, DER
	ParameterID int    // -1 if absent
}

// ChipAuthenticationInfo names one Chip Authentication protocol (9.2.5).
type ChipAuthenticationInfo struct {
	Protocol asn1.ObjectIdentifier
	Version  int
	KeyID    *big.Int // nil if absent
}

// ChipAuthenticationPublicKeyInfo is a key of the chip (9.2.6).
type ChipAuthenticationPublicKeyInfo struct {
	Protocol asn1.ObjectIdentifier // id-PK-ECDH or id-PK-DH
	SPKI     []byte                // DER, for ParseAgreementKey: a key that it cannot read hides none of the others
	KeyID    *big.Int              // nil if absent
}

// ActiveAuthenticationInfo names the signature algorithm of an ECDSA Active
// Authentication key (9.2.7).
type ActiveAuthenticationInfo struct {
	Protocol  asn1.ObjectIdentifier
	Version   int
	Algorithm asn1.ObjectIdentifier // ecdsa-plain-signatures (BSI TR-03111)
}

// TerminalAuthenticationInfo says that the chip wants Terminal Authentication
// for some data groups (9.2.8). Only recognised.
type TerminalAuthenticationInfo struct {
	Protocol asn1.ObjectIdentifier
	Version  int
}

// Object identifiers of BSI TR-03110 and Doc 9303-11.
var (
	OIDPKDH        = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 1, 1}
	OIDPKECDH      = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 1, 2}
	OIDTA          = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 2}
	OIDCA          = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 3}
	OIDCADH        = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 3, 1}
	OIDCAECDH      = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 3, 2} // then 1 3DES, 2 AES-128, 3 AES-192, 4 AES-256
	OIDPACE        = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 4}
	OIDPACEDHGM    = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 4, 1}
	OIDPACEECDHGM  = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 4, 2} // then 1 3DES, 2 AES-128, 3 AES-192, 4 AES-256
	OIDPACEDHIM    = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 4, 3}
	OIDPACEECDHIM  = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 4, 4}
	OIDPACEECDHCAM = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 2, 2, 4, 6}
	OIDAA          = asn1.ObjectIdentifier{2, 23, 136, 1, 1, 5}
)

// below counts the arcs of oid under prefix; -1 if it is not under it.
func below(oid, prefix asn1.ObjectIdentifier) int {
	if len(oid) < len(prefix) || !slices.Equal(oid[:len(prefix)], prefix) {
		return -1
	}
	return len(oid) - len(prefix)
}

// ParseCardAccess reads EF.CardAccess.
func ParseCardAccess(file []byte) (SecurityInfos, error) {
	set, err := tlv.ParseOne(file, EFCardAccess.Tag())
	if err != nil {
		return SecurityInfos{}, malformed("EF.CardAccess", err)
	}
	infos, err := parseSecurityInfos(set)
	if err != nil {
		return SecurityInfos{}, malformed("EF.CardAccess", err)
	}
	return infos, nil
}

// ParseDG14 reads DG14.
func ParseDG14(file []byte) (SecurityInfos, error) {
	outer, err := tlv.ParseOne(file, DG14.Tag())
	if err != nil {
		return SecurityInfos{}, malformed("DG14", err)
	}
	c := outer.Cursor()
	set := c.Next(0x31)
	if err := c.Done(); err != nil {
		return SecurityInfos{}, malformed("DG14", err)
	}
	infos, err := parseSecurityInfos(set)
	if err != nil {
		return SecurityInfos{}, malformed("DG14", err)
	}
	return infos, nil
}

// maxSecurityInfos bounds one file.
const maxSecurityInfos = 64

func parseSecurityInfos(set tlv.Node) (SecurityInfos, error) {
	var infos SecurityInfos
	nodes, err := set.Children()
	if err != nil {
		return infos, err
	}
	if len(nodes) > maxSecurityInfos {
		return infos, fmt.Errorf("%w: %d security infos", ErrMalformed, len(nodes))
	}
	for _, n := range nodes {
		if n.Tag != 0x30 {
			return SecurityInfos{}, fmt.Errorf("%w: security info", ErrMalformed)
		}
		if err := infos.add(n); err != nil {
			return SecurityInfos{}, err
		}
		infos.Raw = append(infos.Raw, bytes.Clone(n.Raw))
	}
	return infos, nil
}

// add reads SecurityInfo ::= SEQUENCE { protocol OID, required ANY, optional ANY OPTIONAL }.
func (s *SecurityInfos) add(info tlv.Node) error {
	c := info.Cursor()
	var oid asn1.ObjectIdentifier
	if err := primitive(c.Next(0x06), &oid); err != nil {
		return err
	}
	switch {
	case below(oid, OIDPACE) == 2:
		i := PACEInfo{Protocol: oid, ParameterID: -1}
		if err := errorsFirst(smallInt(c.Next(0x02), &i.Version), optionalSmallInt(c, &i.ParameterID), c.Done()); err != nil {
			return err
		}
		s.PACE = append(s.PACE, i)
	case below(oid, OIDPACE) == 1:
		i := PACEDomainParameterInfo{Protocol: oid, ParameterID: -1}
		i.Parameters = bytes.Clone(c.Next(0x30).Raw)
		if err := errorsFirst(optionalSmallInt(c, &i.ParameterID), c.Done()); err != nil {
			return err
		}
		s.PACEDomains = append(s.PACEDomains, i)
	case below(oid, OIDCA) == 2:
		i := ChipAuthenticationInfo{Protocol: oid}
		if err := errorsFirst(smallInt(c.Next(0x02), &i.Version), optionalInt(c, &i.KeyID), c.Done()); err != nil {
			return err
		}
		s.ChipAuthentication = append(s.ChipAuthentication, i)
	case oid.Equal(OIDPKECDH) || oid.Equal(OIDPKDH):
		i := ChipAuthenticationPublicKeyInfo{Protocol: oid}
		i.SPKI = bytes.Clone(c.Next(0x30).Raw)
		if err := errorsFirst(optionalInt(c, &i.KeyID), c.Done()); err != nil {
			return err
		}
		s.ChipAuthenticationKeys = append(s.ChipAuthenticationKeys, i)
	case oid.Equal(OIDAA):
		i := ActiveAuthenticationInfo{Protocol: oid}
		if err := errorsFirst(smallInt(c.Next(0x02), &i.Version), primitive(c.Next(0x06), &i.Algorithm), c.Done()); err != nil {
			return err
		}
		s.ActiveAuthentication = append(s.ActiveAuthentication, i)
	case oid.Equal(OIDTA):
		i := TerminalAuthenticationInfo{Protocol: oid}
		if err := smallInt(c.Next(0x02), &i.Version); err != nil { // an efCVCA reference may follow
			return err
		}
		s.TerminalAuthentication = append(s.TerminalAuthentication, i)
	default:
		s.Others = append(s.Others, oid)
	}
	return nil
}

func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// primitive decodes one DER value into v, strictly.
func primitive(n tlv.Node, v any) error {
	rest, err := asn1.Unmarshal(n.Raw, v)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: trailing bytes", ErrMalformed)
	}
	return nil
}

// smallInt reads a non-negative INTEGER of up to 16 bits.
func smallInt(n tlv.Node, v *int) error {
	var i int
	if err := primitive(n, &i); err != nil {
		return err
	}
	if i < 0 || i > 0xFFFF {
		return fmt.Errorf("%w: integer out of range", ErrMalformed)
	}
	*v = i
	return nil
}

func optionalSmallInt(c *tlv.Cursor, v *int) error {
	if n, ok := c.Optional(0x02); ok {
		return smallInt(n, v)
	}
	return nil
}

func optionalInt(c *tlv.Cursor, v **big.Int) error {
	if n, ok := c.Optional(0x02); ok {
		return primitive(n, v)
	}
	return nil
}

package lds

import (
	"crypto"
	"encoding/asn1"
	"math/big"
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
	Key      crypto.PublicKey      // *ecdsa.PublicKey on a NIST curve, or nil when not supported
	SPKI     []byte                // DER
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

// ParseCardAccess reads EF.CardAccess.
func ParseCardAccess(file []byte) (SecurityInfos, error) { return SecurityInfos{}, ErrMalformed }

// ParseDG14 reads DG14.
func ParseDG14(file []byte) (SecurityInfos, error) { return SecurityInfos{}, ErrMalformed }

// ParseDG15 reads the Active Authentication key: *rsa.PublicKey, or
// *ecdsa.PublicKey on a NIST curve, named or spelled out.
func ParseDG15(file []byte) (crypto.PublicKey, error) { return nil, ErrMalformed }

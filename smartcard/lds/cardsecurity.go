package lds

import (
	"encoding/asn1"
	"fmt"

	"enrollkiosk/smartcard/tlv"
)

// CardSecurity is EF.CardSecurity (Doc 9303-11 9.2.11, TR-03110-3 A.1.2.5): the
// chip's protocols and keys, signed as an SOD is. Nothing in it is verified yet.
type CardSecurity struct {
	SignedData
	Infos SecurityInfos
}

// OIDSecurityInfos is id-SecurityObject, the content type of EF.CardSecurity.
var OIDSecurityInfos = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 3, 2, 1}

// ParseCardSecurity reads EF.CardSecurity.
func ParseCardSecurity(file []byte) (CardSecurity, error) {
	s, err := parseCardSecurity(file)
	if err != nil {
		return CardSecurity{}, malformed("EF.CardSecurity", err)
	}
	return s, nil
}

func parseCardSecurity(file []byte) (s CardSecurity, err error) {
	if s.SignedData, err = parseFile(file); err != nil {
		return s, err
	}
	if !s.ContentType.Equal(OIDSecurityInfos) {
		return s, fmt.Errorf("%w: content type %v", ErrUnsupported, s.ContentType)
	}
	der, err := toDER(s.Content)
	if err != nil {
		return s, err
	}
	set, err := tlv.ParseOne(der, 0x31)
	if err != nil {
		return s, err
	}
	s.Infos, err = parseSecurityInfos(set)
	return s, err
}

// parseFile reads a file that is a ContentInfo and nothing else.
func parseFile(file []byte) (SignedData, error) {
	der, err := toDER(file)
	if err != nil {
		return SignedData{}, err
	}
	contentInfo, err := tlv.ParseOne(der, 0x30)
	if err != nil {
		return SignedData{}, err
	}
	return parseSignedData(contentInfo)
}

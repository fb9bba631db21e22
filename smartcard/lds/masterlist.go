package lds

import (
	"bytes"
	"encoding/asn1"
	"fmt"

	"enrollkiosk/smartcard/tlv"
)

// MasterList is a list of CSCA certificates that a state signed (Doc 9303-12 9).
// Nothing in it is verified yet.
type MasterList struct {
	SignedData
	List [][]byte // certificates, in the list's order; they may be anything
}

// OIDMasterList is id-icao-cscaMasterList.
var OIDMasterList = asn1.ObjectIdentifier{2, 23, 136, 1, 1, 2}

// maxListed bounds the certificates of one list: 588 in 2026.
const maxListed = 1 << 13

// ParseMasterList reads a master list.
func ParseMasterList(file []byte) (MasterList, error) {
	l, err := parseMasterList(file)
	if err != nil {
		return MasterList{}, malformed("master list", err)
	}
	return l, nil
}

func parseMasterList(file []byte) (l MasterList, err error) {
	if l.SignedData, err = parseFile(file); err != nil {
		return l, err
	}
	if !l.ContentType.Equal(OIDMasterList) {
		return l, fmt.Errorf("%w: content type %v", ErrUnsupported, l.ContentType)
	}
	list, err := tlv.ParseOne(l.Content, 0x30)
	if err != nil {
		return l, err
	}
	c := list.Cursor()
	var version int
	if err := smallInt(c.Next(0x02), &version); err != nil {
		return l, err
	}
	set := c.Next(0x31)
	if err := c.Done(); err != nil {
		return l, err
	}
	if version != 0 {
		return l, fmt.Errorf("%w: master list version %d", ErrUnsupported, version)
	}
	for rest := set.Value; len(rest) > 0; {
		_, header, length, err := tlv.Header(rest)
		if err != nil {
			return l, err
		}
		if length > len(rest)-header || len(l.List) == maxListed {
			return l, fmt.Errorf("%w: certificate %d", ErrMalformed, len(l.List))
		}
		l.List = append(l.List, bytes.Clone(rest[:header+length]))
		rest = rest[header+length:]
	}
	return l, nil
}

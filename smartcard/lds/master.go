package lds

import (
	"bytes"
	"fmt"

	"enrollkiosk/smartcard/tlv"
)

// ATRInfo is EF.ATR/INFO (Doc 9303-10 3.11.2): what the card can take.
type ATRInfo struct {
	Chaining   bool // command chaining
	Extended   bool // extended length fields
	MaxCommand int  // longest command in bytes, header and length fields included; 0 if not told
	MaxAnswer  int  // longest response in bytes, status bytes included; 0 if not told
}

// Data objects of EF.ATR/INFO (ISO/IEC 7816-4 12.1.1).
const (
	doCapabilities tlv.Tag = 0x47
	doLengths      tlv.Tag = 0x7F66
)

// ParseATRInfo reads EF.ATR/INFO. The lengths are there, unless the card says
// that it does not do extended length.
func ParseATRInfo(file []byte) (ATRInfo, error) {
	nodes, err := parseSeries(file)
	if err != nil {
		return ATRInfo{}, malformed("EF.ATR/INFO", err)
	}
	var info ATRInfo
	capabilities, told := tlv.Find(nodes, doCapabilities)
	if told {
		if n := len(capabilities.Value); n < 1 || n > 3 {
			return ATRInfo{}, malformed("EF.ATR/INFO", fmt.Errorf("%w: capabilities", ErrMalformed))
		}
		if len(capabilities.Value) == 3 { // third software function table
			info.Chaining = capabilities.Value[2]&0x80 != 0
			info.Extended = capabilities.Value[2]&0x40 != 0
		}
	}
	lengths, ok := tlv.Find(nodes, doLengths)
	if !ok {
		if told && !info.Extended {
			return info, nil
		}
		return ATRInfo{}, malformed("EF.ATR/INFO", fmt.Errorf("%w: object 7F66 missing", ErrMalformed))
	}
	c := lengths.Cursor()
	command, answer := c.Next(0x02).Value, c.Next(0x02).Value
	if err := c.Done(); err != nil {
		return ATRInfo{}, malformed("EF.ATR/INFO", err)
	}
	info.MaxCommand, info.MaxAnswer = lengthLimit(command), lengthLimit(answer)
	if info.MaxCommand == 0 || info.MaxAnswer == 0 {
		return ATRInfo{}, malformed("EF.ATR/INFO", fmt.Errorf("%w: length", ErrMalformed))
	}
	return info, nil
}

// lengthLimit reads a number of two or three bytes, unsigned as cards write it;
// 0 for any other.
func lengthLimit(b []byte) int {
	switch len(b) {
	case 2:
		return int(b[0])<<8 | int(b[1])
	case 3:
		return int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	}
	return 0
}

// ParseDIR reads EF.DIR (Doc 9303-10 3.11.1): the identifiers of the card's
// applications.
func ParseDIR(file []byte) ([][]byte, error) {
	nodes, err := parseSeries(file)
	if err != nil {
		return nil, malformed("EF.DIR", err)
	}
	var applications [][]byte
	for _, n := range nodes {
		if n.Tag != 0x61 {
			return nil, malformed("EF.DIR", fmt.Errorf("%w: object %X unexpected", ErrMalformed, uint32(n.Tag)))
		}
		c := n.Cursor()
		aid := c.Next(0x4F).Value
		for c.More() {
			c.Any() // a label, a path
		}
		if err := c.Done(); err != nil {
			return nil, malformed("EF.DIR", err)
		}
		if len(aid) < 5 || len(aid) > 16 { // ISO/IEC 7816-4 12.2.3
			return nil, malformed("EF.DIR", fmt.Errorf("%w: application identifier", ErrMalformed))
		}
		applications = append(applications, bytes.Clone(aid))
	}
	return applications, nil
}

// parseSeries reads data objects one after the other. Zero bytes may stand
// around them, where the card's file is longer (ISO/IEC 7816-4 6.3).
func parseSeries(b []byte) ([]tlv.Node, error) {
	var nodes []tlv.Node
	for {
		if b = bytes.TrimLeft(b, "\x00"); len(b) == 0 {
			return nodes, nil
		}
		_, header, length, err := tlv.Header(b)
		if err != nil {
			return nil, err
		}
		end := min(header+length, len(b))
		found, err := tlv.Parse(b[:end])
		if err != nil {
			return nil, err
		}
		if nodes = append(nodes, found...); len(nodes) > tlv.MaxNodes {
			return nil, fmt.Errorf("%w: more than %d objects", ErrMalformed, tlv.MaxNodes)
		}
		b = b[end:]
	}
}

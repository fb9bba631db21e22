package idcard

import (
	"bytes"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// File identifiers (9303-10 3.9 and 4.6).
const (
	efDIR        uint16 = 0x2F00
	efATR        uint16 = 0x2F01
	efCardAccess uint16 = 0x011C
	efSOD        uint16 = 0x011D
	efCOM        uint16 = 0x011E
	dg1          uint16 = 0x0101
	dg2          uint16 = 0x0102
	dg3          uint16 = 0x0103
	dg4          uint16 = 0x0104
	dg14         uint16 = 0x010E
	dg15         uint16 = 0x010F
)

// application is the AID of the LDS1 eMRTD application.
var application = []byte{0xA0, 0x00, 0x00, 0x02, 0x47, 0x10, 0x01}

// selectFile is SELECT (9303-10 3.6.1): the application by name, a file by its
// identifier, the master file. Nothing is returned but on request of the FCI.
func (c *Chip) selectFile(in apdu.Command) ([]byte, apdu.Status) {
	if in.P2 != 0x0C && in.P2 != 0x00 {
		return nil, apdu.IncorrectP1P2
	}
	switch in.P1 {
	case 0x04:
		if !bytes.Equal(in.Data, application) || c.profile.Application == nil {
			return nil, apdu.FileNotFound
		}
		c.inside, c.current = true, 0
		if in.P2 == 0x00 {
			return tlv(0x6F, tlv(0x84, application)), apdu.OK
		}
		return nil, apdu.OK
	case 0x00:
		if len(in.Data) == 0 || bytes.Equal(in.Data, []byte{0x3F, 0x00}) {
			c.inside, c.current = false, 0
			return nil, apdu.OK
		}
		fallthrough
	case 0x02:
		if len(in.Data) != 2 {
			return nil, apdu.WrongLength
		}
		id := uint16(in.Data[0])<<8 | uint16(in.Data[1])
		if _, sw := c.file(id); sw != apdu.OK {
			return nil, sw
		}
		c.current = id
		return nil, apdu.OK
	}
	return nil, apdu.IncorrectP1P2
}

// file finds a file of the selected directory, if it may be read now.
func (c *Chip) file(id uint16) ([]byte, apdu.Status) {
	if !c.inside {
		if b := c.profile.Master[id]; b != nil {
			return b, apdu.OK
		}
		return nil, apdu.FileNotFound
	}
	if c.channel == nil || id == dg3 || id == dg4 { // those two need Terminal Authentication
		return nil, apdu.SecurityNotSatisfied
	}
	if b, ok := c.profile.Application[id]; ok {
		return b, apdu.OK
	}
	return nil, apdu.FileNotFound
}

// byShortID resolves a short file identifier of the selected directory.
func (c *Chip) byShortID(sfi byte) uint16 {
	if !c.inside {
		switch sfi {
		case 0x01:
			return efATR
		case 0x1E:
			return efDIR
		}
	}
	return 0x0100 | uint16(sfi)
}

// readBinary is READ BINARY with even INS (9303-10 3.6.3.1): 15 bits of offset,
// or a short file identifier and 8 bits.
func (c *Chip) readBinary(in apdu.Command, room int) ([]byte, apdu.Status) {
	if len(in.Data) != 0 || in.Le == 0 {
		return nil, apdu.WrongLength
	}
	if in.P1&0x80 == 0 {
		return c.read(c.current, int64(in.P1)<<8|int64(in.P2), min(in.Le, room), maximal(in.Le))
	}
	if in.P1&0x60 != 0 {
		return nil, apdu.IncorrectP1P2
	}
	id := c.byShortID(in.P1 & 0x1F)
	data, sw := c.read(id, int64(in.P2), min(in.Le, room), maximal(in.Le))
	if sw == apdu.OK || sw == apdu.EndOfFile {
		c.current = id
	}
	return data, sw
}

// readBinaryOdd is READ BINARY with odd INS (9303-10 3.6.3.2): offset in DO'54',
// answer in DO'53'; Le counts that object whole.
func (c *Chip) readBinaryOdd(in apdu.Command, room int) ([]byte, apdu.Status) {
	list, ok := readTLV(in.Data)
	if !ok || len(list) != 1 || list[0].tag != 0x54 || len(list[0].value) == 0 || len(list[0].value) > 4 {
		return nil, apdu.WrongData
	}
	id := uint16(in.P1)<<8 | uint16(in.P2)
	switch {
	case id == 0:
		id = c.current
	case id < 0x20:
		id = c.byShortID(byte(id))
	}
	n := min(in.Le, room)
	for _, limit := range []int{0x7F, 0xFF, 0xFFFF} { // the header grows with what it heads
		if min(in.Le, room) > limit {
			n--
		}
	}
	if n -= 2; n < 1 {
		return nil, apdu.WrongLength
	}
	data, sw := c.read(id, new(big.Int).SetBytes(list[0].value).Int64(), n, maximal(in.Le))
	if sw != apdu.OK && sw != apdu.EndOfFile {
		return nil, sw
	}
	c.current = id
	return tlv(0x53, data), sw
}

// maximal tells whether Le is a length field's zero: whatever there is.
func maximal(le int) bool { return le == apdu.MaxShortLe || le == apdu.MaxExtendedLe }

// read returns n bytes of a file, or what is left of it: with 6282, unless the
// command took whatever there is.
func (c *Chip) read(id uint16, offset int64, n int, whatever bool) ([]byte, apdu.Status) {
	if id == 0 {
		return nil, apdu.CommandNotAllowed
	}
	file, sw := c.file(id)
	if sw != apdu.OK {
		return nil, sw
	}
	if c.faults[OneByte] {
		n = 1
	}
	if c.faults[EndlessFile] && id == dg2 {
		return endless(file, offset, n), apdu.OK
	}
	if offset >= int64(len(file)) {
		return nil, apdu.WrongOffset
	}
	rest := file[offset:]
	switch {
	case len(rest) >= n:
		return rest[:n], apdu.OK
	case whatever:
		return rest, apdu.OK
	}
	return rest, apdu.EndOfFile
}

// endless is a stretch of a file that claims 2 GiB and repeats itself.
func endless(file []byte, offset int64, n int) []byte {
	head := []byte{0x75, 0x84, 0x7F, 0xFF, 0xFF, 0xFF}
	out := make([]byte, n)
	for i := range out {
		at := offset + int64(i)
		if at < int64(len(head)) {
			out[i] = head[at]
		} else {
			out[i] = file[at%int64(len(file))]
		}
	}
	return out
}

// atrInfo is EF.ATR/INFO (9303-10 3.11.2): capabilities, and the longest command
// and answer in bytes.
func atrInfo(command, answer int, shortOnly bool) []byte {
	if shortOnly {
		return tlv(0x47, []byte{0x94, 0x01, 0x80})
	}
	return append(tlv(0x47, []byte{0x94, 0x01, 0xE0}), tlv(0x7F66, small(command), small(answer))...)
}

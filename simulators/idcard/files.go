package idcard

import (
	"bytes"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// File identifiers (9303-10 3.9 and 4.6).
const (
	efDIR          uint16 = 0x2F00
	efATR          uint16 = 0x2F01
	efCardAccess   uint16 = 0x011C
	efCardSecurity uint16 = 0x011D // in the master file
	efSOD          uint16 = 0x011D // in the application
	efCOM          uint16 = 0x011E
	dg1            uint16 = 0x0101
	dg2            uint16 = 0x0102
	dg3            uint16 = 0x0103
	dg4            uint16 = 0x0104
	dg14           uint16 = 0x010E
	dg15           uint16 = 0x010F
)

// application is the AID of the LDS1 eMRTD application.
var application = []byte{0xA0, 0x00, 0x00, 0x02, 0x47, 0x10, 0x01}

// selectFile is SELECT (9303-10 3.6.1): the application by name, a file by its
// identifier, the master file. Nothing is returned but on request of the FCI.
func (c *Chip) selectFile(in apdu.Command) ([]byte, apdu.Status) {
	switch in.P2 {
	case 0x00:
	case 0x0C:
		if c.refusesLe(in) {
			return nil, apdu.WrongLength
		}
	default:
		return nil, apdu.IncorrectP1P2
	}
	switch in.P1 {
	case 0x04:
		c.exchange.Step = StepSelectApplication
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
			return nil, c.selectMaster(in)
		}
		fallthrough
	case 0x02:
		c.exchange.Step = StepSelectFile
		if len(in.Data) != 2 {
			return nil, apdu.WrongLength
		}
		id := uint16(in.Data[0])<<8 | uint16(in.Data[1])
		c.exchange.File = id
		if _, sw := c.file(id); sw != apdu.OK {
			return nil, sw
		}
		c.current = id
		return nil, apdu.OK
	}
	return nil, apdu.IncorrectP1P2
}

func (c *Chip) selectMaster(in apdu.Command) apdu.Status {
	c.exchange.Step = StepSelectMaster
	switch {
	case c.faults[SelectMFFails]:
		return apdu.IncorrectP1P2
	case c.faults[SelectMFNeeds3F00] && len(in.Data) == 0:
		return apdu.LcInconsistent
	}
	c.inside, c.current = false, 0
	return apdu.OK
}

// file finds a file of the selected directory, if it may be read now.
func (c *Chip) file(id uint16) ([]byte, apdu.Status) {
	files := c.profile.Application
	if !c.inside {
		files = c.profile.Master
	}
	switch {
	case c.inside && (!c.mayRead() || id == dg3 || id == dg4), // those two need Terminal Authentication
		!c.inside && id == efCardSecurity && (c.channel == nil || !c.channel.pace),
		!c.inside && id == efDIR && c.faults[DIRDenied] && !c.mayRead():
		return nil, apdu.SecurityNotSatisfied
	}
	if b := files[id]; b != nil {
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
	c.exchange.Step, c.exchange.File = StepRead, c.current
	if len(in.Data) != 0 || in.Le == 0 {
		return nil, apdu.WrongLength
	}
	if in.P1&0x80 == 0 {
		return c.read(c.current, int64(in.P1)<<8|int64(in.P2), room, in.Le)
	}
	if in.P1&0x60 != 0 {
		return nil, apdu.IncorrectP1P2
	}
	id := c.byShortID(in.P1 & 0x1F)
	c.exchange.File = id
	data, sw := c.read(id, int64(in.P2), room, in.Le)
	if data != nil {
		c.current = id
	}
	return data, sw
}

// readBinaryOdd is READ BINARY with odd INS (9303-10 3.6.3.2): offset in DO'54',
// answer in DO'53'; Le counts that object whole.
func (c *Chip) readBinaryOdd(in apdu.Command, room int) ([]byte, apdu.Status) {
	c.exchange.Step = StepRead
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
	c.exchange.File = id
	n := room
	for _, limit := range []int{0x7F, 0xFF, 0xFFFF} { // the header grows with what it heads
		if room > limit {
			n--
		}
	}
	if n -= 2; n < 1 {
		return nil, apdu.WrongLength
	}
	data, sw := c.read(id, new(big.Int).SetBytes(list[0].value).Int64(), n, in.Le)
	if data == nil {
		return nil, sw
	}
	c.current = id
	return tlv(0x53, data), sw
}

// read returns n bytes of a file, or what is left of it: with 6282, unless Le
// took whatever there is. Data is nil exactly if the answer has none.
func (c *Chip) read(id uint16, offset int64, n, le int) ([]byte, apdu.Status) {
	if id == 0 {
		return nil, apdu.CommandNotAllowed
	}
	file, sw := c.file(id)
	if sw != apdu.OK {
		return nil, sw
	}
	switch {
	case c.faults[Most192] && le > 192:
		return nil, apdu.EndOfFile
	case c.faults[OneByte]:
		n = 1
	}
	if c.faults[EndlessFile] && c.inside && id == dg2 {
		return endless(file, offset, n), apdu.OK
	}
	if offset >= int64(len(file)) {
		return nil, apdu.WrongOffset
	}
	rest := file[offset:]
	past := len(rest) < n
	rest = rest[:min(n, len(rest))]
	switch {
	case past && c.faults[EndOfFile6B00]:
		return nil, apdu.WrongOffset
	case past && c.faults[EndOfFile6Cxx]:
		return nil, lengthLeft | apdu.Status(len(rest)&0xFF)
	case past && (c.faults[EndOfFile6282] || le != apdu.MaxShortLe && le != apdu.MaxExtendedLe):
		return rest, apdu.EndOfFile
	case c.faults[CardAccess6283] && !c.inside && id == efCardAccess:
		return rest, apdu.FileDeactivated
	}
	return rest, apdu.OK
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

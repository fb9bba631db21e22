package conformance

import (
	"encoding/binary"
	"fmt"
	"slices"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/lds"
)

// face changes DG2 below its outer object.
func face(edit func(group *idcard.Node)) func(*card) {
	return tree(lds.DG2, func(n *idcard.Node) { edit(n.Find(0x7F61)) })
}

// facial changes the facial record (ISO/IEC 19794-5:2005 5.4).
func facial(change func([]byte) []byte) func(*card) {
	return face(func(group *idcard.Node) {
		block := group.Find(0x7F60, 0x5F2E)
		block.Value = change(slices.Clone(block.Value))
	})
}

// resize puts the lengths of a facial record of one face right.
func resize(b []byte) []byte {
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[14:], uint32(len(b)-14))
	return b
}

// faceTests are unit LDS_C.
func faceTests() []test {
	header := func(tag int, value ...byte) func(*card) {
		return face(func(group *idcard.Node) { group.Find(0x7F60, 0xA1, tag).Value = value })
	}
	absent := func(path ...int) func(*card) { return face(without(path...)) }
	withoutHeader := func(tag int) func(*card) {
		return face(func(group *idcard.Node) { head := group.Find(0x7F60, 0xA1); head.Remove(head.Find(tag)) })
	}
	jp2 := func(points int) func(*card) {
		return func(c *card) { c.opts.Face, c.opts.DG2.Points = idcard.PortraitJP2(), points }
	}
	points := with("a face with feature points", plain, func(c *card) { c.opts.DG2.Points = 3 })
	list := []test{
		{row: "LDS_C_01", what: "JPEG 2000", base: plain, alter: jp2(0)},
		{row: "LDS_C_02", what: "JPEG", base: plain},
		{row: "LDS_C_03", what: "three points", base: plain, alter: jp2(3)},
		{row: "LDS_C_04", what: "76", base: plain, alter: file(lds.DG2, firstTag(0x76)), refused: "structure: malformed"},
		{row: "LDS_C_05", what: "hashed as stored", base: plain, alter: file(lds.DG2, outerLength(-1)), refused: "hashes: altered"},
		{row: "LDS_C_05", what: "hashed as stated", base: plain, alter: file(lds.DG2, cutToLength), refused: "structure: malformed"},
		{row: "LDS_C_06", what: "one byte", base: plain, alter: file(lds.DG2, outerLength(+1)), refused: "reader: malformed"},
		{row: "LDS_C_07", what: "no number", base: plain, alter: absent(0x02), refused: "structure: malformed"},
		{row: "LDS_C_08", what: "0102", base: plain, alter: header(0x87, 1, 2), refused: "structure: malformed"},
		{row: "LDS_C_09", what: "no owner", base: plain, alter: withoutHeader(0x87), refused: "structure: malformed"},
		{row: "LDS_C_10", what: "0009", base: plain, alter: header(0x88, 0, 9), refused: "structure: malformed"},
		{row: "LDS_C_11", what: "no type", base: plain, alter: withoutHeader(0x88), refused: "structure: malformed"},
		{row: "LDS_C_12", what: "three bytes", base: plain, alter: header(0x81, 0, 0, 2), warning: "biometric-type"},
		{row: "LDS_C_13", what: "a finger's", base: plain, alter: header(0x81, 8), refused: "structure: malformed"},
		{row: "LDS_C_14", what: "FIR", base: plain, alter: facial(func(b []byte) []byte { return append([]byte("FIR\x00"), b[4:]...) }), refused: "structure: malformed"},
		{row: "LDS_C_15", what: "020", base: plain, alter: facial(func(b []byte) []byte { copy(b[4:], "020\x00"); return b }), refused: "structure: malformed"},
		{row: "LDS_C_16", what: "three points", base: points, alter: facial(func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[8:], uint32(len(b)-3*8))
			return b
		}), warning: "face-length"},
		{row: "LDS_C_28", what: "no block", base: plain, alter: face(func(group *idcard.Node) { group.Remove(group.Find(0x7F60, 0x5F2E)) }), refused: "structure: malformed"},
	}
	// Codes of ISO/IEC 19794-5:2005 5.5 and 5.7, by their place in the face's block.
	for i, code := range []struct {
		at    int
		value byte
	}{{6, 3}, {7, 8}, {8, 10}, {14, 182}, {15, 182}, {16, 182}, {17, 182}, {18, 182}, {19, 182}, {20, 4}} {
		list = append(list, test{row: fmt.Sprintf("LDS_C_%d", 17+i), what: fmt.Sprintf("%d at %d", code.value, code.at), base: plain,
			alter: facial(func(b []byte) []byte { b[14+code.at] = code.value; return b }), warning: "face-code"})
	}
	return append(list, test{row: "LDS_C_27", what: "JPEG called JPEG 2000", base: plain,
		alter: facial(func(b []byte) []byte { b[14+21] = 1; return b }), warning: "face-format"})
}

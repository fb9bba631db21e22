package pcscd

import "encoding/binary"

// What a reader is asked about itself (PC/SC Part 10 2.2, 2.6.14). Control codes
// are what pcsc-lite makes of SCARD_CTL_CODE.
const (
	ctlFeatures          uint32 = 0x42000000 + 3400 // CM_IOCTL_GET_FEATURE_REQUEST
	ctlProperties        uint32 = 0x42000000 + 1    // of this reader: FEATURE_GET_TLV_PROPERTIES
	featureTLVProperties        = 0x12
	propertyMaxAPDUData         = 0x0A // dwMaxAPDUDataSize
)

// LimitAPDU has the reader say what it takes: 256 is short APDUs only, up to
// 65536 extended ones. 0, as every reader begins, is one that answers no such
// question. It only says so: whether the reader keeps to it is the card's fault.
func (r *Reader) LimitAPDU(bytes uint32) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.maxAPDU = bytes
}

// control answers CONTROL; server.mu is held.
func (r *Reader) control(q request) []byte {
	var answer []byte
	switch code := q.u32(4); {
	case r.maxAPDU == 0:
	case code == ctlFeatures:
		answer = binary.BigEndian.AppendUint32([]byte{featureTLVProperties, 4}, ctlProperties)
	case code == ctlProperties:
		answer = binary.LittleEndian.AppendUint32([]byte{propertyMaxAPDUData, 4}, r.maxAPDU)
	}
	q.put(16, 0)
	switch {
	case answer == nil:
		return q.reply(errUnsupported)
	case len(answer) > int(q.u32(12)):
		return q.reply(errBuffer)
	}
	q.put(16, uint32(len(answer)))
	return append(q.reply(ok), answer...)
}

package pcsc

import (
	"encoding/binary"

	"github.com/ebfe/scard"

	"enrollkiosk/smartcard/apdu"
)

// PC/SC Part 10 2.2 and 2.6.14: features of a reader, and its properties.
const (
	ctlFeatures          = 3400 // CM_IOCTL_GET_FEATURE_REQUEST
	featureTLVProperties = 0x12
	propertyMaxAPDUData  = 0x0A // dwMaxAPDUDataSize
)

// readerLimit asks the reader for dwMaxAPDUDataSize. Many readers do not say: 0.
// T=0 has no extended length of its own (ISO/IEC 7816-3 12.2).
func readerLimit(card *scard.Card) int {
	if card.ActiveProtocol() == scard.ProtocolT0 {
		return apdu.MaxShortLe
	}
	features, err := card.Control(scard.CtlCode(ctlFeatures), nil)
	if err != nil {
		return 0
	}
	code, ok := property(features, featureTLVProperties)
	if !ok {
		return 0
	}
	properties, err := card.Control(binary.BigEndian.Uint32(code), nil)
	if err != nil {
		return 0
	}
	size, ok := property(properties, propertyMaxAPDUData)
	if !ok {
		return 0
	}
	n := binary.LittleEndian.Uint32(size)
	return int(min(max(n, apdu.MaxShortLe), apdu.MaxExtendedLe))
}

// property finds a value of four bytes in a list of tag, length, value.
func property(list []byte, tag byte) ([]byte, bool) {
	for len(list) >= 2 {
		n := int(list[1])
		if len(list) < 2+n {
			return nil, false
		}
		if list[0] == tag && n == 4 {
			return list[2:6], true
		}
		list = list[2+n:]
	}
	return nil, false
}

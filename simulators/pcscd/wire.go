package pcscd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Commands of the protocol (pcsc-lite, winscard_msg.h).
const (
	cmdEstablish        = 0x01
	cmdRelease          = 0x02
	cmdConnect          = 0x04
	cmdReconnect        = 0x05
	cmdDisconnect       = 0x06
	cmdBegin            = 0x07
	cmdEnd              = 0x08
	cmdTransmit         = 0x09
	cmdControl          = 0x0A
	cmdStatus           = 0x0B
	cmdCancel           = 0x0D
	cmdGetAttrib        = 0x0F
	cmdSetAttrib        = 0x10
	cmdVersion          = 0x11
	cmdReadersState     = 0x12
	cmdWait             = 0x13
	cmdStopWaiting      = 0x14
	cmdReaderEvents     = 0x15 // since 4.5
	cmdReadersStateSize = 0x16 // since 4.6
	cmdReadersArray     = 0x17 // since 4.6
)

// Sizes of the request structs; what is not here is no command.
var structSize = map[uint32]uint32{
	cmdEstablish: 12, cmdRelease: 8, cmdConnect: 152, cmdReconnect: 24, cmdDisconnect: 12,
	cmdBegin: 8, cmdEnd: 12, cmdTransmit: 32, cmdControl: 24, cmdStatus: 8, cmdCancel: 8,
	cmdGetAttrib: 280, cmdSetAttrib: 280, cmdVersion: 12,
	cmdReadersState: 0, cmdWait: 0, cmdStopWaiting: 0, cmdReaderEvents: 0,
	cmdReadersStateSize: 0, cmdReadersArray: 0,
}

// Return values (pcsclite.h).
const (
	ok                 uint32 = 0
	errCancelled       uint32 = 0x80100002
	errInvalidHandle   uint32 = 0x80100003
	errInvalidParam    uint32 = 0x80100004
	errBuffer          uint32 = 0x80100008
	errUnknownReader   uint32 = 0x80100009
	errSharing         uint32 = 0x8010000B
	errNoCard          uint32 = 0x8010000C
	errProtocol        uint32 = 0x8010000F
	errInvalidValue    uint32 = 0x80100011
	errNotTransacted   uint32 = 0x80100016
	errServiceStopped  uint32 = 0x8010001E
	errUnsupported     uint32 = 0x8010001F
	errUnresponsive    uint32 = 0x80100066
	errCardReset       uint32 = 0x80100068
	errCardRemoved     uint32 = 0x80100069
	shareExclusive     uint32 = 1
	shareShared        uint32 = 2
	shareDirect        uint32 = 3
	leaveCard          uint32 = 0
	resetCard          uint32 = 1
	unpowerCard        uint32 = 2
	ejectCard          uint32 = 3
	stateAbsent        uint32 = 0x02
	statePresent       uint32 = 0x04
	stateSwallowed     uint32 = 0x08
	statePowered       uint32 = 0x10
	stateNegotiable    uint32 = 0x20
	attrVendorName     uint32 = 0x00010100
	attrATR            uint32 = 0x00090303
	attrFriendlyName   uint32 = 0x7FFF0003
	attrSystemName     uint32 = 0x7FFF0004
	maxReaders                = 16
	readerStateSize           = 184
	maxName                   = 127 // 128 with its terminating zero
	maxATR                    = 33
	maxAttribute              = 264
	maxBuffer          uint32 = 65548 // MAX_BUFFER_SIZE_EXTENDED
	protocolMajor      uint32 = 4
	protocolMinorFirst uint32 = 4
	protocolMinorLast  uint32 = 6
)

// errRequest means a request that no client library sends: the connection ends.
var errRequest = errors.New("pcscd: malformed request")

// request is one request as sent. A reply is the same struct with fields
// filled in, without header.
type request struct {
	command uint32
	body    []byte
	payload []byte // of TRANSMIT and CONTROL
}

// readRequest reads exactly one request. io.EOF means the end of the
// connection between two requests.
func readRequest(r io.Reader) (request, error) {
	var header [8]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return request{}, err
	}
	q := request{command: binary.NativeEndian.Uint32(header[4:])}
	size, known := structSize[q.command]
	if !known || size != binary.NativeEndian.Uint32(header[:]) {
		return request{}, fmt.Errorf("command %#x: %w", q.command, errRequest)
	}
	q.body = make([]byte, size)
	if _, err := io.ReadFull(r, q.body); err != nil {
		return request{}, fmt.Errorf("command %#x: %w", q.command, noEOF(err))
	}
	var n uint32
	switch q.command {
	case cmdTransmit:
		n = q.u32(12)
	case cmdControl:
		n = q.u32(8)
	}
	if n > maxBuffer {
		return request{}, fmt.Errorf("payload of %d bytes: %w", n, errRequest)
	}
	q.payload = make([]byte, n)
	if _, err := io.ReadFull(r, q.payload); err != nil {
		return request{}, fmt.Errorf("command %#x: %w", q.command, noEOF(err))
	}
	return q, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (q request) u32(offset int) uint32 { return binary.NativeEndian.Uint32(q.body[offset:]) }

func (q request) put(offset int, v uint32) { binary.NativeEndian.PutUint32(q.body[offset:], v) }

// reply is the struct with its last field, rv, set.
func (q request) reply(rv uint32) []byte {
	q.put(len(q.body)-4, rv)
	return q.body
}

// words encodes a reply made of 32-bit fields only.
func words(v ...uint32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, w := range v {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

// protocols returns what an answer to reset offers, as SCARD_PROTOCOL bits with
// the default first (ISO/IEC 7816-3 8.2): no TD byte means T=0. A malformed
// answer offers nothing, like a card that does not answer.
func protocols(atr []byte) (offered, first uint32) {
	if len(atr) < 2 || len(atr) > maxATR || atr[0] != 0x3B && atr[0] != 0x3F {
		return 0, 0
	}
	historical, y, at := int(atr[1]&0x0F), atr[1]>>4, 2
	check := false
	for {
		for bit := byte(1); bit < 8; bit <<= 1 { // TA, TB, TC
			if y&bit != 0 {
				at++
			}
		}
		if y&8 == 0 {
			break
		}
		if at >= len(atr) {
			return 0, 0
		}
		t := atr[at] & 0x0F
		if t <= 1 {
			offered |= 1 << t
			if first == 0 {
				first = 1 << t
			}
		}
		check = check || t != 0 // TCK is present unless only T=0 is offered
		y = atr[at] >> 4
		at++
	}
	at += historical
	if offered == 0 {
		offered, first = 1, 1
	}
	if check {
		var x byte
		for _, b := range atr[1:] {
			x ^= b
		}
		if x != 0 {
			return 0, 0
		}
		at++
	}
	if at != len(atr) {
		return 0, 0
	}
	return offered, first
}

package piv

import (
	"context"
	"encoding/binary"
	"fmt"

	"enrollkiosk/hsm"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// Instructions (SP 800-73-4 Part 2 table 2; from F7 on Yubico's).
const (
	insVerify       = 0x20
	insAuthenticate = 0x87
	insSelect       = 0xA4
	insGetResponse  = 0xC0
	insGetData      = 0xCB
	insPutData      = 0xDB
	insMetadata     = 0xF7
	insSerial       = 0xF8
	insAttest       = 0xF9
	insVersion      = 0xFD
)

// Key references (SP 800-73-4 Part 1 table 4b) and objects (table 3).
const (
	refPIN   = 0x80
	refPUK   = 0x81
	refAdmin = 0x9B
	refSpare = 0x95 // the last retired slot, empty on almost every token

	objectCHUID       = 0x5FC102
	objectAttestation = 0x5FFF01 // Yubico's slot F9
)

// pivApplication is the application identifier as piv-go selects it: five of
// its eleven bytes. A card that wants more must fail here, not in piv-go, which
// would keep it locked (its issue 189).
var pivApplication = []byte{0xA0, 0x00, 0x00, 0x03, 0x08}

// Info is what a token says of itself before anything is written.
type Info struct {
	Serial     uint32  // 0 if the token tells none
	Firmware   [3]byte // major, minor, patch
	FactoryNew bool    // factory PIN, PUK and management key, all tries left, no key and no certificate
	CanAttest  bool    // it can prove where a key was made
	PINTries   int     // left
}

// state is Info and what Lock must know.
type state struct {
	Info
	pinTotal   int
	pinFactory bool
	pukFactory bool
	key        adminKey
}

// adminKey describes the management key. Algorithm 0 means that the token does
// not say: piv-go panics on it.
type adminKey struct {
	algorithm byte
	factory   bool
}

// Probe asks the token in a reader what it is and what state it is in. It
// writes nothing, presents no PIN and leaves the token reset.
//
// Errors: hsm.ErrNoDevice, ErrRemoved, ErrBusy, ErrNotPIV, ErrCannotAttest (no
// Yubico instructions at all), ErrUnavailable, or ctx's.
func Probe(ctx context.Context, reader string) (Info, error) {
	s, err := probe(ctx, reader)
	if err != nil {
		return Info{}, fmt.Errorf("probe token: %w", err)
	}
	return s.Info, nil
}

func probe(ctx context.Context, reader string) (state, error) { return onCard(ctx, reader, read) }

// look says what keeps the token in a reader from answering; nil if nothing does.
func look(ctx context.Context, reader string) error {
	_, err := onCard(ctx, reader, func(c *card) (struct{}, error) { return struct{}{}, c.selectPIV() })
	return err
}

func (c *card) selectPIV() error {
	_, status, err := c.send(apdu.Command{INS: insSelect, P1: 0x04, Data: pivApplication, Le: apdu.MaxShortLe})
	if err == nil && status != apdu.OK {
		err = fmt.Errorf("%w: %w", hsm.ErrNotPIV, status)
	}
	return err
}

// serial is 0 when the token tells none.
func (c *card) serial() (uint32, error) {
	b, status, err := c.send(apdu.Command{INS: insSerial, Le: apdu.MaxShortLe})
	if err != nil || status != apdu.OK || len(b) != 4 {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

func read(c *card) (s state, err error) {
	if err := c.selectPIV(); err != nil {
		return s, err
	}
	version, status, err := c.send(apdu.Command{INS: insVersion, Le: apdu.MaxShortLe})
	switch {
	case err != nil:
		return s, err
	case status != apdu.OK || len(version) != 3:
		return s, fmt.Errorf("%w: no version: %w", hsm.ErrCannotAttest, status)
	}
	s.Firmware = [3]byte(version)
	if s.Serial, err = c.serial(); err != nil {
		return s, err
	}

	pin, err := c.metadata(refPIN)
	if err != nil {
		return s, err
	}
	s.pinFactory, s.pinTotal, s.PINTries = pin.factory, pin.total, pin.left
	if pin.total == 0 { // no metadata: ask the standard's way
		_, status, err := c.send(apdu.Command{INS: insVerify, P2: refPIN})
		if err != nil {
			return s, err
		}
		s.PINTries, _ = triesLeft(status)
		s.pinTotal = s.PINTries
	}
	puk, err := c.metadata(refPUK)
	if err != nil {
		return s, err
	}
	s.pukFactory = puk.factory
	admin, err := c.metadata(refAdmin)
	if err != nil {
		return s, err
	}
	s.key = adminKey{admin.algorithm, admin.factory}

	s.FactoryNew = pin.factory && puk.factory && admin.factory && admin.algorithm != 0 &&
		pin.left == pin.total && puk.left == puk.total
	for _, slot := range []Slot{Authentication, Signature, KeyManagement, CardAuthentication} {
		m, err := c.metadata(byte(slot))
		if err != nil {
			return s, err
		}
		_, certificate, err := c.object(slot.object())
		if err != nil {
			return s, err
		}
		if m.status != apdu.ReferencedDataNotFound || certificate != apdu.FileNotFound {
			s.FactoryNew = false
		}
	}
	own, status, err := c.object(objectAttestation)
	if err != nil {
		return s, err
	}
	if status == apdu.OK && len(own) > 0 {
		// An empty slot has nothing to attest, but the instruction is known.
		_, status, err := c.send(apdu.Command{INS: insAttest, P1: refSpare, Le: apdu.MaxShortLe})
		if err != nil {
			return s, err
		}
		s.CanAttest = s.Serial != 0 && status != apdu.InstructionNotSupported && status != apdu.FunctionNotSupported
	}
	return s, nil
}

// metadata is the answer to Yubico's GET METADATA, as far as it is understood.
type metadata struct {
	status      apdu.Status
	algorithm   byte
	factory     bool
	total, left int
}

func (c *card) metadata(ref byte) (metadata, error) {
	b, status, err := c.send(apdu.Command{INS: insMetadata, P2: ref, Le: apdu.MaxShortLe})
	if err != nil {
		return metadata{}, err
	}
	if status != apdu.OK {
		return metadata{status: status}, nil
	}
	return parseMetadata(b), nil
}

// parseMetadata reads tags 01 algorithm, 05 factory value, 06 tries. Some cards
// answer nothing, or other lengths: that counts as not said.
func parseMetadata(b []byte) metadata {
	m := metadata{status: apdu.OK}
	nodes, err := tlv.Parse(b)
	if err != nil {
		return m
	}
	if n, ok := tlv.Find(nodes, 0x01); ok && len(n.Value) == 1 {
		m.algorithm = n.Value[0]
	}
	if n, ok := tlv.Find(nodes, 0x05); ok && len(n.Value) == 1 {
		m.factory = n.Value[0] == 1
	}
	if n, ok := tlv.Find(nodes, 0x06); ok && len(n.Value) == 2 {
		m.total, m.left = int(n.Value[0]), int(n.Value[1])
	}
	// piv-go takes the third byte for the algorithm, wherever it stands.
	if len(b) < 3 || b[2] != m.algorithm {
		m.algorithm = 0
	}
	return m
}

// object reads a data object (SP 800-73-4 Part 2, 3.1.2), with its 53 header.
func (c *card) object(id uint32) ([]byte, apdu.Status, error) {
	return c.send(apdu.Command{INS: insGetData, P1: 0x3F, P2: 0xFF, Data: tlv.Encode(0x5C, objectID(id)), Le: apdu.MaxShortLe})
}

func objectID(id uint32) []byte { return []byte{byte(id >> 16), byte(id >> 8), byte(id)} }

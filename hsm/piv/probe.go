package piv

import (
	"context"
	"crypto/ecdh"
	"encoding/binary"
	"fmt"

	"enrollkiosk/hsm"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// Instructions (SP 800-73-4 Part 2 table 2; from F7 on Yubico's).
const (
	insVerify           = 0x20
	insChangeReference  = 0x24
	insGenerate         = 0x47
	insAuthenticate     = 0x87
	insSelect           = 0xA4
	insGetResponse      = 0xC0
	insGetData          = 0xCB
	insPutData          = 0xDB
	insMetadata         = 0xF7
	insSerial           = 0xF8
	insAttest           = 0xF9
	insVersion          = 0xFD
	insSetManagementKey = 0xFF
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

// pivApplication is the application identifier (SP 800-73-4 Part 1, 2.2) with
// its version. piv-go selects by the first five bytes only.
var pivApplication = []byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00}

const shortIdentifier = 5

// Info is what a token says of itself before anything is written.
//
// With FactoryNew and Ready it tells which state of its making it is in. A token
// that is neither was begun by somebody and not finished, or belongs to somebody:
// only a reset leads on.
type Info struct {
	Serial     uint32  // 0 if the token tells none
	Firmware   [3]byte // major, minor, patch
	FactoryNew bool    // factory PIN, PUK and management key, all tries left, no key and no certificate
	Ready      bool    // none of PIN, PUK and management key is the factory's
	CanAttest  bool    // it can prove where a key was made
	CanAgree   bool    // it does not say that it cannot do ECDH; only a factory-new token is asked
	PINTries   int     // left
	PUKTries   int     // left; -1 if the token does not say
}

// state is Info and what the making of a token must know.
type state struct {
	Info
	pinTotal        int
	pin, puk, admin metadata
	slots           map[Slot]metadata
	long            bool // selected by its whole identifier only, which piv-go cannot do
}

// Probe asks the token in a reader what it is and what state it is in. It
// writes nothing, presents no PIN and leaves the token reset.
//
// Errors: hsm.ErrNoDevice, ErrRemoved, ErrBusy, ErrNotPIV, ErrCannotAttest (no
// Yubico instructions at all, or not the ones this needs), ErrUnavailable, or
// ctx's.
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
	_, err := onCard(ctx, reader, func(c *card) (struct{}, error) {
		_, _, err := c.selectPIV()
		return struct{}{}, err
	})
	return err
}

// selectPIV selects the application as piv-go does, and by its whole identifier
// when that is refused, as Nitrokey's does (piv-go's issue 189).
func (c *card) selectPIV() (template []byte, long bool, err error) {
	for _, n := range []int{shortIdentifier, len(pivApplication)} {
		b, status, err := c.send(apdu.Command{INS: insSelect, P1: 0x04, Data: pivApplication[:n], Le: apdu.MaxShortLe})
		if err != nil {
			return nil, false, err
		}
		if status == apdu.OK {
			return b, n != shortIdentifier, nil
		}
	}
	return nil, false, hsm.ErrNotPIV
}

// serial is 0 when the token tells none.
func (c *card) serial() (uint32, error) {
	b, status, err := c.send(apdu.Command{INS: insSerial, Le: apdu.MaxShortLe})
	if err != nil || status != apdu.OK || len(b) != 4 {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

func (c *card) version() (v [3]byte, told bool, err error) {
	b, status, err := c.send(apdu.Command{INS: insVersion, Le: apdu.MaxShortLe})
	if err != nil || status != apdu.OK || len(b) != len(v) {
		return v, false, err
	}
	return [3]byte(b), true, nil
}

func read(c *card) (s state, err error) {
	if _, s.long, err = c.selectPIV(); err != nil {
		return s, err
	}
	var told bool
	if s.Firmware, told, err = c.version(); err != nil {
		return s, err
	}
	if !told {
		return s, fmt.Errorf("%w: no version", hsm.ErrCannotAttest)
	}
	if s.Serial, err = c.serial(); err != nil {
		return s, err
	}
	if err := c.credentials(&s); err != nil {
		return s, err
	}
	s.FactoryNew = s.pin.factory && s.puk.factory && s.admin.factory && s.admin.algorithm != 0 &&
		s.pin.left == s.pin.total && s.puk.left == s.puk.total
	s.slots = map[Slot]metadata{}
	for _, slot := range []Slot{Authentication, Signature, KeyManagement, CardAuthentication} {
		m, err := c.metadata(byte(slot))
		if err != nil {
			return s, err
		}
		s.slots[slot] = m
		s.FactoryNew = s.FactoryNew && m.status == apdu.ReferencedDataNotFound
	}
	for _, slot := range []Slot{Authentication, Signature, KeyManagement, CardAuthentication} {
		if !s.FactoryNew {
			break // certificates would change nothing
		}
		_, status, err := c.object(slot.object())
		if err != nil {
			return s, err
		}
		s.FactoryNew = status == apdu.FileNotFound
	}
	if s.CanAttest, err = c.attests(); err != nil {
		return s, err
	}
	s.CanAttest = s.CanAttest && s.Serial != 0
	if s.long {
		if !s.CanAttest {
			return s, fmt.Errorf("%w: nor is it selected by a short identifier", hsm.ErrCannotAttest)
		}
		return s, fmt.Errorf("%w: it is not selected by a short identifier", hsm.ErrUnsupported)
	}
	if s.FactoryNew {
		s.CanAgree, err = c.agrees()
	}
	return s, err
}

// credentials reads what the token says of PIN, PUK and management key.
func (c *card) credentials(s *state) (err error) {
	if s.pin, err = c.metadata(refPIN); err != nil {
		return err
	}
	s.pinTotal, s.PINTries = s.pin.total, s.pin.left
	if s.pin.total == 0 { // no metadata: ask the standard's way
		_, status, err := c.send(apdu.Command{INS: insVerify, P2: refPIN})
		if err != nil {
			return err
		}
		s.PINTries, _ = triesLeft(status)
		s.pinTotal = s.PINTries
	}
	if s.puk, err = c.metadata(refPUK); err != nil {
		return err
	}
	s.PUKTries = -1
	if s.puk.total != 0 {
		s.PUKTries = s.puk.left
	}
	if s.admin, err = c.metadata(refAdmin); err != nil {
		return err
	}
	s.Ready = s.pin.replaced() && s.puk.replaced() && s.admin.replaced()
	return nil
}

// attests says whether the token knows how to attest: it has a certificate to
// do it with, and does not refuse the instruction for an empty slot.
func (c *card) attests() (bool, error) {
	own, status, err := c.object(objectAttestation)
	if err != nil || status != apdu.OK || len(own) == 0 {
		return false, err
	}
	_, status, err = c.send(apdu.Command{INS: insAttest, P1: refSpare, Le: apdu.MaxShortLe})
	return !refuses(status), err
}

// agrees asks for a key agreement (SP 800-73-4 Part 2, 3.2.4 and A.4) with an
// empty slot. A card without the operation may say so: PivApplet 0.9 answers
// 6A81, but looks for PIN and key first and answers 6982 or 6A86 for an empty
// slot, whether it can or not. YubiKeys, which can, are reported to answer 6A80
// for an empty slot (yubico-piv-tool issue 222), CanoKeys 6A88 (canokey-core pull
// request 69). So only a refusal of the operation counts, and anything else
// proves nothing: the proof is the agreement that GenerateKeys runs.
func (c *card) agrees() (bool, error) {
	point := tlv.Encode(0x85, basePoint)
	_, status, err := c.send(apdu.Command{INS: insAuthenticate, P1: algorithmP256, P2: refSpare,
		Data: tlv.Encode(0x7C, tlv.Encode(0x82), point), Le: apdu.MaxShortLe})
	return !refuses(status), err
}

// basePoint is the base point of P-256: the public key of the private key 1.
var basePoint = func() []byte {
	one, err := ecdh.P256().NewPrivateKey(append(make([]byte, 31), 1))
	if err != nil {
		panic(err)
	}
	return one.PublicKey().Bytes()
}()

// refuses says that a card does not have an operation at all.
func refuses(status apdu.Status) bool {
	return status == apdu.InstructionNotSupported || status == apdu.ClassNotSupported || status == apdu.FunctionNotSupported
}

// object reads a data object (SP 800-73-4 Part 2, 3.1.2), with its 53 header.
func (c *card) object(id uint32) ([]byte, apdu.Status, error) {
	return c.send(apdu.Command{INS: insGetData, P1: 0x3F, P2: 0xFF, Data: tlv.Encode(0x5C, objectID(id)), Le: apdu.MaxShortLe})
}

func objectID(id uint32) []byte {
	if id <= 0xFF {
		return []byte{byte(id)}
	}
	return []byte{byte(id >> 16), byte(id >> 8), byte(id)}
}

package icao

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// Data objects of secure messaging (ICAO 9303-11 9.8.4).
const (
	doCryptogram       tlv.Tag = 0x85 // for odd instructions
	doPaddedCryptogram tlv.Tag = 0x87
	doMAC              tlv.Tag = 0x8E
	doLe               tlv.Tag = 0x97
	doStatus           tlv.Tag = 0x99
)

// claSecure in the class byte says: secure messaging, header authenticated.
const claSecure = 0x0C

// session is one secure messaging channel (ICAO 9303-11 9.8). It protects
// commands and unprotects responses strictly in turn. After an error it must
// not be used again: the counters of the two ends may differ.
type session struct {
	algorithm  algorithm
	encryption []byte // keys
	integrity  []byte
	ssc        []byte // send sequence counter, one block
}

func newSession(a algorithm, sharedSecret []byte) *session {
	return &session{
		algorithm:  a,
		encryption: a.derive(sharedSecret, counterEncryption),
		integrity:  a.derive(sharedSecret, counterMAC),
		ssc:        make([]byte, a.blockSize()),
	}
}

func (s *session) wipe() {
	clear(s.encryption)
	clear(s.integrity)
	clear(s.ssc)
}

// Format keeps the keys out of every print.
func (s *session) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

func (s *session) count() {
	for i := len(s.ssc) - 1; i >= 0; i-- {
		if s.ssc[i]++; s.ssc[i] != 0 {
			return
		}
	}
}

// iv is zero for 3DES and the encrypted counter for AES (ICAO 9303-11 9.8.6).
func (s *session) iv() []byte {
	iv := make([]byte, s.algorithm.blockSize())
	if s.algorithm != tripleDES {
		s.algorithm.block(s.encryption).Encrypt(iv, s.ssc)
	}
	return iv
}

// mac authenticates the counter and what follows it. Header blocks are padded already.
func (s *session) mac(parts ...[]byte) []byte {
	message := append([][]byte{s.ssc}, parts...)
	return s.algorithm.mac(s.integrity, pad(bytes.Join(message, nil), s.algorithm.blockSize()))
}

// maxData is how many bytes a READ BINARY answer can carry when the protected
// response may have limit bytes: the rest is tag, length and padding indicator
// of the cryptogram (5), DO'99' (4), DO'8E' (10) and padding.
func (s *session) maxData(limit int) int {
	block := s.algorithm.blockSize()
	return (limit-19)/block*block - 1
}

// protect turns a plain command into a protected one. The command must have
// data or Le: one with neither does not occur in these protocols.
func (s *session) protect(c apdu.Command) (apdu.Command, error) {
	if len(c.Data) == 0 && c.Le == 0 {
		return apdu.Command{}, errors.New("secure messaging for a bare header")
	}
	s.count()
	block := s.algorithm.blockSize()
	var objects []byte
	if len(c.Data) > 0 {
		cryptogram := s.algorithm.encrypt(s.encryption, s.iv(), pad(c.Data, block))
		if c.INS&1 == 0 {
			objects = tlv.Encode(doPaddedCryptogram, []byte{1}, cryptogram)
		} else {
			objects = tlv.Encode(doCryptogram, cryptogram)
		}
	}
	if c.Le > 0 {
		le := []byte{byte(c.Le)}
		if c.Extended || c.Le > apdu.MaxShortLe {
			le = []byte{byte(c.Le >> 8), byte(c.Le)}
		}
		objects = append(objects, tlv.Encode(doLe, le)...)
	}
	header := []byte{c.CLA | claSecure, c.INS, c.P1, c.P2}
	mac := s.mac(pad(header, block), objects)
	p := apdu.Command{
		CLA: header[0], INS: c.INS, P1: c.P1, P2: c.P2,
		Data:     append(objects, tlv.Encode(doMAC, mac)...),
		Le:       apdu.MaxShortLe,
		Extended: c.Extended || c.Le > apdu.MaxShortLe,
	}
	if p.Extended || len(p.Data) > apdu.MaxShortLc {
		p.Extended, p.Le = true, apdu.MaxExtendedLe
	}
	return p, nil
}

// unprotect checks and opens the protected response to a plain command: the MAC
// covers every object, they stand in the order of ICAO 9303-11 9.8.4, and the
// protected status equals the outer one. Every error means that the channel is
// broken or somebody is in it.
func (s *session) unprotect(c apdu.Command, r apdu.Response) (apdu.Response, error) {
	s.count()
	if len(r.Data) == 0 {
		return apdu.Response{}, fmt.Errorf("answer without protection: %w", r.Status)
	}
	objects, err := tlv.Parse(r.Data)
	if err != nil {
		return apdu.Response{}, fmt.Errorf("protected answer: %w", err)
	}
	var cryptogram, status *tlv.Node
	last := len(objects) - 1
	for i := range objects[:last] {
		switch o := &objects[i]; {
		case (o.Tag == doPaddedCryptogram || o.Tag == doCryptogram && c.INS&1 != 0) && cryptogram == nil && status == nil:
			cryptogram = o
		case o.Tag == doStatus && status == nil && len(o.Value) == 2:
			status = o
		default:
			return apdu.Response{}, fmt.Errorf("protected answer: unexpected object %X", uint32(o.Tag))
		}
	}
	mac := objects[last]
	if mac.Tag != doMAC || status == nil {
		return apdu.Response{}, errors.New("protected answer: no MAC or no status")
	}
	if subtle.ConstantTimeCompare(mac.Value, s.mac(r.Data[:len(r.Data)-len(mac.Raw)])) != 1 {
		return apdu.Response{}, errors.New("protected answer: wrong MAC")
	}
	inner := apdu.Status(status.Value[0])<<8 | apdu.Status(status.Value[1])
	if inner != r.Status {
		return apdu.Response{}, fmt.Errorf("protected status %04X, outer status %04X", uint16(inner), uint16(r.Status))
	}
	opened := apdu.Response{Status: inner}
	if cryptogram == nil {
		if c.INS&^1 == 0xB0 && inner == apdu.OK { // READ BINARY
			return apdu.Response{}, errors.New("protected answer: no data")
		}
		return opened, nil
	}
	b := cryptogram.Value
	if cryptogram.Tag == doPaddedCryptogram {
		if len(b) == 0 || b[0] != 1 {
			return apdu.Response{}, errors.New("protected answer: padding indicator")
		}
		b = b[1:]
	}
	if block := s.algorithm.blockSize(); len(b) == 0 || len(b)%block != 0 {
		return apdu.Response{}, fmt.Errorf("protected answer: %d bytes of cryptogram", len(b))
	} else if opened.Data, err = unpad(s.algorithm.decrypt(s.encryption, s.iv(), b), block); err != nil {
		return apdu.Response{}, fmt.Errorf("protected answer: %w", err)
	}
	return opened, nil
}

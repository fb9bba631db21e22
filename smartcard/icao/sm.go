package icao

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"

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

	block cipher.Block // of encryption
	cmac  hash.Hash    // of integrity; nil for 3DES
}

func newSession(a algorithm, sharedSecret []byte) *session {
	return sessionWith(a, a.derive(sharedSecret, counterEncryption), a.derive(sharedSecret, counterMAC), make([]byte, a.blockSize()))
}

func sessionWith(a algorithm, encryption, integrity, ssc []byte) *session {
	s := &session{algorithm: a, encryption: encryption, integrity: integrity, ssc: ssc, block: a.block(encryption)}
	if a != tripleDES {
		s.cmac = a.cmac(integrity)
	}
	return s
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
		s.block.Encrypt(iv, s.ssc)
	}
	return iv
}

// mac authenticates the counter and what follows it. Header blocks are padded already.
func (s *session) mac(parts ...[]byte) []byte {
	if s.cmac == nil {
		message := append([][]byte{s.ssc}, parts...)
		return s.algorithm.mac(s.integrity, pad(bytes.Join(message, nil), s.algorithm.blockSize()))
	}
	s.cmac.Reset()
	n, _ := s.cmac.Write(s.ssc)
	for _, p := range parts {
		s.cmac.Write(p)
		n += len(p)
	}
	s.cmac.Write(padding[:aes.BlockSize-n%aes.BlockSize])
	return s.cmac.Sum(nil)
}

// padding is padding method 2 for one block at most.
var padding = [aes.BlockSize]byte{0x80}

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
	out := make([]byte, 0, len(c.Data)+64)
	if len(c.Data) > 0 {
		cryptogram := pad(c.Data, block)
		cipher.NewCBCEncrypter(s.block, s.iv()).CryptBlocks(cryptogram, cryptogram)
		if c.INS&1 == 0 {
			out = append(out, tlv.Encode(doPaddedCryptogram, []byte{1}, cryptogram)...)
		} else {
			out = append(out, tlv.Encode(doCryptogram, cryptogram)...)
		}
	}
	extended := c.Extended || c.Le > apdu.MaxShortLe
	switch {
	case c.Le > 0 && extended:
		out = append(out, byte(doLe), 2, byte(c.Le>>8), byte(c.Le))
	case c.Le > 0:
		out = append(out, byte(doLe), 1, byte(c.Le))
	}
	header := []byte{c.CLA | claSecure, c.INS, c.P1, c.P2}
	mac := s.mac(pad(header, block), out)
	out = append(append(out, byte(doMAC), byte(len(mac))), mac...)
	p := apdu.Command{CLA: header[0], INS: c.INS, P1: c.P1, P2: c.P2, Data: out, Le: apdu.MaxShortLe}
	if extended || len(out) > apdu.MaxShortLc {
		p.Extended, p.Le = true, apdu.MaxExtendedLe
	}
	return p, nil
}

// unprotect checks and opens the protected response to a plain command: the MAC
// covers every object, they stand in the order of ICAO 9303-11 9.8.4, and the
// protected status equals the outer one. Every error means that the channel is
// broken or somebody is in it. It decrypts in place.
func (s *session) unprotect(c apdu.Command, r apdu.Response) (apdu.Response, error) {
	s.count()
	if len(r.Data) == 0 {
		return apdu.Response{}, fmt.Errorf("answer without protection: %w", r.Status)
	}
	var cryptogram, status, mac []byte
	var cryptogramTag tlv.Tag
	covered := 0 // by the MAC
	for rest := r.Data; len(rest) > 0; {
		tag, header, length, err := tlv.Header(rest)
		if err != nil || length > len(rest)-header {
			return apdu.Response{}, fmt.Errorf("protected answer: %w", tlv.ErrMalformed)
		}
		value := rest[header : header+length]
		rest = rest[header+length:]
		switch {
		case (tag == doPaddedCryptogram || tag == doCryptogram && c.INS&1 != 0) && cryptogram == nil && status == nil:
			cryptogram, cryptogramTag = value, tag
		case tag == doStatus && status == nil && length == 2:
			status = value
		case tag == doMAC && status != nil && len(rest) == 0:
			mac = value
			covered = len(r.Data) - header - length
		default:
			return apdu.Response{}, fmt.Errorf("protected answer: object %X out of place", uint32(tag))
		}
	}
	if mac == nil {
		return apdu.Response{}, errors.New("protected answer: no MAC")
	}
	if subtle.ConstantTimeCompare(mac, s.mac(r.Data[:covered])) != 1 {
		return apdu.Response{}, errors.New("protected answer: wrong MAC")
	}
	inner := apdu.Status(status[0])<<8 | apdu.Status(status[1])
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
	b := cryptogram
	if cryptogramTag == doPaddedCryptogram {
		if len(b) == 0 || b[0] != 1 {
			return apdu.Response{}, errors.New("protected answer: padding indicator")
		}
		b = b[1:]
	}
	block := s.algorithm.blockSize()
	if len(b) == 0 || len(b)%block != 0 {
		return apdu.Response{}, fmt.Errorf("protected answer: %d bytes of cryptogram", len(b))
	}
	cipher.NewCBCDecrypter(s.block, s.iv()).CryptBlocks(b, b)
	var err error
	if opened.Data, err = unpad(b, block); err != nil {
		return apdu.Response{}, fmt.Errorf("protected answer: %w", err)
	}
	return opened, nil
}

package idcard

import (
	"crypto/subtle"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// channel is one secure messaging session, the chip's end (9303-11 9.8).
type channel struct {
	suite    Suite
	enc, mac []byte
	ssc      []byte // send sequence counter, one block long
	pace     bool   // PACE has passed
}

// newChannel derives both session keys; ssc nil starts the counter at zero.
func newChannel(s Suite, secret, ssc []byte) *channel {
	if ssc == nil {
		ssc = make([]byte, s.blockSize())
	}
	return &channel{suite: s, enc: s.derive(secret, forEncryption), mac: s.derive(secret, forMAC), ssc: ssc}
}

func (c *channel) count() {
	for i := len(c.ssc) - 1; i >= 0; i-- {
		c.ssc[i]++
		if c.ssc[i] != 0 {
			return
		}
	}
}

func (c *channel) iv() []byte {
	iv := make([]byte, c.suite.blockSize())
	if c.suite != TripleDES { // 9303-11 9.8.6.1
		c.suite.block(c.enc).Encrypt(iv, c.ssc)
	}
	return iv
}

// open checks and decrypts a protected command. Le of the result is what DO'97' asks.
func (c *channel) open(in apdu.Command) (apdu.Command, apdu.Status) {
	c.count()
	list, ok := readTLV(in.Data)
	if !ok || len(list) == 0 {
		return in, apdu.SMObjectsMissing
	}
	last := list[len(list)-1]
	if last.tag != 0x8E {
		return in, apdu.SMObjectsMissing
	}
	list = list[:len(list)-1]
	var objects []byte
	for _, o := range list {
		objects = append(objects, o.raw...)
	}
	n := append(append([]byte(nil), c.ssc...), pad([]byte{in.CLA, in.INS, in.P1, in.P2}, c.suite.blockSize())...)
	if len(objects) > 0 {
		n = append(n, pad(objects, c.suite.blockSize())...)
	}
	if subtle.ConstantTimeCompare(c.suite.mac(c.mac, n), last.value) != 1 {
		return in, apdu.SMObjectsIncorrect
	}

	out := apdu.Command{CLA: in.CLA &^ 0x0C, INS: in.INS, P1: in.P1, P2: in.P2, Extended: in.Extended}
	if len(list) > 0 && (list[0].tag == 0x87 || list[0].tag == 0x85) {
		sealed := list[0].value
		if (list[0].tag == 0x85) != (in.INS&1 == 1) {
			return in, apdu.SMObjectsIncorrect
		}
		if list[0].tag == 0x87 {
			if len(sealed) == 0 || sealed[0] != 1 { // padding-content indicator
				return in, apdu.SMObjectsIncorrect
			}
			sealed = sealed[1:]
		}
		size := c.suite.blockSize()
		if len(sealed) == 0 || len(sealed)%size != 0 {
			return in, apdu.SMObjectsIncorrect
		}
		if out.Data, ok = unpad(c.suite.decrypt(c.enc, c.iv(), sealed), size); !ok {
			return in, apdu.SMObjectsIncorrect
		}
		list = list[1:]
	}
	if len(list) > 0 && list[0].tag == 0x97 {
		v := list[0].value
		if len(v) < 1 || len(v) > 2 {
			return in, apdu.SMObjectsIncorrect
		}
		out.Le = int(new(big.Int).SetBytes(v).Int64())
		if out.Le == 0 {
			out.Le = 1 << (8 * len(v))
		}
		list = list[1:]
	}
	if len(list) > 0 {
		return in, apdu.SMObjectsIncorrect
	}
	return out, apdu.OK
}

// seal protects an answer.
func (c *channel) seal(ins byte, data []byte, sw apdu.Status) []byte {
	c.count()
	size := c.suite.blockSize()
	var objects []byte
	if len(data) > 0 {
		sealed := c.suite.encrypt(c.enc, c.iv(), pad(data, size))
		if ins&1 == 1 {
			objects = tlv(0x85, sealed)
		} else {
			objects = tlv(0x87, []byte{1}, sealed)
		}
	}
	objects = append(objects, tlv(0x99, []byte{byte(sw >> 8), byte(sw)})...)
	n := append(append([]byte(nil), c.ssc...), pad(objects, size)...)
	return append(objects, tlv(0x8E, c.suite.mac(c.mac, n))...)
}

// room is the number of plain bytes that a protected answer of limit bytes can carry.
func (c *channel) room(limit int) int {
	n := limit - 4 - 10 // DO'99' and DO'8E'
	n -= 1 + 1          // tag of DO'87' and its padding-content indicator
	if n <= 0x100 {
		n -= 2 // its length field
	} else {
		n -= 3
	}
	size := c.suite.blockSize()
	return max(n/size*size-1, 0)
}

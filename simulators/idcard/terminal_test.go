package idcard

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

// terminal is the other end of a chip: it knows a password and asks.
type terminal struct {
	t        testing.TB
	chip     *Chip
	sm       *channel
	extended bool

	lenient bool     // PACE goes on without the chip's proof
	proof   *big.Int // what PACE with Chip Authentication Mapping left, and the chip's mapping key
	mapping point
}

func connect(t testing.TB, c *Chip) *terminal {
	c.Reset()
	return &terminal{t: t, chip: c}
}

// plain sends a command outside secure messaging.
func (r *terminal) plain(c apdu.Command) apdu.Response {
	r.t.Helper()
	b, err := c.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	answer, err := apdu.ParseResponse(r.chip.Transmit(context.Background(), b))
	if err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// protect writes the protected form of a command, and counts.
func (r *terminal) protect(c apdu.Command) apdu.Command {
	sm, size := r.sm, r.sm.suite.blockSize()
	sm.count()
	out := apdu.Command{CLA: c.CLA | 0x0C, INS: c.INS, P1: c.P1, P2: c.P2, Le: apdu.MaxShortLe, Extended: c.Extended || r.extended || len(c.Data) > 200}
	var objects []byte
	if len(c.Data) > 0 {
		sealed := sm.suite.encrypt(sm.enc, sm.iv(), pad(c.Data, size))
		if c.INS&1 == 1 {
			objects = tlv(0x85, sealed)
		} else {
			objects = tlv(0x87, []byte{1}, sealed)
		}
	}
	if out.Extended {
		out.Le = apdu.MaxExtendedLe
	}
	switch {
	case c.Le == 0:
	case c.Le <= 256:
		objects = append(objects, tlv(0x97, []byte{byte(c.Le)})...)
	default:
		objects = append(objects, tlv(0x97, []byte{byte(c.Le >> 8), byte(c.Le)})...)
	}
	n := append(bytes.Clone(sm.ssc), pad([]byte{out.CLA, out.INS, out.P1, out.P2}, size)...)
	if len(objects) > 0 {
		n = append(n, pad(objects, size)...)
	}
	out.Data = append(objects, tlv(0x8E, sm.suite.mac(sm.mac, n))...)
	return out
}

var errChannel = errors.New("secure messaging broke")

// send sends a command under secure messaging, and checks the answer's.
func (r *terminal) send(c apdu.Command) (apdu.Response, error) {
	r.t.Helper()
	return r.opened(r.plain(r.protect(c)))
}

// opened takes secure messaging off an answer.
func (r *terminal) opened(answer apdu.Response) (apdu.Response, error) {
	sm := r.sm
	sm.count()
	list, ok := readTLV(answer.Data)
	if !ok || len(list) < 2 {
		return answer, fmt.Errorf("%w: %v", errChannel, answer.Status)
	}
	var objects []byte
	for _, o := range list[:len(list)-1] {
		objects = append(objects, o.raw...)
	}
	n := append(bytes.Clone(sm.ssc), pad(objects, sm.suite.blockSize())...)
	if !bytes.Equal(sm.suite.mac(sm.mac, n), find(list, 0x8E)) {
		return answer, fmt.Errorf("%w: wrong MAC", errChannel)
	}
	inner := find(list, 0x99)
	out := apdu.Response{Status: apdu.Status(inner[0])<<8 | apdu.Status(inner[1])}
	sealed := find(list, 0x85)
	if b := find(list, 0x87); b != nil {
		sealed = b[1:]
	}
	if sealed != nil {
		if out.Data, ok = unpad(sm.suite.decrypt(sm.enc, sm.iv(), sealed), sm.suite.blockSize()); !ok {
			return out, fmt.Errorf("%w: padding", errChannel)
		}
	}
	return out, nil
}

// pace runs PACE and returns the status that ended it. Reference 1 is the MRZ, 2 the CAN.
func (r *terminal) pace(v PACE, reference byte, password []byte) apdu.Status {
	r.t.Helper()
	d, err := v.Domain.agreement()
	if err != nil {
		r.t.Fatal(err)
	}
	at := bytes.Join([][]byte{tlv(0x80, v.oid()), tlv(0x83, []byte{reference}), tlv(0x84, []byte{byte(v.Domain)})}, nil)
	if a := r.plain(apdu.Command{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: at}); a.Status != apdu.OK {
		return a.Status
	}
	var sw apdu.Status
	step := func(cla byte, tag int, value []byte) []object {
		var in []byte
		if value != nil {
			in = tlv(tag, value)
		}
		c := apdu.Command{CLA: cla, INS: 0x86, Data: tlv(0x7C, in), Le: apdu.MaxShortLe}
		if len(c.Data) > apdu.MaxShortLc {
			c.Le = apdu.MaxExtendedLe
		}
		a := r.plain(c)
		sw = a.Status
		outer, _ := readTLV(a.Data)
		list, _ := readTLV(find(outer, 0x7C))
		return list
	}
	key := v.Suite.derive(password, forPassword)
	s := v.Suite.decrypt(key, make([]byte, v.Suite.blockSize()), find(step(0x10, 0, nil), 0x80))
	var mapped, theirs point
	var ok bool
	if v.Mapping == IM {
		t := make([]byte, v.Suite.keySize())
		rand.Read(t)
		mapped = d.mapped(v.Suite.pseudoRandom(s, t, d.modulus()))
		if list := step(0x10, 0x81, t); len(list) != 1 || list[0].tag != 0x82 || len(list[0].value) != 0 {
			return sw
		}
	} else {
		x, _ := d.scalar(rand.Reader)
		if theirs, ok = d.decode(find(step(0x10, 0x81, d.encode(d.mul(x, d.base()))), 0x82)); !ok {
			return sw
		}
		mapped = d.add(d.mul(new(big.Int).SetBytes(s), d.base()), d.mul(x, theirs))
	}
	mapping := theirs
	y, _ := d.scalar(rand.Reader)
	public := d.encode(d.mul(y, mapped))
	answer := find(step(0x10, 0x83, public), 0x84)
	if theirs, ok = d.decode(answer); !ok {
		return sw
	}
	sm := newChannel(v.Suite, d.secret(d.mul(y, theirs)), nil)
	over := func(p []byte) []byte {
		return v.Suite.token(sm.mac, tlv(0x7F49, tlv(0x06, v.oid()), tlv(d.tag(), p)))
	}
	list := step(0x00, 0x85, over(answer))
	if sw != apdu.OK {
		return sw
	}
	if !bytes.Equal(find(list, 0x86), over(public)) {
		r.t.Fatal("the chip's token is wrong")
	}
	if !r.lenient && (v.Mapping == CAM) != (find(list, 0x8A) != nil) {
		r.t.Fatalf("mapping %d: the last answer has %d objects", v.Mapping, len(list))
	}
	if v.Mapping == CAM {
		r.proof, r.mapping = r.openProof(sm, find(list, 0x8A)), mapping
	}
	r.sm = sm
	return apdu.OK
}

// openProof decrypts the chip authentication data, nil if there is none.
func (r *terminal) openProof(sm *channel, sealed []byte) *big.Int {
	if len(sealed) == 0 || len(sealed)%16 != 0 {
		return nil
	}
	iv := bytes.Repeat([]byte{0xFF}, 16)
	sm.suite.block(sm.enc).Encrypt(iv, iv)
	plain, ok := unpad(sm.suite.decrypt(sm.enc, iv, sealed), 16)
	if !ok {
		return nil
	}
	return new(big.Int).SetBytes(plain)
}

func (r *terminal) paceCAN() {
	r.t.Helper()
	if sw := r.pace(r.chip.profile.PACE[0], 2, []byte(r.chip.CAN())); sw != apdu.OK {
		r.t.Fatalf("PACE with the CAN: %v", sw)
	}
	r.selectApplication()
}

func mrzPassword(c *Chip) []byte {
	h := sha1.Sum(c.mrzKey)
	return h[:]
}

func (r *terminal) selectApplication() {
	r.t.Helper()
	c := apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: application}
	var a apdu.Response
	var err error
	if r.sm == nil {
		a = r.plain(c)
	} else {
		a, err = r.send(c)
	}
	if err != nil || a.Status != apdu.OK {
		r.t.Fatalf("select application: %v, %v", a.Status, err)
	}
}

// bac runs Basic Access Control in the selected application.
func (r *terminal) bac(info []byte) apdu.Status {
	r.t.Helper()
	a := r.plain(apdu.Command{INS: 0x84, Le: 8})
	if a.Status != apdu.OK {
		return a.Status
	}
	hash := sha1.Sum(info)
	enc, mac := TripleDES.derive(hash[:16], forEncryption), TripleDES.derive(hash[:16], forMAC)
	own := make([]byte, 24)
	rand.Read(own)
	sealed := TripleDES.encrypt(enc, make([]byte, 8), bytes.Join([][]byte{own[:8], a.Data, own[8:]}, nil))
	b := r.plain(apdu.Command{INS: 0x82, Data: append(sealed, TripleDES.mac(mac, pad(sealed, 8))...), Le: 40})
	if b.Status != apdu.OK {
		return b.Status
	}
	s := TripleDES.decrypt(enc, make([]byte, 8), b.Data[:32])
	seed := make([]byte, 16)
	subtle.XORBytes(seed, own[8:], s[16:])
	r.sm = newChannel(TripleDES, seed, append(bytes.Clone(a.Data[4:]), own[4:8]...))
	return apdu.OK
}

// read reads a file whole, by short identifier first, past 32767 bytes with odd INS.
func (r *terminal) read(id uint16) ([]byte, error) {
	r.t.Helper()
	le := 256
	if r.extended {
		le = apdu.MaxExtendedLe
	}
	var file []byte
	size := -1
	for size < 0 || len(file) < size {
		c := apdu.Command{INS: 0xB0, P1: byte(len(file) >> 8), P2: byte(len(file)), Le: le}
		if len(file) == 0 {
			c.P1, c.P2 = 0x80|byte(id&0x1F), 0
		}
		odd := len(file) > 0x7FFF
		if odd {
			c = apdu.Command{INS: 0xB1, Data: tlv(0x54, []byte{byte(len(file) >> 16), byte(len(file) >> 8), byte(len(file))}), Le: le}
		}
		a, err := r.send(c)
		if err != nil {
			return nil, err
		}
		if a.Status != apdu.OK {
			return nil, a.Status
		}
		if odd {
			list, _ := readTLV(a.Data)
			a.Data = find(list, 0x53)
		}
		if len(a.Data) == 0 {
			return nil, errors.New("an empty answer")
		}
		file = append(file, a.Data...)
		if size < 0 && len(file) >= 6 {
			size = total(file)
		}
	}
	return file, nil
}

// total is the length of the file that begins with these bytes.
func total(b []byte) int {
	switch b[1] {
	case 0x81:
		return 3 + int(b[2])
	case 0x82:
		return 4 + int(b[2])<<8 + int(b[3])
	case 0x83:
		return 5 + int(b[2])<<16 + int(b[3])<<8 + int(b[4])
	}
	return 2 + int(b[1])
}

// authenticateChip runs Chip Authentication and reads EF.COM under the new keys.
func (r *terminal) authenticateChip(key *ChipKey, public []byte) apdu.Status {
	r.t.Helper()
	d, err := key.Domain.agreement()
	if err != nil {
		r.t.Fatal(err)
	}
	x, _ := d.scalar(rand.Reader)
	theirs, ok := d.decode(public)
	if !ok {
		r.t.Fatal("the chip's public key is not in its group")
	}
	own := d.encode(d.mul(x, d.base()))
	var id []byte
	if key.ID != nil {
		id = tlv(0x84, key.ID.Bytes())
	}
	var a apdu.Response
	if key.Suite == TripleDES {
		a, err = r.send(apdu.Command{INS: 0x22, P1: 0x41, P2: 0xA6, Data: append(tlv(0x91, own), id...)})
	} else {
		if a, err = r.send(apdu.Command{INS: 0x22, P1: 0x41, P2: 0xA4, Data: append(tlv(0x80, key.oid()), id...)}); err == nil && a.Status == apdu.OK {
			a, err = r.send(apdu.Command{INS: 0x86, Data: tlv(0x7C, tlv(0x80, own)), Le: 256})
		}
	}
	if err != nil || a.Status != apdu.OK {
		r.t.Fatalf("chip authentication: %v, %v", a.Status, err)
	}
	r.sm = newChannel(key.Suite, d.secret(d.mul(x, theirs)), nil)
	a, err = r.send(apdu.Command{INS: 0xB0, P1: 0x9E, Le: 256})
	if err != nil {
		return a.Status
	}
	return apdu.OK
}

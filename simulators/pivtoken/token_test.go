package pivtoken_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"strings"
	"testing"

	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/smartcard/apdu"
)

// terminal sends commands to a token as a reader would.
type terminal struct {
	t     *testing.T
	token *pivtoken.Token
}

func insert(t *testing.T, o pivtoken.Options) terminal {
	t.Helper()
	term := terminal{t, pivtoken.New(o)}
	term.token.Reset()
	return term
}

// send sends one command with chaining and fetches the whole answer.
func (term terminal) send(ins, p1, p2 byte, data ...byte) ([]byte, apdu.Status) {
	term.t.Helper()
	cla := byte(0x10)
	var answer []byte
	for {
		chunk := data
		if len(chunk) > 255 {
			chunk = chunk[:255]
		} else {
			cla = 0
		}
		data = data[len(chunk):]
		c := apdu.Command{CLA: cla, INS: ins, P1: p1, P2: p2, Data: chunk}
		if len(chunk) == 0 {
			c.Le = 256
		}
		r := term.raw(c)
		answer = append(answer, r.Data...)
		for r.Status>>8 == 0x61 {
			r = term.raw(apdu.Command{INS: 0xC0, Le: 256})
			answer = append(answer, r.Data...)
		}
		if cla == 0 || r.Status != apdu.OK {
			return answer, r.Status
		}
	}
}

func (term terminal) raw(c apdu.Command) apdu.Response {
	term.t.Helper()
	b, err := c.Bytes()
	if err != nil {
		term.t.Fatal(err)
	}
	r, err := apdu.ParseResponse(term.token.Transmit(context.Background(), b))
	if err != nil {
		term.t.Fatal(err)
	}
	return r
}

// must is send for a command that succeeds.
func (term terminal) must(ins, p1, p2 byte, data ...byte) []byte {
	term.t.Helper()
	answer, status := term.send(ins, p1, p2, data...)
	if status != apdu.OK {
		term.t.Fatalf("command %02X %02X %02X: %v", ins, p1, p2, status)
	}
	return answer
}

func (term terminal) refuses(want apdu.Status, ins, p1, p2 byte, data ...byte) {
	term.t.Helper()
	if _, status := term.send(ins, p1, p2, data...); status != want {
		term.t.Errorf("command %02X %02X %02X: %v, want %v", ins, p1, p2, status, want)
	}
}

func (term terminal) selectPIV() {
	term.t.Helper()
	term.must(0xA4, 4, 0, 0xA0, 0, 0, 3, 8)
}

func (term terminal) verify(pin string) {
	term.t.Helper()
	term.must(0x20, 0, 0x80, padded(pin)...)
}

func padded(pins ...string) []byte {
	var b []byte
	for _, pin := range pins {
		b = append(b, pin...)
		b = append(b, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"[len(pin):]...)
	}
	return b
}

var factoryKey = []byte{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}

const (
	tripleDES = 0x03
	aes128    = 0x08
	aes192    = 0x0A
	aes256    = 0x0C
)

func blockOf(t *testing.T, alg byte, key []byte) cipher.Block {
	t.Helper()
	newCipher := aes.NewCipher
	if alg == tripleDES {
		newCipher = des.NewTripleDESCipher
	}
	block, err := newCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// admin authenticates mutually with the management key.
func (term terminal) admin(alg byte, key []byte) apdu.Status {
	term.t.Helper()
	block := blockOf(term.t, alg, key)
	n := block.BlockSize()
	answer, status := term.send(0x87, alg, 0x9B, 0x7C, 2, 0x80, 0)
	if status != apdu.OK {
		return status
	}
	if len(answer) != 4+n {
		term.t.Fatalf("witness %x", answer)
	}
	witness := make([]byte, n)
	block.Decrypt(witness, answer[4:])
	challenge := bytes.Repeat([]byte{0x5A}, n)
	data := append([]byte{0x7C, byte(2 * (n + 2)), 0x80, byte(n)}, witness...)
	data = append(append(data, 0x81, byte(n)), challenge...)
	answer, status = term.send(0x87, alg, 0x9B, data...)
	if status != apdu.OK {
		return status
	}
	want := make([]byte, n)
	block.Encrypt(want, challenge)
	if !bytes.Equal(answer, append([]byte{0x7C, byte(n + 2), 0x82, byte(n)}, want...)) {
		term.t.Fatalf("the card did not authenticate itself: %x", answer)
	}
	return apdu.OK
}

func (term terminal) mustAdmin() {
	term.t.Helper()
	if status := term.admin(aes192, factoryKey); status != apdu.OK {
		term.t.Fatalf("administrator: %v", status)
	}
}

func TestSelect(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.refuses(apdu.InstructionNotSupported, 0x20, 0, 0x80)
	full := []byte{0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0}
	for _, n := range []int{5, 9, 11} {
		got := term.must(0xA4, 4, 0, full[:n]...)
		if want := "\x61\x11\x4F\x06\x00\x00\x10\x00\x01\x00\x79\x07\x4F\x05\xA0\x00\x00\x03\x08"; string(got) != want {
			t.Errorf("%d bytes: template %x", n, got)
		}
	}
	term.verify(pivtoken.DefaultPIN)
	term.selectPIV()
	term.must(0x20, 0, 0x80) // selecting again changes nothing

	term.refuses(apdu.FileNotFound, 0xA4, 4, 0, 0xA0, 0, 0, 3)
	term.refuses(apdu.FileNotFound, 0xA4, 4, 0, append(full, 0)...)
	term.refuses(apdu.IncorrectP1P2, 0xA4, 0, 0, full...)
	term.must(0x20, 0, 0x80)

	if got := term.must(0xA4, 4, 0, 0xA0, 0, 0, 5, 0x27, 0x47, 0x11, 0x17); !strings.HasSuffix(string(got), "5.7.4") {
		t.Errorf("management application says %q", got)
	}
	if got := term.must(0x1D, 0, 0); !bytes.Contains(got, []byte{4, 1, 1}) || int(got[0]) != len(got)-1 {
		t.Errorf("device information %x", got)
	}
	term.must(0xA4, 4, 0, 0xA0, 0, 0, 5, 0x27, 0x20, 1, 1)
	if got := term.must(0x01, 0x10, 0); binary.BigEndian.Uint32(got) != 10000001 {
		t.Errorf("serial %x", got)
	}
	term.selectPIV()
	term.refuses(0x63C3, 0x20, 0, 0x80) // another application was selected between

	term.verify(pivtoken.DefaultPIN)
	term.token.Reset()
	term.selectPIV()
	term.refuses(0x63C3, 0x20, 0, 0x80)
}

func TestPIN(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	good, bad := padded("123456"), padded("0")

	term.refuses(apdu.ReferencedDataNotFound, 0x20, 0, 0x96, 3, 0) // no fingerprint sensor
	term.refuses(apdu.WrongData, 0x20, 0, 0x80, good[:7]...)
	term.refuses(0x63C2, 0x20, 0, 0x80, bad...)
	term.refuses(0x63C2, 0x20, 0, 0x80)
	term.verify("123456") // restores the tries
	term.must(0x20, 0, 0x80)
	term.must(0x20, 0xFF, 0x80)
	term.refuses(0x63C3, 0x20, 0, 0x80)
	term.verify("123456")
	term.refuses(0x63C2, 0x20, 0, 0x80, bad...)
	term.refuses(0x63C2, 0x20, 0, 0x80) // and a wrong one takes the right away

	term.refuses(0x63C1, 0x24, 0, 0x80, padded("654321", "654321")...)
	for _, short := range []string{"", "12345", "123\xFF567"} {
		term.refuses(apdu.WrongData, 0x24, 0, 0x80, padded("123456", short)...)
	}
	term.must(0x24, 0, 0x80, padded("123456", "654321")...)
	term.refuses(0x63C2, 0x20, 0, 0x80, good...)
	term.refuses(0x63C1, 0x20, 0, 0x80, good...)
	term.refuses(0x63C0, 0x20, 0, 0x80, good...)
	term.refuses(apdu.AuthenticationBlocked, 0x20, 0, 0x80, padded("654321")...)
	term.refuses(apdu.AuthenticationBlocked, 0x20, 0, 0x80)
	term.refuses(apdu.AuthenticationBlocked, 0x24, 0, 0x80, padded("654321", "123456")...)

	term.refuses(0x63C2, 0x2C, 0, 0x80, padded("87654321", "123456")...)
	term.refuses(apdu.WrongData, 0x2C, 0, 0x80, padded("12345678", "12345")...)
	term.must(0x2C, 0, 0x80, padded("12345678", "111111")...)
	term.verify("111111")

	term.must(0x24, 0, 0x81, padded("12345678", "87654321")...)
	for left := 2; left >= 0; left-- {
		term.refuses(0x63C0|apdu.Status(left), 0x2C, 0, 0x80, padded("12345678", "123456")...)
	}
	term.refuses(apdu.AuthenticationBlocked, 0x2C, 0, 0x80, padded("87654321", "123456")...)
	term.refuses(apdu.AuthenticationBlocked, 0x24, 0, 0x81, padded("87654321", "12345678")...)
}

func TestSetPIN(t *testing.T) {
	token := pivtoken.New(pivtoken.Options{})
	for _, bad := range []string{"", "12345", "123456789"} {
		if token.SetPIN(bad) == nil {
			t.Errorf("PIN %q was taken", bad)
		}
	}
	if err := token.SetPIN("13579135"); err != nil {
		t.Fatal(err)
	}
	term := terminal{t, token}
	term.selectPIV()
	term.verify("13579135")
}

func TestManagementKey(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	term.refuses(apdu.SecurityNotSatisfied, 0xFF, 0xFF, 0xFF, append([]byte{aes192, 0x9B, 24}, factoryKey...)...)
	alg, key := byte(aes192), factoryKey
	for _, next := range []struct {
		alg    byte
		length int
	}{{tripleDES, 24}, {aes128, 16}, {aes256, 32}, {aes192, 24}} {
		wrong := bytes.Clone(key)
		wrong[3] ^= 0x10
		if status := term.admin(alg, wrong); status != apdu.SecurityNotSatisfied {
			t.Errorf("wrong key of algorithm %02X: %v", alg, status)
		}
		term.refuses(apdu.SecurityNotSatisfied, 0xDB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 2, 0x53, 0)
		if status := term.admin(alg, key); status != apdu.OK {
			t.Fatalf("algorithm %02X: %v", alg, status)
		}
		fresh := bytes.Repeat([]byte{next.alg, 0x51, 0x32, 0xA4}, 8)[:next.length]
		term.must(0xFF, 0xFF, 0xFF, append([]byte{next.alg, 0x9B, byte(next.length)}, fresh...)...)
		if next.alg != alg {
			if got := term.must(0xF7, 0, 0x9B); !bytes.Equal(got, []byte{1, 1, next.alg, 2, 2, 0, 1, 5, 1, 0}) {
				t.Errorf("metadata %x", got)
			}
			term.refuses(apdu.IncorrectP1P2, 0x87, alg, 0x9B, 0x7C, 2, 0x80, 0)
		}
		alg, key = next.alg, fresh
	}
	if status := term.admin(alg, key); status != apdu.OK {
		t.Fatal(status)
	}
	for _, bad := range [][]byte{{}, {aes192}, {aes192, 0x9B, 2, 1}, {aes192, 0x9B, 1, 1}, {0x77, 0x9B, 1, 1}, {aes192, 0x9A, 0}} {
		term.refuses(apdu.WrongData, 0xFF, 0xFF, 0xFF, bad...)
	}
}

// What a terminal without the key could try.
func TestManagementKeyAttacks(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	denied := func(what string) {
		t.Helper()
		if _, status := term.send(0xDB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 2, 0x53, 1, 0); status != apdu.SecurityNotSatisfied {
			t.Errorf("%s: %v", what, status)
		}
	}
	block := blockOf(t, aes192, factoryKey)
	witness := func() []byte { return term.must(0x87, aes192, 0x9B, 0x7C, 2, 0x80, 0)[4:] }
	answer := func(w []byte) apdu.Status {
		data := append([]byte{0x7C, 36, 0x80, 16}, w...)
		_, status := term.send(0x87, aes192, 0x9B, append(append(data, 0x81, 16), make([]byte, 16)...)...)
		return status
	}
	opened := make([]byte, 16)
	block.Decrypt(opened, witness())
	if status := answer(opened); status != apdu.OK {
		t.Fatal(status)
	}
	term.token.Reset()
	term.selectPIV()

	if answer(opened) == apdu.OK {
		t.Error("a witness without having been asked for")
	}
	denied("no witness")
	witness()
	if answer(opened) == apdu.OK {
		t.Error("an old witness")
	}
	denied("old witness")
	block.Decrypt(opened, witness())
	answer(make([]byte, 16))
	if answer(opened) == apdu.OK {
		t.Error("a second try at one witness")
	}
	denied("second try")
	sealed := witness()
	if answer(sealed) == apdu.OK {
		t.Error("the witness as it came")
	}
	if answer(nil) == apdu.OK {
		t.Error("an empty witness")
	}
	denied("empty")

	// One way, A.2.
	challenge := term.must(0x87, aes192, 0x9B, 0x7C, 2, 0x81, 0)[4:]
	term.refuses(apdu.SecurityNotSatisfied, 0x87, aes192, 0x9B, append([]byte{0x7C, 18, 0x82, 16}, challenge...)...)
	denied("challenge sent back")
	challenge = term.must(0x87, aes192, 0x9B, 0x7C, 2, 0x81, 0)[4:]
	response := make([]byte, 16)
	block.Encrypt(response, challenge)
	term.must(0x87, aes192, 0x9B, append([]byte{0x7C, 18, 0x82, 16}, response...)...)
	term.must(0xDB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 2, 0x53, 1, 0)
}

func TestObjects(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	if got := term.must(0xCB, 0x3F, 0xFF, 0x5C, 1, 0x7E); !bytes.Equal(got, []byte{
		0x7E, 0x12, 0x4F, 0x0B, 0xA0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0, 0x5F, 0x2F, 2, 0x40, 0,
	}) {
		t.Errorf("discovery %x", got)
	}
	read := func(tag ...byte) ([]byte, apdu.Status) {
		return term.send(0xCB, 0x3F, 0xFF, append([]byte{0x5C, byte(len(tag))}, tag...)...)
	}
	write := func(content []byte, tag ...byte) apdu.Status {
		data := append([]byte{0x5C, byte(len(tag))}, tag...)
		data = append(data, 0x53, 0x82, byte(len(content)>>8), byte(len(content)))
		_, status := term.send(0xDB, 0x3F, 0xFF, append(data, content...)...)
		return status
	}
	if status := write([]byte{1}, 0x5F, 0xC1, 0x02); status != apdu.SecurityNotSatisfied {
		t.Errorf("written without the management key: %v", status)
	}
	term.mustAdmin()
	long := bytes.Repeat([]byte{0xC7}, 3000)
	for _, id := range []byte{0x02, 0x07, 0x05, 0x0A, 0x0B, 0x01, 0x0C, 0x0D, 0x20} {
		if _, status := read(0x5F, 0xC1, id); status != apdu.FileNotFound {
			t.Errorf("5FC1%02X of a new token: %v", id, status)
		}
		if status := write(long, 0x5F, 0xC1, id); status != apdu.OK {
			t.Errorf("write 5FC1%02X: %v", id, status)
		}
		got, status := read(0x5F, 0xC1, id)
		if want := append([]byte{0x53, 0x82, 0x0B, 0xB8}, long...); status != apdu.OK || !bytes.Equal(got, want) {
			t.Errorf("5FC1%02X came back as %d bytes, %v", id, len(got), status)
		}
		if status := write(nil, 0x5F, 0xC1, id); status != apdu.OK {
			t.Errorf("delete 5FC1%02X: %v", id, status)
		}
		if _, status := read(0x5F, 0xC1, id); status != apdu.FileNotFound {
			t.Errorf("5FC1%02X after deleting: %v", id, status)
		}
	}
	if status := write([]byte{0x88, 0}, 0x5F, 0xC1, 0x09); status != apdu.OK {
		t.Fatal(status)
	}
	if _, status := read(0x5F, 0xC1, 0x09); status != apdu.SecurityNotSatisfied {
		t.Errorf("printed information without PIN: %v", status)
	}
	term.verify(pivtoken.DefaultPIN)
	if got, _ := read(0x5F, 0xC1, 0x09); !bytes.Equal(got, []byte{0x53, 2, 0x88, 0}) {
		t.Errorf("printed information %x", got)
	}
	if status := write(make([]byte, 3053), 0x5F, 0xC1, 0x02); status != 0x6A84 {
		t.Errorf("too long an object: %v", status)
	}
	if status := write([]byte{1}, 0x5F, 0x01, 0x02); status != apdu.FileNotFound {
		t.Errorf("an object of nobody: %v", status)
	}
	for _, bad := range [][]byte{{}, {0x5C}, {0x5C, 4, 0x5F, 0xC1, 2}, {0x5D, 1, 0x7E}, {0x5C, 1, 0x7E, 0}} {
		term.refuses(apdu.WrongData, 0xCB, 0x3F, 0xFF, bad...)
	}
	term.refuses(apdu.IncorrectP1P2, 0xCB, 0x3F, 0xFE, 0x5C, 1, 0x7E)
}

func TestChaining(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	term.refuses(apdu.ConditionsNotSatisfied, 0xC0, 0, 0)

	pin := padded("123456")
	r := term.raw(apdu.Command{CLA: 0x10, INS: 0x20, P2: 0x80, Data: pin[:3]})
	if r.Status != apdu.OK {
		t.Fatal(r.Status)
	}
	term.must(0x20, 0, 0x80, pin[3:]...)

	term.raw(apdu.Command{CLA: 0x10, INS: 0x20, P2: 0x80, Data: pin[:3]})
	term.refuses(0x6883, 0xCB, 0x3F, 0xFF, 0x5C, 1, 0x7E)
	term.must(0xCB, 0x3F, 0xFF, 0x5C, 1, 0x7E)

	longest := 0
	for range 64 {
		r := term.raw(apdu.Command{CLA: 0x10, INS: 0xDB, P1: 0x3F, P2: 0xFF, Data: make([]byte, 255)})
		if r.Status != apdu.OK {
			break
		}
		longest += 255
	}
	if longest < 3100 || longest > 8192 { // an object fits, no more is collected
		t.Errorf("a chain may have %d bytes", longest)
	}
	for cla, want := range map[byte]apdu.Status{0x01: 0x6881, 0x0C: 0x6882, 0x80: apdu.ClassNotSupported} {
		if r := term.raw(apdu.Command{CLA: cla, INS: 0xFD}); r.Status != want {
			t.Errorf("class %02X: %v", cla, r.Status)
		}
	}
	for _, malformed := range []string{"", "\x00", "\x00\xFD\x00", "\x00\x20\x00\x80\x08\x31"} {
		if got := term.token.Transmit(t.Context(), []byte(malformed)); string(got) != "\x67\x00" {
			t.Errorf("%x: %x", malformed, got)
		}
	}

	// An answer in pieces, then in one with extended length.
	der := term.must(0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1)
	r = term.raw(apdu.Command{INS: 0xCB, P1: 0x3F, P2: 0xFF, Data: []byte{0x5C, 3, 0x5F, 0xFF, 1}, Le: 4})
	if len(r.Data) != 4 || r.Status>>8 != 0x61 {
		t.Errorf("first piece %x %v", r.Data, r.Status)
	}
	term.must(0xFD, 0, 0)
	term.refuses(apdu.ConditionsNotSatisfied, 0xC0, 0, 0) // the rest is gone
	r = term.raw(apdu.Command{INS: 0xCB, P1: 0x3F, P2: 0xFF, Data: []byte{0x5C, 3, 0x5F, 0xFF, 1}, Le: 65536})
	if !bytes.Equal(r.Data, der) || len(der) <= 256 {
		t.Errorf("in one piece %d bytes, in pieces %d", len(r.Data), len(der))
	}
}

func TestReset(t *testing.T) {
	term := insert(t, pivtoken.Options{})
	term.selectPIV()
	attestation := term.must(0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1)
	term.mustAdmin()
	term.refuses(apdu.SecurityNotSatisfied, 0xFA, 2, 1) // wants the PIN too
	term.verify("123456")
	term.refuses(apdu.WrongData, 0xFA, 0, 1)
	term.must(0x24, 0, 0x80, padded("123456", "654321")...)
	term.must(0xFA, 20, 1)
	if got := term.must(0xF7, 0, 0x80); !bytes.Equal(got, []byte{1, 1, 0xFF, 5, 1, 1, 6, 2, 20, 20}) {
		t.Errorf("PIN metadata %x", got)
	}
	term.refuses(0x63CF, 0x20, 0, 0x80) // 20 do not fit
	term.verify("123456")               // back to the default
	term.must(0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, 0x11)
	term.must(0xFF, 0xFF, 0xFF, append([]byte{aes128, 0x9B, 16}, make([]byte, 16)...)...)
	term.must(0xDB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 2, 0x53, 1, 0)

	term.refuses(apdu.ConditionsNotSatisfied, 0xFB, 0, 0)
	for range 20 {
		term.send(0x20, 0, 0x80, padded("0")...)
	}
	term.refuses(apdu.ConditionsNotSatisfied, 0xFB, 0, 0)
	term.refuses(0x63C0, 0x24, 0, 0x81, padded("0", "0")...)
	term.must(0xFB, 0, 0)

	term.refuses(0x63C3, 0x20, 0, 0x80)
	term.refuses(apdu.SecurityNotSatisfied, 0x47, 0, 0x9A, 0xAC, 3, 0x80, 1, 0x11)
	term.refuses(apdu.ReferencedDataNotFound, 0xF7, 0, 0x9A)
	term.refuses(apdu.FileNotFound, 0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xC1, 2)
	term.mustAdmin()
	term.verify(pivtoken.DefaultPIN)
	if !bytes.Equal(term.must(0xCB, 0x3F, 0xFF, 0x5C, 3, 0x5F, 0xFF, 1), attestation) {
		t.Error("the attestation certificate did not survive")
	}
}

// The observer sees each command before it happens: a card pulled there does
// nothing any more.
func TestPulledBeforeNthCommand(t *testing.T) {
	ctx, pull := context.WithCancel(t.Context())
	seen := 0
	token := pivtoken.New(pivtoken.Options{Observe: func(n int, command []byte) {
		seen = n
		if command[1] == 0x24 {
			pull()
		}
	}})
	term := terminal{t, token}
	term.selectPIV()
	change, _ := apdu.Command{INS: 0x24, P2: 0x80, Data: padded("123456", "654321")}.Bytes()
	if got := token.Transmit(ctx, change); string(got) != "\x6F\x00" || seen != 2 {
		t.Errorf("answer %x after %d commands", got, seen)
	}
	token.Reset()
	term.selectPIV()
	term.verify("123456")
}

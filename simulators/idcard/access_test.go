package idcard

import (
	"bytes"
	"crypto"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

// A card without access control is read in the clear, selected file and all.
func TestOpenCard(t *testing.T) {
	key, _ := chipKey(t, AES128, P256)
	active, _ := chipKey(t, AES128, P256)
	c := bare(t, Profile{Open: true, ChipKeys: []*ChipKey{key}, ActiveKey: &ActiveKey{Domain: P256, Private: active.Private, Hash: crypto.SHA256}})
	r := connect(t, c)
	r.selectApplication()
	if a := r.plain(readBinary(efCOM, 0, 256)); a.Status != apdu.OK || !bytes.Equal(a.Data, c.File(efCOM)) {
		t.Errorf("EF.COM: %v", a.Status)
	}
	if a := r.plain(apdu.Command{INS: 0xA4, P1: 2, P2: 0x0C, Data: []byte{1, 2}}); a.Status != apdu.OK {
		t.Fatal(a.Status)
	}
	if a := r.plain(apdu.Command{INS: 0xB0, P1: 0x01, P2: 0x00, Le: 200}); a.Status != apdu.OK || len(a.Data) != 200 {
		t.Errorf("the selected file: %v, %d bytes", a.Status, len(a.Data))
	}
	if a := r.plain(readBinary(dg3, 0, 256)); a.Status != apdu.SecurityNotSatisfied {
		t.Errorf("DG3: %v", a.Status)
	}
	if a := r.plain(apdu.Command{INS: 0x88, Data: make([]byte, 8), Le: 256}); a.Status != apdu.OK || len(a.Data) != 64 {
		t.Errorf("Active Authentication: %v, %d bytes", a.Status, len(a.Data))
	}
	if a := r.plain(apdu.Command{INS: 0x84, Le: 8}); a.Status != apdu.ConditionsNotSatisfied {
		t.Errorf("GET CHALLENGE: %v", a.Status)
	}
	for _, cmd := range []apdu.Command{
		{INS: 0x22, P1: 0x41, P2: 0xA4, Data: tlv(0x80, key.oid())},
		{INS: 0x86, Data: tlv(0x7C, tlv(0x80, publicOf(key))), Le: 256},
	} {
		if a := r.plain(cmd); a.Status != apdu.OK {
			t.Fatalf("Chip Authentication in the clear: %v", a.Status)
		}
	}
	g, _ := P256.group()
	theirs, _ := g.decode(publicOf(key))
	r.sm = newChannel(AES128, g.secret(g.mul(key.Private, theirs)), nil)
	if _, err := r.read(dg2); err != nil {
		t.Errorf("under the keys of Chip Authentication: %v", err)
	}
}

// EF.CardSecurity is for those who came by PACE.
func TestCardSecurityNeedsPACE(t *testing.T) {
	v := PACE{GM, AES128, P256}
	content := tlv(0x30, make([]byte, 300))
	c := bare(t, Profile{PACE: []PACE{v}, BAC: true, Master: map[uint16][]byte{efCardSecurity: content}})
	read := apdu.Command{INS: 0xB0, P1: 0x9D, Le: 256}
	r := connect(t, c)
	if a := r.plain(read); a.Status != apdu.SecurityNotSatisfied || len(a.Data) != 0 {
		t.Errorf("before: %v", a.Status)
	}
	if sw := r.pace(v, 2, []byte(c.CAN())); sw != apdu.OK {
		t.Fatal(sw)
	}
	if got, err := r.read(efCardSecurity); err != nil || !bytes.Equal(got, content) {
		t.Errorf("after PACE: %v, %d bytes", err, len(got))
	}
	if a := r.plain(read); a.Status != apdu.SecurityNotSatisfied {
		t.Errorf("after a plain command: %v", a.Status)
	}

	r = connect(t, c)
	r.selectApplication()
	if sw := r.bac(c.mrzKey); sw != apdu.OK {
		t.Fatal(sw)
	}
	if a, err := r.send(apdu.Command{INS: 0xA4, P2: 0x0C}); err != nil || a.Status != apdu.OK {
		t.Fatal(a.Status, err)
	}
	if a, err := r.send(read); err != nil || a.Status != apdu.SecurityNotSatisfied {
		t.Errorf("after BAC: %v, %v", a.Status, err)
	}
}

// Chip Authentication runs in the master file where EF.CardSecurity is.
func TestChipAuthenticationInTheMasterFile(t *testing.T) {
	v := PACE{GM, AES128, P256}
	key, _ := chipKey(t, AES128, P256)
	for _, has := range []bool{false, true} {
		master := map[uint16][]byte{}
		want := apdu.SecurityNotSatisfied
		if has {
			master[efCardSecurity] = tlv(0x30, make([]byte, 30))
			want = apdu.OK
		}
		r := connect(t, bare(t, Profile{PACE: []PACE{v}, ChipKeys: []*ChipKey{key}, Master: master}))
		if sw := r.pace(v, 2, []byte(r.chip.CAN())); sw != apdu.OK {
			t.Fatal(sw)
		}
		if a, err := r.send(apdu.Command{INS: 0x22, P1: 0x41, P2: 0xA4, Data: tlv(0x80, key.oid())}); err != nil || a.Status != want {
			t.Errorf("EF.CardSecurity %v: %v, %v", has, a.Status, err)
		}
		if !has {
			continue
		}
		if sw := r.authenticateChip(key, publicOf(key)); sw != apdu.OK {
			t.Fatal(sw)
		}
		if _, err := r.read(efCardSecurity); err != nil {
			t.Errorf("EF.CardSecurity under the new keys: %v", err)
		}
	}
}

// EF.ATR/INFO and the historical bytes say what the chip takes, and it keeps to that.
func TestLimits(t *testing.T) {
	v := PACE{GM, AES128, P256}
	info := apdu.Command{INS: 0xB0, P1: 0x81, Le: 256}
	c := bare(t, Profile{PACE: []PACE{v}, MaxCommand: 300, MaxAnswer: 70000})
	r := connect(t, c)
	if a := r.plain(info); !bytes.Equal(a.Data, []byte{0x47, 3, 0x94, 1, 0xE0, 0x7F, 0x66, 9, 2, 2, 0x01, 0x2C, 2, 3, 0x01, 0x11, 0x70}) {
		t.Errorf("EF.ATR/INFO: %v, %x", a.Status, a.Data)
	}
	if c.ATR()[10] != 0xE0 {
		t.Errorf("ATR %x", c.ATR())
	}
	for n, want := range map[int]apdu.Status{300 - 7: apdu.FileNotFound, 300 - 6: apdu.WrongLength} {
		if a := r.plain(apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: make([]byte, n), Extended: true}); a.Status != want {
			t.Errorf("%d bytes of data: %v, want %v", n, a.Status, want)
		}
	}

	c = bare(t, Profile{MaxAnswer: 1000})
	r = openSession(t, c)
	r.extended = true
	if a := r.plain(r.protect(readBinary(dg2, 0, 65536))); len(a.Data)+2 > 1000 || len(a.Data) < 980 {
		t.Errorf("an answer of %d bytes", len(a.Data)+2)
	}

	c = bare(t, Profile{Master: map[uint16][]byte{efATR: nil}})
	if a := connect(t, c).plain(info); a.Status != apdu.FileNotFound {
		t.Errorf("no EF.ATR/INFO: %v", a.Status)
	}
	if c.ATR()[10] != 0xC0 {
		t.Errorf("ATR without EF.ATR/INFO: %x", c.ATR())
	}
}

// Short reads are whole under GET RESPONSE, plain and protected.
func TestGetResponse(t *testing.T) {
	r := openSession(t, bare(t, Profile{GetResponse: true}))
	first := r.plain(r.protect(readBinary(dg2, 0, 256)))
	if first.Status&0xFF00 != moreData || len(first.Data) != 256 {
		t.Fatalf("%v, %d bytes", first.Status, len(first.Data))
	}
	part := r.plain(apdu.Command{INS: 0xC0, Le: 10})
	if part.Status != first.Status-10 || len(part.Data) != 10 {
		t.Fatalf("ten of the rest: %v, %d bytes", part.Status, len(part.Data))
	}
	rest := r.plain(apdu.Command{INS: 0xC0, Le: 256})
	if a, err := r.opened(apdu.Response{Data: bytes.Join([][]byte{first.Data, part.Data, rest.Data}, nil), Status: rest.Status}); err != nil || len(a.Data) != 256 {
		t.Errorf("all parts: %v, %d bytes", err, len(a.Data))
	}
	if a := r.plain(apdu.Command{INS: 0xC0, Le: 256}); a.Status != apdu.InstructionNotSupported {
		t.Errorf("GET RESPONSE with nothing left: %v", a.Status)
	}
}

package idcard

import (
	"bytes"
	"context"
	"errors"
	"math/big"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

// readBinary is READ BINARY by short file identifier.
func readBinary(id uint16, offset byte, le int) apdu.Command {
	return apdu.Command{INS: 0xB0, P1: 0x80 | byte(id&0x1F), P2: offset, Le: le}
}

var readMaster = apdu.Command{INS: 0xB0, P1: 0x9C, Le: apdu.MaxShortLe} // EF.CardAccess

func TestEndOfFileHabits(t *testing.T) {
	const n = 22 // bytes of EF.COM
	for _, v := range []struct {
		fault      Fault
		offset, le int
		want       apdu.Status
		bytes      int
	}{
		{EndOfFile6282, 0, n, apdu.OK, n},
		{EndOfFile6282, 0, n + 1, apdu.EndOfFile, n},
		{EndOfFile6282, 0, 256, apdu.EndOfFile, n},
		{EndOfFile6282, 0, 65536, apdu.EndOfFile, n},
		{EndOfFile6B00, 0, n, apdu.OK, n},
		{EndOfFile6B00, 4, n - 3, apdu.WrongOffset, 0},
		{EndOfFile6B00, 0, 256, apdu.WrongOffset, 0},
		{EndOfFile6B00, 0, 65536, apdu.WrongOffset, 0},
		{EndOfFile6Cxx, 0, n, apdu.OK, n},
		{EndOfFile6Cxx, 4, n, lengthLeft + n - 4, 0},
		{EndOfFile6Cxx, 0, 256, lengthLeft + n, 0},
		{EndOfFile6Cxx, n, 1, apdu.WrongOffset, 0},
	} {
		r := openSession(t, bare(t, Profile{Faults: []Fault{v.fault}}))
		r.extended = v.le > 256
		a, err := r.send(readBinary(efCOM, byte(v.offset), v.le))
		if err != nil || a.Status != v.want || len(a.Data) != v.bytes {
			t.Errorf("%s, offset %d, Le %d: %v, %d bytes, %v; want %v, %d bytes", v.fault, v.offset, v.le, a.Status, len(a.Data), err, v.want, v.bytes)
		}
	}
}

func TestFaultsOfReading(t *testing.T) {
	open := func(f Fault) *terminal { return openSession(t, bare(t, Profile{Faults: []Fault{f}})) }

	r := open(PlainErrors)
	if a := r.plain(r.protect(readBinary(0x0105, 0, 256))); a.Status != apdu.FileNotFound || len(a.Data) != 0 {
		t.Errorf("plain-errors: %v, %d bytes", a.Status, len(a.Data))
	}
	r.sm.count()
	if _, err := r.send(readBinary(efCOM, 0, 256)); !errors.Is(err, errChannel) {
		t.Errorf("plain-errors: the session goes on: %v", err)
	}

	r = open(Le256Refused)
	if a, err := r.send(readBinary(efCOM, 0, 22)); err != nil || a.Status != apdu.OK {
		t.Errorf("le256-refused at a smaller Le: %v, %v", a.Status, err)
	}
	if a := r.plain(r.protect(readBinary(efCOM, 0, 256))); a.Status != apdu.WrongOffset || len(a.Data) != 0 {
		t.Errorf("le256-refused: %v", a.Status)
	}
	r.sm.count()
	if _, err := r.send(readBinary(efCOM, 0, 22)); !errors.Is(err, errChannel) {
		t.Errorf("le256-refused: the session goes on: %v", err)
	}

	r = open(Most192)
	for le, want := range map[int]apdu.Status{192: apdu.OK, 193: apdu.EndOfFile, 256: apdu.EndOfFile} {
		if a, err := r.send(readBinary(dg2, 0, le)); err != nil || a.Status != want || (len(a.Data) > 0) != (want == apdu.OK) {
			t.Errorf("most-192 at %d: %v, %d bytes, %v", le, a.Status, len(a.Data), err)
		}
	}

	r = open(MoreThanAsked)
	if a := r.plain(r.protect(readBinary(dg2, 0, 256))); a.Status != apdu.OK || len(a.Data) <= 256 {
		t.Errorf("more-than-asked: %v, %d bytes", a.Status, len(a.Data))
	} else if a, err := r.opened(a); err != nil || len(a.Data) != 256 {
		t.Errorf("more-than-asked: %d bytes, %v", len(a.Data), err)
	}
}

func TestExtendedLost(t *testing.T) {
	c := bare(t, Profile{Faults: []Fault{ExtendedLost}})
	send := func(cmd apdu.Command) ([]byte, error) {
		return c.Direct().Transmit(context.Background(), mustBytes(t, cmd))
	}
	if a, err := send(readMaster); err != nil || !bytes.HasSuffix(a, []byte{0x90, 0}) {
		t.Fatalf("%x, %v", a, err)
	}
	long := readMaster
	long.Le = apdu.MaxExtendedLe
	for range 2 {
		if a, err := send(long); !errors.Is(err, ErrSwallowed) || a != nil {
			t.Errorf("extended length: %x, %v", a, err)
		}
		if a, err := send(readMaster); !errors.Is(err, ErrSwallowed) {
			t.Errorf("short length after it: %x, %v", a, err)
		}
	}
	c.Reset()
	if _, err := send(readMaster); err != nil {
		t.Errorf("after a reset: %v", err)
	}
}

func TestFaultsOfPACE(t *testing.T) {
	v := PACE{GM, AES128, P256}
	open := func(f Fault) *terminal { return connect(t, bare(t, Profile{PACE: []PACE{v}, Faults: []Fault{f}})) }
	set := func(objects ...[]byte) apdu.Command {
		return apdu.Command{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: bytes.Join(objects, nil)}
	}

	r := open(MirrorPACE)
	r.plain(set(tlv(0x80, v.oid()), tlv(0x83, []byte{2})))
	r.plain(apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C), Le: 256})
	g, _ := P256.group()
	for tag, k := range []int64{2, 3} {
		public := g.encode(g.mul(big.NewInt(k), g.g))
		a := r.plain(apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C, tlv(0x81+2*tag, public)), Le: 256})
		if !bytes.Equal(a.Data, tlv(0x7C, tlv(0x82+2*tag, public))) {
			t.Errorf("mirror-pace: %v, %x", a.Status, a.Data)
		}
	}

	r = open(NeedsDomainObject)
	if a := r.plain(set(tlv(0x80, v.oid()), tlv(0x83, []byte{2}))); a.Status != apdu.WrongData {
		t.Errorf("needs-domain-object: %v", a.Status)
	}
	if sw := r.pace(v, 2, []byte(r.chip.CAN())); sw != apdu.OK {
		t.Errorf("needs-domain-object with DO'84': %v", sw)
	}

	for _, with := range []apdu.Command{
		{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: application, Le: 256},
		{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: append(tlv(0x80, v.oid()), 0x83, 1, 2), Le: 256},
	} {
		r = open(RefusesLeInMSE)
		if a := r.plain(with); a.Status != apdu.WrongLength {
			t.Errorf("refuses-le-in-mse: INS %02X: %v", with.INS, a.Status)
		}
		if sw := r.pace(v, 2, []byte(r.chip.CAN())); sw != apdu.WrongData {
			t.Errorf("refuses-le-in-mse: PACE after it: %v", sw)
		}
		r = connect(t, r.chip)
		if sw := r.pace(v, 2, []byte(r.chip.CAN())); sw != apdu.OK {
			t.Errorf("refuses-le-in-mse: PACE after a reset: %v", sw)
		}
	}
}

func TestFaultsOfTheMasterFile(t *testing.T) {
	v := PACE{GM, AES128, P256}
	open := func(f Fault) *terminal { return connect(t, bare(t, Profile{PACE: []PACE{v}, Faults: []Fault{f}})) }

	if a := open(CardAccess6283).plain(readMaster); a.Status != apdu.FileDeactivated || len(a.Data) != 20 {
		t.Errorf("card-access-6283: %v, %d bytes", a.Status, len(a.Data))
	}

	r := open(DIRDenied)
	dir := apdu.Command{INS: 0xB0, P1: 0x9E, Le: 256}
	if a := r.plain(dir); a.Status != apdu.SecurityNotSatisfied || len(a.Data) != 0 {
		t.Errorf("dir-denied: %v", a.Status)
	}
	if sw := r.pace(v, 2, []byte(r.chip.CAN())); sw != apdu.OK {
		t.Fatal(sw)
	}
	if a, err := r.send(dir); err != nil || a.Status != apdu.OK {
		t.Errorf("dir-denied after PACE: %v, %v", a.Status, err)
	}

	implicit := apdu.Command{INS: 0xA4, P2: 0x0C}
	explicit := apdu.Command{INS: 0xA4, P2: 0x0C, Data: []byte{0x3F, 0x00}}
	for fault, want := range map[Fault][2]apdu.Status{
		SelectMFNeeds3F00: {apdu.LcInconsistent, apdu.OK},
		SelectMFFails:     {apdu.IncorrectP1P2, apdu.IncorrectP1P2},
		OneByte:           {apdu.OK, apdu.OK}, // one that has nothing to do with it
	} {
		r := open(fault)
		for i, c := range []apdu.Command{implicit, explicit} {
			if a := r.plain(c); a.Status != want[i] {
				t.Errorf("%s: % X: %v, want %v", fault, c.Data, a.Status, want[i])
			}
		}
	}
}

func TestParseFault(t *testing.T) {
	seen := map[Fault]bool{}
	for _, f := range Faults() {
		if got, err := ParseFault(string(f)); err != nil || got != f || seen[f] {
			t.Errorf("%q: %q, %v", f, got, err)
		}
		seen[f] = true
	}
	if _, err := ParseFault("rain"); err == nil {
		t.Error("a fault that nobody has")
	}
}

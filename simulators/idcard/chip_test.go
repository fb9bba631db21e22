package idcard

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"image/jpeg"
	"math/big"
	"sync"
	"testing"
	"time"

	"enrollkiosk/smartcard/apdu"
)

// authorities are made once each: RSA keys take their time.
var authorities = map[Algorithm]func() (*Authority, error){
	ECDSA: sync.OnceValues(func() (*Authority, error) { return NewAuthority(ECDSA) }),
	RSA:   sync.OnceValues(func() (*Authority, error) { return NewAuthority(RSA) }),
	PSS:   sync.OnceValues(func() (*Authority, error) { return NewAuthority(PSS) }),
}

func testAuthority(t testing.TB, alg Algorithm) *Authority {
	t.Helper()
	a, err := authorities[alg]()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func freshAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := NewAuthority(ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// specimenFace is drawn once for all cards.
var specimenFace = func() []byte {
	b, err := Portrait(SpecimenPerson())
	if err != nil {
		panic(err)
	}
	return b
}()

func issue(t testing.TB, opts Options) *Chip {
	t.Helper()
	if opts.Face == nil {
		opts.Face = specimenFace
	}
	c, err := testAuthority(t, ECDSA).Personalise(SpecimenPerson(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestReadsEveryFileThroughEveryDoor(t *testing.T) {
	card := func(c *Chip, open func(*terminal)) func(*testing.T) {
		return func(t *testing.T) {
			for _, extended := range []bool{false, true} {
				r := connect(t, c)
				open(r)
				r.extended = extended
				for id, want := range c.profile.Application {
					got, err := r.read(id)
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("read %04X (extended %v): %v; %d bytes of %d", id, extended, err, len(got), len(want))
					}
				}
			}
		}
	}
	for _, v := range []PACE{{GM, TripleDES, P256}, {GM, AES128, P256}, {GM, AES192, P256}, {GM, AES256, P256},
		{GM, AES128, BrainpoolP256r1}, {GM, AES192, P384}, {GM, AES256, P521}} {
		c := issue(t, Options{PACE: []PACE{v}})
		t.Run(fmt.Sprintf("PACE suite %d domain %d", v.Suite, v.Domain), card(c, (*terminal).paceCAN))
	}
	c := issue(t, Options{})
	t.Run("PACE with MRZ", card(c, func(r *terminal) {
		if sw := r.pace(PACE{GM, AES128, P256}, 1, mrzPassword(r.chip)); sw != apdu.OK {
			r.t.Fatal(sw)
		}
		r.selectApplication()
	}))
	t.Run("BAC", card(c, func(r *terminal) {
		r.selectApplication()
		if sw := r.bac(r.chip.mrzKey); sw != apdu.OK {
			r.t.Fatal(sw)
		}
	}))
}

func TestLargeFile(t *testing.T) {
	big := append(bytes.Clone(specimenFace), make([]byte, 70_000)...)
	c := issue(t, Options{Face: big})
	for _, extended := range []bool{false, true} {
		r := connect(t, c)
		r.paceCAN()
		r.extended = extended
		if got, err := r.read(dg2); err != nil || !bytes.Equal(got, c.profile.Application[dg2]) {
			t.Fatalf("extended %v: %v, %d bytes", extended, err, len(got))
		}
	}
}

func TestWrongPassword(t *testing.T) {
	c := issue(t, Options{})
	r := connect(t, c)
	if sw := r.pace(PACE{GM, AES128, P256}, 2, []byte("000000")); sw != authenticationFailed {
		t.Fatalf("PACE with a wrong CAN ended with %v, want 6300", sw)
	}
	r.selectApplication()
	if a := r.plain(apdu.Command{INS: 0xB0, P1: 0x81, Le: 256}); a.Status != apdu.SecurityNotSatisfied {
		t.Fatalf("DG1 after a failed PACE: %v", a.Status)
	}
	info := bytes.Clone(c.mrzKey)
	info[0]++
	if sw := r.bac(info); sw != authenticationFailed {
		t.Fatalf("BAC with a wrong number ended with %v, want 6300", sw)
	}
	if sw := r.pace(PACE{GM, AES128, P256}, 2, []byte(c.CAN())); sw != apdu.OK {
		t.Fatalf("the right CAN after a wrong one: %v", sw)
	}
}

func TestNothingBeforeAccessControl(t *testing.T) {
	c := issue(t, Options{})
	r := connect(t, c)
	for _, sfi := range []byte{0x1C, 0x1E, 0x01} {
		if a := r.plain(apdu.Command{INS: 0xB0, P1: 0x80 | sfi, Le: 256}); a.Status != apdu.OK || len(a.Data) == 0 {
			t.Errorf("short identifier %02X in the master file: %v", sfi, a.Status)
		}
	}
	r.selectApplication()
	for id := range c.profile.Application {
		for _, cmd := range []apdu.Command{
			{INS: 0xA4, P1: 0x02, P2: 0x0C, Data: []byte{byte(id >> 8), byte(id)}},
			{INS: 0xB0, P1: 0x80 | byte(id&0x1F), Le: 256},
			{INS: 0xB1, P1: byte(id >> 8), P2: byte(id), Data: []byte{0x54, 1, 0}, Le: 256},
		} {
			if a := r.plain(cmd); a.Status != apdu.SecurityNotSatisfied || len(a.Data) > 0 {
				t.Errorf("%04X with INS %02X: %v, %d bytes", id, cmd.INS, a.Status, len(a.Data))
			}
		}
	}
	for ins, p := range map[byte][2]byte{0x88: {0, 0}, 0x22: {0x41, 0xA4}} {
		a := r.plain(apdu.Command{INS: ins, P1: p[0], P2: p[1], Data: []byte{0x80, 6, 1, 2, 3, 4, 5, 6}, Le: 256})
		if a.Status != apdu.SecurityNotSatisfied {
			t.Errorf("INS %02X: %v", ins, a.Status)
		}
	}
}

func TestPlainCommandEndsTheSession(t *testing.T) {
	c := issue(t, Options{})
	r := connect(t, c)
	r.paceCAN()
	if _, err := r.read(dg1); err != nil {
		t.Fatal(err)
	}
	if a := r.plain(apdu.Command{INS: 0xB0, P1: 0x81, Le: 256}); a.Status != apdu.SecurityNotSatisfied {
		t.Fatalf("plain read in a session: %v", a.Status)
	}
	if _, err := r.read(dg1); !errors.Is(err, errChannel) {
		t.Fatalf("the session outlived a plain command: %v", err)
	}
	r = connect(t, c)
	r.paceCAN()
	c.Reset()
	if _, err := r.read(dg1); !errors.Is(err, errChannel) {
		t.Fatalf("the session outlived a reset: %v", err)
	}
}

func TestAlteredOrReplayedCommandEndsTheSession(t *testing.T) {
	c := issue(t, Options{})
	for _, le := range []int{16, 256} {
		probe := connect(t, c)
		probe.paceCAN()
		length := len(mustBytes(t, probe.protect(apdu.Command{INS: 0xB0, P1: 0x81, Le: le})))
		for i := range length {
			r := connect(t, c)
			r.paceCAN()
			b := mustBytes(t, r.protect(apdu.Command{INS: 0xB0, P1: 0x81, Le: le}))
			if i == length-1 {
				continue // the outer Le is not protected
			}
			b[i] ^= 0x01
			answer := c.Transmit(context.Background(), b)
			if bytes.Contains(answer, c.profile.Application[dg1][5:20]) {
				t.Fatalf("byte %d altered: the chip answered in clear", i)
			}
			if c.channel != nil {
				t.Fatalf("byte %d altered: the session goes on (%x)", i, answer)
			}
		}
	}
	r := connect(t, c)
	r.paceCAN()
	b := mustBytes(t, r.protect(apdu.Command{INS: 0xB0, P1: 0x81, Le: 16}))
	if a, _ := apdu.ParseResponse(c.Transmit(context.Background(), b)); a.Status != apdu.OK {
		t.Fatal(a.Status)
	}
	if a, _ := apdu.ParseResponse(c.Transmit(context.Background(), b)); a.Status != apdu.SMObjectsIncorrect {
		t.Fatalf("a replayed command was answered %v", a.Status)
	}
}

func mustBytes(t *testing.T, c apdu.Command) []byte {
	t.Helper()
	b, err := c.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestChipAuthentication(t *testing.T) {
	for _, suite := range []Suite{TripleDES, AES128, AES192, AES256} {
		c := issue(t, Options{ChipSuite: suite})
		r := connect(t, c)
		r.paceCAN()
		if sw := r.authenticateChip(&ChipKey{Suite: suite, Domain: P256}, chipPublicKey(t, r)); sw != apdu.OK {
			t.Fatalf("suite %d: %v", suite, sw)
		}
		if _, err := r.read(dg2); err != nil {
			t.Fatalf("suite %d: read under the new keys: %v", suite, err)
		}
	}
	c := issue(t, Options{Faults: []Fault{Clone}})
	r := connect(t, c)
	r.paceCAN()
	if sw := r.authenticateChip(&ChipKey{Suite: AES128, Domain: P256}, chipPublicKey(t, r)); sw != apdu.SMObjectsIncorrect {
		t.Fatalf("a clone: %v, want 6988", sw)
	}
}

// chipPublicKey takes the point out of DG14: the one bit string of 65 bytes that begins 04.
func chipPublicKey(t *testing.T, r *terminal) []byte {
	t.Helper()
	b, err := r.read(dg14)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte{0x03, 0x42, 0x00, 0x04})
	if i < 0 {
		t.Fatal("DG14 holds no P-256 key")
	}
	return b[i+3 : i+3+65]
}

func TestActiveAuthentication(t *testing.T) {
	for _, alg := range []Algorithm{ECDSA, RSA} {
		for _, clone := range []bool{false, true} {
			opts := Options{Active: alg}
			if clone {
				opts.Faults = []Fault{Clone}
			}
			c := issue(t, opts)
			r := connect(t, c)
			r.paceCAN()
			r.extended = true
			challenge := []byte{1, 2, 3, 4, 5, 6, 7, 8}
			a, err := r.send(apdu.Command{INS: 0x88, Data: challenge, Le: 256})
			if err != nil || a.Status != apdu.OK {
				t.Fatalf("%s: %v, %v", alg, a.Status, err)
			}
			group, err := r.read(dg15)
			if err != nil {
				t.Fatal(err)
			}
			list, _ := readTLV(group)
			key, err := x509.ParsePKIXPublicKey(list[0].value)
			if err != nil {
				t.Fatal(err)
			}
			if good := verifyActive(key, challenge, a.Data); good == clone {
				t.Errorf("%s: clone %v, signature good %v", alg, clone, good)
			}
			if verifyActive(key, []byte{1, 2, 3, 4, 5, 6, 7, 9}, a.Data) {
				t.Errorf("%s: signature good for another challenge", alg)
			}
		}
	}
}

func verifyActive(key crypto.PublicKey, challenge, signature []byte) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		h := sha256.Sum256(challenge)
		n := len(signature) / 2
		return ecdsa.Verify(key, h[:], new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:]))
	case *rsa.PublicKey:
		s := new(big.Int).SetBytes(signature)
		f := s.Exp(s, big.NewInt(int64(key.E)), key.N)
		if f.Bit(0) == 1 { // the smaller of s and n-s was sent; blocks end in CC or BC
			f.Sub(key.N, f)
		}
		b := f.FillBytes(make([]byte, key.Size()))
		m1, digest := b[1:len(b)-34], b[len(b)-34:len(b)-2]
		h := sha256.Sum256(append(bytes.Clone(m1), challenge...))
		return b[0] == 0x6A && bytes.Equal(b[len(b)-2:], []byte{0x34, 0xCC}) && bytes.Equal(h[:], digest)
	}
	return false
}

func TestEndOfFile(t *testing.T) {
	c := issue(t, Options{})
	r := connect(t, c)
	r.paceCAN()
	n := len(c.profile.Application[dg1])
	for _, v := range []struct {
		offset, le, bytes int
		want              apdu.Status
	}{
		{0, 16, 16, apdu.OK}, {n - 4, 4, 4, apdu.OK}, {n - 4, 5, 4, apdu.EndOfFile},
		{n - 4, 256, 4, apdu.OK}, {n, 1, 0, apdu.WrongOffset},
	} {
		a, err := r.send(apdu.Command{INS: 0xB0, P1: 0x81, P2: byte(v.offset), Le: v.le})
		if err != nil || a.Status != v.want || len(a.Data) != v.bytes {
			t.Errorf("offset %d, Le %d: %v, %d bytes, %v", v.offset, v.le, a.Status, len(a.Data), err)
		}
	}
	if a, err := r.send(apdu.Command{INS: 0xB0, P1: 0x83, Le: 256}); err != nil || a.Status != apdu.SecurityNotSatisfied {
		t.Errorf("DG3: %v, %v", a.Status, err)
	}
	if a, err := r.send(apdu.Command{INS: 0xB0, P1: 0x85, Le: 256}); err != nil || a.Status != apdu.FileNotFound {
		t.Errorf("DG5: %v, %v", a.Status, err)
	}
}

func TestFaults(t *testing.T) {
	open := func(t *testing.T, f ...Fault) *terminal {
		r := connect(t, issue(t, Options{Faults: f}))
		r.paceCAN()
		return r
	}
	t.Run("not-emrtd", func(t *testing.T) {
		r := connect(t, issue(t, Options{Faults: []Fault{NotEMRTD}}))
		if a := r.plain(apdu.Command{INS: 0xA4, P1: 4, P2: 0x0C, Data: application}); a.Status != apdu.FileNotFound {
			t.Error(a.Status)
		}
		if a := r.plain(apdu.Command{INS: 0xB0, P1: 0x9C, Le: 256}); a.Status != apdu.FileNotFound {
			t.Error(a.Status)
		}
	})
	t.Run("tampered-dg1", func(t *testing.T) {
		r := open(t, TamperedDG1)
		group, err := r.read(dg1)
		if err != nil || bytes.Contains(group, []byte("ANNA<MARIA")) || !bytes.Contains(group, []byte("BNNA<MARIA")) {
			t.Errorf("%v: %s", err, group)
		}
	})
	t.Run("no-chip-keys", func(t *testing.T) {
		r := open(t, NoChipKeys)
		for _, id := range []uint16{dg14, dg15} {
			if _, err := r.read(id); !errors.Is(err, apdu.FileNotFound) {
				t.Errorf("%04X: %v", id, err)
			}
		}
		if a, err := r.send(apdu.Command{INS: 0x88, Data: make([]byte, 8), Le: 256}); err != nil || a.Status != apdu.InstructionNotSupported {
			t.Error(a.Status, err)
		}
	})
	t.Run("expired", func(t *testing.T) {
		r := open(t, Expired)
		yesterday := time.Now().UTC().AddDate(0, 0, -1).Format("060102")
		if group, err := r.read(dg1); err != nil || !bytes.Contains(group, []byte("F"+yesterday)) {
			t.Errorf("%v: %s", err, group)
		}
	})
	t.Run("bac-only", func(t *testing.T) {
		r := connect(t, issue(t, Options{Faults: []Fault{BACOnly}}))
		if a := r.plain(apdu.Command{INS: 0xB0, P1: 0x9C, Le: 256}); a.Status != apdu.FileNotFound {
			t.Error(a.Status)
		}
		r.selectApplication()
		if sw := r.bac(r.chip.mrzKey); sw != apdu.OK {
			t.Error(sw)
		}
	})
	t.Run("pace-only", func(t *testing.T) {
		r := open(t, PACEOnly)
		r = connect(t, r.chip)
		r.selectApplication()
		if sw := r.bac(r.chip.mrzKey); sw != apdu.ConditionsNotSatisfied {
			t.Error(sw)
		}
	})
	t.Run("wrong-mac", func(t *testing.T) {
		if _, err := open(t, WrongMAC).read(dg1); !errors.Is(err, errChannel) {
			t.Error(err)
		}
	})
	t.Run("drop-sm", func(t *testing.T) {
		r := open(t, DropSM)
		if _, err := r.read(dg1); err != nil {
			t.Error(err)
		}
		if _, err := r.read(dg2); !errors.Is(err, errChannel) {
			t.Error(err)
		}
	})
	t.Run("short-only", func(t *testing.T) {
		r := open(t, ShortOnly)
		if _, err := r.read(dg2); err != nil {
			t.Error(err)
		}
		r.extended = true
		if _, err := r.read(dg2); !errors.Is(err, errChannel) || !errors.Is(r.plain(apdu.Command{INS: 0xB0, P1: 0x81, Le: 256}).Status, apdu.SecurityNotSatisfied) {
			t.Error(err)
		}
	})
	t.Run("hang", func(t *testing.T) {
		r := open(t, Hang)
		command := mustBytes(t, r.protect(apdu.Command{INS: 0xB0, P1: 0x81, Le: 256}))
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if _, err := r.chip.Direct().Transmit(ctx, command); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hanging card answered: %v", err)
		}
	})
	t.Run("endless-file", func(t *testing.T) {
		r := open(t, EndlessFile)
		for _, offset := range []int{0, 0x100000, 0x7FFFFF00} {
			a, err := r.send(apdu.Command{INS: 0xB1, P1: 1, P2: 2, Le: 200,
				Data: []byte{0x54, 4, byte(offset >> 24), byte(offset >> 16), byte(offset >> 8), byte(offset)}})
			if err != nil || a.Status != apdu.OK || len(a.Data) != 200 {
				t.Errorf("offset %X: %v, %v, %d bytes", offset, a.Status, err, len(a.Data))
			}
		}
	})
	t.Run("one-byte", func(t *testing.T) {
		r := open(t, OneByte)
		a, err := r.send(apdu.Command{INS: 0xB0, P1: 0x81, Le: 256})
		if err != nil || len(a.Data) != 1 {
			t.Error(a, err)
		}
	})
}

func TestFaceIsAnImage(t *testing.T) {
	b, err := Portrait(SpecimenPerson())
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < portraitMin || len(b) > portraitMax {
		t.Errorf("%d bytes", len(b))
	}
	img, err := jpeg.Decode(bytes.NewReader(b))
	if err != nil || img.Bounds().Dx() != portraitWidth || img.Bounds().Dy() != portraitHeight {
		t.Errorf("%v", err)
	}
	again, _ := Portrait(SpecimenPerson())
	if !bytes.Equal(b, again) {
		t.Error("the same person got two faces")
	}
}

func TestATR(t *testing.T) {
	for _, opts := range []Options{{}, {Faults: []Fault{ShortOnly}}} {
		atr := issue(t, opts).ATR()
		var check byte
		for _, b := range atr[1:] {
			check ^= b
		}
		if atr[0] != 0x3B || check != 0 || atr[3]&0x0F != 1 || len(atr) != 4+int(atr[1]&0x0F)+1 {
			t.Errorf("%x", atr)
		}
	}
}

func TestAnySetOfFiles(t *testing.T) {
	details := tlv(0x6B, tlv(0x5C, []byte{0x5F, 0x0E}), tlv(0x5F0E, []byte("ERIKSSON<<ANNA<MARIA")))
	c := issue(t, Options{Files: map[uint16][]byte{0x010B: details, 0x0142: []byte("a file of the issuer's own")}})
	r := connect(t, c)
	r.paceCAN()
	if got, err := r.read(0x010B); err != nil || !bytes.Equal(got, details) {
		t.Errorf("DG11: %v, %x", err, got)
	}
	if com, err := r.read(efCOM); err != nil || !bytes.HasSuffix(com, []byte{0x5C, 5, 0x61, 0x75, 0x6B, 0x6E, 0x6F}) {
		t.Errorf("EF.COM: %v, %x", err, com)
	}
	hash := sha256.Sum256(details)
	if sod, err := r.read(efSOD); err != nil || !bytes.Contains(sod, hash[:]) {
		t.Errorf("EF.SOD lacks DG11: %v", err)
	}
	if a, err := r.send(apdu.Command{INS: 0xA4, P1: 2, P2: 0x0C, Data: []byte{0x01, 0x42}}); err != nil || a.Status != apdu.OK {
		t.Fatal(a.Status, err)
	}
	if a, err := r.send(apdu.Command{INS: 0xB0, P2: 2, Le: 4}); err != nil || string(a.Data) != "file" {
		t.Errorf("%v: %q", err, a.Data)
	}
}

func TestChipKeyIdentifier(t *testing.T) {
	c := issue(t, Options{ChipKeyID: 7})
	id := tlv(0x80, (&ChipKey{Suite: AES128, Domain: P256}).oid())
	for _, v := range []struct {
		data []byte
		want apdu.Status
	}{
		{id, apdu.ReferencedDataNotFound},
		{append(bytes.Clone(id), 0x84, 1, 8), apdu.ReferencedDataNotFound},
		{append(bytes.Clone(id), 0x84, 1, 7), apdu.OK},
	} {
		r := connect(t, c)
		r.paceCAN()
		if a, err := r.send(apdu.Command{INS: 0x22, P1: 0x41, P2: 0xA4, Data: v.data}); err != nil || a.Status != v.want {
			t.Errorf("%x: %v, %v", v.data, a.Status, err)
		}
	}
}

func TestPACERefusesDisorder(t *testing.T) {
	c := issue(t, Options{})
	g, _ := P256.group()
	good := g.encode(g.g)
	off := bytes.Clone(good)
	off[64] ^= 1
	open := apdu.Command{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: append(tlv(0x80, PACE{GM, AES128, P256}.oid()), tlv(0x83, []byte{2})...)}
	nonce := apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C), Le: 256}
	mapping := func(p []byte) apdu.Command {
		return apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C, tlv(0x81, p)), Le: 256}
	}
	last := apdu.Command{INS: 0x86, Data: tlv(0x7C, tlv(0x85, make([]byte, 8))), Le: 256}
	for name, v := range map[string]struct {
		commands []apdu.Command
		want     apdu.Status // of the last
	}{
		"no MSE":                 {[]apdu.Command{nonce}, apdu.ConditionsNotSatisfied},
		"point off the curve":    {[]apdu.Command{open, nonce, mapping(off)}, apdu.WrongData},
		"short point":            {[]apdu.Command{open, nonce, mapping(good[:64])}, apdu.WrongData},
		"mapping before nonce":   {[]apdu.Command{open, mapping(good)}, apdu.WrongData},
		"going on after a fault": {[]apdu.Command{open, nonce, mapping(off), mapping(good)}, apdu.ConditionsNotSatisfied},
		"token too early":        {[]apdu.Command{open, nonce, last}, chainEndExpected},
		"a SELECT in between":    {[]apdu.Command{open, nonce, {INS: 0xA4, P2: 0x0C}, mapping(good)}, apdu.ConditionsNotSatisfied},
		"an unknown suite":       {[]apdu.Command{{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: append(tlv(0x80, PACE{GM, 9, P256}.oid()), tlv(0x83, []byte{2})...)}}, apdu.WrongData},
		"an unknown password":    {[]apdu.Command{{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: append(tlv(0x80, PACE{GM, AES128, P256}.oid()), tlv(0x83, []byte{3})...)}}, apdu.ReferencedDataNotFound},
	} {
		r := connect(t, c)
		var got apdu.Status
		for _, cmd := range v.commands {
			got = r.plain(cmd).Status
		}
		if got != v.want {
			t.Errorf("%s: %v, want %v", name, got, v.want)
		}
	}
}

func BenchmarkPACE(b *testing.B) {
	c := issue(b, Options{})
	for b.Loop() {
		connect(b, c).paceCAN()
	}
}

package idcard

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

// FuzzTransmit sends several commands to a fresh card, each behind its length as
// two bytes. Whoever does not know a password gets an answer each time and
// nothing of the holder's data.
func FuzzTransmit(f *testing.F) {
	card := issue(f, Options{PACE: []PACE{
		{GM, TripleDES, P256}, {GM, AES128, P256}, {IM, AES256, BrainpoolP256r1}, {IM, AES128, DH1024_160}, {GM, AES128, DH1024_160}, {CAM, AES128, P256},
	}, Chip: func(p *Profile) { p.GetResponse = true }})
	hidden := [][]byte{
		card.profile.Application[dg1][5:30],
		card.profile.Application[dg2][200:230],
		card.profile.Application[dg15][30:60],
	}
	join := func(commands ...apdu.Command) []byte {
		var b []byte
		for _, c := range commands {
			raw, err := c.Bytes()
			if err != nil {
				f.Fatal(err)
			}
			b = append(append(b, byte(len(raw)>>8), byte(len(raw))), raw...)
		}
		return b
	}
	app := apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: application}
	g, _ := P256.group()
	f.Add(join(app, apdu.Command{INS: 0xB0, P1: 0x81, Le: 256}))
	f.Add(join(app, apdu.Command{INS: 0x84, Le: 8}, apdu.Command{INS: 0x82, Data: make([]byte, 40), Le: 40}))
	f.Add(join(
		apdu.Command{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: append(tlv(0x80, PACE{GM, AES128, P256}.oid()), tlv(0x83, []byte{2})...)},
		apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C), Le: 256},
		apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C, tlv(0x81, g.encode(g.g))), Le: 256},
		apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C, tlv(0x83, g.encode(g.g))), Le: 256},
		apdu.Command{INS: 0x86, Data: tlv(0x7C, tlv(0x85, make([]byte, 8))), Le: 256},
	))
	for _, v := range []PACE{{IM, AES256, BrainpoolP256r1}, {IM, AES128, DH1024_160}, {GM, AES128, DH1024_160}, {CAM, AES128, P256}} {
		d, err := v.Domain.agreement()
		if err != nil {
			f.Fatal(err)
		}
		mapping := d.encode(d.base())
		if v.Mapping == IM {
			mapping = make([]byte, v.Suite.keySize())
		}
		f.Add(join(
			apdu.Command{INS: 0x22, P1: 0xC1, P2: 0xA4, Data: append(tlv(0x80, v.oid()), tlv(0x83, []byte{2})...)},
			apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C), Le: 256},
			apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C, tlv(0x81, mapping)), Le: 256},
			apdu.Command{CLA: 0x10, INS: 0x86, Data: tlv(0x7C, tlv(0x83, d.encode(d.base()))), Le: 256},
			apdu.Command{INS: 0x86, Data: tlv(0x7C, tlv(0x85, make([]byte, 8))), Le: 256},
		))
	}
	f.Add(join(apdu.Command{INS: 0xB1, P1: 1, P2: 0x1C, Data: []byte{0x54, 1, 0}, Le: 65536}, apdu.Command{CLA: 0x0C, INS: 0xB0, Data: []byte{0x8E, 0}}))
	f.Fuzz(func(t *testing.T, script []byte) {
		card.Reset()
		for len(script) >= 2 {
			n := min(int(script[0])<<8|int(script[1]), len(script)-2)
			answer := card.Transmit(context.Background(), script[2:2+n])
			script = script[2+n:]
			if len(answer) < 2 || len(answer) > 0x7FFF {
				t.Fatalf("an answer of %d bytes", len(answer))
			}
			for _, h := range hidden {
				if bytes.Contains(answer, h) {
					t.Fatal("the holder's data left the card")
				}
			}
			if card.channel != nil {
				t.Fatal("a session without a password")
			}
		}
	})
}

// FuzzProtected does the same to an open session: the fuzzer writes a plain
// command and its protected form goes in, so that it gets behind the MAC.
func FuzzProtected(f *testing.F) {
	card := issue(f, Options{})
	for _, c := range []apdu.Command{
		{INS: 0xA4, P1: 0x02, P2: 0x0C, Data: []byte{1, 1}},
		{INS: 0xB0, P1: 0x81, Le: 256},
		{INS: 0xB1, P1: 1, P2: 2, Data: []byte{0x54, 2, 0x10, 0}, Le: 100},
		{INS: 0x22, P1: 0x41, P2: 0xA4, Data: tlv(0x80, (&ChipKey{Suite: AES128, Domain: P256}).oid())},
		{INS: 0x22, P1: 0x41, P2: 0xA6, Data: tlv(0x91, make([]byte, 65))},
		{INS: 0x86, Data: tlv(0x7C, tlv(0x80, make([]byte, 65))), Le: 256},
		{INS: 0x88, Data: make([]byte, 8), Le: 256},
	} {
		raw, err := c.Bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := apdu.ParseCommand(raw)
		if err != nil || c.CLA != 0 || len(c.Data) > 600 {
			return
		}
		card.Reset()
		card.inside = true
		keys := func() *channel { return newChannel(AES128, []byte("a shared secret"), nil) }
		card.channel = keys()
		r := &terminal{t: t, chip: card, sm: keys()}
		if c.Le > 256 || len(c.Data) > 200 {
			r.extended = true
		}
		if _, err := r.send(c); err != nil {
			t.Fatalf("%x: %v", raw, err)
		}
	})
}

// FuzzParsePerson: whatever is taken can be printed on a card.
func FuzzParsePerson(f *testing.F) {
	f.Add(specimen)
	f.Add(strings.Replace(specimen, "TD1", "TD3", 1))
	f.Add("format: TD1\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePerson(strings.NewReader(text))
		if err != nil {
			return
		}
		zone, err := p.zone()
		if err != nil {
			t.Fatal(err)
		}
		if want := map[Format]int{TD1: 90, TD3: 88}[p.Format]; len(zone) != want {
			t.Fatalf("a zone of %d characters, want %d: %s", len(zone), want, zone)
		}
		if _, err := mrzInformation(zone); err != nil {
			t.Fatal(err)
		}
		if tamperedAlike(zone, p) {
			t.Fatal("tampering altered nothing")
		}
	})
}

func tamperedAlike(zone string, p Person) bool {
	group := tlv(0x61, tlv(0x5F1F, []byte(zone)))
	return bytes.Equal(tamper(group, p), group)
}

package icao_test

import (
	"bytes"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"math/big"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

var runs = flag.Int("runs", 0, "randomised runs of PACE on P-256; a hundredth on every other set; 0: a sample")

// set is a mapping on one of the standardized domain parameters that have it.
type set struct {
	mapping idcard.Mapping
	domain  idcard.Domain
}

func (s set) String() string {
	return fmt.Sprintf("%s-%d", []string{"GM", "IM", "CAM"}[s.mapping], s.domain)
}

func sets() []set {
	var list []set
	for _, id := range domain.IDs() {
		list = append(list, set{idcard.GM, idcard.Domain(id)})
		if id != 10 { // the prime of NIST P-224 has no map (ICAO 9303-11 table 6)
			list = append(list, set{idcard.IM, idcard.Domain(id)})
		}
		if id > 2 {
			list = append(list, set{idcard.CAM, idcard.Domain(id)})
		}
	}
	return list
}

// suites are the ciphers that go with a mapping (ICAO 9303-11 9.2.3).
func (s set) suites() []idcard.Suite {
	list := []idcard.Suite{idcard.AES128, idcard.AES192, idcard.AES256}
	if s.mapping != idcard.CAM {
		list = append(list, idcard.TripleDES)
	}
	return list
}

func (s set) options(suite idcard.Suite) idcard.Options {
	return idcard.Options{PACE: []idcard.PACE{{Mapping: s.mapping, Suite: suite, Domain: s.domain}}}
}

// Every mapping on every domain parameters it has, with every cipher that goes
// with it, opened again and again with fresh keys.
func TestManyRuns(t *testing.T) {
	sp := newSpecimen(t)
	for _, s := range sets() {
		t.Run(s.String(), func(t *testing.T) {
			n := max(*runs/100, 1)
			suites := s.suites()
			if s.domain == idcard.P256 {
				n = max(*runs, len(suites))
			}
			if *runs > 0 {
				n = max(n, len(suites))
			}
			cards := make([]*idcard.Chip, len(suites))
			for i := range n {
				k := i % len(suites)
				if n == 1 {
					k = int(s.domain) % len(suites)
				}
				if cards[k] == nil {
					cards[k] = sp.card(t, s.options(suites[k]))
				}
				chip := cards[k]
				chip.Reset()
				pw := can(chip)
				if i%2 == 1 {
					pw = mrz(t, chip)
				}
				c, err := icao.Open(t.Context(), chip.Direct(), pw, icao.Options{})
				if err == nil {
					_, err = c.Read(t.Context(), lds.DG1)
				}
				if err != nil {
					t.Fatalf("run %d, suite %d: %v", i, suites[k], err)
				}
				if doc := c.Document(); doc.Access != "PACE" || (doc.CAM != nil) != (s.mapping == idcard.CAM) {
					t.Fatalf("run %d: access %s, evidence %v", i, doc.Access, doc.CAM != nil)
				}
				c.Close()
			}
		})
	}
}

// chosen is a random source whose next reads the test may set. It remembers
// what it gave last.
type chosen struct {
	next [][]byte
	last []byte
}

func (c *chosen) Read(b []byte) (n int, err error) {
	if len(c.next) == 0 {
		n, err = rand.Read(b)
	} else {
		n = copy(b, c.next[0])
		c.next = c.next[1:]
	}
	c.last = bytes.Clone(b[:n])
	return n, err
}

// repeating is a chip's random source: the system's, or a stream that begins
// anew when the test says so.
type repeating struct {
	system io.Reader
	seed   []byte // nil: the system's
	at     int
}

func (r *repeating) Read(b []byte) (int, error) {
	if r.seed == nil {
		return r.system.Read(b)
	}
	for i := range b {
		b[i] = r.seed[r.at%len(r.seed)] + byte(r.at/len(r.seed))
		r.at++
	}
	return len(b), nil
}

// repeatable makes a card whose chip draws the same numbers in every session
// after restart has been called.
func (s specimen) repeatable(t *testing.T, opts idcard.Options) (chip *idcard.Chip, restart func()) {
	r := &repeating{system: rand.Reader}
	rand.Reader = r // which a chip takes when it is made
	defer func() { rand.Reader = r.system }()
	chip = s.card(t, opts)
	return chip, func() {
		if r.seed == nil {
			seed := make([]byte, 997)
			rand.Read(seed)
			r.seed = seed
		}
		r.at = 0
		chip.Reset()
	}
}

// wire picks the keys of a run of PACE, and of Chip Authentication, off the wire.
func wire(b *between, tag tlv.Tag) []byte {
	for i := range b.commands {
		for _, data := range [][]byte{b.commands[i], b.answers[i]} {
			at := bytes.IndexByte(data, 0x7C)
			if b.commands[i][1] != 0x86 || b.commands[i][0]&0x0C != 0 || at < 0 {
				continue
			}
			_, header, length, err := tlv.Header(data[at:])
			if err != nil || at+header+length > len(data) {
				continue
			}
			if nodes, err := tlv.Parse(data[at+header : at+header+length]); err == nil {
				if n, ok := tlv.Find(nodes, tag); ok {
					return n.Value
				}
			}
		}
	}
	return nil
}

// Shared secrets and coordinates that begin with a zero byte come once in 256
// runs. Here they come for certain: the chip repeats itself, so that the
// terminal's numbers can be looked for that lead there.
func TestLeadingZeros(t *testing.T) {
	sp := newSpecimen(t)
	for i, s := range sets() {
		t.Run(s.String(), func(t *testing.T) {
			g, _ := domain.Standardized(int(s.domain))
			suites := s.suites()
			chip, restart := sp.repeatable(t, s.options(suites[i%len(suites)]))

			// run also returns the number that the terminal drew last: its private key,
			// and another than it was given if that did not do.
			run := func(numbers ...[]byte) (*between, []byte) {
				t.Helper()
				restart()
				b := &between{card: chip.Direct()}
				random := &chosen{next: numbers}
				c, err := icao.OpenWithRandom(t.Context(), b, can(chip), icao.Options{}, random)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(t.Context(), lds.DG1); err != nil {
					t.Fatal(err)
				}
				if len(random.next) > 0 {
					t.Fatal("numbers were left over")
				}
				return b, random.last
			}
			zeroAt := func(at int) func(domain.Element) bool {
				return func(e domain.Element) bool { return g.Encode(e)[at] == 0 }
			}

			// The terminal's first number is for the mapping: a key, or a nonce.
			var first []byte
			if s.mapping == idcard.IM {
				first = make([]byte, map[idcard.Suite]int{idcard.TripleDES: 16, idcard.AES128: 16, idcard.AES192: 24, idcard.AES256: 32}[suites[i%len(suites)]])
				rand.Read(first)
			} else {
				for first == nil || g.Encode(g.Multiply(g.Generator(), first))[0] == 0 {
					first, _ = g.Scalar(rand.Reader)
				}
			}
			good, second := run(first)
			second[0] &= 0xFF >> (8*len(second) - g.Order().BitLen())
			theirs, err := g.Parse(wire(good, 0x84))
			if err != nil {
				t.Fatal(err)
			}
			for { // a key that the terminal does not take is drawn again, once in 256 times
				k := search(t, g, theirs, zeroSecret(g))
				b, drawn := run(first, k)
				if !bytes.Equal(wire(b, 0x84), wire(good, 0x84)) {
					t.Fatal("the chip does not repeat itself")
				}
				if bytes.Equal(drawn, k) {
					break
				}
			}
			if !g.Elliptic() || s.mapping != idcard.GM { // the others encode alike
				return
			}
			ours, err := g.Parse(wire(good, 0x83))
			if err != nil {
				t.Fatal(err)
			}
			inverse := new(big.Int).ModInverse(new(big.Int).SetBytes(second), g.Order())
			generator := g.Multiply(ours, inverse.Bytes())
			y := 1 + g.Size()
			k := search(t, g, generator, zeroAt(y))
			if b, _ := run(first, k); wire(b, 0x83)[y] != 0 {
				t.Error("no zero on the wire")
			}
			const x = 1
			k = search(t, g, g.Generator(), zeroAt(x))
			if b, _ := run(k); wire(b, 0x81)[x] != 0 {
				t.Error("no zero on the wire")
			}
		})
	}
}

// search counts up from a random number until fits likes number times base.
func search(t *testing.T, g domain.Group, base domain.Element, fits func(domain.Element) bool) []byte {
	t.Helper()
	start, err := g.Scalar(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	e, k := g.Multiply(base, start), new(big.Int).SetBytes(start)
	for !fits(e) {
		e = g.Add(e, base)
		k.Add(k, big.NewInt(1))
	}
	return k.Mod(k, g.Order()).FillBytes(make([]byte, len(start)))
}

func zeroSecret(g domain.Group) func(domain.Element) bool {
	return func(e domain.Element) bool {
		secret, err := g.Secret(e)
		return err == nil && secret[0] == 0
	}
}

// The same for Chip Authentication, over every domain parameters.
func TestLeadingZerosOfChipAuthentication(t *testing.T) {
	sp := newSpecimen(t)
	for i, id := range domain.IDs() {
		suite := []idcard.Suite{idcard.AES128, idcard.TripleDES, idcard.AES256}[i%3]
		t.Run(fmt.Sprintf("%d, suite %d", id, suite), func(t *testing.T) {
			g, _ := domain.Standardized(id)
			chip := sp.card(t, idcard.Options{ChipKeys: []idcard.ChipKey{{Suite: suite, Domain: idcard.Domain(id)}}})
			random := &chosen{}
			c, err := icao.OpenWithRandom(t.Context(), chip.Direct(), can(chip), icao.Options{}, random)
			if err != nil {
				t.Fatal(err)
			}
			infos := dg14(t, c)
			key, err := lds.ParseAgreementKey(infos.ChipAuthenticationKeys[0].SPKI)
			if err != nil || key.Group != g {
				t.Fatal("key", err)
			}
			k := search(t, g, key.Public, zeroSecret(g))
			for g.Encode(g.Multiply(g.Generator(), k))[0] == 0 { // would be drawn again
				k = search(t, g, key.Public, zeroSecret(g))
			}
			random.next = [][]byte{k}
			if err := c.AuthenticateChip(t.Context(), infos); err != nil {
				t.Fatal(err)
			}
			if e := c.Document().Chip; len(random.next) > 0 || !bytes.Equal(e.TerminalKey.Reveal(), k) {
				t.Error("another key was used")
			}
			if _, err := c.Read(t.Context(), lds.DG1); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// dg14 reads the chip's protocols.
func dg14(t testing.TB, c *icao.Chip) lds.SecurityInfos {
	t.Helper()
	file, err := c.Read(t.Context(), lds.DG14)
	if err != nil {
		t.Fatal(err)
	}
	infos, err := lds.ParseDG14(file)
	if err != nil {
		t.Fatal(err)
	}
	return infos
}

package icao_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/aead/cmac"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// link adds up the time that commands and answers would take on a contactless
// link, and takes none itself.
type link struct {
	apdu.Card
	bytes, commands int
}

const (
	linkRate   = 424_000 // bits in a second, either way
	turnaround = 5 * time.Millisecond
)

func (l *link) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := l.Card.Transmit(ctx, command)
	l.commands++
	l.bytes += len(command) + len(answer)
	return answer, err
}

func linkTime(commands, bytes int) time.Duration {
	return time.Duration(commands)*turnaround + time.Duration(bytes)*8*time.Second/linkRate
}

// fewest is how few commands read doc with answers of at most le bytes of a
// file: one or more for each file, and what opens the card and proves the chip.
func fewest(doc lds.Document, le int) int {
	n := 8 // MSE, 4 GENERAL AUTHENTICATE, SELECT; MSE and GENERAL AUTHENTICATE
	for _, b := range doc.Files {
		n += (len(b) + le - 1) / le
	}
	return n
}

// A whole reading of a card with a DG2 of 18 kB: commands and bytes for each
// file, and the time on the link against the same bytes in the fewest commands.
func BenchmarkWholeReading(b *testing.B) {
	chip := goalCard(b)
	for _, k := range []struct {
		name      string
		limit, le int
	}{{"extended", 65536, 32767}, {"short", 256, 223}} {
		b.Run(k.name, func(b *testing.B) {
			var l *link
			var c *icao.Chip
			for b.Loop() {
				chip.Reset()
				l = &link{Card: chip.Direct()}
				c = readGoal(b, l, can(chip), icao.Options{MaxLe: k.limit})
			}
			took, floor := linkTime(l.commands, l.bytes), linkTime(fewest(c.Document(), k.le), l.bytes)
			b.ReportMetric(float64(l.commands), "apdus")
			b.ReportMetric(float64(l.bytes), "bytes")
			b.ReportMetric(took.Seconds()*1000, "link-ms")
			b.ReportMetric(float64(took)/float64(floor), "link/floor")
			for _, f := range append([]lds.File{lds.EFCardAccess, lds.DG14}, goalFiles...) {
				u := c.Usage(f)
				b.ReportMetric(float64(u.APDUs), fmt.Sprintf("%v-apdus", f))
				b.ReportMetric(float64(u.Bytes), fmt.Sprintf("%v-bytes", f))
			}
		})
	}
}

// replay gives the answers of a recorded session.
type replay struct {
	answers [][]byte
	at      int
}

func (r *replay) Transmit(context.Context, []byte) ([]byte, error) {
	r.at++
	return r.answers[r.at-1], nil
}

// The terminal's own time for a whole reading, the card's taken out by playing
// its answers, against the cryptography of that session alone.
func BenchmarkHost(b *testing.B) {
	chip := goalCard(b)
	for _, limit := range []int{65536, 256} {
		b.Run(map[int]string{65536: "extended", 256: "short"}[limit], func(b *testing.B) {
			chip.Reset()
			recording := &between{card: chip.Direct()}
			read := func(card apdu.Card) {
				c, err := icao.OpenWithRandom(b.Context(), card, can(chip), icao.Options{MaxLe: limit}, &steady{})
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				if err := c.AuthenticateChip(b.Context(), dg14(b, c)); err != nil {
					b.Fatal(err)
				}
				if _, err := c.ReadAll(b.Context(), goalFiles, nil); err != nil {
					b.Fatal(err)
				}
			}
			read(recording)
			bare := newBare(b, recording)
			b.ReportAllocs()
			// Medians: a run in which another program had the processor says nothing.
			var host, floor []time.Duration
			for b.Loop() {
				start := time.Now()
				read(&replay{answers: recording.answers})
				middle := time.Now()
				bare.run()
				host, floor = append(host, middle.Sub(start)), append(floor, time.Since(middle))
			}
			b.ReportMetric(float64(median(host).Microseconds()), "host-µs")
			b.ReportMetric(float64(median(host))/float64(median(floor)), "host/bare")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// bare is the cryptography of a recorded session and nothing else, done with
// the same libraries: no parsing, no copying, keys that fit nothing.
type bare struct {
	commands, answers [][]byte // under secure messaging
	group             domain.Group
	element           domain.Element
	scalar            []byte
	block             cipher.Block
	scratch           []byte
}

func newBare(b *testing.B, recording *between) *bare {
	g, _ := domain.Standardized(12)
	scalar, err := g.Scalar(&steady{})
	if err != nil {
		b.Fatal(err)
	}
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		b.Fatal(err)
	}
	out := &bare{group: g, element: g.Multiply(g.Generator(), scalar), scalar: scalar, block: block, scratch: make([]byte, 1<<16)}
	for i, c := range recording.commands {
		if c[0]&0x0C != 0 {
			out.commands, out.answers = append(out.commands, c), append(out.answers, recording.answers[i])
		}
	}
	return out
}

func (x *bare) run() {
	g := x.group
	// PACE: two key pairs, mapping, agreement. Chip Authentication: a pair, agreement.
	for range 3 { // the mapping key, the nonce, the key of Chip Authentication
		g.Multiply(g.Generator(), x.scalar)
	}
	h := g.Multiply(x.element, x.scalar)
	g.Add(x.element, h)
	for range 3 { // the second key, two agreements
		g.Multiply(x.element, x.scalar)
	}
	for range 5 { // key derivation
		sha1.Sum(x.scalar)
	}
	iv := x.scratch[:16]
	for i := range x.commands {
		for j, message := range [][]byte{x.commands[i], x.answers[i]} {
			if _, err := cmac.Sum(message, x.block, 8); err != nil {
				panic(err)
			}
			n := len(message) / 16 * 16
			if n > 32 && j == 1 { // what carries data
				x.block.Encrypt(iv, iv)
				cipher.NewCBCDecrypter(x.block, iv).CryptBlocks(x.scratch[16:16+n], message[:n])
			}
		}
	}
}

// The recording replays exactly, or the benchmark would measure errors.
func TestReplayedSession(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	recording := &between{card: chip.Direct()}
	var files [][]byte
	for _, card := range []apdu.Card{recording, &replay{}} {
		if r, ok := card.(*replay); ok {
			r.answers = recording.answers
		}
		c, err := icao.OpenWithRandom(t.Context(), card, can(chip), icao.Options{}, &steady{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.Read(t.Context(), lds.DG2)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, b)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("another file")
	}
}

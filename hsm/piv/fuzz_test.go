package piv_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pcscd"
)

// script is a card that answers commands one after another with pieces of a
// text, each behind its length; then with 6A82.
type script struct{ text []byte }

func (s *script) ATR() []byte { return []byte{0x3B, 0x80, 0x80, 0x01, 0x01} }
func (s *script) Reset()      {}

func (s *script) Transmit(context.Context, []byte) []byte {
	if len(s.text) == 0 {
		return []byte{0x6A, 0x82}
	}
	n := min(int(s.text[0]), len(s.text)-1)
	answer := s.text[1 : 1+n]
	s.text = s.text[1+n:]
	return bytes.Clone(answer)
}

var _ pcscd.Card = (*script)(nil)

// FuzzDescribe has hostile cards described and probed: neither panics, hangs nor
// calls such a card ready.
func FuzzDescribe(f *testing.F) {
	say := func(answers ...string) {
		var b []byte
		for _, a := range answers {
			b = append(append(b, byte(len(a))), a...)
		}
		f.Add(b)
	}
	ok := "\x90\x00"
	say("\x61\x11\x4F\x06\x00\x00\x10\x00\x01\x00\x79\x07\x4F\x05\xA0\x00\x00\x03\x08"+ok, "\x05\x07\x04"+ok, "\x00\x98\x96\x81"+ok,
		"\x01\x01\xFF\x05\x01\x01\x06\x02\x03\x03"+ok, "\x01\x01\xFF\x05\x01\x01\x06\x02\x03\x03"+ok, "\x01\x01\x0A\x02\x02\x00\x01\x05\x01\x01"+ok,
		"\x6A\x82", "\x01\x01\x11\x02\x02\x02\x02\x03\x01\x01"+ok, "\x53\x04\x70\x02\x30\x00"+ok)
	say("\x6A\x82", ok, ok, ok)
	say(ok, "\x61\x10", "\x61\x00", "")
	r, err := daemon.AddReader("Fuzz")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, look := range []func(context.Context) bool{
			func(ctx context.Context) bool { i, _ := piv.Probe(ctx, r.Name()); return i.Ready && i.FactoryNew },
			func(ctx context.Context) bool { d, _ := piv.Describe(ctx, r.Name()); return d.Ready && d.FactoryNew },
		} {
			r.Insert(&script{text})
			if look(within(t, 20*time.Second)) {
				t.Error("new and finished at once")
			}
			r.Pull()
		}
	})
}

package beid_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	simulated "enrollkiosk/simulators/beid"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/beid"
)

func FuzzParseIdentity(f *testing.F) {
	f.Add(readTestcard(f).Identity)
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := beid.ParseIdentity(bytes.Clone(b))
		if err != nil && !errors.Is(err, beid.ErrMalformed) {
			t.Fatalf("an error without a type: %v", err)
		}
		size := 0
		for _, tag := range id.Fields.Tags() {
			size += id.Fields.Get(tag).Len() + 2
		}
		if size > len(b) || len(id.PhotoHash)+len(id.BasicKeyHash) > len(b) {
			t.Fatalf("%d bytes of fields in a file of %d", size, len(b))
		}
		if y, m, d, ok := id.Birth.Date(); ok && (y < 1800 || y > 9999 || m < 0 || m > 12 || d < 0 || d > 31) {
			t.Fatalf("born %d-%d-%d", y, m, d)
		}
		if err == nil && len(b) > 0 {
			// What was read can be written and read again.
			if again, err := beid.ParseIdentity(encode(id.Fields)); err != nil || !slices.Equal(again.Fields.Tags(), id.Fields.Tags()) {
				t.Fatalf("again: %v", err)
			}
		}
	})
}

func FuzzParseAddress(f *testing.F) {
	f.Add(readTestcard(f).Address)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := beid.ParseAddress(bytes.Clone(b))
		if err != nil && !errors.Is(err, beid.ErrMalformed) {
			t.Fatalf("an error without a type: %v", err)
		}
		if a.Street.Len()+a.Zip.Len()+a.Town.Len() > len(b) {
			t.Fatal("more text than bytes")
		}
	})
}

func encode(f beid.Fields) []byte {
	var b []byte
	for _, tag := range f.Tags() {
		b = append(b, tlv(byte(tag), string(f.Get(tag).Reveal()))...)
	}
	return b
}

// recorded is a card that gives recorded answers, then fails. Each answer stands
// behind its length in two bytes.
type recorded struct {
	script   []byte
	commands int
}

func (r *recorded) Transmit(context.Context, []byte) ([]byte, error) {
	r.commands++
	if len(r.script) < 2 {
		return nil, io.ErrUnexpectedEOF
	}
	n := min(int(r.script[0])<<8|int(r.script[1]), len(r.script)-2)
	answer := r.script[2 : 2+n]
	r.script = r.script[2+n:]
	return answer, nil
}

// recorder writes down what a card answers, as recorded plays it.
type recorder struct {
	apdu.Card
	script []byte
}

func (r *recorder) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := r.Card.Transmit(ctx, command)
	r.script = append(append(r.script, byte(len(answer)>>8), byte(len(answer))), answer...)
	return answer, err
}

// FuzzCard reads, challenges and verifies a card that answers anything. The seeds
// are recordings of good cards, the trusted root is another: nobody is genuine.
func FuzzCard(f *testing.F) {
	trust := roots(f, simulated.Applet18)
	foreign, err := simulated.NewIssuer(simulated.Applet18)
	if err != nil {
		f.Fatal(err)
	}
	for _, fault := range []simulated.Fault{"", simulated.Exhausted, simulated.TruncatedFile, simulated.NotBelgian} {
		card, err := foreign.Personalise(simulated.Options{Faults: []simulated.Fault{fault}})
		if err != nil {
			f.Fatal(err)
		}
		r := &recorder{Card: card.Direct()}
		attack(f, r, trust)
		f.Add(r.script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		card := &recorded{script: script}
		attack(t, card, trust)
		if most := len(script)/2 + 4; card.commands > most {
			t.Fatalf("%d commands for %d bytes of answers", card.commands, len(script))
		}
	})
}

// attack lets the reader do all it can with card, and demands that every error
// has a type and that nobody is genuine.
func attack(t testing.TB, card apdu.Card, trust beid.Roots) {
	check := func(err error) {
		for _, known := range []error{beid.ErrNotBelgianEID, beid.ErrRefused, beid.ErrMalformed, beid.ErrTooLarge, beid.ErrNoBasicKey, io.ErrUnexpectedEOF} {
			if errors.Is(err, known) {
				return
			}
		}
		if err != nil {
			t.Fatalf("an error without a type: %v", err)
		}
	}
	doc, err := beid.Read(t.Context(), card, nil, nil)
	check(err)
	for file, content := range doc.Files {
		if len(content) > beid.MaxFile+1 {
			t.Fatalf("%v of %d bytes", file, len(content))
		}
	}
	doc.Chip, err = beid.AuthenticateChip(t.Context(), card, challenge)
	check(err)
	h, _, err := beid.Verify(doc, trust, time.Now(), beid.Options{})
	var failed *beid.Error
	if h.Valid() || !errors.As(err, &failed) {
		t.Fatalf("a card of another root is genuine: %v", err)
	}
}

// FuzzVerify gives the verifier anything for the files that are not text: the
// certificate, a signature, the basic key, and its evidence.
func FuzzVerify(f *testing.F) {
	genuine := proven(f, newCard(f, simulated.Applet18))
	trust := roots(f, simulated.Applet18)
	f.Add(genuine.Files[beid.RegisterCertificate], genuine.Files[beid.AddressSignature], genuine.Files[beid.BasicKey])
	f.Add(genuine.Files[beid.RegisterCertificate][:40], []byte{0x30, 0x84, 0x7F, 0xFF, 0xFF, 0xFF}, []byte{0x30, 0x80})
	f.Add(read(f, newCard(f, simulated.Applet17).Direct()).Files[beid.RegisterCertificate], genuine.Files[beid.AddressSignature][:3], []byte{})
	f.Fuzz(func(t *testing.T, certificate, signature, key []byte) {
		doc := beid.Document{Files: map[beid.File][]byte{}, Chip: genuine.Chip}
		for file, content := range genuine.Files {
			doc.Files[file] = content
		}
		doc.Files[beid.RegisterCertificate], doc.Files[beid.AddressSignature], doc.Files[beid.BasicKey] = certificate, signature, key
		h, _, err := beid.Verify(doc, trust, time.Now(), beid.Options{})
		var failed *beid.Error
		if h.Valid() != (err == nil) || err != nil && !errors.As(err, &failed) {
			t.Fatalf("valid %v: %v", h.Valid(), err)
		}
		// Filling may be there or not; all else is the original's.
		same := func(a, b []byte) bool { return bytes.Equal(bytes.TrimRight(a, "\x00"), bytes.TrimRight(b, "\x00")) }
		if h.Valid() && !(same(certificate, genuine.Files[beid.RegisterCertificate]) && same(signature, genuine.Files[beid.AddressSignature]) && bytes.Equal(key, genuine.Files[beid.BasicKey])) {
			t.Fatal("a mutant is genuine")
		}
	})
}

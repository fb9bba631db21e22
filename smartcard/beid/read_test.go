package beid_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	simulated "enrollkiosk/simulators/beid"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/beid"
)

var generations = []simulated.Generation{simulated.Applet11, simulated.Applet17, simulated.Applet18}

// issuers are made once: keys are slow.
var issuers = map[simulated.Generation]*simulated.Issuer{}

func issuer(t testing.TB, g simulated.Generation) *simulated.Issuer {
	t.Helper()
	if issuers[g] == nil {
		i, err := simulated.NewIssuer(g)
		if err != nil {
			t.Fatal(err)
		}
		issuers[g] = i
	}
	return issuers[g]
}

func newCard(t testing.TB, g simulated.Generation, faults ...simulated.Fault) *simulated.Card {
	t.Helper()
	c, err := issuer(t, g).Personalise(simulated.Options{Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t testing.TB, card apdu.Card) beid.Document {
	t.Helper()
	doc, err := beid.Read(t.Context(), card, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// counted counts commands and bytes on their way to a card.
type counted struct {
	apdu.Card
	commands, longest int
}

func (c *counted) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	c.commands++
	c.longest = max(c.longest, len(command))
	return c.Card.Transmit(ctx, command)
}

func TestRead(t *testing.T) {
	for _, g := range generations {
		card := newCard(t, g)
		c := &counted{Card: card.Direct()}
		var last beid.Progress
		doc, err := beid.Read(t.Context(), c, nil, func(p beid.Progress) {
			if p.Read < last.Read || p.Read > p.Total {
				t.Errorf("progress went from %+v to %+v", last, p)
			}
			last = p
		})
		if err != nil {
			t.Fatalf("applet %s: %v", g, err)
		}
		want := beid.Files()
		if g != simulated.Applet18 {
			want = slices.DeleteFunc(want, func(f beid.File) bool { return f == beid.BasicKey })
		}
		if got := slices.Sorted(maps.Keys(doc.Files)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("applet %s: files %v", g, got)
		}
		for f, content := range doc.Files {
			directory := uint16(0xDF01)
			if f == beid.RegisterCertificate {
				directory = 0xDF00
				if _, err := x509.ParseCertificate(content); err != nil {
					t.Errorf("%v: %v", f, err)
				}
			}
			if on := card.File(directory, uint16(f)); !bytes.HasPrefix(on, content) || f != beid.RegisterCertificate && len(on) != len(content) {
				t.Errorf("applet %s: %v differs from the card's", g, f)
			}
		}
		if last.Read != last.Total || last.Total == 0 {
			t.Errorf("progress ended at %+v", last)
		}
		size := 0
		for _, b := range doc.Files {
			size += len(b)
		}
		if c.commands > 45 || c.longest > 5+16 {
			t.Errorf("applet %s: %d commands, of at most %d bytes", g, c.commands, c.longest)
		}
		t.Logf("applet %s: %d bytes in %d commands", g, size, c.commands)
	}
}

func TestReadOtherFiles(t *testing.T) {
	doc, err := beid.Read(t.Context(), newCard(t, simulated.Applet17).Direct(),
		[]beid.File{beid.RootCertificate, beid.SigningCertificate}, nil)
	if err != nil || len(doc.Files) != 1 || !bytes.Equal(doc.Files[beid.RootCertificate], issuer(t, simulated.Applet17).Root()) {
		t.Errorf("files %v, %v", slices.Collect(maps.Keys(doc.Files)), err)
	}
}

// Readers may see to 6Cxx and 61xx themselves, or give what there is for any Le.
type helpful struct{ apdu.Card }

func (h helpful) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer, err := h.Card.Transmit(ctx, command)
	for err == nil && len(answer) == 2 && (answer[0] == 0x6C || answer[0] == 0x61) {
		again := []byte{0, 0xC0, 0, 0, answer[1]}
		if answer[0] == 0x6C {
			again = append(slices.Clone(command[:4]), answer[1])
		}
		answer, err = h.Card.Transmit(ctx, again)
	}
	return answer, err
}

// The applet may not be the one that is selected after power-on.
type elsewhere struct {
	apdu.Card
	selected bool
}

func (e *elsewhere) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if command[1] == 0xA4 && command[2] == 4 && len(command) == 5+15 {
		e.selected = true
	}
	if !e.selected {
		return []byte{0x6A, 0x82}, nil
	}
	return e.Card.Transmit(ctx, command)
}

func TestReadersAndAppletsThatDiffer(t *testing.T) {
	want := read(t, newCard(t, simulated.Applet18).Direct())
	card := newCard(t, simulated.Applet18)
	for name, c := range map[string]apdu.Card{"helpful": helpful{card.Direct()}, "elsewhere": &elsewhere{Card: card.Direct()}} {
		card.Reset()
		doc := read(t, c)
		for _, f := range []beid.File{beid.PhotoFile, beid.IdentityFile, beid.AddressFile, beid.BasicKey, beid.RegisterCertificate} {
			if !bytes.Equal(doc.Files[f], want.Files[f]) {
				t.Errorf("%s: another %v", name, f)
			}
		}
		if _, err := beid.AuthenticateChip(t.Context(), c, [32]byte{1}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadFaults(t *testing.T) {
	for fault, want := range map[simulated.Fault]error{
		simulated.NotBelgian:  beid.ErrNotBelgianEID,
		simulated.EndlessFile: beid.ErrTooLarge,
		simulated.OneByte:     beid.ErrMalformed, // cut off in the photo
	} {
		c := &counted{Card: newCard(t, simulated.Applet17, fault).Direct()}
		doc, err := beid.Read(t.Context(), c, []beid.File{beid.IdentityFile, beid.PhotoFile}, nil)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", fault, err, want)
		}
		if _, ok := doc.Files[beid.PhotoFile]; ok {
			t.Errorf("%s: a photo was taken", fault)
		}
		if c.commands > 2*beid.MaxFile/16+100 {
			t.Errorf("%s: %d commands", fault, c.commands)
		}
	}
}

func TestReadEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := beid.Read(ctx, newCard(t, simulated.Applet17, simulated.Hang).Direct(), nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a card that hangs: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("after %v", took)
	}
	if _, err := beid.AuthenticateChip(ctx, newCard(t, simulated.Applet18).Direct(), [32]byte{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("authenticate after the deadline: %v", err)
	}
}

// scripted answers commands by instruction; the rest succeeds with nothing.
type scripted map[byte][]byte

func (s scripted) Transmit(_ context.Context, command []byte) ([]byte, error) {
	if answer, ok := s[command[1]]; ok {
		if answer == nil {
			return nil, io.ErrUnexpectedEOF
		}
		return answer, nil
	}
	return []byte{0x90, 0x00}, nil
}

func TestBadAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		card scripted
		want error
	}{
		"transport fails":      {scripted{0xB0: nil}, io.ErrUnexpectedEOF},
		"status cut off":       {scripted{0xB0: {0x90}}, beid.ErrMalformed},
		"select refused":       {scripted{0xA4: {0x69, 0x82}}, beid.ErrNotBelgianEID},
		"read refused":         {scripted{0xB0: {0x69, 0x82}}, beid.ErrRefused},
		"no length":            {scripted{0xB0: {0x6C, 0x00}}, beid.ErrRefused},
		"the same Le for ever": {scripted{0xB0: {0x6C, 0x10}}, beid.ErrRefused},
		"more than asked":      {scripted{0xB0: append(make([]byte, 249), 0x90, 0)}, beid.ErrMalformed},
		"61 for ever":          {scripted{0xB0: {0x61, 0x10}, 0xC0: {0x61, 0x10}}, beid.ErrMalformed},
	} {
		if _, err := beid.Read(t.Context(), test.card, nil, nil); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	// Whoever says less than 6Cxx promised is asked again, and a warning may end a file.
	for name, card := range map[string]scripted{"empty": {}, "6282": {0xB0: {0x01, 0x00, 0x62, 0x82}}} {
		if _, err := beid.Read(t.Context(), card, []beid.File{beid.IdentityFile}, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// stingy answers at most ten bytes at a time, after it has named what is left.
type stingy []byte

func (s stingy) Transmit(_ context.Context, command []byte) ([]byte, error) {
	if command[1] != 0xB0 {
		return []byte{0x90, 0x00}, nil
	}
	offset, le := int(command[2])<<8|int(command[3]), int(command[4])
	if left := len(s) - offset; left == 0 {
		return []byte{0x6B, 0x00}, nil
	} else if le > left {
		return []byte{0x6C, byte(left)}, nil
	}
	return append(slices.Clone(s[offset:offset+min(le, 10)]), 0x90, 0x00), nil
}

func TestShortAnswersAreNoEnd(t *testing.T) {
	file := []byte("a file of more than ten bytes, in pieces")
	doc, err := beid.Read(t.Context(), stingy(file), []beid.File{beid.IdentityFile}, nil)
	if err != nil || !bytes.Equal(doc.Files[beid.IdentityFile], file) {
		t.Errorf("%q, %v", doc.Files[beid.IdentityFile], err)
	}
}

func TestSelect(t *testing.T) {
	if err := beid.Select(t.Context(), newCard(t, simulated.Applet17).Direct()); err != nil {
		t.Error(err)
	}
	if err := beid.Select(t.Context(), newCard(t, simulated.Applet17, simulated.NotBelgian).Direct()); !errors.Is(err, beid.ErrNotBelgianEID) {
		t.Errorf("another card: %v", err)
	}
}

func TestAuthenticateChipErrors(t *testing.T) {
	for name, test := range map[string]struct {
		card apdu.Card
		want error
	}{
		"applet 1.7":      {newCard(t, simulated.Applet17).Direct(), beid.ErrNoBasicKey},
		"exhausted":       {newCard(t, simulated.Applet18, simulated.Exhausted).Direct(), beid.ErrRefused},
		"short signature": {scripted{0x88: {1, 2, 3, 0x90, 0}}, beid.ErrMalformed},
		"not Belgian":     {newCard(t, simulated.Applet18, simulated.NotBelgian).Direct(), beid.ErrNotBelgianEID},
	} {
		if e, err := beid.AuthenticateChip(t.Context(), test.card, [32]byte{}); e != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestRecognise(t *testing.T) {
	for _, g := range generations {
		if !beid.Recognise(newCard(t, g).ATR()) {
			t.Errorf("applet %s is not recognised", g)
		}
		if beid.Recognise(newCard(t, g, simulated.NotBelgian).ATR()) {
			t.Error("another card is recognised")
		}
	}
	for atr, want := range map[string]bool{
		"\x3B\x98\x94\x40\x0A\xA5\x03\x01\x01\x01\xAD\x13\x10": true, // applet 1.0
		"\x3B\x98\x94\x40\xFF\xA5\x03\x01\x01\x01\xAD\x13\x10": true,
		"\x3B\x98\x94\x40\xFF\xA5\x03\x01\x01\x01\xAD\x14\x10": false,
		"\x3B\x98": false, "": false,
	} {
		if beid.Recognise([]byte(atr)) != want {
			t.Errorf("% X", atr)
		}
	}
}

func TestFileNames(t *testing.T) {
	if beid.PhotoFile.String() != "photo" || beid.File(0x1234).String() != "EF 1234" {
		t.Error(beid.PhotoFile, beid.File(0x1234))
	}
}

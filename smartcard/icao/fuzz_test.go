package icao_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// steady is a random source that repeats itself, so that a recorded card fits again.
type steady struct{ n byte }

func (s *steady) Read(b []byte) (int, error) {
	for i := range b {
		s.n = s.n*5 + 17
		b[i] = s.n
	}
	return len(b), nil
}

// recorded is a card that gives recorded answers, then fails. Each answer
// stands behind its length in two bytes.
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

// FuzzCard runs the whole reader against a card that answers anything. The
// seeds are recordings of good cards: changes begin deep inside a session.
func FuzzCard(f *testing.F) {
	s := newSpecimen(f)
	for _, opts := range []idcard.Options{
		{},
		{Faults: []idcard.Fault{idcard.BACOnly, idcard.ShortOnly}},
		{Faults: []idcard.Fault{idcard.NotEMRTD}},
		{Faults: []idcard.Fault{idcard.Clone}},
		{ChipSuite: idcard.TripleDES, PACE: []idcard.PACE{{Suite: idcard.TripleDES, Domain: idcard.P256}}},
		{PACE: []idcard.PACE{{Suite: idcard.AES128, Domain: idcard.DH1024_160}}, ChipKeys: []idcard.ChipKey{{Suite: idcard.TripleDES, Domain: idcard.DH1024_160}}},
		{PACE: []idcard.PACE{{Mapping: idcard.IM, Suite: idcard.AES192, Domain: idcard.P256}}},
		{PACE: []idcard.PACE{{Mapping: idcard.CAM, Suite: idcard.AES256, Domain: idcard.P256}}},
		{Chip: func(p *idcard.Profile) { p.Open, p.PACE, p.BAC = true, nil, false; delete(p.Master, 0x011C) }},
		{Faults: []idcard.Fault{idcard.Most192, idcard.NeedsDomainObject}},
	} {
		chip := s.card(f, opts)
		b := &between{card: chip.Direct()}
		attack(f, b, len(chip.CAN()) > 0)
		var script []byte
		for _, a := range b.answers {
			script = append(append(script, byte(len(a)>>8), byte(len(a))), a...)
		}
		again := &recorded{script: script}
		if attack(f, again, len(chip.CAN()) > 0); len(again.script) > 0 || again.commands != len(b.commands) {
			f.Fatal("a recording does not play")
		}
		f.Add(len(chip.CAN()) > 0, script)
	}
	f.Fuzz(func(t *testing.T, can bool, script []byte) {
		card := &recorded{script: script}
		attack(t, card, can)
		if most := len(script)/2 + 32; card.commands > most {
			t.Fatalf("%d commands for %d bytes of answers", card.commands, len(script))
		}
	})
}

// attack lets the reader do all it can with card, and demands that every error
// has a type.
func attack(t testing.TB, card apdu.Card, can bool) {
	pw := icao.CAN(secret.FromString(idcard.SpecimenPerson().CAN))
	if !can {
		information, err := lds.MRZInformation("D23145890", "740812", "340415")
		if err != nil {
			t.Fatal(err)
		}
		pw = icao.MRZ(information)
	}
	check := func(err error) bool {
		for _, known := range []error{
			icao.ErrWrongPassword, icao.ErrBlocked, icao.ErrNotEMRTD, icao.ErrNeedsMRZ, icao.ErrUnsupported,
			icao.ErrAccessDenied, icao.ErrFileNotFound, icao.ErrMalformed, icao.ErrTooLarge, icao.ErrSecureMessaging,
			icao.ErrChipNotGenuine, icao.ErrChipRefused, io.ErrUnexpectedEOF, context.DeadlineExceeded,
		} {
			if errors.Is(err, known) {
				return false
			}
		}
		if err != nil {
			t.Fatalf("an error without a type: %v", err)
		}
		return true
	}
	c, err := icao.OpenWithRandom(t.Context(), card, pw, icao.Options{MaxFile: 32 << 10, Timeout: 5 * time.Second}, &steady{})
	if !check(err) {
		return
	}
	defer c.Close()
	doc, err := c.ReadAll(t.Context(), []lds.File{lds.DG14, lds.DG15}, nil)
	check(err)
	if infos, err := lds.ParseDG14(doc.Files[lds.DG14]); err == nil {
		check(c.AuthenticateChip(t.Context(), infos))
	}
	_, err = c.ReadAll(t.Context(), []lds.File{lds.EFCOM, lds.DG1, lds.EFSOD, lds.EFATRInfo}, nil)
	check(err)
	_, err = c.AuthenticateActive(t.Context(), [8]byte{})
	check(err)
}

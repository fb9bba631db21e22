package icao_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// resettable is a card in a reader that can cut its power.
type resettable struct {
	apdu.Card
	chip   *idcard.Chip
	resets int
}

func (r *resettable) Reset(context.Context) error {
	r.resets++
	r.chip.Reset()
	return nil
}

// told is one whose reader also tells the answer to reset, and its own limit.
type told struct {
	*resettable
	limit int
}

func (t told) ATR() []byte  { return t.chip.ATR() }
func (t told) MaxAPDU() int { return t.limit }

// askedFor is the number of bytes that a protected READ BINARY asks for.
func askedFor(command []byte) int {
	c, err := apdu.ParseCommand(command)
	if err != nil || c.INS&^1 != 0xB0 {
		return 0
	}
	nodes, _ := tlv.Parse(c.Data)
	le, ok := tlv.Find(nodes, 0x97)
	switch {
	case !ok:
		return 0
	case len(le.Value) == 1 && le.Value[0] == 0:
		return apdu.MaxShortLe
	case len(le.Value) == 1:
		return int(le.Value[0])
	case le.Value[0] == 0 && le.Value[1] == 0:
		return apdu.MaxExtendedLe
	}
	return int(le.Value[0])<<8 | int(le.Value[1])
}

// Cards and readers that fail what others take are read to the end all the same,
// with Chip Authentication still proved, and the next one of the kind is spared
// the finding out.
func TestLadder(t *testing.T) {
	errReader := errors.New("reader error")
	s := newSpecimen(t)
	fault := func(f ...idcard.Fault) idcard.Options { return idcard.Options{Faults: f} }
	limited := idcard.Options{Chip: func(p *idcard.Profile) { p.MaxAnswer = 1000 }}
	kept := idcard.Options{Chip: func(p *idcard.Profile) { // what is too long is refused, and nothing else happens
		p.MaxAnswer = 2000
		p.Edit = func(e *idcard.Exchange) {
			if e.Step == idcard.StepRead && !e.Wire && e.Command.Le > 2000 {
				e.Answer = apdu.Response{Status: apdu.WrongLength}
			}
		}
	}}
	silent := idcard.Options{Chip: func(p *idcard.Profile) { p.Master[0x2F01] = nil }}
	type answer func(chip *idcard.Chip, command, answer []byte) ([]byte, error)
	refuse := func(sw apdu.Status, most int) answer { // and lose the session
		return func(chip *idcard.Chip, command, answer []byte) ([]byte, error) {
			if askedFor(command) > most {
				chip.Reset()
				return apdu.Response{Status: sw}.Bytes(), nil
			}
			return answer, nil
		}
	}
	var lost bool // the card has refused a length, and does not know the session any more
	forgetful := idcard.Options{Chip: func(p *idcard.Profile) {
		p.Edit = func(e *idcard.Exchange) {
			if e.Step == idcard.StepRead && !e.Wire && e.Command.Le > 192 && e.File != lds.EFCardAccess.FID() {
				e.Answer, lost = apdu.Response{Status: apdu.WrongOffset}, true
			}
		}
	}}
	forget := func() answer {
		next := false
		return func(chip *idcard.Chip, _, answer []byte) ([]byte, error) {
			if next {
				chip.Reset()
				answer = apdu.Response{Status: apdu.SMObjectsIncorrect}.Bytes()
				lost = false
			}
			next = lost
			return answer, nil
		}
	}()
	for _, k := range []struct {
		name   string
		opts   idcard.Options
		answer answer
		max    int // MaxLe that is learnt, 0: any
		more   int // commands more than the quickest way takes
		resets int // at most, the first time
	}{
		{"nothing odd", idcard.Options{}, nil, 65536, 0, 0},
		{"short only", fault(idcard.ShortOnly), nil, 256, 110, 1},
		{"extended lost", fault(idcard.ExtendedLost), nil, 256, 110, 1},
		{"long answers lost", idcard.Options{}, func(_ *idcard.Chip, _, answer []byte) ([]byte, error) {
			if len(answer) > 258 {
				return nil, errReader
			}
			return answer, nil
		}, 256, 110, 1},
		{"limit in EF.ATR/INFO", limited, refuse(apdu.WrongLength, 1000), 998, 30, 1},
		{"limit in EF.ATR/INFO, session kept", kept, nil, 1998, 30, 0},
		{"limit, no EF.ATR/INFO", silent, refuse(apdu.WrongLength, 1000), 256, 110, 1},
		{"never 256", fault(idcard.Le256Refused), nil, 0, 4, 0},
		{"never over 192", fault(idcard.Most192), nil, 192, 130, 0},
		{"never over 192, session lost, 6B00", silent, refuse(apdu.WrongOffset, 192), 192, 140, 4},
		{"never over 128, session lost, 6F00", silent, refuse(apdu.UnknownError, 128), 128, 190, 5},
		{"never over 192, session forgotten after that", forgetful, forget, 192, 170, 5},
		{"more than asked", fault(idcard.MoreThanAsked), nil, 0, 0, 0},
		{"6B00 past the end", fault(idcard.EndOfFile6B00), nil, 65536, 12, 0},
		{"6B00 past the end, short only", fault(idcard.EndOfFile6B00, idcard.ShortOnly), nil, 256, 120, 1},
		{"6Cxx past the end", fault(idcard.EndOfFile6Cxx), nil, 65536, 12, 0},
		{"6282 past the end", fault(idcard.EndOfFile6282), nil, 65536, 0, 0},
		{"EF.CardAccess deactivated", fault(idcard.CardAccess6283), nil, 65536, 0, 0},
		{"wants its parameters named", fault(idcard.NeedsDomainObject), nil, 65536, 1, 0},
		{"no Le in MSE and SELECT", fault(idcard.RefusesLeInMSE), nil, 65536, 0, 0},
		{"no master file without its name", fault(idcard.SelectMFNeeds3F00), nil, 65536, 0, 0},
		{"no master file", fault(idcard.SelectMFFails), nil, 65536, 0, 0},
		{"EF.DIR denied", fault(idcard.DIRDenied), nil, 65536, 0, 0},
		{"plain errors", fault(idcard.PlainErrors), nil, 65536, 0, 0},
	} {
		t.Run(k.name, func(t *testing.T) {
			chip := s.card(t, k.opts)
			read := func(opts icao.Options) (*icao.Chip, *between, int) {
				chip.Reset()
				b := &between{card: chip.Direct()}
				if k.answer != nil {
					b.meddle = func(_ int, command, answer []byte) ([]byte, error) { return k.answer(chip, command, answer) }
				}
				r := &resettable{b, chip, 0}
				c := open(t, r, can(chip), opts)
				if err := inspect(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				doc := c.Document()
				for _, f := range all {
					if !bytes.Equal(doc.Files[f], chip.File(f.FID())) {
						t.Errorf("%v: %d bytes", f, len(doc.Files[f]))
					}
				}
				if doc.Chip == nil || doc.Active == nil {
					t.Error("evidence is missing")
				}
				return c, b, r.resets
			}
			c, b, resets := read(icao.Options{})
			h := c.Habits()
			const quickest = 16 // 14, EF.DG15 and Active Authentication
			if k.max != 0 && h.MaxLe != k.max || resets > k.resets {
				t.Errorf("habits %+v, %d resets", h, resets)
			}
			if n := len(b.commands); n > quickest+k.more {
				t.Errorf("%d commands", n)
			}
			first := len(b.commands)
			_, b, resets = read(icao.Options{Habits: h})
			if resets > 0 || len(b.commands) > first {
				t.Errorf("once more: %d commands after %d, %d resets", len(b.commands), first, resets)
			}
			if slices.Contains(k.opts.Faults, idcard.NeedsDomainObject) != h.NameParameters || resets == 0 && b.sent(0x22) != 2 {
				t.Errorf("names its parameters: %v; MANAGE SECURITY ENVIRONMENT %d times", h.NameParameters, b.sent(0x22))
			}
		})
	}
}

// What reader and card say of themselves is believed before anything is tried.
func TestToldLimits(t *testing.T) {
	s := newSpecimen(t)
	for _, k := range []struct {
		name  string
		fault []idcard.Fault
		limit int
		most  int // ever asked for
	}{
		{"the card's historical bytes", []idcard.Fault{idcard.ShortOnly}, 0, 256},
		{"a short reader", nil, 256, 256},
		{"a modest reader", nil, 1014, 1014},
		{"no limits", nil, 0, 65536},
	} {
		t.Run(k.name, func(t *testing.T) {
			chip := s.card(t, idcard.Options{Faults: k.fault})
			b := &between{card: chip.Direct()}
			r := &resettable{b, chip, 0}
			c := open(t, told{r, k.limit}, can(chip), icao.Options{})
			if err := inspect(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			most := 0
			for i, command := range b.commands {
				most = max(most, askedFor(command))
				if k.limit > 0 && len(b.answers[i]) > k.limit+2 {
					t.Errorf("an answer of %d bytes", len(b.answers[i]))
				}
			}
			if most > k.most || k.most > 256 && most <= 256 || r.resets > 0 {
				t.Errorf("asked for %d bytes, %d resets", most, r.resets)
			}
		})
	}
}

// A session that is lost after Chip Authentication gets it back, with evidence
// of the session that the rest is read in.
func TestChipAuthenticationIsRedone(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	var agreed [][]byte
	b := &between{card: chip.Direct()}
	b.meddle = func(_ int, command, answer []byte) ([]byte, error) {
		if len(answer) > 600 { // EF.DG14 and EF.COM are shorter
			return nil, errors.New("reader error")
		}
		return answer, nil
	}
	c := open(t, b, can(chip), icao.Options{})
	infos := dg14(t, c)
	if err := c.AuthenticateChip(t.Context(), infos); err != nil {
		t.Fatal(err)
	}
	agreed = append(agreed, c.Document().Chip.TerminalKey.Reveal())
	if _, err := c.Read(t.Context(), lds.DG2); err != nil {
		t.Fatal(err)
	}
	e := c.Document().Chip
	if bytes.Equal(e.TerminalKey.Reveal(), agreed[0]) {
		t.Fatal("evidence of a session that is gone")
	}
	if !slices.ContainsFunc(b.commands, func(sent []byte) bool { return bytes.Equal(sent, e.Command) }) {
		t.Error("evidence of what was never sent")
	}
	if b.sent(0x22) != 4 {
		t.Errorf("%d times MANAGE SECURITY ENVIRONMENT", b.sent(0x22))
	}
}

// goalCard is the card that the goals speak of: DG2 of 18 kB, EF.SOD of 1.6 kB.
func goalCard(t testing.TB) *idcard.Chip {
	return newSpecimen(t).card(t, idcard.Options{
		DG2:   idcard.FaceGroup{Size: 18 << 10},
		Files: map[uint16][]byte{lds.EFSOD.FID(): tlv.Encode(0x77, bytes.Repeat([]byte{0x30}, 1600-4))},
	})
}

var goalFiles = []lds.File{lds.EFCOM, lds.EFSOD, lds.DG1, lds.DG2}

// The quickest way: EF.DG14 first, so that Chip Authentication comes early and
// its evidence is the reading of EF.COM.
func readGoal(t testing.TB, card apdu.Card, pw icao.Password, opts icao.Options) *icao.Chip {
	t.Helper()
	c := open(t, card, pw, opts)
	if err := c.AuthenticateChip(t.Context(), dg14(t, c)); err != nil {
		t.Fatal(err)
	}
	doc, err := c.ReadAll(t.Context(), goalFiles, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Files[lds.DG2]) != 18<<10 || len(doc.Files[lds.EFSOD]) != 1600 || doc.Chip == nil {
		t.Fatal("another card")
	}
	return c
}

func TestFewCommands(t *testing.T) {
	chip := goalCard(t)
	for _, k := range []struct {
		limit, most int
	}{{65536, 14}, {256, 105}} {
		t.Run(fmt.Sprint(k.limit), func(t *testing.T) {
			chip.Reset()
			b := &between{card: chip.Direct()}
			c := readGoal(t, b, can(chip), icao.Options{MaxLe: k.limit})
			apdus, size := c.Stats()
			t.Logf("%d APDUs, %d bytes; evidence of %d bytes", apdus, size, len(c.Document().Chip.Command)+len(c.Document().Chip.Response))
			if apdus > k.most || apdus != len(b.commands) {
				t.Errorf("%d APDUs counted, %d sent; at most %d", apdus, len(b.commands), k.most)
			}
			if n := len(c.Document().Chip.Response); n > 258 {
				t.Errorf("evidence of %d bytes", n)
			}
			if b.sent(0xA4) != 1 {
				t.Errorf("%d times SELECT", b.sent(0xA4))
			}
		})
	}
}

// A file can be verified while the next one is read: it is handed over before
// the next command.
func TestHandsOverEachFile(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	b := &between{card: chip.Direct()}
	c := open(t, b, can(chip), icao.Options{})
	var got []lds.File
	var sent []int
	doc, err := c.ReadEach(t.Context(), []lds.File{lds.EFSOD, lds.DG16, lds.DG2, lds.EFSOD}, nil, func(f lds.File, content []byte) {
		if !bytes.Equal(content, chip.File(f.FID())) {
			t.Errorf("%v: %d bytes", f, len(content))
		}
		got, sent = append(got, f), append(sent, len(b.commands))
	})
	if err != nil || !slices.Equal(got, []lds.File{lds.EFSOD, lds.DG2, lds.EFSOD}) || len(doc.Files) != 3 {
		t.Fatalf("files %v, %v", got, err)
	}
	if sent[0] >= sent[1] || sent[1] != sent[2] {
		t.Errorf("handed over after %v commands", sent)
	}
}

// Files of the master file are found from within the application, and back.
func TestMasterFiles(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	c := open(t, chip.Direct(), can(chip), icao.Options{})
	for _, f := range []lds.File{lds.DG1, lds.EFATRInfo, lds.EFDIR, lds.EFSOD} {
		b, err := c.Read(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if tag := f.Tag(); tag != 0 && tlv.Tag(b[0]) != tag {
			t.Errorf("%v begins with %X", f, b[0])
		}
	}
	if info, err := lds.ParseATRInfo(c.Document().Files[lds.EFATRInfo]); err != nil || !info.Extended {
		t.Errorf("EF.ATR/INFO: %+v, %v", info, err)
	}
	if _, err := c.Read(t.Context(), lds.EFCardSecurity); !errors.Is(err, icao.ErrFileNotFound) {
		t.Errorf("EF.CardSecurity: %v", err)
	}
	if err := c.AuthenticateChip(t.Context(), dg14(t, c)); err != nil {
		t.Error(err)
	}
}

// Files at and beyond the limits of offsets: 15 bits, 16 bits.
func TestLargeFiles(t *testing.T) {
	file := func(size int) []byte {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i * 7 >> 3)
		}
		copy(b, []byte{0x75, 0x83, byte((size - 5) >> 16), byte((size - 5) >> 8), byte(size - 5)})
		return b
	}
	for _, size := range []int{32766, 32767, 32768, 32769, 40000, 65536, 70000} {
		chip, err := idcard.New(idcard.Profile{
			Master:      map[uint16][]byte{0x011C: {0x31, 0x14, 0x30, 0x12, 0x06, 0x0A, 0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02, 0x02, 0x02, 0x01, 0x02, 0x02, 0x01, 0x0C}},
			Application: map[uint16][]byte{0x0102: file(size)},
			CAN:         "123456",
			PACE:        []idcard.PACE{{Suite: idcard.AES128, Domain: idcard.P256}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, limit := range []int{0, 256, 4096} {
			if limit == 256 && size != 32768 && size != 70000 {
				continue
			}
			c := open(t, chip.Direct(), can(chip), icao.Options{MaxLe: limit})
			b, err := c.Read(t.Context(), lds.DG2)
			if err != nil || !bytes.Equal(b, file(size)) {
				t.Errorf("%d bytes at Le %d: %d bytes, %v", size, limit, len(b), err)
			}
		}
	}
}

// A reader that fails extended length in one of the ways that readers do.
func TestReaderWithoutExtendedLength(t *testing.T) {
	s := newSpecimen(t)
	errReader := errors.New("reader error")
	extended := func(command []byte) bool { return len(command) > 5 && command[4] == 0 }
	for name, b := range map[string]*between{
		"refuses the command": {before: func(_ int, command []byte) error {
			if extended(command) {
				return errReader
			}
			return nil
		}},
		"fails long answers": {meddle: func(_ int, _, answer []byte) ([]byte, error) {
			if len(answer) > 258 {
				return nil, errReader
			}
			return answer, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			chip := s.card(t, idcard.Options{})
			b.card = chip.Direct()
			c := open(t, b, can(chip), icao.Options{})
			doc, err := whole(t.Context(), c, all)
			if err != nil {
				t.Fatal(err)
			}
			if len(doc.Files) != len(all)+1 {
				t.Errorf("%d files", len(doc.Files))
			}
		})
	}
}

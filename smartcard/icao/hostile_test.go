package icao_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// cardFunc is a card that is one function.
type cardFunc func(command []byte) []byte

func (f cardFunc) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	return f(command), ctx.Err()
}

// A card that wants the reader's memory does not get more than the package's
// documentation says, nor more commands.
func TestHostileCardsAreBounded(t *testing.T) {
	s := newSpecimen(t)
	ok := func(data []byte) []byte { return append(bytes.Clone(data), 0x90, 0x00) }
	// open sends everything in the clear, and its files as file says.
	open := func(file func(offset, le int) []byte) apdu.Card {
		return cardFunc(func(command []byte) []byte {
			c, err := apdu.ParseCommand(command)
			switch {
			case err != nil || c.INS == 0xB0 && c.P1 == 0x80|lds.EFCardAccess.SFI() || bytes.Equal(c.Data, []byte{0x01, 0x1C}):
				return []byte{0x6A, 0x82}
			case c.INS != 0xB0:
				return ok(nil)
			}
			offset := int(c.P2)
			if c.P1&0x80 == 0 {
				offset += int(c.P1) << 8
			}
			return ok(file(offset, c.Le))
		})
	}
	header := []byte{0x7F, 0x61, 0x82, 0x7F, 0xF0}
	large := append(bytes.Clone(header), make([]byte, 1<<15)...)
	many := bytes.Repeat([]byte{0x80, 0x00}, 32<<10)
	sealed := func(answer func([]byte) []byte) apdu.Card { // once the card is open
		chip := s.card(t, idcard.Options{})
		return cardFunc(func(command []byte) []byte {
			honest := chip.Transmit(t.Context(), command)
			if command[0]&0x0C != 0 && command[1] == 0xB0 {
				return answer(honest)
			}
			return honest
		})
	}
	for name, card := range map[string]apdu.Card{
		"64 KiB of objects to everything": cardFunc(func([]byte) []byte { return ok(many) }),
		"trickle":                         open(func(offset, _ int) []byte { return large[offset : offset+1] }),
		"crumbs":                          cardFunc(func([]byte) []byte { return []byte{0x80, 0x61, 0x01} }),
		"more than asked":                 open(func(int, int) []byte { return append(bytes.Clone(header), many...) }),
		"endless chain":                   cardFunc(func([]byte) []byte { return append(make([]byte, 256), 0x61, 0xFF) }),
		"endless 6Cxx":                    cardFunc(func(command []byte) []byte { return []byte{0x6C, command[len(command)-1] + 1} }),
		"objects in a protected answer":   sealed(func([]byte) []byte { return ok(many) }),
		"lengths in a protected answer":   sealed(func([]byte) []byte { return ok([]byte{0x87, 0x84, 0x7F, 0xFF, 0xFF, 0xFF, 1}) }),
		"plain errors, one after another": sealed(func([]byte) []byte { return []byte{0x67, 0x00} }),
		"security infos": open(func(int, int) []byte {
			return tlv.Encode(0x6E, tlv.Encode(0x31, bytes.Repeat([]byte{0x30, 0x00}, 15000)))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			const maxFile, files = 32 << 10, 6
			received, commands := 0, 0
			counted := cardFunc(func(command []byte) []byte {
				answer, _ := card.Transmit(t.Context(), command)
				commands++
				received += len(answer)
				return answer
			})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			pw := icao.CAN(secret.FromString(idcard.SpecimenPerson().CAN))
			c, err := icao.Open(t.Context(), counted, pw, icao.Options{MaxFile: maxFile})
			if err == nil {
				for _, f := range []lds.File{lds.DG14, lds.EFCOM, lds.DG1, lds.EFSOD, lds.DG2, lds.EFATRInfo} {
					b, readErr := c.Read(t.Context(), f)
					if len(b) > maxFile {
						t.Errorf("%v: %d bytes", f, len(b))
					}
					err = errors.Join(err, readErr)
					if f == lds.DG14 && readErr == nil {
						if infos, parseErr := lds.ParseDG14(b); parseErr == nil {
							err = errors.Join(err, c.AuthenticateChip(t.Context(), infos))
						}
					}
				}
				c.Close()
			}
			runtime.ReadMemStats(&after)
			if allocated, bound := after.TotalAlloc-before.TotalAlloc, 16*received+commands*16<<10+7*(files+1)*maxFile; int(allocated) > bound {
				t.Errorf("%d bytes for %d commands and %d bytes received; at most %d", allocated, commands, received, bound)
			}
			if most := (files+1)*7*2*(maxFile/16+16) + 256; commands > most {
				t.Errorf("%d commands, at most %d", commands, most)
			}
			t.Logf("%d commands, %d bytes received: %v", commands, received, err != nil)
		})
	}
}

// Whatever byte of whatever protected answer is changed, reading ends in a typed error.
func TestEveryChangedByteIsNoticed(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	const first = 8 // SELECT MF, EF.CardAccess, MSE, four times GENERAL AUTHENTICATE, SELECT
	run := func(meddle func(int, []byte, []byte) ([]byte, error)) (*between, error) {
		chip.Reset()
		b := &between{card: chip.Direct(), meddle: meddle}
		c, err := icao.Open(t.Context(), b, can(chip), icao.Options{})
		if err != nil {
			return b, err
		}
		_, err = whole(t.Context(), c, []lds.File{lds.DG1, lds.DG14, lds.DG15})
		return b, err
	}
	good, err := run(nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := first; n < len(good.answers); n++ {
		step := max(len(good.answers[n])/8, 1)
		for i := 0; i < len(good.answers[n]); i += step {
			_, err := run(func(m int, _, answer []byte) ([]byte, error) {
				if m == n {
					answer[i] ^= 1 << (i % 8)
				}
				return answer, nil
			})
			if !errors.Is(err, icao.ErrSecureMessaging) {
				t.Fatalf("answer %d, byte %d changed: %v", n, i, err)
			}
		}
		// An answer of an earlier turn, and one of nothing but a status.
		for _, other := range [][]byte{good.answers[n-1], {0x90, 0x00}} {
			_, err := run(func(m int, _, answer []byte) ([]byte, error) {
				if m == n {
					return other, nil
				}
				return answer, nil
			})
			if err == nil {
				t.Fatalf("answer %d replaced, and nothing said", n)
			}
		}
	}
	// Access control: with a CAN there is no other way in.
	for n := 3; n < first-1; n++ {
		for i := 0; i < len(good.answers[n]); i += max(len(good.answers[n])/8, 1) {
			_, err := run(func(m int, _, answer []byte) ([]byte, error) {
				if m == n {
					answer[i] ^= 0x10
				}
				return answer, nil
			})
			if err == nil {
				t.Fatalf("PACE answer %d, byte %d changed, and nothing said", n, i)
			}
		}
	}
}

var errPulled = errors.New("card pulled")

// The card is pulled before each command in turn, and before each answer.
func TestPulledAtEveryCommand(t *testing.T) {
	s := newSpecimen(t)
	for _, k := range []struct {
		name  string
		opts  idcard.Options
		max   int
		files []lds.File
	}{
		{"PACE, extended", idcard.Options{}, 0, all},
		{"PACE, short", idcard.Options{}, 256, []lds.File{lds.EFSOD, lds.DG14}}, // of several parts, and of one
		{"BAC", idcard.Options{Faults: []idcard.Fault{idcard.BACOnly}}, 0, all},
	} {
		t.Run(k.name, func(t *testing.T) {
			chip := s.card(t, k.opts)
			pw := mrz(t, chip)
			run := func(b *between) error {
				c, err := icao.Open(t.Context(), b, pw, icao.Options{MaxLe: k.max})
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = whole(t.Context(), c, k.files)
				return err
			}
			good := &between{card: chip.Direct()}
			if err := run(good); err != nil {
				t.Fatal(err)
			}
			for n := range good.commands {
				for _, answered := range []bool{false, true} {
					chip.Reset()
					pulled := func(m int) error {
						if m >= n {
							return errPulled
						}
						return nil
					}
					b := &between{card: chip.Direct()}
					if answered {
						b.meddle = func(m int, _, answer []byte) ([]byte, error) { return answer, pulled(m) }
					} else {
						b.before = func(m int, _ []byte) error { return pulled(m) }
					}
					if err := run(b); !errors.Is(err, errPulled) {
						t.Fatalf("pulled at command %d: %v", n, err)
					}
					if extra := len(b.commands) - n; extra > 2 {
						t.Errorf("pulled at command %d: %d more were sent", n, extra)
					}
				}
				// The same card again, in the state it was left in.
				if n%4 == 0 {
					if err := run(&between{card: chip.Direct()}); err != nil {
						t.Fatalf("next card after command %d: %v", n, err)
					}
				}
			}
		})
	}
}

func TestHangingCard(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.Hang}})
	c := open(t, chip.Direct(), can(chip), icao.Options{Timeout: time.Second})
	if _, err := c.Read(t.Context(), lds.DG1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("own deadline: %v", err)
	}
	c = open(t, chip.Direct(), can(chip), icao.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.ReadAll(ctx, all, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("caller's deadline: %v", err)
	}
	if _, err := icao.Open(ctx, chip.Direct(), can(chip), icao.Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline in the past: %v", err)
	}
}

func TestHostileFiles(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.EndlessFile}})
	c := open(t, chip.Direct(), can(chip), icao.Options{})
	if _, err := c.Read(t.Context(), lds.DG2); !errors.Is(err, icao.ErrTooLarge) {
		t.Errorf("endless file: %v", err)
	}
	if _, err := c.Read(t.Context(), lds.DG1); err != nil {
		t.Errorf("after it: %v", err)
	}

	chip = s.card(t, idcard.Options{Faults: []idcard.Fault{idcard.OneByte}})
	b := &between{card: chip.Direct()}
	c = open(t, b, can(chip), icao.Options{MaxFile: 16 << 10})
	if _, err := c.Read(t.Context(), lds.DG1); err != nil {
		t.Errorf("one byte at a time: %v", err)
	}
	if _, err := c.Read(t.Context(), lds.DG2); err == nil {
		t.Error("a file larger than the limit was read")
	}
	c = open(t, b, can(chip), icao.Options{MaxFile: 20 << 10})
	sent := len(b.commands)
	if _, err := c.Read(t.Context(), lds.DG2); !errors.Is(err, icao.ErrMalformed) {
		t.Errorf("trickle: %v", err)
	}
	if n := len(b.commands) - sent; n > 2000 {
		t.Errorf("%d commands for a trickle", n)
	}
}

// removable is a card whose reader knows that it was taken away, and says so
// once; asked again it knows of no card.
type removable struct {
	apdu.Card
	left int
}

var errNoCard = errors.New("no card in the reader")

func (r *removable) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if r.left--; r.left < 0 {
		return nil, errPulled
	}
	return r.Card.Transmit(ctx, command)
}

func (r *removable) Reset(context.Context) error {
	if r.left < 0 {
		return errNoCard
	}
	return nil
}

func TestRemovalIsNotHiddenByItsConsequences(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	card := &removable{chip.Direct(), 1000}
	c := open(t, card, can(chip), icao.Options{})
	card.left = 0
	for range 2 {
		if _, err := c.Read(t.Context(), lds.DG1); !errors.Is(err, errPulled) || errors.Is(err, errNoCard) {
			t.Errorf("error %v", err)
		}
	}
}

package icao_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"

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

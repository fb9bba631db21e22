package icao_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// A trace may be sent to a stranger: it names neither the person nor what opens
// the card, not even when the card gives its files to everybody.
func TestTraceKeepsSecrets(t *testing.T) {
	s := newSpecimen(t)
	for name, opts := range map[string]idcard.Options{
		"PACE":  {},
		"BAC":   {Faults: []idcard.Fault{idcard.BACOnly}},
		"plain": {Chip: func(p *idcard.Profile) { p.Open, p.BAC, p.PACE = true, false, nil; delete(p.Master, 0x011C) }},
	} {
		t.Run(name, func(t *testing.T) {
			chip := s.card(t, opts)
			var b bytes.Buffer
			c := open(t, icao.Trace(chip.Direct(), &b), mrz(t, chip), icao.Options{MaxLe: 256})
			if _, err := c.ReadAll(t.Context(), append(slices.Clone(all), lds.EFATRInfo), nil); err != nil {
				t.Fatal(err)
			}
			if _, err := c.AuthenticateActive(t.Context(), [8]byte{0xC0, 0xFF, 0xEE, 0xC0, 0xFF, 0xEE, 0xC0, 0xFF}); err != nil {
				t.Fatal(err)
			}
			doc, log := c.Document(), b.String()
			secrets := [][]byte{
				[]byte("ERIKSSON"), []byte(chip.MRZ()[:9]), []byte("C0FFEE"), {0xC0, 0xFF, 0xEE, 0xC0},
				doc.Files[lds.DG1][8:16], doc.Files[lds.DG2][200:208], doc.Files[lds.EFSOD][300:308], doc.Active.Signature[:8],
			}
			if chip.CAN() != "" {
				secrets = append(secrets, []byte(chip.CAN()))
			}
			for _, secret := range secrets {
				for _, form := range []string{string(secret), hex.EncodeToString(secret)} {
					if strings.Contains(strings.ToUpper(log), strings.ToUpper(form)) {
						t.Errorf("the trace shows %q", form)
					}
				}
			}
			if apdus, _ := c.Stats(); strings.Count(log, "\n> ")+1 != apdus || strings.Count(log, "\n< ") != apdus {
				t.Errorf("%d commands, and the trace shows %d and %d", apdus, strings.Count(log, "\n> ")+1, strings.Count(log, "\n< "))
			}
			if name != "PACE" {
				return
			}
			for _, want := range []string{
				"> 00B09C00 Le 256\n< " + strings.ToUpper(hex.EncodeToString(doc.Files[lds.EFCardAccess])), // the card's offer is no secret
				"> 0022C1A4 Lc 15 800A04007F00070202040202830101\n< 9000\n",
				"> 10860000 Lc 2 7C{} Le 256\n< 7C{80:16} 9000\n",
				"> 0CA4040C Lc 29 87:17 8E:8 Le 256\n< 99:2 8E:8 9000\n",
			} {
				if !strings.Contains(log, want) {
					t.Errorf("the trace lacks %q:\n%.1500s", want, log)
				}
			}
		})
	}
}

// Who passes a card with a reset through a trace can still reset it.
func TestTraceKeepsAbilities(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{})
	var b bytes.Buffer
	card, ok := icao.Trace(&removable{chip.Direct(), 100}, &b).(interface{ Reset(context.Context) error })
	if !ok || card.Reset(t.Context()) != nil || b.String() != "= reset done\n" {
		t.Errorf("reset is lost: %q", b.String())
	}
	if _, ok := icao.Trace(&between{card: chip.Direct()}, &b).(interface{ Reset(context.Context) error }); ok {
		t.Error("a reset out of nowhere")
	}
}

// What may be shown is known by where it lies and by what it looks like, and
// neither is enough.
func TestTraceShowsNothingThatOnlyLooksPublic(t *testing.T) {
	personal := []byte("\x47\x06ERIKSSON")
	var file []byte
	card := cardFunc(func(command []byte) []byte {
		if command[1] == 0xB0 {
			return append(bytes.Clone(file), 0x90, 0x00)
		}
		return []byte{0x90, 0x00}
	})
	for name, k := range map[string]struct {
		file     []byte
		commands []string
	}{
		"in the application, by short identifier": {personal, []string{"00A4040C07A0000002471001", "00B0810000"}},
		"in the application, by identifier":       {personal, []string{"00A4040C07A0000002471001", "00A4020C022F01", "00B0000000"}},
		"another file's content":                  {append([]byte{0x61}, personal...), []string{"00B0810000", "00B0000000"}},
		"the middle of another file":              {personal, []string{"00A4020C020101", "00B0000100"}},
		"after what is no command":                {personal, []string{"00A4040C09A0", "00B0810000"}},
		"after a protected command":               {personal, []string{"0CB09C000D9701008E08000000000000000000", "00B0810000"}},
	} {
		var b bytes.Buffer
		file = k.file
		traced := icao.Trace(card, &b)
		for _, c := range k.commands {
			command, err := hex.DecodeString(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := traced.Transmit(t.Context(), command); err != nil {
				t.Fatal(err)
			}
		}
		if strings.Contains(b.String(), strings.ToUpper(hex.EncodeToString([]byte("ERIKSSON")))) {
			t.Errorf("%s:\n%s", name, b.String())
		}
	}
}

package icao_test

import (
	"errors"
	"testing"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// A card that lists a variant it cannot do is asked for the next one.
func TestTriesTheNextVariant(t *testing.T) {
	s := newSpecimen(t)
	chip := s.card(t, idcard.Options{
		PACE:   []idcard.PACE{{Suite: idcard.AES128, Domain: idcard.P384}},
		Faults: []idcard.Fault{idcard.PACEOnly},
		Chip:   func(p *idcard.Profile) { p.Master[0x011C] = replaced(paceInfo(2, 2, 12), paceInfo(2, 2, 15))(nil) },
	})
	b := &between{card: chip.Direct()}
	c := open(t, b, can(chip), icao.Options{})
	if _, err := c.Read(t.Context(), lds.DG1); err != nil {
		t.Fatal(err)
	}
	if n := b.sent(0x22); n != 2 {
		t.Errorf("%d times MSE:Set AT", n)
	}
}

// A card that declines PACE is powered off before BAC, which a wrong password
// and a card access number never come to.
func TestBACAfterPACE(t *testing.T) {
	s := newSpecimen(t)
	for name, k := range map[string]struct {
		edit func(*idcard.Exchange)
		can  bool
		want error
		bac  bool
	}{
		"MSE refused, MRZ":       {status(idcard.StepPACESet, apdu.FunctionNotSupported), false, nil, true},
		"nonce refused, MRZ":     {status(idcard.StepPACENonce, apdu.UnknownError), false, nil, true},
		"agreement refused, MRZ": {status(idcard.StepPACEAgree, apdu.ConditionsNotSatisfied), false, nil, true},
		"MSE refused, CAN":       {status(idcard.StepPACESet, apdu.FunctionNotSupported), true, icao.ErrChipRefused, false},
		"token refused, MRZ":     {status(idcard.StepPACEConfirm, apdu.UnknownError), false, icao.ErrWrongPassword, false},
		"counted, MRZ":           {status(idcard.StepPACENonce, 0x63C2), false, icao.ErrWrongPassword, false},
		"blocked, MRZ":           {status(idcard.StepPACESet, apdu.AuthenticationBlocked), false, icao.ErrBlocked, false},
		"nonsense, MRZ":          {retag(idcard.StepPACEMap, 0x82, 0x92), false, icao.ErrMalformed, false},
	} {
		t.Run(name, func(t *testing.T) {
			chip := s.card(t, idcard.Options{Chip: func(p *idcard.Profile) { p.Edit = k.edit }})
			b := &between{card: chip.Direct()}
			r := &resettable{b, chip, 0}
			pw := mrz(t, chip)
			if k.can {
				pw = can(chip)
			}
			c, err := icao.Open(t.Context(), r, pw, icao.Options{})
			if !errors.Is(err, k.want) || k.want == nil && err != nil {
				t.Fatalf("error %v", err)
			}
			if err == nil && (c.Document().Access != "BAC" || r.resets != 1) {
				t.Errorf("access %s, %d resets", c.Document().Access, r.resets)
			}
			if tried := b.sent(0x84) > 0; tried != k.bac {
				t.Errorf("BAC tried: %v", tried)
			}
		})
	}
}

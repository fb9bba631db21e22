package stage_test

import (
	"context"
	"sync/atomic"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// Cards that are not in order: each gets its own words and leaves nothing.
func TestBadCards(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Limits.ReadCard = moment })
	start(t, s)
	for _, c := range []struct {
		fault idcard.Fault
		code  kiosk.Code
	}{
		{idcard.NotEMRTD, kiosk.CodeNotEMRTD},
		{idcard.TamperedDG1, kiosk.CodeDataAltered},
		{idcard.UnknownCSCA, kiosk.CodeUnknownAuthority},
		{idcard.Clone, kiosk.CodeChipCloned},
		{idcard.NoChipKeys, kiosk.CodeCannotProve},
		{idcard.Expired, kiosk.CodeExpired},
		{idcard.WrongMAC, kiosk.CodeCardProtocol},
		{idcard.EndlessFile, kiosk.CodeCardProtocol},
		{idcard.Hang, kiosk.CodeCardSlow},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			p := arrive(t, s, idcard.Options{Faults: []idcard.Fault{c.fault}}, pivtoken.Options{})
			p.leave(trouble(c.code))
		})
	}
	t.Run("mute", func(t *testing.T) {
		p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
		genuine := s.Chip
		s.Hold(kiosk.DeviceDocument, mute{genuine})
		var hint kiosk.Code
		p.OnState = func(st kiosk.State) { // the place-card screen itself says it
			if st.Screen == kiosk.ScreenPlaceCard && st.Fault != nil && hint == "" {
				hint = st.Fault.Code
				s.Take(kiosk.DeviceDocument)
				s.Hold(kiosk.DeviceDocument, genuine)
				s.Bring(kiosk.DeviceDocument)
			}
		}
		final(t, s, p.meet())
		if hint != kiosk.CodeCardMute {
			t.Errorf("the screen says %q", hint)
		}
	})
	t.Run("another card after a bad one", func(t *testing.T) {
		p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
		genuine := s.Chip
		if err := s.IssueCard(p.who, idcard.Options{Faults: []idcard.Fault{idcard.TamperedDG1}}); err != nil {
			t.Fatal(err)
		}
		p.mend = func(int, told) kiosk.Action {
			p.swap(kiosk.DeviceDocument, genuine)
			return kiosk.ActionRetry
		}
		final(t, s, p.meet(trouble(kiosk.CodeDataAltered)))
	})
}

// mute is a card upside down.
type mute struct{ pcscd.Card }

func (mute) ATR() []byte { return nil }

// attempts counts how often somebody tries to get into the ID card.
func attempts(t *testing.T, s *stage.Stage) (pace, bac *atomic.Int32) {
	pace, bac = new(atomic.Int32), new(atomic.Int32)
	s.Reader(kiosk.DeviceDocument).Trace(func(e pcscd.TraceEvent) {
		switch {
		case e.Answered || len(e.Command) < 4 || e.Command[0] != 0:
		case e.Command[1] == 0x22 && e.Command[2] == 0xC1: // MSE:Set AT of PACE
			pace.Add(1)
		case e.Command[1] == 0x84: // GET CHALLENGE of BAC
			bac.Add(1)
		}
	})
	t.Cleanup(func() { s.Reader(kiosk.DeviceDocument).Trace(nil) })
	return pace, bac
}

func TestWrongAccessNumber(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	t.Run("typed wrong once", func(t *testing.T) {
		p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
		pace, bac := attempts(t, s)
		right := p.CAN
		p.CAN = "999999"
		p.mend = func(int, told) kiosk.Action {
			if pace.Load() != 1 || bac.Load() != 0 {
				t.Errorf("one number typed: %d times PACE, %d times BAC", pace.Load(), bac.Load())
			}
			p.CAN = right
			return kiosk.ActionRetry
		}
		final(t, s, p.meet(trouble(kiosk.CodeWrongAccess)))
	})
	t.Run("a card without one", func(t *testing.T) {
		p := arrive(t, s, idcard.Options{Faults: []idcard.Fault{idcard.BACOnly}}, pivtoken.Options{})
		p.CAN = "123456"
		_, bac := attempts(t, s)
		p.mend = func(int, told) kiosk.Action {
			if bac.Load() != 0 {
				t.Error("an access number was tried with BAC")
			}
			const day = "060102"
			p.MRZ = &[3]string{p.who.Number, p.who.Birth.Format(day), p.who.Expiry.Format(day)}
			return kiosk.ActionRetry
		}
		final(t, s, p.meet(trouble(kiosk.CodeWrongAccess)))
	})
	t.Run("wrong zone", func(t *testing.T) {
		p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
		p.MRZ = &[3]string{p.who.Number, "740813", "340415"}
		p.leave(trouble(kiosk.CodeWrongAccess))
	})
	works(t, s)
}

// Between reading and binding the citizen takes the card away and puts another
// one there. Only the first one goes on.
func TestAnotherCardAfterTheCheck(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	first := s.Chip
	issue := func(can string, o idcard.Options) pcscd.Card {
		who := idcard.SpecimenPerson()
		who.CAN = can
		if err := s.IssueCard(who, o); err != nil {
			t.Fatal(err)
		}
		return s.Chip
	}
	cards := []pcscd.Card{
		issue("424242", idcard.Options{}),
		issue(p.CAN, idcard.Options{}),
		issue(p.CAN, idcard.Options{Faults: []idcard.Fault{idcard.Clone}}),
		issue(p.CAN, idcard.Options{Faults: []idcard.Fault{idcard.NotEMRTD}}),
		first,
	}
	s.Hold(kiosk.DeviceDocument, first)
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenChoosePIN {
			p.swap(kiosk.DeviceDocument, cards[0])
		}
		return false, nil
	}
	p.mend = func(n int, _ told) kiosk.Action {
		p.swap(kiosk.DeviceDocument, cards[n])
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(trouble(kiosk.CodeCardChanged), trouble(kiosk.CodeCardChanged), trouble(kiosk.CodeCardChanged),
		trouble(kiosk.CodeNotEMRTD)))
}

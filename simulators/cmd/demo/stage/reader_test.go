package stage_test

import (
	"context"
	"sync/atomic"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// A reader that is not there is named on the screen that needs it, for as long
// as it is not there.
func TestReaderMissing(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	needs := map[kiosk.Screen]kiosk.Device{kiosk.ScreenSignOn: kiosk.DeviceOfficer, kiosk.ScreenPlaceCard: kiosk.DeviceDocument,
		kiosk.ScreenInsertToken: kiosk.DeviceToken, kiosk.ScreenApprove: kiosk.DeviceOfficer}
	missing, mended := map[kiosk.Screen]bool{}, map[kiosk.Screen]bool{}
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		d, ok := needs[st.Screen]
		if ok {
			p.s.Unplug(d)
		}
		return ok, nil
	}
	p.OnState = func(st kiosk.State) {
		d, ok := needs[st.Screen]
		switch {
		case !ok || mended[st.Screen]:
		case !missing[st.Screen] && st.Fault != nil && st.Fault.Code == kiosk.CodeReaderMissing:
			missing[st.Screen] = true
			if err := s.Plug(d); err != nil {
				t.Error(err)
			}
		case missing[st.Screen] && st.Fault == nil:
			mended[st.Screen] = true
			s.Bring(d)
			if st.PIN != nil {
				p.Desk.Send(t.Context(), kiosk.Intent{State: st.Number, Action: st.Main, Secret: secret.FromString(p.OfficerPIN)})
			}
		}
	}
	final(t, s, p.meet())
	if len(mended) != len(needs) {
		t.Errorf("shown and gone again on %v", mended)
	}
}

// A reader is torn out in the middle of its work.
func TestReaderTornOut(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	tear := func(d kiosk.Device, at byte) {
		var done atomic.Bool
		s.Reader(d).Trace(func(e pcscd.TraceEvent) {
			if !e.Answered && e.Command[1] == at && !done.Swap(true) {
				s.Unplug(d)
			}
		})
	}
	tear(kiosk.DeviceDocument, 0xB0)
	tear(kiosk.DeviceToken, 0x47)
	torn := []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken}
	p.mend = func(n int, _ told) kiosk.Action {
		if n > len(torn) {
			return kiosk.ActionStartOver
		}
		again := torn[n-1]
		// The card's silence comes sooner than the word that its reader is gone.
		seen(t, s, func(h kiosk.Health) bool { return h.Readers[again] == kiosk.ReaderMissing })
		if err := s.Plug(again); err != nil {
			t.Error(err)
		}
		s.Bring(again)
		seen(t, s, func(h kiosk.Health) bool { return h.Readers[again] == kiosk.ReaderCard })
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(trouble(kiosk.CodeCardRemoved), trouble(kiosk.CodeTokenRemoved)))
}

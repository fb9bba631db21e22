package stage_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// The citizen declines at every screen of hers, the officer doubts at every one
// of his. Nothing is kept, and each time the same card and token serve again.
func TestDeclined(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	var reserved uint64
	for _, c := range []struct {
		screen kiosk.Screen
		action kiosk.Action
	}{
		{kiosk.ScreenLanguage, kiosk.ActionDecline},
		{kiosk.ScreenWelcome, kiosk.ActionDecline},
		{kiosk.ScreenPlaceCard, kiosk.ActionDecline},
		{kiosk.ScreenAccessNumber, kiosk.ActionDecline},
		{kiosk.ScreenCompare, kiosk.ActionDoubtPerson},
		{kiosk.ScreenConfirmData, kiosk.ActionDecline},
		{kiosk.ScreenConsent, kiosk.ActionRefuse},
		{kiosk.ScreenConsent, kiosk.ActionDecline},
		{kiosk.ScreenInsertToken, kiosk.ActionDecline},
		{kiosk.ScreenChoosePIN, kiosk.ActionDecline},
		{kiosk.ScreenRepeatPIN, kiosk.ActionDecline},
		{kiosk.ScreenReview, kiosk.ActionDecline},
		{kiosk.ScreenApprove, kiosk.ActionDoubtPerson},
	} {
		t.Run(string(c.screen)+" "+string(c.action), func(t *testing.T) {
			p = again(t, s)
			p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
				if st.Screen != c.screen || p.over {
					return false, nil
				}
				p.over = true
				if !slices.Contains(st.Actions, c.action) {
					t.Errorf("%s does not offer %s", st.Screen, c.action)
				}
				return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: c.action})
			}
			before := len(entries(t, s))
			p.leaveQuietly()
			// A number that the one before had reserved gets its void record.
			if added := len(entries(t, s)) - before; added > 1 || added == 1 && reserved == 0 {
				t.Errorf("%d records appeared", added)
			}
			if c.screen == kiosk.ScreenReview || c.screen == kiosk.ScreenApprove {
				reserved++
			}
		})
	}
	final(t, s, again(t, s).meet())
	if n := uint64(len(entries(t, s))); n != 1+reserved {
		t.Errorf("%d records, want one enrollment and %d void ones", n, reserved)
	}
	chained(t, s, 1+reserved)
}

// leaveQuietly plays an enrollment that ends because somebody wants that.
func (p *people) leaveQuietly() {
	p.t.Helper()
	if _, err := p.enroll(); err != errLeft {
		p.t.Fatalf("enroll: %v", err)
	}
	p.compare(nil)
}

// Nobody answers: the enrollment ends by itself, and the token is as it came.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Limits.Idle = moment })
	start(t, s)
	arrive(t, s, idcard.Options{}, pivtoken.Options{})
	for _, screen := range []kiosk.Screen{kiosk.ScreenReview, kiosk.ScreenTrouble} {
		t.Run(string(screen), func(t *testing.T) {
			p := again(t, s)
			if screen == kiosk.ScreenTrouble {
				p.CAN = "999999"
			}
			p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
				p.over = p.over || st.Screen == screen
				return st.Screen == screen, nil
			}
			p.leaveQuietly()
		})
	}
	final(t, s, again(t, s).meet())
}

// nervous is a desk at which everybody taps twice, and once more on what was
// asked before.
type nervous struct {
	kiosk.Desk
	mu   sync.Mutex
	last kiosk.Intent
	taps sync.WaitGroup
}

// copied has its own secrets: the agent wipes those it gets.
func copied(in kiosk.Intent) kiosk.Intent {
	own := func(t secret.Text) secret.Text { return secret.FromString(string(t.Reveal())) }
	in.Secret = own(in.Secret)
	if in.MRZ != nil {
		in.MRZ = &kiosk.MRZKey{Number: own(in.MRZ.Number), Birth: own(in.MRZ.Birth), Expiry: own(in.MRZ.Expiry)}
	}
	return in
}

func (n *nervous) Send(ctx context.Context, in kiosk.Intent) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	second, late := copied(in), copied(n.last)
	n.last = copied(in)
	if err := n.Desk.Send(ctx, in); err != nil {
		return err
	}
	n.taps.Go(func() { n.Desk.Send(ctx, second) })
	n.taps.Go(func() { n.Desk.Send(ctx, late) })
	return nil
}

func TestEverythingTappedTwice(t *testing.T) {
	t.Parallel()
	var steps []kiosk.StepName
	s := newStage(t, func(o *stage.Options) { o.Observe = func(e kiosk.Event) { steps = append(steps, e.Step) } })
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	pins := verified(t, s)
	desk := &nervous{Desk: p.Desk}
	p.Desk = desk
	// Each question stands until it is answered itself: a second tap on "accept"
	// accepts no further purpose, one on the PIN does not repeat it.
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Turn == kiosk.TurnMachine {
			return false, nil
		}
		desk.taps.Wait()
		now, err := desk.States(ctx)
		if err == nil && (<-now).Number != st.Number {
			t.Errorf("%s was answered by an older tap", st.Screen)
		}
		return false, err
	}
	final(t, s, p.meet())
	desk.taps.Wait()
	if len(entries(t, s)) != 1 {
		t.Errorf("%d records", len(entries(t, s)))
	}
	if pins.Load() != 2 {
		t.Errorf("the officer's PIN was sent %d times", pins.Load())
	}
	slices.Sort(steps)
	if unique := slices.Compact(slices.Clone(steps)); len(unique) != len(steps) {
		t.Errorf("a step ran twice: %v", steps)
	}
	chained(t, s, 1)
	works(t, s)
}

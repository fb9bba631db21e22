package stage_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// puller takes a card off its reader at one command after another: in the first
// try of a part of the enrollment at the first command, in the next try a stride
// further, until the part succeeds; then the same in the next part.
type puller struct {
	device kiosk.Device
	late   bool // the command is executed, only its answer is lost
	// Parts end with these steps, or before these screens.
	steps   []kiosk.StepName
	screens []kiosk.Screen

	stage *stage.Stage
	mu    sync.Mutex
	seen  int   // commands since the try began
	at    int   // the command at which the card goes
	pulls []int // in each part
}

// run sets a stage with the puller at work on one citizen, who puts everything
// back at once and tries again, and is enrolled in the end.
func (u *puller) run(t *testing.T, code kiosk.Code) {
	if !alone(t) { // what is done about a token that goes while it is opened is felt by the whole process
		return
	}
	u.stage = newStage(t, func(o *stage.Options) {
		o.Observe = func(e kiosk.Event) {
			if e.Failed == "" && slices.Contains(u.steps, e.Step) {
				u.part()
			}
		}
	})
	start(t, u.stage)
	p := arrive(t, u.stage, idcard.Options{}, pivtoken.Options{})
	p.mend = func(int, told) kiosk.Action {
		u.next()
		p.Bring(u.device)
		return kiosk.ActionRetry
	}
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if slices.Contains(u.screens, st.Screen) {
			u.part()
		}
		return false, nil
	}
	u.part()
	u.stage.Reader(u.device).Trace(u.trace)
	r, err := p.enroll()
	u.stage.Reader(u.device).Trace(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.told {
		if f.code != code {
			t.Errorf("people were told %v", f)
		}
	}
	t.Logf("pulls in each part: %v", u.pulls)
	if parts := len(u.steps) + len(u.screens); len(u.pulls) < parts || slices.Contains(u.pulls[:parts], 0) {
		t.Error("a part was left alone")
	}
	final(t, u.stage, r)
	works(t, u.stage)
}

func (u *puller) trace(e pcscd.TraceEvent) {
	u.mu.Lock()
	if !e.Answered {
		u.seen++
	}
	hit := u.seen == u.at && e.Answered == u.late
	if hit {
		u.pulls[len(u.pulls)-1]++
	}
	u.mu.Unlock()
	if hit {
		u.stage.Take(u.device)
	}
}

func (u *puller) next() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen, u.at = 0, u.at+stride
}

func (u *puller) part() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen, u.at, u.pulls = 0, 1, append(u.pulls, 0)
}

func TestCardPulledBeforeEveryCommand(t *testing.T) {
	(&puller{device: kiosk.DeviceDocument, steps: []kiosk.StepName{kiosk.StepVerifyCard, kiosk.StepBindChip}}).
		run(t, kiosk.CodeCardRemoved)
}

var ceremony = puller{device: kiosk.DeviceToken, screens: []kiosk.Screen{kiosk.ScreenChoosePIN},
	steps: []kiosk.StepName{kiosk.StepVerifyToken, kiosk.StepLockToken, kiosk.StepHolderSign}}

func TestTokenPulledBeforeEveryCommand(t *testing.T) {
	u := puller{device: ceremony.device, screens: ceremony.screens, steps: ceremony.steps}
	u.run(t, kiosk.CodeTokenRemoved)
}

// The worst moment: the token has done what it was told, and nobody knows.
func TestTokenPulledAfterEveryCommand(t *testing.T) {
	u := puller{device: ceremony.device, screens: ceremony.screens, steps: ceremony.steps, late: true}
	u.run(t, kiosk.CodeTokenRemoved)
}

func TestOfficersCardPulledBeforeEveryCommand(t *testing.T) {
	(&puller{device: kiosk.DeviceOfficer, screens: []kiosk.Screen{kiosk.ScreenHome}, steps: []kiosk.StepName{kiosk.StepOfficerSign}}).
		run(t, kiosk.CodeOfficerRemoved)
}

package stage_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// What an officer has to do for the standard enrollment, and nothing of it twice: to
// start it, to open the chip, to compare, and to approve. With a scanner the chip opens
// without a press.
func TestOfficersClicks(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	if err := s.IssueCard(idcard.SpecimenPerson(), idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	s.IssueToken(pivtoken.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	desk := &counting{Desk: s.Kiosk.Desk()}
	script := s.Script()
	script.Desk, script.OnState = desk, func(st kiosk.State) { desk.now = st }
	if _, err := script.Enroll(ctx); err != nil {
		t.Fatal(err)
	}
	want := []kiosk.Action{kiosk.ActionSignOn, kiosk.ActionStart, kiosk.ActionEnterCAN, kiosk.ActionConfirmPerson, kiosk.ActionApprove}
	if !slices.Equal(desk.officers, want) {
		t.Errorf("the officer did %v, want %v", desk.officers, want)
	}
	if n := len(desk.citizens); n > 9 {
		t.Errorf("the citizen had to do %d things: %v", n, desk.citizens)
	}
}

// counting notes what is sent, by whom.
type counting struct {
	kiosk.Desk
	now                kiosk.State
	officers, citizens []kiosk.Action
}

func (c *counting) Send(ctx context.Context, in kiosk.Intent) error {
	if c.now.Audience() == kiosk.AudienceOfficer {
		c.officers = append(c.officers, in.Action)
	} else {
		c.citizens = append(c.citizens, in.Action)
	}
	return c.Desk.Send(ctx, in)
}

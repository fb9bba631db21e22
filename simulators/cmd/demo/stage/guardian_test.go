package stage_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

const asksAges = `
[minors]
guardian_below = 14
`

// family is a citizen of an age, with somebody of another age who comes along.
func family(t *testing.T, s *stage.Stage, child, other int) *people {
	t.Helper()
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	p.who.Birth = birthday(child)
	if err := s.IssueCard(p.who, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	comesAlong(t, p, other, idcard.Options{})
	return p
}

// birthday is when somebody was born who is so old today.
func birthday(age int) time.Time {
	now := time.Now().UTC()
	return time.Date(now.Year()-age, now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
}

// comesAlong has another guardian come, of an age.
func comesAlong(t *testing.T, p *people, age int, o idcard.Options) {
	t.Helper()
	n := citizens.Add(1)
	who := idcard.SpecimenPerson()
	who.Number, who.GivenNames, who.CAN, who.Birth = fmt.Sprintf("G%08d", n), "EVA "+letters(n), fmt.Sprintf("%06d", 500000+n), birthday(age)
	if err := p.s.IssueGuardian(who, o); err != nil {
		t.Fatal(err)
	}
	p.GuardianCAN = who.CAN
}

func asking(o *stage.Options) { o.Policy = asksAges }

// guardianScreens are those that nobody sees where no guardian is needed.
var guardianScreens = []kiosk.Screen{kiosk.ScreenGuardian, kiosk.ScreenGuardianCard, kiosk.ScreenGuardianCompare, kiosk.ScreenGuardianProof,
	kiosk.ScreenGuardianNote, kiosk.ScreenCardBack}

// A child is enrolled with a guardian, and the identity authority confirms it. The
// guardian stands for another child, and is enrolled too; who is old enough sees
// nothing of all that.
func TestChildWithGuardian(t *testing.T) {
	t.Parallel()
	s := newStage(t, asking)
	start(t, s)
	p := family(t, s, 13, 18)
	p.Paper = kiosk.ActionOtherPaper
	var seen []kiosk.Screen
	var bound bool
	p.OnState = func(st kiosk.State) {
		if len(seen) == 0 || seen[len(seen)-1] != st.Screen {
			seen = append(seen, st.Screen)
		}
		came := slices.Contains(seen, kiosk.ScreenGuardianCard)
		if (st.Guardian != nil) != (came || st.Screen == kiosk.ScreenGuardian) && st.Screen != kiosk.ScreenHome {
			t.Errorf("%s: a guardian acts: %v", st.Screen, st.Guardian != nil)
		}
		name := ""
		if st.Holder != nil {
			name = string(st.Holder.Number.Reveal())
		}
		switch st.Screen {
		case kiosk.ScreenGuardian:
			if v := st.Guardian; v.Below != 14 || v.From != 18 || slices.Contains(st.Actions, kiosk.ActionOfAge) {
				t.Errorf("%+v, %v", v, st.Actions)
			}
		case kiosk.ScreenGuardianCompare:
			if name == p.who.Number || name == "" {
				t.Errorf("the officer compares the guardian with %q", name)
			}
		case kiosk.ScreenCompare, kiosk.ScreenConfirmData:
			if name != p.who.Number {
				t.Errorf("%s shows %q", st.Screen, name)
			}
			if st.Screen == kiosk.ScreenConfirmData && st.Main != kiosk.ActionGuard {
				t.Errorf("the guardian says %q", st.Main)
			}
		case kiosk.ScreenMakingKey:
			bound = bound || slices.ContainsFunc(st.Steps, func(s kiosk.Step) bool { return s.Name == kiosk.StepGuardChip && s.Status == kiosk.StepDone })
		case kiosk.ScreenReview:
			if !slices.Contains(st.Review.Sealed, "guardian") {
				t.Error("the guardian is not told that the guardian is sealed")
			}
		}
	}
	sub := offlineFor(t, s, func() { p.meet() })
	if got := sub.Record().Payload(); len(got.Exceptions) > 0 || len(got.Signers) != 3 {
		t.Errorf("exceptions %v, signers %v", got.Exceptions, got.Signers)
	}
	active(t, s, sub.ID())
	want := []kiosk.Screen{kiosk.ScreenCompare, kiosk.ScreenGuardian, kiosk.ScreenGuardianCard, kiosk.ScreenAccessNumber, kiosk.ScreenReading,
		kiosk.ScreenGuardianCompare, kiosk.ScreenGuardianProof, kiosk.ScreenGuardianNote, kiosk.ScreenConfirmData}
	at := slices.Index(seen, kiosk.ScreenCompare)
	if at < 0 || len(seen) < at+len(want) || !slices.Equal(seen[at:at+len(want)], want) {
		t.Errorf("screens %v", seen)
	}
	if !bound || !slices.Contains(seen, kiosk.ScreenCardBack) {
		t.Errorf("the guardian's chip has signed: %v; screens %v", bound, seen)
	}

	parent := s.Guardian
	sibling := family(t, s, 3, 40)
	s.Guardian, sibling.GuardianCAN = parent, parent.CAN()
	final(t, s, sibling.meet())
	active(t, s, newest(t, s).ID)

	s.Guardian = nil
	adult := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	s.Chip, adult.CAN = parent, parent.CAN()
	s.Hold(kiosk.DeviceDocument, parent)
	adult.OnState = func(st kiosk.State) {
		if st.Guardian != nil || slices.Contains(guardianScreens, st.Screen) {
			t.Errorf("%s, guardian %+v, for who needs none", st.Screen, st.Guardian)
		}
	}
	final(t, s, adult.meet())
	active(t, s, newest(t, s).ID)
}

// The guardian declines at every screen that is the guardian's, the officer doubts or
// starts over at every one of his. Nothing is kept, and the same child, guardian and
// token serve again.
func TestGuardianDeclines(t *testing.T) {
	t.Parallel()
	s := newStage(t, asking)
	start(t, s)
	p := family(t, s, 9, 40)
	void := 0
	for _, c := range []struct {
		screen kiosk.Screen
		action kiosk.Action
	}{
		{kiosk.ScreenGuardian, kiosk.ActionStartOver},
		{kiosk.ScreenGuardianCard, kiosk.ActionDecline},
		{kiosk.ScreenGuardianCompare, kiosk.ActionDoubtPerson},
		{kiosk.ScreenGuardianProof, kiosk.ActionStartOver},
		{kiosk.ScreenConfirmData, kiosk.ActionDecline},
		{kiosk.ScreenConsent, kiosk.ActionRefuse},
		{kiosk.ScreenChoosePIN, kiosk.ActionDecline},
		{kiosk.ScreenCardBack, kiosk.ActionDecline},
		{kiosk.ScreenReview, kiosk.ActionDecline},
	} {
		before := len(entries(t, s))
		p = again(t, s)
		p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
			if st.Screen != c.screen || p.over {
				return false, nil
			}
			p.over = true
			return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: c.action})
		}
		p.OnState = func(st kiosk.State) {
			if st.Screen == kiosk.ScreenHome && st.Guardian != nil {
				t.Errorf("%s: a guardian is left over", c.screen)
			}
		}
		p.leaveQuietly()
		if added := len(entries(t, s)) - before; added > 1 || added == 1 && void == 0 {
			t.Errorf("%s: %d records appeared", c.screen, added)
		}
		if c.screen == kiosk.ScreenCardBack || c.screen == kiosk.ScreenReview { // a number was reserved
			void++
		}
	}
	final(t, s, again(t, s).meet())
	if n := len(entries(t, s)); n != 1+void {
		t.Errorf("%d records, want one enrollment and %d void ones", n, void)
	}
	active(t, s, newest(t, s).ID)
}

// Whoever will not do as a guardian is told why, and one who will takes the place:
// the child itself, somebody too young, a card that is out of date, one that is pulled
// away, and one that stays where the child's should come back to.
func TestGuardianTroubles(t *testing.T) {
	t.Parallel()
	s := newStage(t, asking)
	start(t, s)
	p := family(t, s, 9, 40)
	good, can := s.Guardian, p.GuardianCAN
	comes := []func(){
		func() { s.Guardian, p.GuardianCAN = s.Chip, p.CAN },
		func() { comesAlong(t, p, 17, idcard.Options{}) },
		func() { comesAlong(t, p, 40, idcard.Options{Faults: []idcard.Fault{idcard.Expired}}) },
		func() { s.Guardian, p.GuardianCAN = good, can },
	}
	comes[0]()
	p.mend = func(n int, f told) kiosk.Action {
		switch f.code {
		case kiosk.CodeCardRemoved: // and is put back
			p.Bring(kiosk.DeviceDocument)
		case kiosk.CodeCardChanged:
			p.swap(kiosk.DeviceDocument, s.Chip)
		default:
			comes[n]()
		}
		return kiosk.ActionRetry
	}
	var pulled, kept bool
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenAccessNumber && s.Guardian == good && !pulled {
			pulled = true
			p.Take(kiosk.DeviceDocument)
		}
		return false, nil
	}
	swap := p.Swap
	p.Swap = func(screen kiosk.Screen) {
		if screen == kiosk.ScreenCardBack && !kept {
			kept = true
			screen = kiosk.ScreenGuardianCard // the guardian's once more
		}
		swap(screen)
	}
	final(t, s, p.meet(trouble(kiosk.CodeGuardianSame), trouble(kiosk.CodeGuardianYoung), trouble(kiosk.CodeGuardianExpired),
		trouble(kiosk.CodeCardRemoved), trouble(kiosk.CodeCardChanged)))
	active(t, s, newest(t, s).ID)
}

// Nothing that an officer can send gets a child past the page that wants a guardian,
// nor a guardian past the question what has shown it.
func TestGuardianCannotBeSkipped(t *testing.T) {
	t.Parallel()
	s := newStage(t, asking)
	start(t, s)
	p := family(t, s, 13, 40)
	tried := map[kiosk.Screen]int{}
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen != kiosk.ScreenGuardian && st.Screen != kiosk.ScreenGuardianProof {
			return false, nil
		}
		for _, a := range []kiosk.Action{kiosk.ActionOfAge, kiosk.ActionConfirmPerson, kiosk.ActionConfirmData, kiosk.ActionGuard, kiosk.ActionAccept,
			kiosk.ActionNote, kiosk.ActionSign, kiosk.ActionApprove, kiosk.ActionRetry, kiosk.ActionDone} {
			if slices.Contains(st.Actions, a) {
				t.Errorf("%s offers %s", st.Screen, a)
			}
			if err := p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: a, Secret: secret.FromString("1")}); err != nil {
				return false, err
			}
			tried[st.Screen]++
		}
		if st.Screen == kiosk.ScreenGuardianProof && tried[kiosk.ScreenGuardian] > 0 {
			p.over = true
			return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionStartOver})
		}
		return false, nil // and then the way that is there
	}
	p.leaveQuietly()
	if len(tried) != 2 || len(entries(t, s)) != 0 {
		t.Errorf("tried on %v, %d records", tried, len(entries(t, s)))
	}
}

// Where a document may be a century off, two officers say that its holder is old
// enough, if the policy lets them.
func TestAgeByTwoOfficers(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) {
		o.Policy = asksAges + "\n[[documents]]\nkind = \"emrtd\"\nmay_lack = [\"no-age\"]\n"
	})
	start(t, s)
	p := family(t, s, 3, 40) // or 103
	s.Guardian = nil
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen != kiosk.ScreenGuardian {
			return false, nil
		}
		return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionOfAge})
	}
	var agreed bool
	p.OnState = func(st kiosk.State) {
		agreed = agreed || st.Screen == kiosk.ScreenSecondOfficer && slices.Equal(st.Lacks, []kiosk.Lack{kiosk.LackAge})
		if st.Guardian != nil && st.Screen != kiosk.ScreenGuardian {
			t.Errorf("%s: a guardian acts", st.Screen)
		}
	}
	sub := offlineFor(t, s, func() { p.meet() })
	if got := sub.Record().Payload().Exceptions; !agreed || !slices.Equal(got, []record.Exception{record.NoAge}) {
		t.Errorf("a second officer agreed: %v; exceptions %v", agreed, got)
	}
	active(t, s, sub.ID())
}

// A child's new ID card, and the token that takes the place of a lost one, want the
// guardian too.
func TestGuardianComesAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, asking)
	start(t, s)
	p := family(t, s, 13, 40)
	r := p.meet()
	final(t, s, r)
	active(t, s, newest(t, s).ID)
	who := p.who
	who.Number = "R" + who.Number[1:]
	if err := s.IssueCard(who, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	asked := 0
	counting := func(p *people) *people {
		p.OnState = func(st kiosk.State) {
			if st.Screen == kiosk.ScreenGuardianProof {
				asked++
			}
		}
		return p
	}
	final(t, s, counting(comesBack(t, s, kiosk.ActionRenew, "")).meet())
	active(t, s, newest(t, s).ID)
	if asked == 0 {
		t.Error("a new ID card without the guardian")
	}
	asked = 0
	s.IssueToken(pivtoken.Options{Serial: 20_000_005})
	final(t, s, counting(comesBack(t, s, kiosk.ActionReplace, r.Final)).meet())
	active(t, s, newest(t, s).ID)
	if asked == 0 {
		t.Error("a new token without the guardian")
	}
}

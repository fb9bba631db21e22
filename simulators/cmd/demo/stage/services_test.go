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
	"enrollkiosk/sync/queue"
)

// offlineFor plays f while the registry is away, returns what the newest record says, and
// has it delivered.
func offlineFor(t *testing.T, s *stage.Stage, f func()) record.Submission {
	t.Helper()
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	f()
	sub := waiting(t, s)
	if err := s.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	delivered(t, s)
	return sub
}

// comesBack is the same citizen with another token in the hand, for an errand.
func comesBack(t *testing.T, s *stage.Stage, errand kiosk.Action, receipt string) *people {
	t.Helper()
	p := again(t, s)
	p.Errand, p.Receipt = errand, receipt
	return p
}

// A citizen whose token is lost gets a new one: the registry says which identity the
// receipt was about, a second officer agrees, the vault holds that it is the same
// person, and the old key has ended. It is done once.
func TestReplaceLostToken(t *testing.T) {
	t.Parallel()
	s, _, r := owner(t, nil)
	s.IssueToken(pivtoken.Options{Serial: 20_000_001})
	p := comesBack(t, s, kiosk.ActionReplace, r.Final)
	var lacked []kiosk.Lack
	var second []kiosk.Screen
	p.OnState = func(st kiosk.State) {
		switch st.Screen {
		case kiosk.ScreenCompare:
			lacked = st.Lacks
		case kiosk.ScreenSecondOfficer, kiosk.ScreenSecondApprove:
			if !slices.Contains(second, st.Screen) {
				second = append(second, st.Screen)
			}
		case kiosk.ScreenReview:
			for _, item := range []string{"old-did", "second-officer"} {
				if !slices.Contains(st.Review.Open, item) {
					t.Errorf("the citizen is not told of %s", item)
				}
			}
		}
	}
	replaced := p.meet()
	if !slices.Equal(lacked, []kiosk.Lack{kiosk.LackKey}) || len(second) != 2 {
		t.Errorf("lacks %v, the second officer saw %v", lacked, second)
	}
	final(t, s, replaced)
	active(t, s, newest(t, s).ID)
	if string(replaced.CancelCode.Reveal()) == string(r.CancelCode.Reveal()) {
		t.Error("the old cancel code again")
	}
	if got := standingOf(t, s, r.Final); got != kiosk.StandingRevoked {
		t.Errorf("the old identity: %s", got)
	}
	if got := standingOf(t, s, replaced.Final); got != kiosk.StandingActive {
		t.Errorf("the new one: %s", got)
	}
	s.IssueToken(pivtoken.Options{Serial: 20_000_002})
	comesBack(t, s, kiosk.ActionReplace, r.Final).leave(trouble(kiosk.CodeNoHolder))
}

// Somebody else with a found receipt gets no key for its identity: the vault refuses,
// and the key of the person whose it is works on.
func TestReplaceAnothersToken(t *testing.T) {
	t.Parallel()
	s, _, r := owner(t, nil)
	thief := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	thief.who.Surname = "OTHER"
	if err := s.IssueCard(thief.who, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	thief.Errand, thief.Receipt = kiosk.ActionReplace, r.Final
	thief.meet()
	delivered(t, s)
	refusedAt(t, s, newest(t, s).ID)
	if got := standingOf(t, s, r.Final); got != kiosk.StandingActive {
		t.Errorf("the identity of the receipt: %s", got)
	}
}

// What a replacement needs is not there: it ends with its sentence and no record.
func TestReplaceLostTokenNeeds(t *testing.T) {
	t.Parallel()
	s, _, r := owner(t, nil)
	s.IssueToken(pivtoken.Options{Serial: 20_000_003})
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	comesBack(t, s, kiosk.ActionReplace, r.Final).leave(trouble(kiosk.CodeNotAsked))
	if err := s.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The first officer cannot be the second one too.
	p := comesBack(t, s, kiosk.ActionReplace, r.Final)
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenSecondOfficer && st.Fault == nil {
			s.Officer(0)
			return true, p.Desk.Send(ctx, intent(st, kiosk.ActionApprove, stage.OfficerPIN))
		}
		return false, nil
	}
	p.leave(told{screen: kiosk.ScreenSecondOfficer, code: kiosk.CodeSamePerson})
}

// A citizen with a new ID card keeps the key: the token is not written to, the record
// is one of the same identity, and the receipt has a new cancel code.
func TestRenewCard(t *testing.T) {
	t.Parallel()
	s, p, r := owner(t, nil)
	who := p.who
	who.Number = "R" + who.Number[1:]
	if err := s.IssueCard(who, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	renewed := offlineFor(t, s, func() { comesBack(t, s, kiosk.ActionRenew, "").meet() })
	pay := renewed.Record().Payload()
	if pay.Context.Purpose != record.Update || pay.Replaces != "" || pay.Holder.Where != record.PIV {
		t.Errorf("purpose %s, replaces %q, holder %+v", pay.Context.Purpose, pay.Replaces, pay.Holder)
	}
	active(t, s, renewed.ID())
	g := guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenTokenPIN: pins(p.PIN)}).comes(kiosk.ActionTryToken)
	g.last(kiosk.ScreenTokenResult)
	if got := standingOf(t, s, r.Final); got != kiosk.StandingActive {
		t.Errorf("the identity: %s", got)
	}

	// Another person's card under this token is refused by the vault.
	other := who
	other.Surname, other.Number = "OTHER", "Q"+who.Number[1:]
	if err := s.IssueCard(other, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	comesBack(t, s, kiosk.ActionRenew, "").meet()
	delivered(t, s)
	refusedAt(t, s, newest(t, s).ID)
}

// refusedAt waits until the vault has signed that a record does not hold.
func refusedAt(t *testing.T, s *stage.Stage, id queue.ID) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		got, err := s.Kiosk.Verdict(t.Context(), id)
		if err == nil && got != kiosk.Refused {
			err = fmt.Errorf("verdict %q", got)
		}
		return err
	})
}

func intent(st kiosk.State, a kiosk.Action, text string) kiosk.Intent {
	return kiosk.Intent{State: st.Number, Action: a, Secret: secret.FromString(text)}
}

// ends plays the end of an identity at the desk.
func (p *people) ends() {
	p.t.Helper()
	if _, err := p.enroll(); err != nil {
		p.t.Fatalf("end: %v, after %v", err, p.told)
	}
	p.compare(nil)
}

// standingOf is what a kiosk says of a receipt.
func standingOf(t *testing.T, s *stage.Stage, text string) kiosk.Standing {
	t.Helper()
	g := guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenScanReceipt: {{action: kiosk.ActionScan, secret: text}}}).comes(kiosk.ActionCheckReceipt)
	return g.last(kiosk.ScreenStanding).Proof.Standing
}

// A holder ends the own identity with the token: the holder alone signs, the chain of
// the kiosk's records does not move, and the next enrollment is as good as any.
func TestEndIdentityWithToken(t *testing.T) {
	t.Parallel()
	s, _, r := owner(t, nil)
	sub := offlineFor(t, s, func() { comesBack(t, s, kiosk.ActionEndIdentity, "").ends() })
	p := sub.Record().Payload()
	if p.Context.Purpose != record.Revoke || p.Context.KioskID != "" || len(p.Signers) != 1 || p.Signers[0].Role != record.Holder {
		t.Errorf("purpose %s of %q, signed by %+v", p.Context.Purpose, p.Context.KioskID, p.Signers)
	}
	if got := standingOf(t, s, r.Final); got != kiosk.StandingRevoked {
		t.Errorf("the identity: %s", got)
	}
	works(t, s)
}

// Without the token two officers and the kiosk end the identity of a receipt, and the
// citizen gets going again with another token. Who declines has ended nothing.
func TestEndIdentityWithReceipt(t *testing.T) {
	t.Parallel()
	s, _, r := owner(t, nil)
	for _, at := range []kiosk.Screen{kiosk.ScreenConfirmEnd, kiosk.ScreenSecondOfficer, kiosk.ScreenApprove, kiosk.ScreenSecondApprove} {
		p := comesBack(t, s, kiosk.ActionEndIdentity, r.Final)
		p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
			if st.Screen != at {
				return false, nil
			}
			p.over = true
			in := intent(st, kiosk.ActionStartOver, "")
			if st.Turn == kiosk.TurnCitizen {
				in.Action = kiosk.ActionDecline
			}
			return true, p.Desk.Send(ctx, in)
		}
		p.leaveQuietly()
	}
	if got := standingOf(t, s, r.Final); got != kiosk.StandingActive {
		t.Errorf("nobody has ended it, and it is %s", got)
	}
	p := comesBack(t, s, kiosk.ActionEndIdentity, r.Final)
	p.OnState = func(st kiosk.State) {
		if st.Screen == kiosk.ScreenIdentityEnded && len(st.Ended.RecordID) != 64 {
			t.Errorf("record %q", st.Ended.RecordID)
		}
	}
	p.ends()
	delivered(t, s)
	if got := standingOf(t, s, r.Final); got != kiosk.StandingRevoked {
		t.Errorf("the identity: %s", got)
	}
	s.IssueToken(pivtoken.Options{Serial: 20_000_004})
	again := comesBack(t, s, kiosk.ActionReplace, r.Final).meet()
	final(t, s, again)
	active(t, s, newest(t, s).ID)
}

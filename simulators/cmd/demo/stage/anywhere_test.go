package stage_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// twoStations are two police stations of one registry, of which everything runs.
func twoStations(t *testing.T) (here, there *stage.Stage) {
	t.Helper()
	here = newStage(t, nil)
	places <- struct{}{}
	t.Cleanup(func() { <-places })
	limits := kiosk.DefaultLimits()
	limits.Delivery = 10 * time.Second
	there, err := here.Beside(t.Context(), daemon, "KIOSK-0002", stage.Options{Prefix: fmt.Sprintf("Stage%d", stages.Add(1)), Limits: limits,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := there.Close(); err != nil {
			t.Errorf("close the other station: %v", err)
		}
	})
	start(t, here)
	if err := there.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	return here, there
}

// proofAt is what a kiosk shows of a receipt at its self-service.
func proofAt(t *testing.T, s *stage.Stage, text string) kiosk.ProofView {
	t.Helper()
	g := guestOf(t, s, map[kiosk.Screen][]answer{kiosk.ScreenScanReceipt: {{action: kiosk.ActionScan, secret: text}}}).comes(kiosk.ActionCheckReceipt)
	return *g.last(kiosk.ScreenStanding).Proof
}

// A receipt is as good at any kiosk as at the one that gave it: the citizen learns there
// what has become of the identity, gets a new key for a lost one, and the end of an
// identity. Somebody else with the same paper gets no key.
func TestReceiptAtAnotherStation(t *testing.T) {
	t.Parallel()
	here, there := twoStations(t)
	p := arrive(t, here, idcard.Options{}, pivtoken.Options{})
	r := p.meet()
	final(t, here, r)
	active(t, here, newest(t, here).ID)
	says := func(s *stage.Stage, text string, kind kiosk.ReceiptKind, standing kiosk.Standing) {
		t.Helper()
		if got, want := proofAt(t, s, text), (kiosk.ProofView{RecordID: r.RecordID, Kind: kind, Standing: standing}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	says(there, r.Final, kiosk.ReceiptFinal, kiosk.StandingActive)
	says(there, r.Provisional, kiosk.ReceiptVouched, kiosk.StandingActive)
	says(there, forged(t, r.RecordID, stage.KioskID, stage.Origin), kiosk.ReceiptOther, kiosk.StandingUntold)

	// Without the registry a final receipt proves what it proves, and another kiosk's
	// provisional one nothing.
	if err := here.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	says(there, r.Final, kiosk.ReceiptFinal, kiosk.StandingUnknown)
	says(there, r.Provisional, kiosk.ReceiptOther, kiosk.StandingUnknown)
	if err := here.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}

	thief := p.who
	thief.Surname, thief.Number = "OTHER", "Z"+p.who.Number[1:]
	if err := there.IssueCard(thief, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	there.IssueToken(pivtoken.Options{Serial: 20_000_011})
	comesBack(t, there, kiosk.ActionReplace, r.Provisional).meet()
	delivered(t, there)
	refusedAt(t, there, newest(t, there).ID)
	says(there, r.Final, kiosk.ReceiptFinal, kiosk.StandingActive)

	if err := there.IssueCard(p.who, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	there.IssueToken(pivtoken.Options{Serial: 20_000_012})
	replaced := comesBack(t, there, kiosk.ActionReplace, r.Provisional).meet()
	final(t, there, replaced)
	active(t, there, newest(t, there).ID)
	says(here, r.Final, kiosk.ReceiptFinal, kiosk.StandingRevoked)
	there.IssueToken(pivtoken.Options{Serial: 20_000_013})
	comesBack(t, there, kiosk.ActionReplace, r.Final).leave(trouble(kiosk.CodeNoHolder))
	comesBack(t, there, kiosk.ActionReplace, forged(t, strings.Repeat("ab", 32), stage.KioskID, stage.Origin)).leave(trouble(kiosk.CodeUntold))

	// The new identity ends where the old one began.
	comesBack(t, here, kiosk.ActionEndIdentity, replaced.Provisional).ends()
	delivered(t, here)
	if got := proofAt(t, there, replaced.Final).Standing; got != kiosk.StandingRevoked {
		t.Errorf("the new identity: %s", got)
	}

	// A revoked kiosk's word counts no more, and it is told nothing; the log's word does.
	if err := here.Kiosks().Revoke(t.Context(), stage.KioskID, time.Now()); err != nil {
		t.Fatal(err)
	}
	says(there, r.Provisional, kiosk.ReceiptOther, kiosk.StandingUntold)
	says(there, r.Final, kiosk.ReceiptFinal, kiosk.StandingRevoked)
	says(here, r.Final, kiosk.ReceiptFinal, kiosk.StandingUnknown)
}

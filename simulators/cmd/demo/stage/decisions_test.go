package stage_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// A record that the vault refused, and that a person has made active afterwards:
// the kiosk, whose record is long delivered and erased, hears of both.
func TestLiftedReview(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	newest := func(n int) queue.ID {
		t.Helper()
		var list []queue.Entry
		eventually(t, 3*time.Minute, func() (err error) {
			if list, err = s.Kiosk.Queue().Delivered(t.Context(), time.Time{}, time.Time{}, n); err == nil && len(list) != n {
				err = fmt.Errorf("%d records are delivered", len(list))
			}
			return err
		})
		return list[0].ID
	}
	registrySays := func(id queue.ID, want kiosk.DeliveryStage) {
		t.Helper()
		eventually(t, 3*time.Minute, func() error {
			if got, err := s.Kiosk.Verdict(t.Context(), id); err != nil || got != want {
				return fmt.Errorf("the registry says %q, %v", got, err)
			}
			return nil
		})
	}
	first := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	first.meet()
	before := newest(1)
	registrySays(before, kiosk.Activated)
	// The same citizen, with another token.
	s.IssueToken(pivtoken.Options{Serial: 77_000_001})
	second := again(t, s)
	second.who = first.who
	second.meet()
	id := newest(2)
	kioskSays := func(want api.Status, code string) {
		t.Helper()
		if err := s.StopKiosk(); err != nil { // it asks when it starts, too
			t.Fatal(err)
		}
		if err := s.StartKiosk(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, 3*time.Minute, func() error {
			q, err := asked(t, s.Config, id)
			if err != nil { // the agent is on its way
				return err
			}
			if q.Decision == nil || q.Decision.Status != want || q.Decision.Code != code || q.State != queue.Purged {
				return fmt.Errorf("the kiosk says %+v", q.Decision)
			}
			v, err := receipt.VerifyVerdict([]byte(q.Decision.Verdict), nil, s.Policy.Policy().VerdictKeys.Vault, id)
			if err != nil || !v.Claims().Time.Equal(q.Decision.Time) {
				t.Fatalf("the verdict is not the vault's: %v", err)
			}
			return nil
		})
	}
	registrySays(id, kiosk.Refused)
	kioskSays(api.Refused, api.CodeReview)

	var c vault.Config
	c.Vault.Dir = filepath.Join(s.Dir, "vault")
	console, err := vault.OpenConsole(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	decision := vault.Resolution{Decision: receipt.Active, By: "reviewer", Reason: "twins"}
	if err := console.Do(t.Context(), http.MethodPost, "/reviews/"+api.ID(id).String()+"/resolve", decision, &vault.Review{}); err != nil {
		t.Fatal(err)
	}
	registrySays(id, kiosk.Activated)
	// The enrollment that had the document is refused by the same decision.
	registrySays(before, kiosk.Refused)
	kioskSays(api.Active, "")
	if q, err := asked(t, s.Config, before); err != nil || q.Decision == nil || q.Decision.Status != api.Refused {
		t.Errorf("the kiosk says of the other one %+v, %v", q.Decision, err)
	}
	// It stands there too when no agent runs.
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	if q, err := asked(t, s.Config, id); err != nil || q.Decision == nil || q.Decision.Status != api.Active {
		t.Errorf("without an agent: %+v, %v", q.Decision, err)
	}
}

// asked is what `kiosk queue show` gets.
func asked(t *testing.T, c station.Config, id queue.ID) (r station.QueueRecord, err error) {
	t.Helper()
	err = station.Ask(t.Context(), c, wire.Query{Kind: station.QueryShow, Argument: id.String()}, &r)
	return r, err
}

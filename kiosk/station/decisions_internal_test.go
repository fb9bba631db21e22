package station

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// tidings is a registry that says what it is told to, and counts what it is asked.
type tidings struct {
	says  map[[32]byte]client.Decision
	asked map[[32]byte]int
	calls int
	err   error
}

func (r *tidings) ask(_ context.Context, ids [][32]byte) (out []client.Decision, proof, err error) {
	if r.calls++; r.err != nil {
		return nil, nil, r.err
	}
	for _, id := range ids {
		r.asked[id]++
		if d, ok := r.says[id]; ok {
			d.ID = id
			out = append(out, d)
		}
	}
	return out, nil, nil
}

// What a delivered record became is asked for until it is decided, then once a day,
// and kept across starts; the later of two decisions counts.
func TestDecisions(t *testing.T) {
	var c Config
	c.Kiosk.State = t.TempDir()
	open := func() *decisions {
		t.Helper()
		d, err := openDecisions(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var delivered []queue.Entry
	for n := range 150 {
		delivered = append(delivered, queue.Entry{ID: queue.ID{byte(n), 1}})
	}
	one, two := [32]byte(delivered[0].ID), [32]byte(delivered[1].ID)
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	r := &tidings{says: map[[32]byte]client.Decision{}, asked: map[[32]byte]int{}}
	d := open()
	follow := func() {
		t.Helper()
		r.calls = 0
		clear(r.asked)
		if err := d.follow(t.Context(), delivered, now, r.ask); err != nil {
			t.Fatal(err)
		}
	}
	follow()
	if r.calls != 3 || len(r.asked) != 150 { // 64 at once
		t.Errorf("%d requests about %d records", r.calls, len(r.asked))
	}
	refused := client.Decision{Status: api.Refused, Code: api.CodeReview, Time: now, Verdict: []byte("refused")}
	r.says[one] = refused
	r.says[two] = client.Decision{Status: api.Pending}
	now = now.Add(followInterval)
	follow()
	if got := d.of(one); got == nil || got.Status != api.Refused || got.Code != api.CodeReview || got.Verdict != "refused" || d.of(two) != nil {
		t.Errorf("%+v, %+v", got, d.of(two))
	}
	now = now.Add(followInterval)
	follow()
	if r.asked[one] != 0 || r.asked[two] != 1 {
		t.Errorf("after an hour the decided one is asked about %d times, the other one %d", r.asked[one], r.asked[two])
	}
	active := client.Decision{Status: api.Active, Time: now, Verdict: []byte("active")}
	r.says[one] = active
	now = now.Add(decidedInterval)
	follow()
	if got := d.of(one); got == nil || got.Status != api.Active || got.Code != "" {
		t.Errorf("%+v", got)
	}
	// An old decision that comes again.
	r.says[one] = refused
	now = now.Add(decidedInterval)
	follow()
	if got := d.of(one); r.asked[one] != 1 || got == nil || got.Status != api.Active {
		t.Errorf("%+v", got)
	}
	// What became of the identity since is news under the same verdict, and so is that it is over.
	for _, standing := range []receipt.Status{receipt.Suspended, ""} {
		active.Standing = standing
		r.says[one] = active
		now = now.Add(decidedInterval)
		follow()
		if got := d.of(one); got == nil || got.Standing != standing {
			t.Errorf("%+v", got)
		}
	}
	// A clock that was set back keeps nobody from asking.
	now = now.Add(-10 * decidedInterval)
	follow()
	if r.asked[one] != 1 {
		t.Error("not asked after the clock was set back")
	}

	d = open()
	if got := d.of(one); got == nil || got.Status != api.Active {
		t.Errorf("after a start: %+v", got)
	}
	r.err = errors.New("no line")
	if err := d.follow(t.Context(), delivered, now, r.ask); !errors.Is(err, r.err) || d.of(one) == nil {
		t.Errorf("%v", err)
	}
	r.err = nil
	// What is too old is not in the list any more.
	delivered = delivered[1:]
	follow()
	if r.asked[one] != 0 || d.of(one) != nil {
		t.Errorf("%+v", d.of(one))
	}
	for _, damage := range []string{"", "null", `{"00":{}}`, `{} {}`, "\x00\x00"} {
		if err := os.WriteFile(c.in(decisionsFile), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		d = open()
		r.says[two] = active
		follow()
		if got := d.of(two); got == nil || got.Status != api.Active {
			t.Errorf("after damage %q: %+v", damage, got)
		}
	}
}

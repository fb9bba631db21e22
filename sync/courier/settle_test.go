package courier_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/queue"
)

// Answers that come another way settle records that the courier is asking for, and
// it goes on with the others at its pace.
func TestSettle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		ids := put(t, q, 3)
		var logged atomic.Bool
		f := &fake{status: func(id queue.ID) (client.Status, error) {
			if logged.Load() && id == ids[2] {
				return client.Status{}, nil
			}
			return client.Status{Status: api.Pending}, nil
		}}
		c, _ := run(t, q, f, courier.Options{})
		events := c.Events(t.Context())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		by := map[queue.ID]client.Status{
			ids[0]: {ID: ids[0], Status: api.Active, Verdict: []byte("v"), Receipt: []byte("receipt")},
			ids[1]: {ID: ids[1], Status: api.Rejected, Code: "registry-fork", Verdict: []byte("jws")},
		}
		for range 2 { // again is harmless
			for _, s := range by {
				if err := c.Settle(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		}
		if err := c.Settle(t.Context(), client.Status{ID: ids[2], Status: api.Pending}); !errors.Is(err, courier.ErrOpen) {
			t.Errorf("nothing yet: %v", err)
		}
		if err := c.Settle(t.Context(), client.Status{ID: queue.ID{9}, Status: api.Pending, Receipt: []byte("r")}); !errors.Is(err, queue.ErrUnknown) {
			t.Errorf("unknown: %v", err)
		}
		e, err := q.Get(t.Context(), ids[1])
		if err != nil || e.State != queue.Quarantined || e.Reason.Code != "registry-fork" || string(e.Reason.Evidence) != "jws" {
			t.Errorf("%+v, %v", e, err)
		}
		kept, err := q.Receipt(t.Context(), ids[0])
		if err != nil || string(kept) != "receipt" || state(t, q, ids[0]) != queue.Purged || state(t, q, ids[2]) != queue.Queued {
			t.Errorf("receipt %s, %v", kept, err)
		}
		logged.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if state(t, q, ids[2]) != queue.Purged {
			t.Error("the courier did not go on")
		}
		seen := map[courier.Stage]queue.ID{}
		for len(events) > 0 {
			switch e := <-events; e.Stage {
			case courier.Activated, courier.Quarantined:
				if _, again := seen[e.Stage]; !again {
					seen[e.Stage] = e.ID
				}
			case courier.Trouble:
				t.Errorf("%+v", e)
			}
		}
		if seen[courier.Activated] != ids[0] || seen[courier.Quarantined] != ids[1] {
			t.Errorf("told %v", seen)
		}
	})
}

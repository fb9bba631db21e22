package courier_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/internal/testregistry"
	"enrollkiosk/sync/queue"
)

func open(t testing.TB, dir string) *queue.Queue {
	t.Helper()
	q, _, err := queue.Open(context.Background(), dir, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// quickDir is in memory where it can be: what survives a power cut is the
// queue's to test.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "courier")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// put queues n records that nobody looks into, and returns their ids.
func put(t testing.TB, q *queue.Queue, n int) (ids []queue.ID) {
	t.Helper()
	for i := range n {
		id := queue.ID{byte(i + 1)}
		if err := q.Put(t.Context(), queue.Item{ID: id, Data: []byte("record")}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func state(t testing.TB, q *queue.Queue, id queue.ID) queue.State {
	t.Helper()
	e, err := q.Get(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return e.State
}

// fake is a registry that takes on what it is sent and has a receipt at once,
// unless it is told otherwise.
type fake struct {
	submit func(items []client.Item) ([]client.Verdict, error) // instead; nil verdicts and error: as usual
	status func(id queue.ID) (client.Status, error)

	mu    sync.Mutex
	calls []call
}

type call struct {
	at    time.Time
	items []queue.ID // of a submission; nil: a status request
}

func (f *fake) Submit(ctx context.Context, items []client.Item) (out []client.Verdict, err error) {
	f.mu.Lock()
	c := call{at: time.Now()}
	for _, i := range items {
		c.items = append(c.items, i.ID)
	}
	f.calls = append(f.calls, c)
	f.mu.Unlock()
	if f.submit != nil {
		if out, err := f.submit(items); out != nil || err != nil {
			return out, err
		}
	}
	for _, i := range items {
		out = append(out, client.Verdict{ID: i.ID, Status: api.Pending})
	}
	return out, nil
}

func (f *fake) Status(ctx context.Context, items []client.Item) (out []client.Status, err error) {
	f.mu.Lock()
	f.calls = append(f.calls, call{at: time.Now()})
	f.mu.Unlock()
	for _, i := range items {
		s := client.Status{Status: api.Active, Verdict: []byte("v"), Receipt: []byte("receipt")}
		if f.status != nil {
			other, err := f.status(i.ID)
			if err != nil && !errors.Is(err, client.ErrNotFound) {
				return nil, err
			}
			if other.Status != "" || err != nil {
				s = other
			}
			s.Err = err
		}
		s.ID = i.ID
		out = append(out, s)
	}
	return out, nil
}

// now is the courier's status, when its queue is in order.
func now(t testing.TB, c *courier.Courier) courier.Status {
	t.Helper()
	s, err := c.Status(context.Background())
	if err != nil {
		t.Error(err)
	}
	return s
}

func (f *fake) made() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// run starts a courier and stops it at the end of the test.
func run(t testing.TB, q *queue.Queue, r courier.Registry, o courier.Options) (*courier.Courier, func()) {
	t.Helper()
	c := courier.New(q, r, o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return c, stop
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestOneRecordAtTheDesk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		asked := 0
		f := &fake{status: func(queue.ID) (client.Status, error) {
			if asked++; asked < 4 {
				return client.Status{Status: api.Pending}, nil
			}
			return client.Status{}, nil
		}}
		c, _ := run(t, q, f, courier.Options{})
		events := c.Events(t.Context())
		time.Sleep(time.Minute) // nothing to do
		if n := len(f.made()); n > 0 {
			t.Errorf("%d requests about nothing", n)
		}
		id := put(t, q, 1)[0]
		start := time.Now()
		c.Kick()
		var got []courier.Stage
		for len(got) < 5 {
			e := <-events
			if e.Stage != courier.Reached && e.ID != id {
				t.Errorf("event about %v", e.ID)
			}
			got = append(got, e.Stage)
		}
		want := []courier.Stage{courier.Reached, courier.Accepted, courier.Receipted, courier.Purged, courier.Activated}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if waited := time.Since(start); waited > 2*time.Second {
			t.Errorf("the receipt took %v with the registry ready after four questions", waited)
		}
		if state(t, q, id) != queue.Purged {
			t.Error("not purged")
		}
		if s := now(t, c); s.Line != courier.LineUp || s.Fault != nil || !s.Next.IsZero() || s.Delivered.IsZero() {
			t.Errorf("%+v", s)
		}
	})
}

// Weeks without a line: attempts go on, never more than five minutes apart and
// never in a hurry, and the first one that gets through delivers everything.
func TestWeeksOffline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		ids := put(t, q, 200)
		var online atomic.Bool
		f := &fake{submit: func([]client.Item) ([]client.Verdict, error) {
			if !online.Load() {
				return nil, fmt.Errorf("submit: %w", client.ErrUnreachable)
			}
			return nil, nil
		}}
		c, _ := run(t, q, f, courier.Options{})
		time.Sleep(21 * 24 * time.Hour)
		synctest.Wait()
		calls := f.made()
		for i := 1; i < len(calls); i++ {
			if gap := calls[i].at.Sub(calls[i-1].at); gap > 5*time.Minute+time.Second {
				t.Fatalf("no attempt for %v", gap)
			}
		}
		// Full jitter: 2.5 minutes on average.
		if n := len(calls); n < 21*24*12*9/10 || n > 21*24*60 {
			t.Errorf("%d attempts in three weeks", n)
		}
		if s := now(t, c); s.Line != courier.LineDown || s.Waiting != len(ids) || s.Oldest.IsZero() || !errors.Is(s.Fault, client.ErrUnreachable) || s.Next.IsZero() {
			t.Errorf("%+v", s)
		}
		online.Store(true)
		c.Kick()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			if s := state(t, q, id); s != queue.Purged {
				t.Fatalf("record %d is %s ten seconds after the line came back", id[0], s)
			}
		}
	})
}

// Whatever one record does to the registry or the line, the others are delivered.
func TestPoison(t *testing.T) {
	for name, fault := range map[string]error{
		"nonsense": client.ErrNonsense, "too big": client.ErrTooBig, "breaks the server": &client.RetryAfter{Status: 500},
		"breaks the line": client.ErrUnreachable, "times out": fmt.Errorf("%w: %w", client.ErrUnreachable, context.DeadlineExceeded),
	} {
		for _, position := range []int{0, 40, 89} {
			bubble(t, func(t *testing.T) {
				q := open(t, quickDir(t))
				ids := put(t, q, 90)
				poison := ids[position]
				f := &fake{submit: func(items []client.Item) ([]client.Verdict, error) {
					if slices.ContainsFunc(items, func(i client.Item) bool { return i.ID == poison }) {
						return nil, fault
					}
					return nil, nil
				}}
				run(t, q, f, courier.Options{})
				time.Sleep(time.Hour)
				synctest.Wait()
				for _, id := range ids {
					if s := state(t, q, id); id != poison && s != queue.Purged || id == poison && s != queue.Queued {
						t.Fatalf("%s at %d: record %d is %s", name, position, id[0], s)
					}
				}
				before := len(f.made())
				time.Sleep(time.Hour)
				synctest.Wait()
				if n := len(f.made()) - before; n < 6 || n > 120 {
					t.Errorf("%s: %d attempts in an hour for the record that does not go", name, n)
				}
			})
		}
	}
}

func TestRejection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		var ids []queue.ID
		f := &fake{}
		f.submit = func(items []client.Item) (out []client.Verdict, err error) {
			for _, i := range items {
				v := client.Verdict{ID: i.ID, Status: api.Pending}
				if i.ID == ids[0] {
					v = client.Verdict{ID: i.ID, Status: api.Rejected, Code: "registry-fork", Evidence: []byte("jws")}
				}
				out = append(out, v)
			}
			return out, nil
		}
		f.status = func(id queue.ID) (client.Status, error) {
			if id == ids[1] {
				return client.Status{Status: api.Rejected, Code: "registry-kiosk", Verdict: []byte("jws")}, nil
			}
			return client.Status{}, nil
		}
		c, _ := run(t, q, f, courier.Options{})
		synctest.Wait()
		events := c.Events(t.Context())
		ids = put(t, q, 3)
		c.Kick()
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, code := range []string{"registry-fork", "registry-kiosk"} {
			e, err := q.Get(t.Context(), ids[i])
			if err != nil || e.State != queue.Quarantined || e.Reason.Code != code || string(e.Reason.Evidence) != "jws" {
				t.Errorf("%+v, %v", e, err)
			}
		}
		if state(t, q, ids[2]) != queue.Purged {
			t.Error("the good record was kept")
		}
		told := map[queue.ID]string{}
		for len(events) > 0 {
			if e := <-events; e.Stage == courier.Quarantined {
				told[e.ID] = e.Code
			}
		}
		if told[ids[0]] != "registry-fork" || told[ids[1]] != "registry-kiosk" {
			t.Errorf("told %v", told)
		}
	})
}

func TestRefusalIsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		id := put(t, q, 1)[0]
		asked := 0
		f := &fake{status: func(queue.ID) (client.Status, error) {
			// The receipt comes first, the vault's decision later.
			if asked++; asked < 5 {
				return client.Status{Status: api.Pending, Receipt: []byte("receipt")}, nil
			}
			return client.Status{Status: api.Refused, Code: "vault-review", Verdict: []byte("v"), Receipt: []byte("receipt")}, nil
		}}
		c, _ := run(t, q, f, courier.Options{})
		events := c.Events(t.Context())
		for e := range events {
			if e.Stage == courier.Activated {
				t.Error("told as activated")
			}
			if e.Stage == courier.Refused {
				if e.ID != id || e.Code != "vault-review" {
					t.Errorf("%+v", e)
				}
				break
			}
		}
		time.Sleep(time.Hour)
		if asked != 5 {
			t.Errorf("asked %d times", asked)
		}
		if state(t, q, id) != queue.Purged {
			t.Error("a record with a receipt stays")
		}
	})
}

// A storm after weeks offline: the pause that the registry asks for, not the one
// that had grown meanwhile.
func TestRetryAfterEndsALongPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		put(t, q, 1)
		var step atomic.Int32
		f := &fake{submit: func([]client.Item) ([]client.Verdict, error) {
			switch step.Load() {
			case 0:
				return nil, client.ErrUnreachable
			case 1:
				step.Store(2)
				return nil, &client.RetryAfter{Status: 429, After: 2 * time.Second}
			}
			return nil, nil
		}}
		c, _ := run(t, q, f, courier.Options{})
		time.Sleep(24 * time.Hour)
		step.Store(1)
		c.Kick()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s, _ := q.Stats(t.Context()); s.Receipted != 1 {
			t.Errorf("still pausing: %+v", now(t, c))
		}
	})
}

// The registry asks for a pause: nobody shortens it.
func TestRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		put(t, q, 1)
		var storm atomic.Bool
		storm.Store(true)
		f := &fake{submit: func([]client.Item) ([]client.Verdict, error) {
			if storm.Load() {
				return nil, &client.RetryAfter{Status: 429, After: 10 * time.Minute}
			}
			return nil, nil
		}}
		c, _ := run(t, q, f, courier.Options{})
		for range 50 {
			time.Sleep(11 * time.Second)
			c.Kick()
		}
		synctest.Wait()
		if n := len(f.made()); n != 1 {
			t.Errorf("%d attempts in a pause that the registry asked for", n)
		}
		storm.Store(false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if s, _ := q.Stats(t.Context()); s.Receipted != 1 {
			t.Error("not delivered after the pause")
		}
	})
	// The same for one record.
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		ids := put(t, q, 2)
		times := 0
		f := &fake{}
		f.submit = func(items []client.Item) (out []client.Verdict, err error) {
			for _, i := range items {
				v := client.Verdict{ID: i.ID, Status: api.Pending}
				if i.ID == ids[0] {
					if times++; times == 1 {
						v = client.Verdict{ID: i.ID, Status: api.Retry, After: 10 * time.Minute}
					}
				}
				out = append(out, v)
			}
			return out, nil
		}
		c, _ := run(t, q, f, courier.Options{})
		time.Sleep(9 * time.Minute)
		c.Kick()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if times != 1 || state(t, q, ids[1]) != queue.Purged {
			t.Errorf("sent %d times, the other is %s", times, state(t, q, ids[1]))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if state(t, q, ids[0]) != queue.Purged {
			t.Error("not delivered after the pause")
		}
	})
}

// Not admitted: a slow pace, no end, no quarantine; a person at the desk may try
// at once.
func TestNotAllowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		id := put(t, q, 1)[0]
		f := &fake{submit: func([]client.Item) ([]client.Verdict, error) { return nil, client.ErrNotAllowed }}
		c, _ := run(t, q, f, courier.Options{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(f.made()); n < 10 || n > 30 {
			t.Errorf("%d attempts in an hour", n)
		}
		before := len(f.made())
		for range 100 { // a person who is impatient is no storm either
			c.Kick()
			time.Sleep(50 * time.Millisecond)
		}
		if n := len(f.made()) - before; n < 10 || n > 22 {
			t.Errorf("%d attempts for kicks in five seconds", n)
		}
		if state(t, q, id) != queue.Queued {
			t.Error("quarantined for the line's fault")
		}
	})
}

// What failed under the old policy is tried as soon as a new one is in force.
func TestNewPolicyEndsThePause(t *testing.T) {
	r := testregistry.New(t, nil)
	successor := r.Successor(func(*policy.Policy) {})
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		put(t, q, 1)
		var now atomic.Pointer[policy.Signed]
		now.Store(&r.Policy)
		f := &fake{}
		f.submit = func([]client.Item) ([]client.Verdict, error) {
			if now.Load().Digest() == r.Policy.Digest() {
				return nil, client.ErrTLS
			}
			return nil, nil
		}
		run(t, q, f, courier.Options{Policy: func() (policy.Signed, error) { return *now.Load(), nil }})
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		now.Store(&successor)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if s, _ := q.Stats(t.Context()); s.Receipted != 1 {
			t.Error("still pausing")
		}
	})
}

// A registry that was restored from an older backup gets the record again.
func TestRegistryLosesARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		id := put(t, q, 1)[0]
		sent := 0
		f := &fake{}
		f.submit = func([]client.Item) ([]client.Verdict, error) { sent++; return nil, nil }
		f.status = func(queue.ID) (client.Status, error) {
			if sent < 3 {
				return client.Status{}, client.ErrNotFound
			}
			return client.Status{}, nil
		}
		run(t, q, f, courier.Options{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if sent != 3 || state(t, q, id) != queue.Purged {
			t.Errorf("sent %d times, %s", sent, state(t, q, id))
		}
	})
}

func TestListenersNeverHoldUpDelivery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		c, _ := run(t, q, &fake{}, courier.Options{})
		deaf := c.Events(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		gone := c.Events(ctx)
		for n := range 400 {
			id := queue.ID{byte(n), byte(n >> 8), 1}
			if err := q.Put(t.Context(), queue.Item{ID: id, Data: []byte("record")}); err != nil {
				t.Fatal(err)
			}
		}
		c.Kick()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s, _ := q.Stats(t.Context()); s.Receipted != 400 {
			t.Errorf("%d of 400 delivered", s.Receipted)
		}
		cancel()
		synctest.Wait()
		for range gone { // closed, or this does not end
		}
		var last courier.Event
		for len(deaf) > 0 {
			last = <-deaf
		}
		if last.Stage != courier.Activated {
			t.Errorf("the newest news is lost: %+v", last)
		}
	})
}

// Stopped before or after any request: what was begun is finished by the next
// run, and the registry holds each record once.
func TestStoppedAnywhere(t *testing.T) {
	for stop := 1; ; stop++ {
		reached := false
		bubble(t, func(t *testing.T) {
			q := open(t, quickDir(t))
			ids := put(t, q, 3)
			held := map[queue.ID]bool{}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			steps := 0
			step := func() bool {
				if steps++; steps == stop {
					reached = true
					cancel()
				}
				return ctx.Err() != nil
			}
			f := &fake{}
			f.submit = func(items []client.Item) ([]client.Verdict, error) {
				if step() { // before it arrives
					return nil, context.Canceled
				}
				for _, i := range items {
					held[i.ID] = true
				}
				if step() { // after
					return nil, context.Canceled
				}
				return nil, nil
			}
			f.status = func(queue.ID) (client.Status, error) {
				if step() {
					return client.Status{}, context.Canceled
				}
				return client.Status{}, nil
			}
			go func() { time.Sleep(time.Minute); cancel() }()
			if err := courier.New(q, f, courier.Options{}).Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
			_, end := run(t, q, &fake{}, courier.Options{})
			time.Sleep(time.Minute)
			synctest.Wait()
			end()
			for _, id := range ids {
				if s := state(t, q, id); s != queue.Purged {
					t.Errorf("stopped at step %d: record %d is %s", stop, id[0], s)
				}
			}
		})
		if !reached {
			return
		}
	}
}

func TestLeftoversArePurgedAtTheStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		ids := put(t, q, 3)
		if err := q.StoreReceipt(t.Context(), ids[1], []byte("receipt")); err != nil {
			t.Fatal(err)
		}
		f := &fake{submit: func([]client.Item) ([]client.Verdict, error) { return nil, client.ErrUnreachable }}
		run(t, q, f, courier.Options{})
		time.Sleep(time.Second)
		synctest.Wait()
		if state(t, q, ids[1]) != queue.Purged || state(t, q, ids[0]) != queue.Queued {
			t.Errorf("%s, %s", state(t, q, ids[1]), state(t, q, ids[0]))
		}
	})
}

// A queue that cannot be used any more ends the run with its error.
func TestQueueGone(t *testing.T) {
	q := open(t, quickDir(t))
	put(t, q, 1)
	f := &fake{submit: func([]client.Item) ([]client.Verdict, error) { q.Close(); return nil, nil }}
	if err := courier.New(q, f, courier.Options{}).Run(t.Context()); !errors.Is(err, queue.ErrClosed) && !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

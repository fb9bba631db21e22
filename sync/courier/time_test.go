package courier_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/queue"
)

// many queues n records, more than put can.
func many(t testing.TB, q *queue.Queue, n int) (ids []queue.ID) {
	t.Helper()
	for i := range n {
		id := queue.ID{byte(i), byte(i >> 8), 1}
		if err := q.Put(t.Context(), queue.Item{ID: id, Data: []byte("record")}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// Full jitter: the pause after the n-th failure is anything up to 2^(n-1) seconds,
// and never more than five minutes.
func TestJitter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var early, late []float64 // pauses as parts of what they may be
		for range 12 {
			f := &fake{submit: func([]client.Item) ([]client.Verdict, error) { return nil, client.ErrUnreachable }}
			q := open(t, quickDir(t))
			put(t, q, 1)
			_, stop := run(t, q, f, courier.Options{})
			time.Sleep(2 * time.Hour)
			stop()
			calls := f.made()
			for i := range len(calls) - 1 {
				pause, most := calls[i+1].at.Sub(calls[i].at), 5*time.Minute
				if i < 8 {
					most = time.Second << i
				}
				if pause > most+time.Millisecond {
					t.Fatalf("%v after failure %d, want at most %v", pause, i+1, most)
				}
				if part := float64(pause) / float64(most); i < 8 {
					early = append(early, part)
				} else {
					late = append(late, part)
				}
			}
		}
		for name, parts := range map[string][]float64{"early": early, "late": late} {
			slices.Sort(parts)
			n := len(parts)
			if first, middle, last := parts[n/10], parts[n/2], parts[n*9/10]; first > 0.3 || middle < 0.25 || middle > 0.75 || last < 0.7 {
				t.Errorf("%s pauses are not spread: of what they may be a tenth is below %.2f, half below %.2f, nine tenths below %.2f", name, first, middle, last)
			}
		}
	})
}

// What a registry asks for is kept: never earlier, and at most a quarter and a
// second later, so that those who were turned away together do not come together.
func TestRetryAfterBounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const after = 40 * time.Second
		f := &fake{submit: func([]client.Item) ([]client.Verdict, error) {
			return nil, &client.RetryAfter{Status: 429, After: after}
		}}
		q := open(t, quickDir(t))
		put(t, q, 1)
		run(t, q, f, courier.Options{})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		calls := f.made()
		var shortest, longest = time.Hour, time.Duration(0)
		for i := range len(calls) - 1 {
			pause := calls[i+1].at.Sub(calls[i].at)
			shortest, longest = min(shortest, pause), max(longest, pause)
		}
		if shortest < after || longest > after+after/4+time.Second || longest-shortest < after/8 {
			t.Errorf("pauses from %v to %v", shortest, longest)
		}
	})
}

// airborne answers after a while, keeps count of what is on its way, and may be
// told to fail.
type airborne struct {
	fake
	takes atomic.Int64
	fails atomic.Bool

	mu                       sync.Mutex
	submissions, questions   int // on their way
	mostSubmitted, mostAsked int
	mostTogether, requests   int
	up                       map[queue.ID]bool
	twice                    bool
	closed                   int
}

func (a *airborne) fly(ctx context.Context, items []client.Item, n *int, most *int) error {
	a.mu.Lock()
	*n++
	a.requests++
	*most = max(*most, *n)
	a.mostTogether = max(a.mostTogether, a.submissions+a.questions)
	for _, i := range items {
		a.twice = a.twice || a.up[i.ID]
		a.up[i.ID] = true
	}
	a.mu.Unlock()
	select {
	case <-time.After(time.Duration(a.takes.Load())):
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	*n--
	for _, i := range items {
		delete(a.up, i.ID)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if a.fails.Load() {
		return client.ErrUnreachable
	}
	return nil
}

func (a *airborne) Submit(ctx context.Context, items []client.Item) ([]client.Verdict, error) {
	if err := a.fly(ctx, items, &a.submissions, &a.mostSubmitted); err != nil {
		return nil, err
	}
	return a.fake.Submit(ctx, items)
}

func (a *airborne) Status(ctx context.Context, items []client.Item) ([]client.Status, error) {
	if err := a.fly(ctx, items, &a.questions, &a.mostAsked); err != nil {
		return nil, err
	}
	return a.fake.Status(ctx, items)
}

func (a *airborne) Close() { a.mu.Lock(); a.closed++; a.mu.Unlock() }

// A line with a long round trip is used by several requests at once, none of which
// carries a record that another one carries. In trouble there is one.
func TestSeveralAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		ids := many(t, q, 600)
		a := &airborne{up: map[queue.ID]bool{}}
		a.takes.Store(int64(time.Second))
		run(t, q, a, courier.Options{})
		time.Sleep(4 * time.Second)
		a.mu.Lock()
		if a.mostSubmitted != 3 || a.mostAsked != 2 || a.twice {
			t.Errorf("%d submissions and %d questions at once, a record twice: %v", a.mostSubmitted, a.mostAsked, a.twice)
		}
		a.mu.Unlock()
		a.fails.Store(true)
		time.Sleep(5 * time.Second) // those on their way fail together
		a.mu.Lock()
		a.mostTogether, a.requests = 0, 0
		a.mu.Unlock()
		time.Sleep(time.Hour)
		a.mu.Lock()
		if a.mostTogether != 1 || a.requests < 12 || a.requests > 100 {
			t.Errorf("in trouble: %d requests, at most %d at once", a.requests, a.mostTogether)
		}
		a.mu.Unlock()
		a.fails.Store(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for _, id := range ids {
			if s := state(t, q, id); s != queue.Purged {
				t.Fatalf("%v is %s", id, s)
			}
		}
		if a.twice {
			t.Error("a record was on its way twice")
		}
	})
}

// Batches are halved when they are too large, or too large for the line's speed,
// and grow again.
func TestBatchesAdapt(t *testing.T) {
	for name, fault := range map[string]error{"413": client.ErrTooBig, "timeout": client.ErrUnreachable} {
		bubble(t, func(t *testing.T) {
			q := open(t, quickDir(t))
			many(t, q, 700)
			var limit atomic.Int32
			limit.Store(10)
			var refused atomic.Int32
			f := &fake{submit: func(items []client.Item) ([]client.Verdict, error) {
				time.Sleep(time.Second)
				if len(items) > int(limit.Load()) {
					refused.Add(1)
					return nil, fault
				}
				return nil, nil
			}}
			c, _ := run(t, q, f, courier.Options{})
			for now(t, c).Waiting > 570 {
				time.Sleep(time.Second)
			}
			before := len(f.made())
			limit.Store(api.MaxItems)
			for deadline := time.Now().Add(time.Hour); now(t, c).Waiting > 0; time.Sleep(time.Second) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %+v", name, now(t, c))
				}
			}
			smallest, largest, all := api.MaxItems, 0, 0
			for i, call := range f.made() {
				if n := len(call.items); n > 0 {
					smallest, all = min(smallest, n), all+1
					if i >= before {
						largest = max(largest, n)
					}
				}
			}
			if smallest > 8 || largest < 30 || int(refused.Load()) > all/2 {
				t.Errorf("%s: batches of %d to %d, %d of %d refused", name, smallest, largest, refused.Load(), all)
			}
		})
	}
}

// Sleep: what was put off is due at once, or earlier by as much; connections are
// dropped, and nothing hangs on a request that the sleep has cut.
func TestSleep(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var slept atomic.Int64
		q := open(t, quickDir(t))
		put(t, q, 1)
		a := &airborne{up: map[queue.ID]bool{}}
		a.fails.Store(true)
		run(t, q, a, courier.Options{Slept: func() time.Duration { return time.Duration(slept.Load()) }})
		time.Sleep(5 * time.Hour) // pauses are long now
		a.fails.Store(false)
		slept.Add(int64(8 * time.Hour))
		time.Sleep(17 * time.Second)
		synctest.Wait()
		if s, _ := q.Stats(t.Context()); s.Receipted != 1 {
			t.Error("the pause from before the sleep goes on")
		}
		a.mu.Lock()
		if a.closed != 1 {
			t.Errorf("connections dropped %d times", a.closed)
		}
		a.mu.Unlock()
		// A request that hangs since the sleep is given up.
		a.takes.Store(int64(time.Hour))
		many(t, q, 1)
		time.Sleep(time.Minute)
		slept.Add(int64(time.Hour))
		a.takes.Store(int64(time.Second))
		time.Sleep(17 * time.Second)
		synctest.Wait()
		if s, _ := q.Stats(t.Context()); s.Receipted != 2 {
			t.Errorf("not delivered: %+v", s)
		}
	})
	// What the registry asked for is over when so much time has passed, asleep or not.
	bubble(t, func(t *testing.T) {
		var slept atomic.Int64
		q := open(t, quickDir(t))
		put(t, q, 1)
		f := &fake{submit: func([]client.Item) ([]client.Verdict, error) {
			return nil, &client.RetryAfter{Status: 503, After: 30 * time.Minute}
		}}
		run(t, q, f, courier.Options{Slept: func() time.Duration { return time.Duration(slept.Load()) }})
		time.Sleep(time.Minute)
		slept.Add(int64(20 * time.Minute))
		time.Sleep(8 * time.Minute)
		if n := len(f.made()); n != 1 {
			t.Errorf("%d attempts 29 minutes into a pause of 30", n)
		}
		time.Sleep(11 * time.Minute)
		if n := len(f.made()); n != 2 {
			t.Errorf("%d attempts 40 minutes into a pause of 30", n)
		}
	})
}

// What no kiosk mends by itself is a state of its own; delivery goes on by itself
// once somebody has.
func TestStopped(t *testing.T) {
	for _, fault := range []error{client.ErrNotAllowed, client.ErrTLS, client.ErrCaptivePortal, client.ErrKey, &client.CertificateError{Mismatch: client.Inspected}} {
		bubble(t, func(t *testing.T) {
			q := open(t, quickDir(t))
			id := put(t, q, 1)[0]
			var mended atomic.Bool
			f := &fake{submit: func([]client.Item) ([]client.Verdict, error) {
				if !mended.Load() {
					return nil, fault
				}
				return nil, nil
			}}
			c := courier.New(q, f, courier.Options{})
			if s := now(t, c); s.Line != courier.LineUntried || s.Waiting != 1 {
				t.Errorf("before it runs: %+v", s)
			}
			events := c.Events(t.Context())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- c.Run(ctx) }()
			e := <-events
			if e.Stage != courier.Trouble || e.Line != courier.LineStopped || !errors.Is(e.Err, fault) || !e.Next.After(time.Now().Add(-time.Millisecond)) {
				t.Errorf("%v: told as %+v", fault, e)
			}
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			if s := now(t, c); s.Line != courier.LineStopped || !errors.Is(s.Fault, fault) || s.Waiting != 1 || s.Oldest.IsZero() || s.Next.IsZero() {
				t.Errorf("%v: %+v", fault, s)
			}
			if st := state(t, q, id); st != queue.Queued {
				t.Errorf("%v: the record is %s", fault, st)
			}
			mended.Store(true)
			time.Sleep(6 * time.Minute)
			synctest.Wait()
			if s := now(t, c); s.Line != courier.LineUp || s.Receipted != 1 {
				t.Errorf("%v, mended: %+v", fault, s)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// A record that fails with whatever it travels with is found once; after that the
// others do not suffer from it.
func TestPoisonTravelsAlone(t *testing.T) {
	for name, fault := range map[string]error{"nonsense": client.ErrNonsense, "breaks the server": &client.RetryAfter{Status: 500}, "breaks the line": client.ErrUnreachable} {
		bubble(t, func(t *testing.T) {
			q := open(t, quickDir(t))
			poison := many(t, q, 130)[70]
			together := 0
			f := &fake{submit: func(items []client.Item) ([]client.Verdict, error) {
				time.Sleep(100 * time.Millisecond)
				if slices.ContainsFunc(items, func(i client.Item) bool { return i.ID == poison }) {
					if len(items) > 1 {
						together++
					}
					return nil, fault
				}
				return nil, nil
			}}
			c, _ := run(t, q, f, courier.Options{})
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if s, _ := q.Stats(t.Context()); s.Receipted != 129 || s.Waiting != 1 {
				t.Errorf("%s: %+v", name, s)
			}
			// Halving finds it in six steps; batches that were on their way may add some.
			found := together
			if found > 16 {
				t.Errorf("%s: it took others along %d times until it was found", name, found)
			}
			for i := range 40 { // more come all day
				if err := q.Put(t.Context(), queue.Item{ID: queue.ID{9, byte(i)}, Data: []byte("record")}); err != nil {
					t.Fatal(err)
				}
				c.Kick() // as the desk does: what is held is due
				time.Sleep(5 * time.Minute)
			}
			synctest.Wait()
			if s, _ := q.Stats(t.Context()); s.Receipted != 169 {
				t.Errorf("%s: %+v", name, s)
			}
			if together != found {
				t.Errorf("%s: it took others along %d times, %d of them after it was found", name, together, together-found)
			}
		})
	}
}

// What the registry does not get into one answer is asked for again.
func TestStatusesLeftOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		many(t, q, 64)
		f := &short{}
		run(t, q, f, courier.Options{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if s, _ := q.Stats(t.Context()); s.Receipted != 64 {
			t.Errorf("%+v", s)
		}
	})
}

// short answers about the first few.
type short struct{ fake }

func (s *short) Status(ctx context.Context, items []client.Item) ([]client.Status, error) {
	return s.fake.Status(ctx, items[:min(len(items), 5)])
}

// scripted gives the n-th submission an answer of its own, after a time of its own.
type scripted struct {
	fake
	n     atomic.Int32
	steps []step
}

type step struct {
	after time.Duration
	err   error
}

func (s *scripted) Submit(ctx context.Context, items []client.Item) ([]client.Verdict, error) {
	n := int(s.n.Add(1)) - 1
	if n < len(s.steps) {
		time.Sleep(s.steps[n].after)
		if err := s.steps[n].err; err != nil {
			return nil, err
		}
	}
	return s.fake.Submit(ctx, items)
}

// How requests end that were on their way when the line failed says nothing about
// the line after: failing together they are one failure, and a late success does
// not end the pause that the registry has asked for.
func TestWhatWasOnItsWay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		many(t, q, 220)
		s := &scripted{steps: []step{{after: time.Second}, {time.Second, client.ErrUnreachable}, {1500 * time.Millisecond, client.ErrUnreachable}}}
		c, _ := run(t, q, s, courier.Options{})
		events := c.Events(t.Context())
		time.Sleep(time.Hour)
		failures := 0
		for len(events) > 0 {
			if e := <-events; e.Stage == courier.Trouble {
				if failures++; e.Next.Sub(time.Now().Add(-time.Hour)) > 4*time.Second {
					t.Errorf("a first failure pauses until %v", e.Next)
				}
			}
		}
		if st := now(t, c); failures != 1 || st.Receipted != 220 {
			t.Errorf("%d failures: %+v", failures, st)
		}
	})
	bubble(t, func(t *testing.T) {
		q := open(t, quickDir(t))
		many(t, q, 220)
		s := &scripted{steps: []step{{after: time.Second}, {time.Second, &client.RetryAfter{Status: 429, After: 10 * time.Minute}}, {after: 2 * time.Second}}}
		c, _ := run(t, q, s, courier.Options{})
		time.Sleep(10 * time.Minute)
		if n := s.n.Load(); n != 3 {
			t.Errorf("%d submissions in a pause that the registry asked for", n-2)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if st := now(t, c); st.Receipted != 220 {
			t.Errorf("%+v", st)
		}
	})
}

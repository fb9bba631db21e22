package courier_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"enrollkiosk/registry/api"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/courier"
	"enrollkiosk/sync/queue"
)

// fate is what the network or the registry does with one request.
type fate string

const (
	arrives    fate = "arrives"
	lost       fate = "lost"       // it never arrives
	unanswered fate = "unanswered" // it arrives, its answer does not
	doubled    fate = "doubled"    // it arrives twice
	late       fate = "late"       // it arrives after others that were sent later
	throttled  fate = "throttled"  // 429 with Retry-After
	busy       fate = "busy"       // a retry for each item
	garbled    fate = "garbled"    // an answer that is none
	denied     fate = "denied"     // 403
	oversized  fate = "oversized"  // 413 for more than one item
	slow       fate = "slow"       // half a minute
)

var fates = []fate{arrives, lost, unanswered, doubled, late, throttled, busy, garbled, denied, oversized, slow}

// op is a step of the model.
type op struct {
	Do   string // enqueue, fate, wait, kick, crash, jump, sleep, forget, flush
	N    int
	For  time.Duration
	Fate fate
}

var ops = rapid.Custom(func(t *rapid.T) op {
	o := op{Do: rapid.SampledFrom([]string{"enqueue", "enqueue", "fate", "fate", "fate", "wait", "wait", "kick", "crash", "jump", "sleep", "forget", "flush"}).Draw(t, "do")}
	switch o.Do {
	case "enqueue":
		o.N = rapid.IntRange(1, 6).Draw(t, "n")
	case "fate":
		o.N, o.Fate = rapid.IntRange(1, 4).Draw(t, "n"), rapid.SampledFrom(fates).Draw(t, "fate")
	case "wait", "sleep":
		o.For = rapid.SampledFrom([]time.Duration{50 * time.Millisecond, time.Second, 10 * time.Second, 10 * time.Minute, 3 * time.Hour}).Draw(t, "for")
	case "jump":
		o.For = rapid.SampledFrom([]time.Duration{-40 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 40 * 365 * 24 * time.Hour}).Draw(t, "by")
	}
	return o
})

// modelRegistry keeps the contract: an id is held once, a repeat is answered as
// before, a bad record is rejected with evidence, and a receipt comes a while
// after. What it has given a receipt for it never loses.
type modelRegistry struct {
	mu     sync.Mutex
	fates  []fate
	held   map[queue.ID][]byte
	log    []queue.ID
	since  map[queue.ID]time.Time
	proved map[queue.ID][]byte
	later  [][]client.Item // still on their way
	breach error
}

// bad says which records the registry rejects.
func bad(id queue.ID) bool { return id[31]%7 == 3 }

func evidence(id queue.ID) []byte { return append([]byte("rejected "), id[:]...) }

func (r *modelRegistry) next() fate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.fates) == 0 {
		return arrives
	}
	f := r.fates[0]
	r.fates = r.fates[1:]
	return f
}

// pass is the time that a request takes, and what may befall it before it arrives.
func (r *modelRegistry) pass(ctx context.Context, f fate, items int) error {
	takes := 100 * time.Millisecond
	if f == slow {
		takes = 30 * time.Second
	}
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	switch f {
	case lost:
		return client.ErrUnreachable
	case throttled:
		return &client.RetryAfter{Status: 429, After: 20 * time.Second}
	case garbled:
		return client.ErrNonsense
	case denied:
		return client.ErrNotAllowed
	case oversized:
		if items > 1 {
			return client.ErrTooBig
		}
	}
	return nil
}

func (r *modelRegistry) Submit(ctx context.Context, items []client.Item) ([]client.Verdict, error) {
	f := r.next()
	if err := r.pass(ctx, f, len(items)); err != nil {
		return nil, err
	}
	if f == late {
		r.mu.Lock()
		r.later = append(r.later, items)
		r.mu.Unlock()
		return nil, client.ErrUnreachable
	}
	var out []client.Verdict
	if f == busy {
		for _, i := range items {
			out = append(out, client.Verdict{ID: i.ID, Status: api.Retry, After: 5 * time.Second})
		}
		return out, nil
	}
	out = r.take(items)
	if f == doubled {
		out = r.take(items)
	}
	if f == unanswered || ctx.Err() != nil {
		return nil, client.ErrUnreachable
	}
	return out, nil
}

func (r *modelRegistry) take(items []client.Item) (out []client.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range items {
		id := queue.ID(i.ID)
		switch old, held := r.held[id]; {
		case bad(id):
			out = append(out, client.Verdict{ID: id, Status: api.Rejected, Code: "bad", Evidence: evidence(id)})
			continue
		case held && !bytes.Equal(old, i.Data):
			r.breach = fmt.Errorf("%v came with other bytes than before", id)
		case !held:
			r.held[id], r.since[id] = i.Data, time.Now()
			r.log = append(r.log, id)
		}
		status := api.Pending
		if r.proved[id] != nil {
			status = api.Accepted
		}
		out = append(out, client.Verdict{ID: id, Status: status})
	}
	return out
}

func (r *modelRegistry) Status(ctx context.Context, items []client.Item) ([]client.Status, error) {
	f := r.next()
	if err := r.pass(ctx, f, 1); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []client.Status
	for _, i := range items {
		id := queue.ID(i.ID)
		s := client.Status{ID: id, Status: api.Pending}
		switch {
		case r.held[id] == nil:
			s = client.Status{ID: id, Err: client.ErrNotFound}
		case time.Since(r.since[id]) > time.Second:
			if r.proved[id] == nil {
				sum := sha256.Sum256(r.held[id])
				r.proved[id] = append([]byte("receipt "), sum[:]...)
			}
			s.Receipt, s.Status, s.Verdict = r.proved[id], api.Active, []byte("v")
		}
		out = append(out, s)
	}
	if f == unanswered || f == late || f == busy {
		return nil, client.ErrUnreachable
	}
	return out, nil
}

// forget is a registry that was restored from a backup: what has no receipt yet
// may be gone.
func (r *modelRegistry) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.held {
		if r.proved[id] == nil {
			delete(r.held, id)
			r.log = slices.DeleteFunc(r.log, func(other queue.ID) bool { return other == id })
		}
	}
}

// flush has everything arrive that is still on its way, newest first.
func (r *modelRegistry) flush() {
	r.mu.Lock()
	all := r.later
	r.later = nil
	r.mu.Unlock()
	slices.Reverse(all)
	for _, items := range all {
		r.take(items)
	}
}

// errBroken is a promise that does not hold.
var errBroken = errors.New("broken promise")

// model is a real queue and a real courier before a modelRegistry.
type model struct {
	t        *testing.T
	registry *modelRegistry
	through  courier.Registry // how the courier reaches it
	dir      string
	queue    *queue.Queue
	stop     func() error
	courier  *courier.Courier
	acked    map[queue.ID][]byte // Put returned nil
	wall     atomic.Int64        // what the wall clock is off by
	slept    atomic.Int64
	count    int
}

func (m *model) start() error {
	q, _, err := queue.Open(context.Background(), m.dir, queue.Options{Clock: func() time.Time { return time.Now().Add(time.Duration(m.wall.Load())) }})
	if err != nil {
		return err
	}
	c := courier.New(q, m.through, courier.Options{Slept: func() time.Duration { return time.Duration(m.slept.Load()) }})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	m.queue, m.courier = q, c
	m.stop = func() error {
		cancel()
		return errors.Join(<-ended, q.Close())
	}
	return nil
}

func (m *model) do(o op) error {
	switch o.Do {
	case "enqueue":
		for range o.N {
			m.count++
			id := queue.ID(sha256.Sum256([]byte{byte(m.count), byte(m.count >> 8)}))
			data := bytes.Repeat(id[:], 1+m.count%40)
			if err := m.queue.Put(context.Background(), queue.Item{ID: id, Data: data}); err != nil {
				return err
			}
			m.acked[id] = data
		}
	case "fate":
		m.registry.mu.Lock()
		for range o.N {
			m.registry.fates = append(m.registry.fates, o.Fate)
		}
		m.registry.mu.Unlock()
	case "wait":
		time.Sleep(o.For)
	case "kick":
		m.courier.Kick()
	case "crash": // requests on their way are cut; what had arrived has arrived
		if err := m.stop(); err != nil {
			return err
		}
		return m.start()
	case "jump":
		m.wall.Add(int64(o.For))
	case "sleep":
		m.slept.Add(int64(o.For))
	case "forget":
		m.registry.forget()
	case "flush":
		m.registry.flush()
	}
	return nil
}

// check holds the promises that are to hold at every moment.
func (m *model) check() error {
	synctest.Wait()
	m.registry.mu.Lock()
	defer m.registry.mu.Unlock()
	if m.registry.breach != nil {
		return fmt.Errorf("%w: %w", errBroken, m.registry.breach)
	}
	seen := map[queue.ID]bool{}
	for _, id := range m.registry.log {
		if seen[id] {
			return fmt.Errorf("%w: the registry holds %v twice", errBroken, id)
		}
		seen[id] = true
	}
	for id, data := range m.acked {
		e, err := m.queue.Get(context.Background(), id)
		if err != nil {
			return fmt.Errorf("%w: %v: %w", errBroken, id, err)
		}
		switch e.State {
		case queue.Purged:
			if !bytes.Equal(m.registry.held[id], data) {
				return fmt.Errorf("%w: %v is neither here nor in the registry", errBroken, id)
			}
			b, err := m.queue.Receipt(context.Background(), id)
			if err != nil || !bytes.Equal(b, m.registry.proved[id]) {
				return fmt.Errorf("%w: %v was purged with the receipt %q (%v)", errBroken, id, b, err)
			}
		case queue.Quarantined:
			if !bad(id) || !bytes.Equal(e.Reason.Evidence, evidence(id)) {
				return fmt.Errorf("%w: %v was quarantined without a rejection", errBroken, id)
			}
			fallthrough
		default:
			if b, err := m.queue.Data(context.Background(), id); err != nil || !bytes.Equal(b, data) {
				return fmt.Errorf("%w: bytes of %v (%v)", errBroken, id, err)
			}
		}
	}
	return nil
}

// settled is what has to be so a while after the last fault.
func (m *model) settled() error {
	s, err := m.courier.Status(context.Background())
	if err != nil {
		return err
	}
	rejected := 0
	for id := range m.acked {
		e, err := m.queue.Get(context.Background(), id)
		if err != nil {
			return err
		}
		if bad(id) {
			rejected++
		}
		if want := map[bool]queue.State{false: queue.Purged, true: queue.Quarantined}[bad(id)]; e.State != want {
			return fmt.Errorf("%w: in the end %v is %s: %+v", errBroken, id, e.State, s)
		}
	}
	if n := len(m.registry.held); n != len(m.acked)-rejected || s.Waiting != 0 || s.Accepted != 0 || s.Quarantined != rejected {
		return fmt.Errorf("%w: in the end the registry holds %d of %d, %d rejected: %+v", errBroken, n, len(m.acked), rejected, s)
	}
	if s.Line == courier.LineDown || s.Line == courier.LineStopped {
		return fmt.Errorf("%w: in the end the line is %s", errBroken, s.Line)
	}
	return nil
}

// play runs steps in a bubble of fake time. mutate may put something between the
// courier and the registry. Errors that wrap errBroken are broken promises.
func play(t *testing.T, steps []op, mutate func(*modelRegistry) courier.Registry) (err error) {
	dir := quickDir(t)
	synctest.Test(t, func(t *testing.T) {
		r := &modelRegistry{held: map[queue.ID][]byte{}, since: map[queue.ID]time.Time{}, proved: map[queue.ID][]byte{}}
		m := &model{t: t, registry: r, through: r, dir: dir, acked: map[queue.ID][]byte{}}
		if mutate != nil {
			m.through = mutate(r)
		}
		if err = m.start(); err != nil {
			return
		}
		defer func() { err = errors.Join(err, m.stop()) }()
		for i, o := range steps {
			if err = m.do(o); err == nil {
				err = m.check()
			}
			if err != nil {
				err = fmt.Errorf("after step %d, %+v: %w", i+1, o, err)
				return
			}
		}
		r.mu.Lock()
		r.fates = nil
		r.mu.Unlock()
		r.flush()
		time.Sleep(20 * time.Minute)
		if err = m.check(); err == nil {
			err = m.settled()
		}
	})
	return err
}

// Whatever the network, the registry, crashes and clocks do, at every moment: what
// was put is here or in the registry, and there once; and when they stop doing it,
// every record ends with its receipt or its signed rejection.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(ops, 1, 40).Draw(rt, "steps")
		if err := play(t, steps, nil); err != nil {
			rt.Fatal(err)
		}
	})
}

// hasty makes a courier that purges before the receipt: it takes a record's
// acceptance for one.
type hasty struct{ *modelRegistry }

func (h hasty) Status(_ context.Context, items []client.Item) (out []client.Status, err error) {
	for _, i := range items {
		out = append(out, client.Status{ID: i.ID, Status: api.Pending, Receipt: []byte("accepted")})
	}
	return out, nil
}

// gullible makes a courier that believes a rejection that nobody signed.
type gullible struct{ *modelRegistry }

func (g gullible) Submit(ctx context.Context, items []client.Item) ([]client.Verdict, error) {
	out, err := g.modelRegistry.Submit(ctx, items)
	if errors.Is(err, client.ErrNonsense) {
		out, err = nil, nil
		for _, i := range items {
			out = append(out, client.Verdict{ID: i.ID, Status: api.Rejected, Code: "bad"})
		}
	}
	return out, err
}

// impatient makes a courier that gives up: what fails is never sent again.
type impatient struct{ *modelRegistry }

func (i impatient) Submit(ctx context.Context, items []client.Item) ([]client.Verdict, error) {
	out, err := i.modelRegistry.Submit(ctx, items)
	if errors.Is(err, client.ErrUnreachable) {
		out, err = nil, nil
		for _, item := range items {
			out = append(out, client.Verdict{ID: item.ID, Status: api.Retry, After: 1000 * time.Hour})
		}
	}
	return out, err
}

// The model finds couriers that break a promise, so it can fail.
func TestModelFindsMutants(t *testing.T) {
	for name, mutate := range map[string]func(*modelRegistry) courier.Registry{
		"purge before receipt": func(r *modelRegistry) courier.Registry { return hasty{r} },
		"unsigned rejection":   func(r *modelRegistry) courier.Registry { return gullible{r} },
		"gives up":             func(r *modelRegistry) courier.Registry { return impatient{r} },
	} {
		steps := rapid.SliceOfN(ops, 1, 40)
		for seed := 0; ; seed++ {
			if err := play(t, steps.Example(seed), mutate); errors.Is(err, errBroken) {
				t.Logf("%s: found by the sequence number %d: %v", name, seed, err)
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if seed == 100 {
				t.Errorf("%s: not found", name)
				break
			}
		}
	}
}

// Package courier moves records from the queue to the registry and receipts back.
//
// One loop decides: what waits is submitted in batches, oldest first, several on
// their way at once; what the registry has taken on is asked for until its receipt
// is here; the receipt is stored durably; then the record's bytes are purged. It
// never gives up: pauses grow to five minutes at most, with full jitter, and a kick
// ends them, unless the registry itself has asked for the pause. While the line is
// in trouble one request at a time looks whether it is back.
//
// Invariants: a record is purged only after its receipt was verified and is
// durable, and quarantined only with the registry's signed rejection; one record
// that cannot be delivered never keeps another one. What is on its way, or accepted
// and not yet receipted, is known in memory only: after a restart it is submitted
// again, and the registry answers a repeat as it did before.
//
// No decision rests on the wall clock, so that setting it changes nothing. Pauses
// run on the monotonic clock, which stands still while the machine sleeps;
// [Options].Slept makes up for that.
//
// Not its job: making records, judging signatures (the client does that), and
// what to show of all this.
package courier

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"enrollkiosk/registry/policy"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// Stage is how far a record is, or how the line is.
type Stage string

const (
	Accepted    Stage = "accepted"    // the registry has taken the record on
	Receipted   Stage = "receipted"   // its receipt is stored here
	Purged      Stage = "purged"      // its bytes are gone from this disk
	Quarantined Stage = "quarantined" // the registry has rejected it and signed that
	Activated   Stage = "activated"   // the vault has signed: the identity holds
	Refused     Stage = "refused"     // the vault has signed: it does not
	Reached     Stage = "reached"     // the registry answered, for the first time or after trouble
	Trouble     Stage = "trouble"     // an attempt failed; ID is zero unless it is about one record
)

// Event is news.
type Event struct {
	ID    queue.ID
	Stage Stage
	Code  string    // why: of Quarantined and Refused, as signed
	Err   error     // of Trouble
	Line  Line      // of Trouble with the line: LineDown or LineStopped
	Next  time.Time // of Trouble: no attempt before it, unless kicked
}

// Line is how the way to the registry is.
type Line string

const (
	LineUntried Line = "untried" // no attempt since the start
	LineUp      Line = "up"      // the last attempt was answered
	LineDown    Line = "down"    // it was not; it is tried again by itself
	// LineStopped: somebody has to act before it can be answered, for it was not the
	// registry that answered, or it does not admit this kiosk. It is tried all the
	// same, so that nobody has to tell the kiosk when that is done.
	LineStopped Line = "stopped"
)

// Status is how delivery stands.
type Status struct {
	Line      Line
	Fault     error     // why the last attempt failed; nil when it did not
	Next      time.Time // no attempt before it, unless kicked; zero when nothing is held up
	Delivered time.Time // when the last receipt was stored; zero when none was since the start
	Accepted  int       // records that the registry has and whose receipt is awaited
	queue.Stats
}

// Registry is the part of *client.Client that delivery needs. Its methods are
// called from several goroutines. One that also has Close is told to drop idle
// connections after the machine has slept.
type Registry interface {
	Submit(ctx context.Context, items []client.Item) ([]client.Verdict, error)
	Status(ctx context.Context, items []client.Item) ([]client.Status, error)
}

// Options of a Courier. The zero value works.
type Options struct {
	// Policy tells when a new policy is in force: what failed under the old one
	// (the registry's certificate, its keys) is then tried at once.
	Policy func() (policy.Signed, error)
	Log    *slog.Logger  // default: none
	Idle   time.Duration // how often to look for records that no kick announced; default 15 s
	// Slept is how long this machine has slept since it was switched on: after a
	// sleep everything that was put off is due. Default: never.
	Slept func() time.Duration
}

// Courier delivers one queue to one registry.
type Courier struct {
	queue    *queue.Queue
	registry Registry
	policy   func() (policy.Signed, error)
	slept    func() time.Duration
	log      *slog.Logger
	idle     time.Duration
	kicks    chan struct{}
	landings chan *flight

	mu     sync.Mutex
	status Status
	subs   map[chan Event]struct{}

	loop loop // Run's alone
}

// eventBuffer is how far a listener may lag before it loses the oldest news.
const eventBuffer = 1024

// New makes a courier; Run starts it.
func New(q *queue.Queue, r Registry, o Options) *Courier {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Idle == 0 {
		o.Idle = 15 * time.Second
	}
	if o.Slept == nil {
		o.Slept = func() time.Duration { return 0 }
	}
	return &Courier{queue: q, registry: r, policy: o.Policy, slept: o.Slept, log: o.Log, idle: o.Idle,
		kicks: make(chan struct{}, 1), landings: make(chan *flight), subs: map[chan Event]struct{}{}, status: Status{Line: LineUntried}, loop: newLoop()}
}

// Kick asks for an attempt now: a record was put, or somebody waits. It never
// blocks.
func (c *Courier) Kick() {
	select {
	case c.kicks <- struct{}{}:
	default:
	}
}

// Status is how delivery stands now. Errors are the queue's; all but its counts is
// good all the same.
func (c *Courier) Status(ctx context.Context) (Status, error) {
	c.mu.Lock()
	s := c.status
	c.mu.Unlock()
	var err error
	s.Stats, err = c.queue.Stats(ctx)
	return s, err
}

// Events yields news from now on until ctx ends, which closes the channel. A
// listener that does not read loses the oldest news and never holds up delivery.
func (c *Courier) Events(ctx context.Context) <-chan Event {
	ch := make(chan Event, eventBuffer)
	c.mu.Lock()
	c.subs[ch] = struct{}{}
	c.mu.Unlock()
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, ch)
		close(ch)
	})
	return ch
}

func (c *Courier) tell(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.subs {
		for {
			select {
			case ch <- e:
			default:
				select {
				case <-ch:
				default:
				}
				continue
			}
			break
		}
	}
}

func (c *Courier) note(f func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

// Run delivers until ctx ends, then returns nil. It returns the queue's error
// when the queue can no longer be used: nothing is known for sure then until it
// is opened anew.
func (c *Courier) Run(ctx context.Context) error {
	err := c.finish(ctx)
	c.loop.asleep = c.slept()
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for range len(c.loop.flights) { // what they have stored stays; the rest is done again
			<-c.landings
		}
		c.loop = newLoop()
	}()
	for err == nil && ctx.Err() == nil {
		c.renewed()
		c.awoke()
		var next time.Time
		if next, err = c.dispatch(ctx); err != nil {
			break
		}
		c.note(func(s *Status) { s.Next, s.Accepted = c.loop.notBefore, c.loop.awaited() })
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-c.kicks:
			c.loop.kick(time.Now())
		case f := <-c.landings:
			err = c.land(ctx, f)
		}
		timer.Stop()
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// finish purges what had its receipt when the last run ended.
func (c *Courier) finish(ctx context.Context) error {
	const some = 256
	for {
		left, err := c.queue.List(ctx, some, func(e queue.Entry) bool { return e.State == queue.Receipted })
		if err != nil || len(left) == 0 {
			return err
		}
		ids := make([]queue.ID, len(left))
		for i, e := range left {
			ids[i] = e.ID
		}
		full := false
		for i, err := range c.queue.PurgeAll(ctx, ids) {
			switch {
			case err == nil:
				c.tell(Event{ID: ids[i], Stage: Purged})
			case unusable(err):
				return err
			default: // a full disk, perhaps: the next start tries again
				c.log.Warn("a delivered record is not purged", "record", ids[i], "cause", err)
				full = true
			}
		}
		if full {
			return nil
		}
	}
}

// unusable says that the queue must be opened anew.
func unusable(err error) bool {
	return errors.Is(err, queue.ErrDamaged) || errors.Is(err, queue.ErrClosed)
}

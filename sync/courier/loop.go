package courier

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/sync/client"
	"enrollkiosk/sync/queue"
)

// The timing of the loop.
const (
	firstPause   = time.Second // after a first failure, at most
	longPause    = 5 * time.Minute
	firstPoll    = 200 * time.Millisecond // after acceptance: somebody waits at the desk
	kickSpacing  = 250 * time.Millisecond // between attempts that kicks ask for
	pollsInARow  = 32                     // then waiting records get their turn
	verdictWait  = time.Hour              // to go on asking for the vault's verdict after the receipt
	maxUndecided = 64                     // records to do that for at once
)

// loop is what Run knows from one round to the next.
type loop struct {
	sent map[queue.ID]*sent // accepted by the registry
	held map[queue.ID]*hold // not to be submitted for a while

	items, bytes int // size of the next batch

	failures  int       // attempts in a row that were not answered
	notBefore time.Time // the line's pause
	ordered   bool      // the registry asked for it: kicks do not end it
	tried     time.Time // last attempt
	policy    [32]byte  // digest in force at the last attempt
}

type sent struct {
	next  time.Time
	pause time.Duration
	told  bool // the vault's verdict
	// After the receipt only: the record, and until when to ask for the verdict.
	data  []byte
	until time.Time
}

type hold struct {
	until   time.Time
	pause   time.Duration
	ordered bool
}

func newLoop() loop {
	return loop{sent: map[queue.ID]*sent{}, held: map[queue.ID]*hold{}, items: api.MaxItems, bytes: api.MaxBatchData}
}

// awaited counts the records without a receipt.
func (l *loop) awaited() (n int) {
	for _, s := range l.sent {
		if s.data == nil {
			n++
		}
	}
	return n
}

// kick ends pauses that are our own.
func (l *loop) kick(now time.Time) {
	if !l.ordered && l.notBefore.After(now) {
		l.notBefore = l.tried.Add(kickSpacing)
	}
	for _, h := range l.held {
		if !h.ordered {
			h.until = time.Time{}
		}
	}
}

// round submits one batch, asks for what is due, and says when to come again.
func (c *Courier) round(ctx context.Context) (next time.Time, err error) {
	l := &c.loop
	c.renewed()
	if now := time.Now(); now.Before(l.notBefore) {
		return c.wake(l.notBefore), nil
	}
	more, err := c.submit(ctx)
	if err != nil {
		return next, err
	}
	if !time.Now().Before(l.notBefore) {
		polled, err := c.poll(ctx)
		if err != nil {
			return next, err
		}
		more = more || polled
	}
	if more || ctx.Err() != nil {
		return c.wake(l.notBefore), nil
	}
	next = time.Now().Add(c.idle)
	for _, s := range l.sent {
		next = earlier(next, s.next)
	}
	for _, h := range l.held {
		next = earlier(next, h.until)
	}
	if next.Before(l.notBefore) {
		next = l.notBefore
	}
	return c.wake(next), nil
}

// wake is when to look again while there is nothing to do before t: a new policy
// may end the pause, and a record may wait that nobody announced.
func (c *Courier) wake(t time.Time) time.Time { return earlier(t, time.Now().Add(c.idle)) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// renewed ends the pause when a new policy is in force.
func (c *Courier) renewed() {
	if c.policy == nil {
		return
	}
	p, err := c.policy()
	if err != nil || p.Digest() == c.loop.policy {
		return
	}
	if c.loop.policy != [32]byte{} && !c.loop.ordered {
		c.loop.notBefore = time.Time{}
	}
	c.loop.policy = p.Digest()
}

// submit sends one batch of waiting records. more says that others may wait.
func (c *Courier) submit(ctx context.Context) (more bool, err error) {
	l := &c.loop
	now := time.Now()
	waiting, err := c.queue.Waiting(ctx, l.items, l.bytes, func(id queue.ID) bool {
		h := l.held[id]
		return l.sent[id] != nil || h != nil && now.Before(h.until)
	})
	if err != nil || len(waiting) == 0 {
		return false, c.local(ctx, err)
	}
	items := make([]client.Item, len(waiting))
	for i, w := range waiting {
		items[i] = client.Item{ID: w.ID, Data: w.Data}
	}
	l.tried = now
	verdicts, err := c.registry.Submit(ctx, items)
	if err != nil {
		if ctx.Err() == nil {
			c.unsent(items, err)
		}
		return true, nil
	}
	c.answered()
	l.items, l.bytes = min(2*l.items, api.MaxItems), min(2*l.bytes, api.MaxBatchData)
	for _, v := range verdicts {
		if err := c.verdict(ctx, v); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *Courier) verdict(ctx context.Context, v client.Verdict) error {
	l := &c.loop
	switch v.Status {
	case api.Pending, api.Accepted:
		delete(l.held, v.ID)
		s := &sent{pause: firstPoll, next: time.Now().Add(firstPoll)}
		if v.Status == api.Accepted {
			s.next = time.Now()
		}
		l.sent[v.ID] = s
		c.tell(Event{ID: v.ID, Stage: Accepted})
	case api.Rejected:
		return c.quarantine(ctx, v.ID, v.Code, v.Evidence)
	default:
		h := l.hold(v.ID)
		pause := jitter(h.pause)
		if h.ordered = v.After > 0; h.ordered {
			pause = v.After + jitter(firstPause)
		}
		h.until = time.Now().Add(pause)
	}
	return nil
}

// unsent draws the conclusions from a batch that was not taken.
func (c *Courier) unsent(items []client.Item, err error) {
	l := &c.loop
	var retry *client.RetryAfter
	// Not for the size or the content of what was sent:
	line := errors.Is(err, client.ErrNotAllowed) || errors.Is(err, client.ErrTLS) || errors.Is(err, client.ErrCaptivePortal) ||
		errors.Is(err, client.ErrKey) || errors.As(err, &retry) && retry.Status != 500
	// Answered, and about what was sent:
	about := errors.Is(err, client.ErrTooBig) || errors.Is(err, client.ErrNonsense) || retry != nil && retry.Status == 500
	if !errors.Is(err, client.ErrTooBig) {
		c.failed(err)
	} else {
		c.answered()
	}
	switch {
	case line:
	case len(items) > 1:
		size := 0
		for _, i := range items {
			size += len(i.Data)
		}
		l.items, l.bytes = max(len(items)/2, 1), max(size/2, 1)
	case about:
		// It may be this record that the registry cannot take: the others first.
		h := l.hold(items[0].ID)
		h.until = time.Now().Add(h.pause)
		c.tell(Event{ID: items[0].ID, Stage: Trouble, Err: err})
		c.log.Warn("a record cannot be delivered", "record", queue.ID(items[0].ID), "cause", err)
	default:
		// The same may be true of a connection that always breaks.
		l.hold(items[0].ID).until = l.notBefore.Add(time.Millisecond)
	}
}

// hold is a record's pause, longer each time.
func (l *loop) hold(id queue.ID) *hold {
	h := l.held[id]
	if h == nil {
		h = &hold{}
		l.held[id] = h
	}
	h.pause, h.ordered = min(max(2*h.pause, firstPause), longPause), false
	return h
}

// poll asks for records that are due, the newest first: somebody may be waiting
// for them. more says that others are due.
func (c *Courier) poll(ctx context.Context) (more bool, err error) {
	l := &c.loop
	now := time.Now()
	var due []queue.ID
	for id, s := range l.sent {
		if !now.Before(s.next) {
			due = append(due, id)
		}
	}
	slices.SortFunc(due, func(a, b queue.ID) int {
		x, y := l.sent[a], l.sent[b]
		if x.pause != y.pause {
			return int(x.pause - y.pause)
		}
		return x.next.Compare(y.next)
	})
	for i, id := range due {
		if i == pollsInARow {
			return true, nil
		}
		if err := c.ask(ctx, id, l.sent[id]); err != nil || ctx.Err() != nil {
			return false, err
		}
		if time.Now().Before(l.notBefore) {
			return false, nil
		}
	}
	return false, nil
}

// ask fetches one record's status and acts on it.
func (c *Courier) ask(ctx context.Context, id queue.ID, s *sent) error {
	l := &c.loop
	data := s.data
	if data == nil {
		var err error
		if data, err = c.queue.Data(ctx, id); err != nil {
			delete(l.sent, id) // settled meanwhile, or its copies are damaged
			if errors.Is(err, queue.ErrState) || errors.Is(err, queue.ErrDamaged) && !errors.Is(err, queue.ErrClosed) {
				return nil
			}
			return c.local(ctx, err)
		}
	}
	l.tried = time.Now()
	status, err := c.registry.Status(ctx, client.Item{ID: id, Data: data})
	if ctx.Err() != nil {
		return nil
	}
	s.pause = min(s.pause*3/2, longPause)
	s.next = time.Now().Add(s.pause)
	var retry *client.RetryAfter
	switch {
	case err == nil:
		c.answered()
	case errors.Is(err, client.ErrNotFound):
		c.answered()
		delete(l.sent, id)
		if s.data == nil { // the registry lost it, and is going to get it again
			h := l.hold(id)
			h.until = time.Now().Add(jitter(h.pause))
			c.log.Warn("the registry has lost an accepted record: it is sent again", "record", id)
		}
		return nil
	case errors.Is(err, client.ErrNonsense), errors.As(err, &retry) && retry.Status == 500:
		// About this record: the others go on.
		c.tell(Event{ID: id, Stage: Trouble, Err: err})
		c.log.Warn("no status of a record", "record", id, "cause", err)
		return nil
	default:
		c.failed(err)
		return nil
	}
	return c.became(ctx, id, s, data, status)
}

// became acts on a verified status.
func (c *Courier) became(ctx context.Context, id queue.ID, s *sent, data []byte, status client.Status) error {
	l := &c.loop
	if status.Status == api.Rejected {
		delete(l.sent, id)
		if s.data != nil {
			c.log.Error("the registry rejects a record that it has given a receipt for", "record", id)
			return nil
		}
		return c.quarantine(ctx, id, status.Code, status.Verdict)
	}
	decided := status.Status == api.Active || status.Status == api.Refused
	if status.Receipt != nil && s.data == nil {
		if err := c.queue.StoreReceipt(ctx, id, status.Receipt); err != nil {
			return c.local(ctx, err)
		}
		c.note(func(s *Status) { s.Delivered = time.Now() })
		c.tell(Event{ID: id, Stage: Receipted})
		if err := c.queue.Purge(ctx, id); err != nil {
			if err := c.local(ctx, err); err != nil {
				return err
			}
		} else {
			c.tell(Event{ID: id, Stage: Purged})
		}
		s.data, s.until = data, time.Now().Add(verdictWait)
	}
	if decided && !s.told {
		s.told = true
		stage := Activated
		if status.Status == api.Refused {
			stage = Refused
			c.log.Warn("the identity authority refuses a record", "record", id, "code", status.Code)
		}
		c.tell(Event{ID: id, Stage: stage, Code: status.Code})
	}
	if s.data != nil && (s.told || time.Now().After(s.until) || len(l.sent)-l.awaited() > maxUndecided) {
		delete(l.sent, id) // the verdict is the registry's to keep
	}
	return nil
}

func (c *Courier) quarantine(ctx context.Context, id queue.ID, code string, evidence []byte) error {
	r := queue.Reason{Code: code, Text: "rejected by the registry", Evidence: evidence}
	if err := c.queue.Quarantine(ctx, id, r); err != nil {
		h := c.loop.hold(id)
		h.until = time.Now().Add(h.pause)
		return c.local(ctx, err)
	}
	delete(c.loop.held, id)
	c.log.Error("the registry rejects a record", "record", id, "code", code)
	c.tell(Event{ID: id, Stage: Quarantined, Code: code})
	return nil
}

// local passes on an error after which the queue cannot be used. Any other one
// (a full disk) is told and the loop goes on.
func (c *Courier) local(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return nil
	}
	if unusable(err) {
		return err
	}
	c.log.Error("the queue does not take what the registry answered", "cause", err)
	c.pause(jitter(longPause), false)
	c.tell(Event{Stage: Trouble, Err: err})
	return nil
}

// answered notes that the registry is there.
func (c *Courier) answered() {
	c.loop.failures, c.loop.notBefore, c.loop.ordered = 0, time.Time{}, false
	was := c.Status().Reached
	c.note(func(s *Status) { s.Reached, s.Fault = true, nil })
	if !was {
		c.log.Info("the registry answers")
		c.tell(Event{Stage: Reached})
	}
}

// failed notes that it is not, and how long to pause.
func (c *Courier) failed(err error) {
	l := &c.loop
	l.failures++
	pause := jitter(min(firstPause<<min(l.failures-1, 20), longPause))
	ordered := false
	var retry *client.RetryAfter
	switch {
	case errors.As(err, &retry):
		if ordered = retry.After > 0; ordered {
			pause = retry.After + jitter(retry.After/4+firstPause)
		}
	case errors.Is(err, client.ErrNotAllowed):
		// Somebody must do something first; asking often makes it no better.
		pause = longPause/2 + jitter(longPause/2)
	}
	c.pause(pause, ordered)
	was := c.Status()
	c.note(func(s *Status) { s.Reached, s.Fault = false, err })
	if was.Reached || was.Fault == nil {
		c.log.Warn("no delivery", "cause", err)
	}
	c.tell(Event{Stage: Trouble, Err: err})
}

func (c *Courier) pause(d time.Duration, ordered bool) {
	c.loop.notBefore, c.loop.ordered = time.Now().Add(d), ordered
}

// jitter is a random time up to d: kiosks that lost the registry together do not
// come back together.
func jitter(d time.Duration) time.Duration { return rand.N(d + 1) }

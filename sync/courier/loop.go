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
	backlogPoll  = time.Second            // the same for what came in a large batch: nobody does
	kickSpacing  = 250 * time.Millisecond // between attempts that kicks ask for
	verdictWait  = time.Hour              // to go on asking for the vault's verdict after the receipt
	maxUndecided = 64                     // records to do that for at once
	maxWidth     = 3                      // submissions on their way at once
	maxQuestions = 2                      // and questions
	atTheDesk    = 4                      // a batch of more is a backlog
)

// loop is what Run knows.
type loop struct {
	sent    map[queue.ID]*sent // accepted by the registry
	held    map[queue.ID]*hold // not to be submitted for a while
	blamed  queue.ID           // sent alone when the line failed last; zero: none was
	flights map[*flight]bool   // requests on their way

	width        int // submissions on their way, at most
	items, bytes int // size of the next batch
	asks         int // records in the next question

	failures  int       // attempts in a row that were not answered
	notBefore time.Time // the line's pause
	ordered   bool      // the registry asked for it: kicks do not end it
	epoch     int       // grows with each pause: how older requests end says nothing about the line now
	tried     time.Time // last attempt
	policy    [32]byte  // digest in force at the last attempt
	asleep    time.Duration
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
	ordered bool // the registry asked for it
	alone   bool // a batch fails with it: it travels alone
}

// flight is a request on its way, and how it ended.
type flight struct {
	items    []client.Item
	question bool // asks what has become of items, rather than submitting them
	cancel   context.CancelFunc
	aborted  bool // by the loop: its end says nothing
	epoch    int
	receipts map[queue.ID]bool // of a question: records whose receipt is stored already

	verdicts []client.Verdict
	statuses []client.Status
	kept     map[queue.ID]kept
	err      error
}

// kept is how the storing of a receipt went.
type kept struct {
	stored, purged bool
	err            error
}

func newLoop() loop {
	return loop{sent: map[queue.ID]*sent{}, held: map[queue.ID]*hold{}, flights: map[*flight]bool{},
		width: 1, items: api.MaxItems, bytes: api.MaxBatchData, asks: api.MaxItems}
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

// count is how many flights f says yes to.
func (l *loop) count(f func(*flight) bool) (n int) {
	for flight := range l.flights {
		if !flight.aborted && f(flight) {
			n++
		}
	}
	return n
}

// aloft are the records that a request on its way is about.
func (l *loop) aloft() map[queue.ID]bool {
	out := map[queue.ID]bool{}
	for f := range l.flights {
		for _, i := range f.items {
			out[i.ID] = true
		}
	}
	return out
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

// awoke notices that the machine has slept: connections are dead, and what was put
// off is due by so much earlier.
func (c *Courier) awoke() {
	l := &c.loop
	slept := c.slept()
	d := slept - l.asleep
	if d < time.Second {
		return
	}
	c.log.Info("the machine has slept", "for", d)
	l.asleep = slept
	for f := range l.flights {
		f.aborted = true
		f.cancel()
	}
	if r, ok := c.registry.(interface{ Close() }); ok {
		r.Close()
	}
	l.failures = 0
	l.epoch++
	l.notBefore = shortened(l.notBefore, l.ordered, d)
	for _, h := range l.held {
		h.until = shortened(h.until, h.ordered, d)
	}
	for _, s := range l.sent {
		s.next = s.next.Add(-d)
	}
}

// shortened is a pause after a sleep of d. One of our own is over.
func shortened(until time.Time, ordered bool, d time.Duration) time.Time {
	if !ordered {
		return time.Time{}
	}
	return until.Add(-d)
}

// dispatch sends off what is due and says when to look again, if nothing else
// happens.
func (c *Courier) dispatch(ctx context.Context) (next time.Time, err error) {
	l := &c.loop
	for ctx.Err() == nil {
		now := time.Now()
		if now.Before(l.notBefore) {
			return c.wake(l.notBefore), nil
		}
		if l.failures > 0 && l.count(func(f *flight) bool { return f.epoch == l.epoch }) > 0 {
			return c.wake(now.Add(c.idle)), nil // one looks whether the line is back
		}
		f, err := c.next(ctx, now)
		if err != nil {
			if err := c.local(ctx, err); err != nil {
				return next, err
			}
			continue
		}
		if f == nil {
			break
		}
		c.launch(ctx, f)
	}
	next = time.Now().Add(c.idle)
	for _, s := range l.sent {
		if !s.next.IsZero() {
			next = earlier(next, s.next)
		}
	}
	for _, h := range l.held {
		next = earlier(next, h.until)
	}
	return c.wake(next), nil
}

// wake is when to look again while there is nothing to do before t: a new policy
// may end the pause, and a record may wait that nobody announced. A flight that
// lands is looked at at once.
func (c *Courier) wake(t time.Time) time.Time {
	soon := time.Now().Add(kickSpacing)
	if len(c.loop.flights) > 0 && t.Before(soon) {
		t = soon // what is due has to wait for a free place
	}
	return earlier(t, time.Now().Add(c.idle))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// next is the request to make now, nil for none: submissions first, then a
// question. In trouble they take turns.
func (c *Courier) next(ctx context.Context, now time.Time) (*flight, error) {
	kinds := []func(context.Context, time.Time) (*flight, error){c.submission, c.question}
	if c.loop.failures%2 == 1 {
		slices.Reverse(kinds)
	}
	for _, kind := range kinds {
		if f, err := kind(ctx, now); f != nil || err != nil {
			return f, err
		}
	}
	return nil, nil
}

// submission is the next batch of waiting records.
func (c *Courier) submission(ctx context.Context, now time.Time) (*flight, error) {
	l := &c.loop
	if l.count(func(f *flight) bool { return !f.question }) >= l.width {
		return nil, nil
	}
	aloft := l.aloft()
	for id, h := range l.held {
		if !h.alone || now.Before(h.until) || aloft[id] {
			continue
		}
		if f, err := c.batch(ctx, 1, func(other queue.ID) bool { return other != id }); f != nil || err != nil {
			return f, err
		}
		delete(l.held, id) // it does not wait any more
	}
	f, err := c.batch(ctx, l.items, func(id queue.ID) bool {
		h := l.held[id]
		return aloft[id] || l.sent[id] != nil || id == l.blamed || h != nil && (h.alone || now.Before(h.until))
	})
	if f == nil && err == nil && l.blamed != (queue.ID{}) && !aloft[l.blamed] {
		f, err = c.batch(ctx, 1, func(id queue.ID) bool { return id != l.blamed })
	}
	if f == nil && err == nil {
		for id, h := range l.held {
			if !now.Before(h.until) && !aloft[id] {
				delete(l.held, id) // it does not wait any more
			}
		}
	}
	return f, err
}

func (c *Courier) batch(ctx context.Context, items int, skip func(queue.ID) bool) (*flight, error) {
	waiting, err := c.queue.Waiting(ctx, items, c.loop.bytes, skip)
	if err != nil || len(waiting) == 0 {
		return nil, err
	}
	f := &flight{}
	for _, w := range waiting {
		f.items = append(f.items, client.Item{ID: w.ID, Data: w.Data})
	}
	return f, nil
}

// question asks for the records that are due, the newest first: somebody may be
// waiting for them.
func (c *Courier) question(ctx context.Context, now time.Time) (*flight, error) {
	l := &c.loop
	if l.count(func(f *flight) bool { return f.question }) >= maxQuestions {
		return nil, nil
	}
	aloft := l.aloft()
	var due []queue.ID
	for id, s := range l.sent {
		if !now.Before(s.next) && !aloft[id] {
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
	f := &flight{question: true, receipts: map[queue.ID]bool{}}
	for _, id := range due {
		if len(f.items) == l.asks {
			break
		}
		data := l.sent[id].data
		f.receipts[id] = data != nil
		if data == nil {
			var err error
			data, err = c.queue.Data(ctx, id)
			if err != nil {
				// Quarantined or receipted meanwhile, or its copies are damaged.
				delete(l.sent, id)
				if unusable(err) && errors.Is(err, queue.ErrClosed) {
					return nil, err
				}
				continue
			}
		}
		f.items = append(f.items, client.Item{ID: id, Data: data})
	}
	if len(f.items) == 0 {
		return nil, nil
	}
	return f, nil
}

// launch makes a request, of which land hears.
func (c *Courier) launch(ctx context.Context, f *flight) {
	l := &c.loop
	ctx, f.cancel = context.WithCancel(ctx)
	f.epoch = l.epoch
	l.flights[f] = true
	l.tried = time.Now()
	go func() {
		if f.question {
			f.statuses, f.err = c.registry.Status(ctx, f.items)
			// Here, not in the loop: a slow disk must not leave the line idle.
			var due []client.Status
			for _, s := range f.statuses {
				if s.Err == nil && s.Receipt != nil && !f.receipts[s.ID] {
					due = append(due, s)
				}
			}
			f.kept = c.keep(context.WithoutCancel(ctx), due)
		} else {
			f.verdicts, f.err = c.registry.Submit(ctx, f.items)
		}
		c.landings <- f
	}()
}

// keep stores verified receipts durably, and only then removes the records' bytes.
func (c *Courier) keep(ctx context.Context, statuses []client.Status) map[queue.ID]kept {
	receipts := make([]queue.Receipt, len(statuses))
	for i, s := range statuses {
		receipts[i] = queue.Receipt{ID: s.ID, Bytes: s.Receipt}
	}
	out := map[queue.ID]kept{}
	var stored []queue.ID
	for i, err := range c.queue.StoreReceipts(ctx, receipts) {
		// One that came another way meanwhile is as good.
		if err != nil && !errors.Is(err, queue.ErrConflict) {
			out[receipts[i].ID] = kept{err: err}
			continue
		}
		stored = append(stored, receipts[i].ID)
	}
	for i, err := range c.queue.PurgeAll(ctx, stored) {
		out[stored[i]] = kept{stored: true, purged: err == nil, err: err}
	}
	return out
}

// land draws the conclusions from a request that has ended.
func (c *Courier) land(ctx context.Context, f *flight) error {
	delete(c.loop.flights, f)
	f.cancel()
	switch {
	case ctx.Err() != nil, f.aborted && f.err != nil:
		return nil
	case f.question:
		return c.told(ctx, f)
	case f.err != nil:
		c.unsent(f)
		return nil
	}
	return c.taken(ctx, f)
}

// taken acts on the verdicts about a batch.
func (c *Courier) taken(ctx context.Context, f *flight) error {
	l := &c.loop
	c.answered(f)
	l.width = min(2*l.width, maxWidth)
	// Slower than they were halved: what was too much once is not tried again at once.
	l.items, l.bytes = min(l.items+max(l.items/4, 1), api.MaxItems), min(l.bytes+max(l.bytes/4, 1), api.MaxBatchData)
	if l.blamed != (queue.ID{}) {
		if !slices.ContainsFunc(f.items, func(i client.Item) bool { return i.ID == l.blamed }) {
			// The line carries others: it was the record.
			h := l.hold(l.blamed)
			h.alone, h.until = true, time.Now().Add(h.pause)
		}
		l.blamed = queue.ID{}
	}
	poll := firstPoll
	if len(f.items) > atTheDesk {
		poll = backlogPoll
	}
	for _, v := range f.verdicts {
		if err := c.verdict(ctx, v, poll); err != nil {
			return err
		}
	}
	return nil
}

func (c *Courier) verdict(ctx context.Context, v client.Verdict, poll time.Duration) error {
	l := &c.loop
	switch v.Status {
	case api.Pending, api.Accepted:
		delete(l.held, v.ID)
		s := &sent{pause: poll, next: time.Now().Add(poll)}
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
		h.alone, h.until = false, time.Now().Add(pause)
	}
	return nil
}

// unsent draws the conclusions from a batch that was not taken.
func (c *Courier) unsent(f *flight) {
	l := &c.loop
	first := f.items[0].ID
	alone := len(f.items) == 1
	suspect := alone && l.held[first] != nil && l.held[first].alone
	var retry *client.RetryAfter
	errors.As(f.err, &retry)
	// Answered, and about what was sent:
	about := errors.Is(f.err, client.ErrTooBig) || errors.Is(f.err, client.ErrNonsense) || retry != nil && retry.Status == 500
	// Not for what was sent: every batch would fare alike.
	line := stops(f.err) || retry != nil && !about
	switch {
	case errors.Is(f.err, client.ErrTooBig):
		c.answered(f)
	case suspect && about: // known already, and no news about the line
	default:
		c.failed(f, f.err)
	}
	switch {
	case line:
	case !alone:
		size := 0
		for _, i := range f.items {
			size += len(i.Data)
		}
		l.items, l.bytes = max(len(f.items)/2, 1), max(size/2, 1)
	case about, suspect:
		// It may be this record that the registry cannot take: the others first.
		h := l.hold(first)
		h.alone, h.until = true, time.Now().Add(h.pause)
		c.tell(Event{ID: first, Stage: Trouble, Err: f.err, Next: h.until})
		c.log.Warn("a record cannot be delivered", "record", queue.ID(first), "cause", f.err)
	default:
		// The same may be true of a connection that always breaks: another one first.
		l.blamed = first
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

// told acts on what became of the records that a question was about.
func (c *Courier) told(ctx context.Context, f *flight) error {
	l := &c.loop
	for _, i := range f.items {
		if s := l.sent[i.ID]; s != nil {
			s.pause = min(s.pause*3/2, longPause)
			s.next = time.Now().Add(s.pause)
		}
	}
	if f.err != nil {
		c.unanswered(f)
		return nil
	}
	c.answered(f)
	l.asks = min(2*l.asks, api.MaxItems)
	for _, status := range f.statuses {
		s := l.sent[status.ID]
		if s == nil {
			continue
		}
		if err := c.became(ctx, s, status, f); err != nil {
			return err
		}
	}
	for _, i := range f.items { // what did not fit into the answer
		if s := l.sent[i.ID]; s != nil && !slices.ContainsFunc(f.statuses, func(s client.Status) bool { return s.ID == i.ID }) {
			s.next = time.Now()
		}
	}
	return nil
}

func (c *Courier) unanswered(f *flight) {
	l := &c.loop
	var retry *client.RetryAfter
	about := errors.Is(f.err, client.ErrNonsense) || errors.As(f.err, &retry) && retry.Status == 500
	if about && len(f.items) == 1 {
		c.troubled(f.items[0].ID, f.err)
		return
	}
	if about {
		l.asks = max(len(f.items)/2, 1)
	}
	c.failed(f, f.err)
}

// troubled tells of a record whose status is not to be had. The others go on.
func (c *Courier) troubled(id queue.ID, err error) {
	c.tell(Event{ID: id, Stage: Trouble, Err: err})
	c.log.Warn("no status of a record", "record", id, "cause", err)
}

// became acts on one record's verified status.
func (c *Courier) became(ctx context.Context, s *sent, status client.Status, f *flight) error {
	l := &c.loop
	id := queue.ID(status.ID)
	switch {
	case errors.Is(status.Err, client.ErrNotFound):
		delete(l.sent, id)
		if s.data == nil { // the registry lost it, and is going to get it again
			h := l.hold(id)
			h.until = time.Now().Add(jitter(h.pause))
			c.log.Warn("the registry has lost an accepted record: it is sent again", "record", id)
		}
		return nil
	case status.Err != nil:
		c.troubled(id, status.Err)
		return nil
	case status.Status == api.Rejected:
		delete(l.sent, id)
		if s.data != nil {
			c.log.Error("the registry rejects a record that it has given a receipt for", "record", id)
			return nil
		}
		return c.quarantine(ctx, id, status.Code, status.Verdict)
	}
	if k := f.kept[id]; k.stored || k.err != nil {
		if errors.Is(k.err, queue.ErrState) {
			delete(l.sent, id) // quarantined meanwhile
			return nil
		}
		if k.stored {
			c.note(func(s *Status) { s.Delivered = time.Now() })
			c.tell(Event{ID: id, Stage: Receipted})
		}
		if k.purged {
			c.tell(Event{ID: id, Stage: Purged})
		}
		if err := c.local(ctx, k.err); err != nil || !k.stored {
			return err
		}
		i := slices.IndexFunc(f.items, func(i client.Item) bool { return i.ID == status.ID })
		s.data, s.until = f.items[i].Data, time.Now().Add(verdictWait)
	}
	if (status.Status == api.Active || status.Status == api.Refused) && !s.told {
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
	c.pause(time.Second+jitter(longPause), false)
	c.tell(Event{Stage: Trouble, Err: err, Next: c.loop.notBefore})
	return nil
}

// answered notes that the registry is there.
func (c *Courier) answered(f *flight) {
	if f.epoch != c.loop.epoch {
		return
	}
	c.loop.failures, c.loop.notBefore, c.loop.ordered = 0, time.Time{}, false
	c.mu.Lock()
	was := c.status.Line
	c.status.Line, c.status.Fault = LineUp, nil
	c.mu.Unlock()
	if was != LineUp {
		c.log.Info("the registry answers")
		c.tell(Event{Stage: Reached})
	}
}

// stops says whether somebody has to act before an attempt can end otherwise.
func stops(err error) bool {
	for _, is := range []error{client.ErrNotAllowed, client.ErrTLS, client.ErrCaptivePortal, client.ErrKey} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// failed notes that the registry is not there, and how long to pause.
func (c *Courier) failed(f *flight, err error) {
	l := &c.loop
	if f.epoch != l.epoch {
		return // it began before the pause that is on or over
	}
	l.failures++
	l.width = 1
	pause := jitter(min(firstPause<<min(l.failures-1, 20), longPause))
	ordered := false
	line := LineDown
	var retry *client.RetryAfter
	if errors.As(err, &retry) {
		if ordered = retry.After > 0; ordered {
			pause = retry.After + jitter(retry.After/4+firstPause)
		}
	}
	if stops(err) {
		line = LineStopped
	}
	if errors.Is(err, client.ErrNotAllowed) {
		// Asking often makes it no better, and may look like an attack.
		pause = longPause/2 + jitter(longPause/2)
	}
	c.pause(pause, ordered)
	c.mu.Lock()
	was := c.status.Line
	c.status.Line, c.status.Fault = line, err
	c.mu.Unlock()
	switch {
	case line == was:
	case line == LineStopped:
		c.log.Error("no delivery until somebody acts", "cause", err)
	default:
		c.log.Warn("no delivery", "cause", err)
	}
	c.tell(Event{Stage: Trouble, Err: err, Line: line, Next: l.notBefore})
}

// pause holds everything up. What is on its way may still end well, but says
// nothing about the time after.
func (c *Courier) pause(d time.Duration, ordered bool) {
	c.loop.notBefore, c.loop.ordered = time.Now().Add(d), ordered
	c.loop.epoch++
}

// jitter is a random time up to d: kiosks that lost the registry together do not
// come back together.
func jitter(d time.Duration) time.Duration { return rand.N(d + 1) }

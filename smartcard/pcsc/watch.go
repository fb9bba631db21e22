package pcsc

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ebfe/scard"
)

const (
	pollInterval = time.Second            // older libraries miss readers that come between two calls
	retryService = 500 * time.Millisecond // until the service is back
	settle       = 60 * time.Millisecond  // contacts bounce while a card slides in
	settleLimit  = 300 * time.Millisecond
	breath       = 5 * time.Millisecond // between two calls, whatever the library does

	pnpReader   = `\\?PnP?\Notification`
	maxReaders  = 16
	counterBits = 0xFFFF0000
)

// Reader is a reader and what is in it.
type Reader struct {
	Name         string
	Card         bool
	ATR          []byte // of a card that answered
	Unresponsive bool   // there is a card and it does not answer
	// Insertion differs between two stays of a card, even when one swap was too
	// quick to be seen as an empty reader. It means nothing else.
	Insertion uint16
}

func (r Reader) equal(o Reader) bool {
	return r.Name == o.Name && r.Card == o.Card && r.Unresponsive == o.Unresponsive &&
		r.Insertion == o.Insertion && bytes.Equal(r.ATR, o.ATR)
}

// Watch reports the readers, at once and after every change, until ctx ends and
// the channel is closed. A receiver that is late finds the newest state only.
//
// A nil slice means that the service is not running; watching goes on, and
// continues when the service is back. An empty one means that no reader is
// connected. An error is only returned for a ctx that has already ended.
func Watch(ctx context.Context) (<-chan []Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return process.subscribe(ctx), nil
}

// List is one look at the readers. Errors: ErrNoService, or ctx's.
func List(ctx context.Context) ([]Reader, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	updates, err := Watch(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case readers, ok := <-updates:
		switch {
		case !ok:
			return nil, ctx.Err()
		case readers == nil:
			return nil, ErrNoService
		}
		return readers, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// process is the only caller of GetStatusChange: two concurrent calls that name
// the same reader make the binding hand freed memory to C (it keeps one pinned
// string for each name in the process).
var process hub

// hub runs one watcher while there are subscribers.
type hub struct {
	mu          sync.Mutex
	subscribers map[chan []Reader]struct{}
	known       bool // last is a state, not just the zero value
	last        []Reader
	stop        context.CancelFunc
	stopped     chan struct{} // of the newest watcher
}

func (h *hub) subscribe(ctx context.Context) <-chan []Reader {
	ch := make(chan []Reader, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subscribers == nil {
		h.subscribers = map[chan []Reader]struct{}{}
	}
	h.subscribers[ch] = struct{}{}
	if len(h.subscribers) == 1 {
		previous, stopped := h.stopped, make(chan struct{})
		watching, stop := context.WithCancel(context.Background())
		h.stop, h.stopped, h.known = stop, stopped, false
		go func() {
			defer close(stopped)
			if previous != nil {
				<-previous
			}
			h.watch(watching)
		}()
	} else if h.known {
		ch <- clone(h.last)
	}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers, ch)
		close(ch)
		if len(h.subscribers) == 0 {
			h.stop()
		}
	})
	return ch
}

// publish hands a new state to every subscriber, in place of one that was not
// yet received.
func (h *hub) publish(watching context.Context, readers []Reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if watching.Err() != nil {
		return
	}
	h.known, h.last = true, readers
	for ch := range h.subscribers {
		select {
		case <-ch:
		default:
		}
		ch <- clone(readers)
	}
}

func clone(readers []Reader) []Reader {
	readers = slices.Clone(readers)
	for i := range readers {
		readers[i].ATR = bytes.Clone(readers[i].ATR)
	}
	return readers
}

// watch keeps a session with the service, and looks for the service when it is
// gone.
func (h *hub) watch(ctx context.Context) {
	gone := false
	for ctx.Err() == nil {
		s := session{publish: func(r []Reader) { gone = false; h.publish(ctx, r) }}
		s.run(ctx)
		if !gone {
			gone = true
			h.publish(ctx, nil)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryService):
		}
	}
}

// session is one PC/SC context and what it has seen.
type session struct {
	publish   func([]Reader)
	states    []scard.ReaderState
	pnp       scard.ReaderState
	published []Reader // nil before the first
}

// run returns when the service fails or ctx ends.
func (s *session) run(ctx context.Context) {
	sc, err := scard.EstablishContext()
	if err != nil {
		return
	}
	defer sc.Release()
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		sc.Cancel() // may come too early and be lost: then the poll interval ends the wait
	})
	defer func() {
		if !stop() {
			<-cancelled // the context must not be released under its feet
		}
	}()

	s.pnp.Reader = pnpReader
	var settleBy time.Time
	for ctx.Err() == nil {
		if err := s.list(sc); err != nil {
			return
		}
		wait := pollInterval
		switch {
		case !s.listed(): // readers came or went: that does not bounce
			wait = 0
		case !settleBy.IsZero():
			wait = max(0, min(settle, time.Until(settleBy)))
		}
		err := s.wait(sc, wait)
		quiet := errors.Is(err, scard.ErrTimeout)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, scard.ErrUnknownReader): // it went away since it was listed
			time.Sleep(breath)
			continue
		case err != nil && !quiet:
			return
		}
		now := s.snapshot()
		switch {
		case s.published != nil && slices.EqualFunc(now, s.published, Reader.equal):
			settleBy = time.Time{}
		case s.published == nil, quiet, !settleBy.IsZero() && !time.Now().Before(settleBy):
			s.published, settleBy = now, time.Time{}
			s.publish(now)
		case settleBy.IsZero():
			settleBy = time.Now().Add(settleLimit)
		}
		if !quiet {
			time.Sleep(breath)
		}
	}
}

// list takes over the service's list of readers. What is known of those that
// stay is kept.
func (s *session) list(sc *scard.Context) error {
	var names []string
	for attempt := 0; ; attempt++ {
		var err error
		names, err = sc.ListReaders()
		switch {
		case err == nil:
		case errors.Is(err, scard.ErrNoReadersAvailable):
			names = nil
		case errors.Is(err, scard.ErrInsufficientBuffer) && attempt < 10: // a reader came between two questions
			continue
		default:
			return err
		}
		break
	}
	states := make([]scard.ReaderState, 0, len(names))
	for _, name := range names {
		state := scard.ReaderState{Reader: name}
		for _, old := range s.states {
			if old.Reader == name {
				state = old
			}
		}
		states = append(states, state)
	}
	s.states = states
	return nil
}

// listed says whether the readers are those of the published state.
func (s *session) listed() bool {
	return s.published != nil && slices.EqualFunc(s.states, s.published, func(a scard.ReaderState, b Reader) bool {
		return a.Reader == b.Name
	})
}

// wait returns nil when something changed.
func (s *session) wait(sc *scard.Context, limit time.Duration) error {
	states := slices.Clone(s.states)
	if len(states) < maxReaders {
		states = append(states, s.pnp)
	}
	for i := range states {
		// Changed is the library's answer, not a state; the counter in the upper
		// bits makes it notice a swap between two calls.
		states[i].CurrentState = states[i].EventState &^ scard.StateChanged
		states[i].Atr = nil // or the binding keeps the last card's
	}
	if err := sc.GetStatusChange(states, limit); err != nil {
		return err
	}
	if n := len(s.states); len(states) > n {
		s.pnp = states[n]
		states = states[:n]
	}
	s.states = states
	return nil
}

func (s *session) snapshot() []Reader {
	readers := make([]Reader, 0, len(s.states))
	for _, state := range s.states {
		r := Reader{Name: state.Reader}
		if state.EventState&scard.StatePresent != 0 {
			r.Card = true
			r.Insertion = uint16(uint32(state.EventState) & counterBits >> 16)
			r.Unresponsive = state.EventState&scard.StateMute != 0
			if !r.Unresponsive {
				r.ATR = bytes.Clone(state.Atr)
			}
		}
		readers = append(readers, r)
	}
	return readers
}

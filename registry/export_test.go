package registry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Gaps is how many sequence numbers of a kiosk are missing.
func Gaps(r *Registry, kiosk string) (uint64, error) {
	return r.store.Gaps(context.Background(), kiosk, 0)
}

// LoseReceipts makes the store lose what the log role wants kept, n times; the
// channel is closed with the first. Before Serve.
func LoseReceipts(r *Registry, n int32) <-chan struct{} {
	l := &loser{outbox: r.store, lost: make(chan struct{})}
	l.left.Store(n)
	r.logRole.store = l
	return l.lost
}

type loser struct {
	outbox
	left atomic.Int32
	lost chan struct{}
}

func (l *loser) Logged(ctx context.Context, receipts map[[32]byte][]byte, scanned uint64) error {
	if n := l.left.Add(-1); n >= 0 {
		if n == 0 {
			close(l.lost)
		}
		return errors.New("lost")
	}
	return l.outbox.Logged(ctx, receipts, scanned)
}

// ErrBusy is what a second process gets.
var ErrBusy = errStoreBusy

// StallStore makes every question to the store wait until it is released.
func StallStore(r *Registry) (release func()) {
	s := &stalled{store: r.store, gate: make(chan struct{})}
	r.store = s
	return func() { close(s.gate) }
}

type stalled struct {
	store
	gate chan struct{}
}

func (s *stalled) Status(ctx context.Context, sender string, id [32]byte) (status, error) {
	<-s.gate
	return s.store.Status(ctx, sender, id)
}

// BreakStore makes the store refuse to write until it is mended: a full disk.
func BreakStore(r *Registry) (mend func()) {
	s := &broken{store: r.store}
	s.now.Store(true)
	r.store = s
	return func() { s.now.Store(false) }
}

type broken struct {
	store
	now atomic.Bool
}

var errFull = errors.New("no space left on device")

func (s *broken) Add(ctx context.Context, e entry) (added, error) {
	if s.now.Load() {
		return added{}, errFull
	}
	return s.store.Add(ctx, e)
}

func (s *broken) Reject(ctx context.Context, sender string, id [32]byte, d decision) (decision, error) {
	if s.now.Load() {
		return decision{}, errFull
	}
	return s.store.Reject(ctx, sender, id, d)
}

// Handler is what Serve serves, without TLS.
func Handler(r *Registry) http.Handler { return r.handler() }

// Verifier is all that the registry checks of a kiosk's submission before it
// stores it. The kiosk's standing is looked up once, as it is for a batch.
func Verifier(r *Registry, kiosk string) (func(submission []byte, id [32]byte) error, error) {
	k, err := r.kiosks.Find(kiosk)
	return func(submission []byte, id [32]byte) error {
		_, err := r.check.submission(submission, id, k, r.opts.Now())
		return err
	}, err
}

// Check is what the registry finds out about a submission by itself.
func Check(r *Registry, submission []byte, id [32]byte, sender Kiosk, now time.Time) error {
	_, err := r.check.submission(submission, id, sender, now)
	return err
}

// ConsoleOf is the console of a registry that serves, or is about to.
func ConsoleOf(r *Registry) *Console {
	dial := func(ctx context.Context, _, _ string) (c net.Conn, err error) {
		for late := time.Now().Add(startWait); ; time.Sleep(time.Millisecond) {
			if c, err = dialConsole(ctx, r.opts.Dir); err == nil || time.Now().After(late) {
				return c, err
			}
		}
	}
	return &Console{client: &http.Client{Transport: &http.Transport{DialContext: dial}}, end: func() error { return nil }}
}

// ServeConsole serves the console alone: records are taken on, and not logged.
func ServeConsole(r *Registry) (stop func(context.Context) error, err error) {
	return r.listenConsole()
}

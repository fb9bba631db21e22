package registry

import (
	"context"
	"errors"
	"sync/atomic"
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

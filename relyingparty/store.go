package relyingparty

import (
	"context"
	"sync"
	"time"
)

// Store keeps what is under way, for minutes. Values are sealed under secrets that
// it never sees. It may be shared by the replicas of a site, and lose everything at
// any time: people then begin again.
type Store interface {
	// Put keeps value under a fresh key until a time; [ErrBusy] if there is no room.
	Put(ctx context.Context, key [32]byte, value []byte, until time.Time) error

	// Get is the value under key; [ErrTransaction] if there is none, or if its time is over.
	Get(ctx context.Context, key [32]byte) ([]byte, error)

	// Take is Get and removal in one step: of several that take, one gets the value.
	// All single use rests on this.
	Take(ctx context.Context, key [32]byte) ([]byte, error)
}

// Memory is a Store of one process.
type Memory struct {
	max int

	mu    sync.Mutex
	items map[[32]byte]item
	swept time.Time
}

type item struct {
	value []byte
	until time.Time
}

// NewMemory is a Store of at most max values, each below 64 KiB.
func NewMemory(max int) *Memory { return &Memory{max: max, items: map[[32]byte]item{}} }

// Put refuses when it is full of what is still under way: whoever fills it keeps
// newcomers out, but throws out nobody.
func (m *Memory) Put(_ context.Context, key [32]byte, value []byte, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if len(m.items) >= m.max && now.Sub(m.swept) > time.Second || now.Sub(m.swept) > time.Minute {
		for k, i := range m.items {
			if !i.until.After(now) {
				delete(m.items, k)
			}
		}
		m.swept = now
	}
	if len(m.items) >= m.max {
		return ErrBusy
	}
	m.items[key] = item{value, until}
	return nil
}

// Get is described at [Store].
func (m *Memory) Get(_ context.Context, key [32]byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(key)
}

// Take is described at [Store].
func (m *Memory) Take(_ context.Context, key [32]byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, err := m.get(key)
	delete(m.items, key)
	return value, err
}

func (m *Memory) get(key [32]byte) ([]byte, error) {
	i, ok := m.items[key]
	if !ok || !i.until.After(time.Now()) {
		return nil, ErrTransaction
	}
	return i.value, nil
}

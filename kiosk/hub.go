package kiosk

import (
	"context"
	"sync"
)

// hub hands the newest state to any number of readers. A reader that is slow
// misses states in between, never the newest.
type hub struct {
	mu      sync.Mutex
	current State
	readers map[chan State]struct{}
	closed  bool
	faulted func(Code) // gets each fault that a state shows, once
}

func newHub(faulted func(Code)) *hub {
	return &hub{readers: map[chan State]struct{}{}, faulted: faulted}
}

func (h *hub) publish(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if was := h.current; s.Fault != nil && (was.Fault == nil || was.Fault.Code != s.Fault.Code || was.Number != s.Number) {
		h.faulted(s.Fault.Code)
	}
	s.Revision = h.current.Revision + 1
	h.current = s
	for ch := range h.readers {
		offer(ch, s)
	}
}

// offer replaces what waits in ch, a channel of capacity one that only hub writes.
func offer(ch chan State, s State) {
	select {
	case <-ch:
	default:
	}
	ch <- s
}

func (h *hub) states(ctx context.Context) <-chan State {
	ch := make(chan State, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(ch)
		return ch
	}
	if h.current.Revision > 0 {
		ch <- h.current
	}
	h.readers[ch] = struct{}{}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, ok := h.readers[ch]; ok {
			delete(h.readers, ch)
			close(ch)
		}
	})
	return ch
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ch := range h.readers {
		delete(h.readers, ch)
		close(ch)
	}
}

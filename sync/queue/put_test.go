package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

// Callers who put again and again are waited for, a moment and together; a lone one
// waits for nobody, and nobody waits for those who have gone.
func TestArrivals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a arrivals
		const took = 8 * time.Millisecond
		come := func(n int) {
			for range n {
				a.come(&putting{turn: make(chan struct{}, 1)})
			}
		}
		round := func() (size int, waited time.Duration) {
			a.mu.Lock()
			first := a.queue[0]
			a.mu.Unlock()
			select { // as who has the turn has been told, or had it at once
			case <-first.turn:
			default:
			}
			start := time.Now()
			a.linger()
			waited = time.Since(start)
			group := a.take()
			a.answer(group, took)
			return len(group), waited
		}
		for range 3 {
			come(1)
			if n, waited := round(); n != 1 || waited != 0 {
				t.Errorf("a lone caller is in a group of %d and waits %v", n, waited)
			}
		}
		come(3)
		round()
		come(1)
		go func() {
			time.Sleep(time.Millisecond)
			come(2)
		}()
		if n, waited := round(); n != 3 || waited != time.Millisecond {
			t.Errorf("three who come again: a group of %d after %v", n, waited)
		}
		come(1)
		if n, waited := round(); n != 1 || waited != took/4 {
			t.Errorf("one of three comes again: a group of %d after %v", n, waited)
		}
		come(1)
		if n, waited := round(); n != 1 || waited != 0 {
			t.Errorf("and again: a group of %d after %v", n, waited)
		}
		// Two groups become one.
		come(2)
		group := a.take()
		come(2)
		a.answer(group, took)
		go come(2)
		if n, waited := round(); n != 4 || waited != 0 {
			t.Errorf("two and two: a group of %d after %v", n, waited)
		}
	})
}

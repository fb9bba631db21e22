package kiosk

import (
	"context"
	"errors"
	"testing"

	"enrollkiosk/hsm"
	"enrollkiosk/sync/queue"
)

// counter is a TPM's NV counter; the chain needs nothing else of it here.
type counter struct {
	n    uint64
	fail error
}

func (c *counter) RecordKey() hsm.Key { return nil }

func (c *counter) Counter(context.Context) (uint64, error) { return c.n, c.fail }

func (c *counter) Increment(context.Context) (uint64, error) {
	if c.fail != nil {
		return 0, c.fail
	}
	c.n++
	return c.n, nil
}

func newChain(t *testing.T) (chain, *counter, string) {
	t.Helper()
	dir := t.TempDir()
	q, _, err := queue.Open(t.Context(), dir, queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	tpm := &counter{n: 41}
	c := chain{tpm, q}
	if err := c.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, tpm, dir
}

// enrollOne reserves a number and puts a record for it.
func enrollOne(t *testing.T, c chain, id byte) uint64 {
	t.Helper()
	n, _, err := c.reserve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, n, id)
	return n
}

func put(t *testing.T, c chain, n uint64, id byte) {
	t.Helper()
	head, err := c.recorded(n, [32]byte{id})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.queue.Put(t.Context(), queue.Item{ID: queue.ID{id}, Data: []byte{id}, Head: head}); err != nil {
		t.Fatal(err)
	}
}

func TestChainNumbersAndLinks(t *testing.T) {
	c, _, _ := newChain(t)
	if n := enrollOne(t, c, 1); n != 42 {
		t.Errorf("first number %d, want 42", n)
	}
	n, previous, err := c.reserve(t.Context())
	if err != nil || n != 43 || previous != [32]byte{1} {
		t.Errorf("second: %d %x %v", n, previous, err)
	}
}

// A number that was reserved and got no record is known, and its void must come
// before the next number.
func TestChainKnowsAnUnusedNumber(t *testing.T) {
	c, _, _ := newChain(t)
	n, _, err := c.reserve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, unused, err := c.check(t.Context())
	if err != nil || unused != n {
		t.Fatalf("unused %d, %v; want %d", unused, err, n)
	}
	if _, _, err := c.reserve(t.Context()); !errors.Is(err, errUnused) {
		t.Errorf("a second number before the void: %v", err)
	}
	put(t, c, n, 9)
	if _, unused, err = c.check(t.Context()); err != nil || unused != 0 {
		t.Errorf("after the void: %d, %v", unused, err)
	}
}

// The cut between "reserved" on the disk and the counter's step is no rollback.
func TestChainSurvivesACutBeforeTheCounterMoved(t *testing.T) {
	c, tpm, _ := newChain(t)
	tpm.fail = hsm.ErrUnavailable
	if _, _, err := c.reserve(t.Context()); !errors.Is(err, hsm.ErrUnavailable) {
		// Counter fails before the head is written; write it as the cut leaves it.
		t.Fatal(err)
	}
	tpm.fail = nil
	h, _, err := c.check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.Reserved++
	if err := c.write(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if _, unused, err := c.check(t.Context()); err != nil || unused != 0 {
		t.Errorf("unused %d, %v", unused, err)
	}
	if n := enrollOne(t, c, 1); n != 42 {
		t.Errorf("number %d, want 42", n)
	}
}

func TestChainFindsRollback(t *testing.T) {
	c, tpm, _ := newChain(t)
	enrollOne(t, c, 1)
	tests := map[string]func(){
		"disk put back to an older day": func() { tpm.n++ },
		"disk copied to another kiosk":  func() { tpm.n = 7 },
		"TPM cleared":                   func() { tpm.n = 1 },
	}
	for name, change := range tests {
		before := tpm.n
		change()
		if _, _, err := c.check(t.Context()); !errors.Is(err, ErrRolledBack) {
			t.Errorf("%s: check says %v", name, err)
		}
		if _, _, err := c.reserve(t.Context()); !errors.Is(err, ErrRolledBack) {
			t.Errorf("%s: reserve says %v", name, err)
		}
		tpm.n = before
	}
	if err := c.queue.SetHead(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.check(t.Context()); !errors.Is(err, ErrRolledBack) {
		t.Errorf("queue lost: %v", err)
	}
}

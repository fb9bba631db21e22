package kiosk

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// chain keeps this kiosk's sequence: the TPM's counter and the queue's head
// move together, so that a disk put back to an older day, or copied to another
// machine, is found out before the next enrollment.
//
// Order of writing: the head says "n reserved" durably, then the counter moves
// to n, then the record of n is put with a head that says "n recorded". After
// a crash the counter is therefore at the reserved number or one below it.
// Anything else is no crash.
type chain struct {
	tpm   TPM
	queue Queue
}

// head is what the queue keeps for us beside the records.
type head struct {
	Reserved uint64      `json:"reserved"` // last number promised to the counter
	Recorded uint64      `json:"recorded"` // last number that has a record
	Previous fixedDigest `json:"previous"` // that record's id: SHA-256 of its payload
}

// ErrRolledBack means that the disk and the TPM's counter do not belong
// together: an older copy of the disk, a copy of another kiosk's, or another TPM.
var ErrRolledBack = errors.New("the disk does not match the TPM's counter: an older or copied disk; call staff")

// begin initialises the chain of a new kiosk. It refuses where one exists.
func (c chain) begin(ctx context.Context) error {
	old, err := c.queue.Head(ctx)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		return nil
	}
	n, err := c.tpm.Counter(ctx)
	if err != nil {
		return err
	}
	return c.write(ctx, head{Reserved: n, Recorded: n})
}

// check compares disk and counter. unused is the number that was reserved and
// got no record, 0 for none.
func (c chain) check(ctx context.Context) (h head, unused uint64, err error) {
	if h, err = c.read(ctx); err != nil {
		return h, 0, err
	}
	n, err := c.tpm.Counter(ctx)
	if err != nil {
		return h, 0, err
	}
	switch {
	case n == h.Reserved && h.Recorded < h.Reserved:
		return h, h.Reserved, nil
	case n == h.Reserved, n+1 == h.Reserved:
		return h, 0, nil
	}
	return h, 0, ErrRolledBack
}

// errUnused means that a reserved number still needs its void record.
var errUnused = errors.New("a reserved sequence number has no record yet")

// reserve takes the next number. The caller makes a record of it; a number that
// an earlier caller did not use must have its void record first.
func (c chain) reserve(ctx context.Context) (n uint64, previous [32]byte, err error) {
	h, unused, err := c.check(ctx)
	if err != nil {
		return 0, previous, err
	}
	if unused != 0 {
		return 0, previous, fmt.Errorf("%w: %d", errUnused, unused)
	}
	n, err = c.tpm.Counter(ctx)
	if err != nil {
		return 0, previous, err
	}
	h.Reserved = n + 1
	if err := c.write(ctx, h); err != nil {
		return 0, previous, err
	}
	if n, err = c.tpm.Increment(ctx); err != nil {
		return 0, previous, err
	}
	if n != h.Reserved {
		return 0, previous, ErrRolledBack
	}
	return n, h.Previous, nil
}

// recorded is the head to put together with the record of number n.
func (c chain) recorded(n uint64, id [32]byte) ([]byte, error) {
	return json.Marshal(head{Reserved: n, Recorded: n, Previous: id})
}

func (c chain) read(ctx context.Context) (h head, err error) {
	b, err := c.queue.Head(ctx)
	if err != nil {
		return h, err
	}
	if len(b) == 0 {
		return h, ErrRolledBack // the TPM has a history, the disk has none
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return h, fmt.Errorf("read chain head: %w", err)
	}
	return h, nil
}

func (c chain) write(ctx context.Context, h head) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return c.queue.SetHead(ctx, b)
}

// fixedDigest is a SHA-256 value, hexadecimal in JSON.
type fixedDigest [32]byte

func (d fixedDigest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

func (d *fixedDigest) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(d)) {
		return errors.New("digest of another length")
	}
	_, err := hex.Decode(d[:], b)
	return err
}

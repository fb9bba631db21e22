package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

// Scrub reads every copy of everything, also what opening leaves unread, and
// writes the damaged again from the other copy. Others may work meanwhile. An agent
// does it now and then: damage that nobody has seen yet must not meet damage to the
// other copy.
func (q *Queue) Scrub(ctx context.Context) (r Report, err error) {
	_, entries, err := q.entries(ctx)
	if err != nil {
		return r, err
	}
	bad := map[uint64]bool{} // files of the spool
	for id := range entries {
		if err := q.scrubRecord(ctx, id, bad, &r); err != nil {
			return r, err
		}
	}
	for number := range bad {
		if err := q.scrubSegment(number, &r); err != nil {
			return r, err
		}
	}
	if err := q.compactSpool(ctx); err != nil {
		return r, err
	}
	if err := q.scrubHistory(ctx, &r); err != nil {
		return r, err
	}
	return r, q.scrubJournal(ctx, &r)
}

func (q *Queue) scrubRecord(ctx context.Context, id ID, bad map[uint64]bool, r *Report) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := errors.Join(ctx.Err(), q.fatal); err != nil {
		return err
	}
	var e Entry
	var data, receipt []byte
	err := q.view(func(tx *bolt.Tx) (err error) {
		e, err = entry(tx, id)
		data, receipt = bytes.Clone(tx.Bucket(bucketData).Get(be(e.Seq))), bytes.Clone(tx.Bucket(bucketReceipts).Get(id[:]))
		return err
	})
	if errors.Is(err, ErrUnknown) {
		return nil // in the history by now
	}
	if err != nil {
		return err
	}
	again := func(bucket, key, value []byte) error {
		if err := q.commit(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key, value) }); clean(err) {
			return nil
		} else if err != nil {
			return q.failed("scrub", err)
		}
		r.Repaired++
		return nil
	}
	if e.Receipt != nil && !bytes.Equal(digest(receipt), e.Receipt) {
		if old, err := q.journal.find(id); err == nil && bytes.Equal(digest(old.Receipt), e.Receipt) {
			if err := again(bucketReceipts, id[:], old.Receipt); err != nil {
				return err
			}
		}
	}
	if e.State == Purged {
		return nil
	}
	copied, err := q.spool.read(id)
	spooled := err == nil && bytes.Equal(digest(copied.Data), e.Digest)
	if !spooled {
		if p, ok := q.spool.place(id); ok {
			bad[p.segment] = true
			q.spool.forget(id)
		}
		return q.mendLocked(e, r)
	}
	if !bytes.Equal(digest(data), e.Digest) {
		return again(bucketData, be(e.Seq), copied.Data)
	}
	return nil
}

// mend writes the second copy of a record again, or quarantines it when the
// database has no good one.
func (q *Queue) mend(e Entry, r *Report) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mendLocked(e, r)
}

func (q *Queue) mendLocked(e Entry, r *Report) error {
	var data []byte
	if err := q.view(func(tx *bolt.Tx) error {
		data = bytes.Clone(tx.Bucket(bucketData).Get(be(e.Seq)))
		return nil
	}); err != nil {
		return err
	}
	if !bytes.Equal(digest(data), e.Digest) {
		if e.State != Queued {
			return nil
		}
		r.Quarantined++
		return q.quarantine(e.ID, bothDamaged)
	}
	switch err := q.spool.add(spooled{Item{ID: e.ID, Data: data}, e.Seq, e.Put}); {
	case clean(err):
		r.Single++
	case err != nil:
		return q.failed("spool", err)
	default:
		r.Repaired++
	}
	return nil
}

// scrubSegment sets a damaged file of the spool aside once its good records stand
// in another.
func (q *Queue) scrubSegment(number uint64, r *Report) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fatal != nil {
		return q.fatal
	}
	err := q.rewrite(number, 0, r)
	if clean(err) {
		return nil
	}
	if err != nil {
		return q.failed("spool", err)
	}
	return q.setAside(r, segmentName(number))
}

// compactSpool gives the few records that keep a large file of the spool alive, new
// frames in another, so that it can go.
func (q *Queue) compactSpool(ctx context.Context) error {
	for _, number := range q.spool.numbers() {
		if err := q.compactSegment(ctx, number); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) compactSegment(ctx context.Context, number uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := errors.Join(ctx.Err(), q.fatal); err != nil {
		return err
	}
	_, places := q.spool.in(number)
	live := 0
	for _, p := range places {
		live += p.size
	}
	info, err := os.Stat(q.path(segmentName(number)))
	if err != nil || len(places) == 0 || number == q.spool.last || int64(live) > info.Size()/4 {
		return nil // gone, growing, or worth its room
	}
	if err := q.rewrite(number, 0, new(Report)); clean(err) {
		return nil
	} else if err != nil {
		return q.failed("spool", err)
	}
	if err := q.remove(segmentName(number)); err != nil {
		return q.failed("spool", err)
	}
	return nil
}

// scrubHistory reads the history, and makes a damaged one anew.
func (q *Queue) scrubHistory(ctx context.Context, r *Report) error {
	err := q.history.walk(ctx, func(ending) error { return nil })
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	q.history.moving.Lock() // what is purged meanwhile stays in the database
	defer q.history.moving.Unlock()
	_, entries, err := q.entries(ctx)
	if err != nil {
		return err
	}
	r.History = true
	err = q.makeHistory(ctx, r, func(id ID) bool { _, here := entries[id]; return here })
	if clean(err) || ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.failed("make history", err)
	}
	return nil
}

// scrubJournal reads the journal, and writes again what is lost of it.
func (q *Queue) scrubJournal(ctx context.Context, r *Report) error {
	good := map[ID]bool{}
	_, entries, err := q.entries(ctx) // whose line stands in the journal by now
	if err != nil {
		return err
	}
	if _, err := q.journal.each(func(id ID, _ ending) error { good[id] = true; return ctx.Err() }); err != nil {
		return err
	}
	add := func(e ending) error {
		if good[e.Entry.ID] {
			return nil
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.fatal != nil {
			return q.fatal
		}
		if err := q.journal.add(e.Entry, e.Receipt); clean(err) {
			return nil
		} else if err != nil {
			return q.failed("journal", err)
		}
		r.Repaired++
		return nil
	}
	for id, e := range entries {
		if e.State == Queued || good[id] {
			continue
		}
		receipt, err := q.Receipt(ctx, id)
		if err != nil && !errors.Is(err, ErrUnknown) {
			continue // lost in both, and told when it is asked for
		}
		if e.State == Purged {
			e.State = Receipted // as a line says
		}
		if err := add(ending{Entry: e, Receipt: receipt}); err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
	}
	return q.history.walk(ctx, func(e ending) error {
		e.Entry.State = Receipted
		return add(e)
	})
}

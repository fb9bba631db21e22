package queue

import (
	"bytes"
	"context"
	"errors"

	bolt "go.etcd.io/bbolt"
)

// CutAt makes f see every step that matters to a power cut before it is made;
// an error stands for the step's failure.
func (o Options) CutAt(f func(op, name string) error) Options {
	o.step = f
	return o
}

// Unsynced leaves every sync out: the negative control of the crash tests.
func (o Options) Unsynced() Options {
	o.unsynced = true
	return o
}

// Small makes the queue move records to its history, and compact its database, for
// as little as tests have.
func (o Options) Small() Options {
	o.archiveAt, o.compactAt, o.reserveDB = 2, 4096, 64<<10
	return o
}

// CheckedHere makes the check of the database without a child process, which takes
// longer to start than a small database to check.
func (o Options) CheckedHere() Options {
	o.Check = func(_ context.Context, file string) error { return checkHere(file) }
	return o
}

// Forget does what Purge must never do: it purges a record that has no receipt.
// The other negative control.
func (q *Queue) Forget(id ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.change(context.Background(), id, func(e *Entry) error { e.State = Purged; return nil },
		func(tx *bolt.Tx, e Entry) error { return tx.Bucket(bucketData).Delete(be(e.Seq)) })
}

// Spoil turns a bit of a value that bbolt holds.
func (q *Queue) Spoil(bucket string, id ID) error {
	return q.db.Update(func(tx *bolt.Tx) error {
		e, err := entry(tx, id)
		if err != nil {
			return err
		}
		k := id[:]
		if bucket == string(bucketData) {
			k = be(e.Seq)
		}
		b := tx.Bucket([]byte(bucket))
		v := bytes.Clone(b.Get(k))
		v[len(v)/2] ^= 4
		return b.Put(k, v)
	})
}

// Deliver makes n records that were delivered long ago: in history, journal and
// counts, as Put, StoreReceipt and Purge leave them in the end.
func (q *Queue) Deliver(n int, receipt []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n > 0 {
		var some []ending
		var lines []byte
		for range min(n, 1000) {
			q.seq++
			id := ID(digest(be(q.seq)))
			e := Entry{ID: id, State: Receipted, Seq: q.seq, Size: 8 << 10, Digest: digest(id[:]), Put: q.opts.Clock(), Done: q.opts.Clock(), Receipt: digest(receipt)}
			some = append(some, ending{Record: id.String(), Entry: e, Receipt: receipt})
			line, err := encodeEnding(some[len(some)-1])
			if err != nil {
				return err
			}
			lines = append(lines, line...)
		}
		n -= len(some)
		err := errors.Join(q.journal.append(lines), q.history.add(q.history.db, some), q.commit(func(tx *bolt.Tx) error {
			c, err := readCounts(tx)
			c.Archived += len(some)
			c.Receipted += len(some)
			return errors.Join(err, tx.Bucket(bucketEntries).SetSequence(q.seq), writeCounts(tx, c))
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

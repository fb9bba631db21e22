package queue

import (
	"bytes"
	"context"

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
	o.archiveAt, o.compactAt = 2, 4096
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

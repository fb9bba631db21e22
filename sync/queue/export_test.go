package queue

import (
	"bytes"
	"context"
	"errors"
	"os"

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
	o.archiveAt, o.compactAt, o.fullPart, o.reserveDB = 2, 4096, 8, 64<<10
	return o
}

// SoonTold makes the queue tell its database of every few records that are put.
func (o Options) SoonTold() Options {
	o.untoldAt = 3
	return o
}

// ShortJournal makes the journal shorter once it has so many bytes.
func (o Options) ShortJournal(size int64) Options {
	o.journalAt = size
	return o
}

// CheckedHere makes the check of the database without a child process, which takes
// longer to start than a small database to check.
func (o Options) CheckedHere() Options {
	o.Check = func(_ context.Context, file string) error { return checkHere(file) }
	return o
}

// Counted counts the checks of the database, which are made.
func (o Options) Counted(n *int) Options {
	o.Check = func(ctx context.Context, file string) error {
		*n++
		return check(ctx, file)
	}
	return o
}

// Forget does what Purge must never do: it purges a record that has no receipt.
// The other negative control.
func (q *Queue) Forget(id ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.change(context.Background(), []arrow{{id: id, turn: func(e *Entry) error { e.State = Purged; return nil }}})[0]
}

// SpoilReceipt turns a bit of a receipt that bbolt holds.
func (q *Queue) SpoilReceipt(id ID) error {
	return q.db.Update(func(tx *bolt.Tx) error {
		e, err := entry(tx, id)
		if err != nil {
			return err
		}
		b := tx.Bucket(bucketReceipts)
		v := bytes.Clone(b.Get(be(e.Seq)))
		v[len(v)/2] ^= 4
		return b.Put(be(e.Seq), v)
	})
}

// SpoilCopy turns a bit of a copy of a record in the spool.
func (q *Queue) SpoilCopy(id ID, n int) error {
	e, err := q.Get(context.Background(), id)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(q.path(copyName(e.at.segment, n)), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, e.at.offset+int64(e.at.size)/2); err != nil {
		return err
	}
	b[0] ^= 4
	_, err = f.WriteAt(b, e.at.offset+int64(e.at.size)/2)
	return err
}

// JournalSize is the journal's, in bytes.
func (q *Queue) JournalSize() int64 { return q.journal.size }

// Deliver makes n records that were delivered long ago: in history, counts and, the
// last of them, in the journal, as Put, StoreReceipt and Purge leave them in the end.
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
			if n < 10_000 {
				line, err := encodeEnding(some[len(some)-1])
				if err != nil {
					return err
				}
				lines = append(lines, line...)
			}
		}
		n -= len(some)
		err := errors.Join(q.journal.append(lines), q.history.add(q.history.db, some), q.commit(func(tx *bolt.Tx) error {
			c, err := readCounts(tx)
			c.Archived += int64(len(some))
			c.Receipted += int64(len(some))
			return errors.Join(err, q.setSequences(tx), writeCounts(tx, c))
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

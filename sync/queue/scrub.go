package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Scrub reads every copy of everything, also what opening leaves unread, and
// writes the damaged again from the other copy. Others may work meanwhile. An agent
// does it now and then: damage that nobody has seen yet must not meet damage to the
// other copy.
func (q *Queue) Scrub(ctx context.Context) (r Report, err error) {
	if err := q.scrubSpool(ctx, &r); err != nil {
		return r, err
	}
	if err := q.scrubReceipts(ctx, &r); err != nil {
		return r, err
	}
	if err := q.scrubHistory(ctx, &r); err != nil {
		return r, err
	}
	return r, q.scrubJournal(ctx, &r)
}

// scrubSpool reads all pairs of files, has their records written elsewhere where few
// are left in a large one, and quarantines waiting records of which no good copy is left.
func (q *Queue) scrubSpool(ctx context.Context, r *Report) error {
	entries, err := q.List(ctx, 1<<31, func(e Entry) bool { return e.State != Purged })
	if err != nil {
		return err
	}
	in := map[uint64][]ID{}
	for _, e := range entries {
		in[e.at.segment] = append(in[e.at.segment], e.ID)
	}
	delete(in, 0) // whose bytes are nowhere
	for number, ids := range in {
		if err := q.scrubPair(ctx, number, ids, r); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) scrubPair(ctx context.Context, number uint64, ids []ID, r *Report) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := cmp.Or(ctx.Err(), q.tellLocked()); err != nil {
		return err
	}
	var entries []Entry // that are still there
	live, newest := int64(0), number == q.spool.last && q.spool.now[0] != nil
	for _, id := range ids {
		e, err := q.here(id)
		switch {
		case errors.Is(err, ErrUnknown): // in the history by now
		case err != nil:
			return err
		case e.State != Purged && e.at.segment == number:
			entries = append(entries, e)
			live += int64(e.at.size)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	whole := make([][copies]bool, len(entries))
	damaged := false
	for i, e := range entries {
		for n := range copies {
			_, err := q.spool.readCopy(e, n)
			whole[i][n] = err == nil
			damaged = damaged || err != nil
		}
	}
	if damaged {
		if newest { // nothing is written behind what is repaired
			if err := q.spool.end(); err != nil {
				return q.failed("spool", err)
			}
		}
		s, err := q.spool.load(number)
		if err == nil {
			err = q.repair(s, 1<<62, r)
		}
		if err != nil {
			return err
		}
	}
	for i, e := range entries {
		if whole[i] == [copies]bool{} && e.State == Queued {
			r.Quarantined++
			if err := q.quarantine(ctx, e.ID, bothDamaged); err != nil {
				return err
			}
		}
	}
	info, err := os.Stat(q.path(copyName(number, 0)))
	if err != nil || newest || live > info.Size()/4 {
		return nil // gone, growing, or worth its room
	}
	return q.move(ctx, number, entries)
}

// move gives the few records that keep a large pair of files alive, new frames in
// another, so that it can go. Without room they stay.
func (q *Queue) move(ctx context.Context, number uint64, entries []Entry) error {
	var records []spooled
	var moved []Entry
	for _, e := range entries {
		if r, err := q.spool.read(e); err == nil {
			records, moved = append(records, r), append(moved, e)
		}
	}
	if len(moved) < len(entries) {
		return nil // what is damaged stays where it can be looked at
	}
	places, err := q.spool.add(records)
	if clean(err) {
		return nil
	}
	if err == nil {
		err = q.commit(func(tx *bolt.Tx) error {
			var t tally
			for i, e := range moved {
				// It may have been quarantined by now.
				e, err := entry(tx, e.ID)
				if err != nil {
					return err
				}
				to := e
				to.at = places[i]
				if err := errors.Join(dropEntry(tx, &t, e), putEntry(tx, &t, to)); err != nil {
					return err
				}
			}
			return errors.Join(t.write(tx), q.setSequences(tx))
		})
		if clean(err) {
			if err = q.spool.takeBack(places[0].offset); err == nil {
				return nil
			}
		}
	}
	if err != nil {
		return q.failed("spool", err)
	}
	return q.dropEmpty(map[uint64]bool{number: true})
}

// damaged says that bytes before end, which were synced once, are in no frame.
func (s segment) damaged(end int64) bool {
	return slices.ContainsFunc(s.copies[:], func(c found) bool { return c.bad >= 0 && c.bad < end })
}

// repair makes both files of a pair hold every frame that one of them has. A file
// with damage before end is kept under damaged/, beside what takes its name.
func (q *Queue) repair(s segment, end int64, r *Report) error {
	want := s.merged()
	for n, c := range s.copies {
		name := copyName(s.number, n)
		if bytes.HasPrefix(c.content, want) && len(bytes.TrimRight(c.content[len(want):], "\x00")) == 0 && c.content != nil {
			continue
		}
		if c.bad >= 0 && c.bad < end && c.content != nil {
			if err := q.keepAside(r, name); err != nil {
				return err
			}
		}
		if err := q.replace(name, want); clean(err) {
			r.Single += c.lacks
			continue
		} else if err != nil {
			return q.failed("spool", err)
		}
		for _, f := range s.frames {
			if f.offset < end && !c.has(f) {
				r.Repaired++
			}
		}
	}
	return nil
}

// has says that a file holds a frame whole.
func (c found) has(f frame) bool {
	if f.offset+int64(f.size) > int64(len(c.content)) {
		return false
	}
	_, n, err := decodeFrame(c.content[f.offset : f.offset+int64(f.size)])
	return err == nil && n == f.size
}

// keepAside puts a file of the spool under damaged/, where it stays; its own name it
// keeps until another takes it.
func (q *Queue) keepAside(r *Report, name string) error {
	if err := os.MkdirAll(q.path(damagedDir), 0o700); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	to := q.asideName(name)
	if err := os.Link(q.path(name), q.path(to)); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	r.SetAside = append(r.SetAside, to)
	if err := errors.Join(q.syncDir("."), q.syncDir(damagedDir)); err != nil {
		return q.failed("set aside", err)
	}
	return nil
}

func (q *Queue) asideName(name string) string {
	return filepath.Join(damagedDir, fmt.Sprintf("%s-%d", filepath.Base(name), q.opts.Clock().UnixNano()))
}

// asidePair sets aside a pair of files that no record needs, and that no cut has
// left.
func (q *Queue) asidePair(number uint64, r *Report) error {
	for n := range copies {
		if _, err := os.Lstat(q.path(copyName(number, n))); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := q.setAside(r, copyName(number, n)); err != nil {
			return err
		}
	}
	return nil
}

// scrubReceipts holds the receipts in the database against the journal's.
func (q *Queue) scrubReceipts(ctx context.Context, r *Report) error {
	entries, err := q.list(ctx, 1<<31, func(e Entry) bool { return e.Receipt != nil }, bucketEnded)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := q.scrubReceipt(ctx, e.ID, r); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) scrubReceipt(ctx context.Context, id ID, r *Report) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := errors.Join(ctx.Err(), q.fatal); err != nil {
		return err
	}
	var e Entry
	var receipt []byte
	err := q.view(func(tx *bolt.Tx) (err error) {
		e, err = entry(tx, id)
		receipt = bytes.Clone(tx.Bucket(bucketReceipts).Get(be(e.Seq)))
		return err
	})
	if errors.Is(err, ErrUnknown) {
		return nil // in the history by now
	}
	if err != nil || bytes.Equal(digest(receipt), e.Receipt) {
		return err
	}
	old, err := q.journal.find(id)
	if err != nil || !bytes.Equal(digest(old.Receipt), e.Receipt) {
		return nil // lost in both, and told when it is asked for
	}
	err = q.commit(func(tx *bolt.Tx) error { return tx.Bucket(bucketReceipts).Put(be(e.Seq), old.Receipt) })
	if clean(err) {
		return nil
	}
	if err != nil {
		return q.failed("scrub", err)
	}
	r.Repaired++
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
	r.History = true
	err = q.makeHistory(ctx, r, func(id ID) bool { _, err := q.here(id); return !errors.Is(err, ErrUnknown) })
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

// scrubJournal reads the journal, and writes again what is lost of it: lines of
// records that are still here, and of the newest in the history.
func (q *Queue) scrubJournal(ctx context.Context, r *Report) error {
	// First those whose line stands in the journal by now.
	ended, err := q.list(ctx, 1<<31, func(Entry) bool { return true }, bucketEnded)
	if err != nil {
		return err
	}
	good := map[ID]bool{}
	if _, err := q.journal.each(func(id ID, _ ending) error { good[id] = true; return ctx.Err() }); err != nil {
		return err
	}
	var lost [][]byte
	lose := func(e ending) error {
		if e.Entry.State == Purged {
			e.Entry.State = Receipted // as a line says
		}
		e.Record = e.Entry.ID.String()
		line, err := encodeEnding(e)
		if err == nil && !good[e.Entry.ID] {
			lost = append(lost, line)
		}
		return err
	}
	for _, e := range ended {
		receipt, err := q.Receipt(ctx, e.ID)
		if err != nil && !errors.Is(err, ErrUnknown) {
			continue // lost in both, and told when it is asked for
		}
		if err := lose(ending{Entry: e, Receipt: receipt}); err != nil {
			return err
		}
	}
	room := q.opts.journalAt / 4 // less than is kept of them when the journal is made shorter
	err = q.history.newest(ctx, time.Unix(0, -1<<63), time.Unix(0, 1<<63-1), 1<<31, func(e ending) bool {
		if room -= int64(len(e.Receipt)) * 2; room >= 0 {
			err = errors.Join(err, lose(e))
		}
		return room >= 0
	})
	if err != nil {
		return err
	}
	for _, line := range lost {
		q.mu.Lock()
		err := q.fatal
		if err == nil {
			if err = q.journal.add(line); err != nil && !clean(err) {
				err = q.failed("journal", err)
			}
		}
		q.mu.Unlock()
		if clean(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
		r.Repaired++
	}
	return nil
}

package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The history is a database of the purged: it only grows, and opening reads of it
// no more than its root. What it loses of late stands in the journal.
type history struct {
	files
	mu sync.RWMutex // db is replaced under it
	db *bolt.DB

	moving sync.Mutex // held by what moves records there, or makes it anew
}

var (
	bucketRecords = []byte("records") // time of the receipt, id -> ending as JSON, behind its checksum
	bucketTimes   = []byte("times")   // id -> time of the receipt
)

// errHistory is ErrDamaged, of the history.
var errHistory = fmt.Errorf("%w: history", ErrDamaged)

// historyOptions: opening must not look for free pages all over the file.
func historyOptions(unsynced bool) *bolt.Options {
	return &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType, NoSync: unsynced}
}

// open opens the history; errHistory when that cannot be done.
func (h *history) open() error {
	return guarded(func() error {
		db, err := bolt.Open(h.path(historyFile), 0o600, historyOptions(h.unsynced))
		if err != nil {
			return fmt.Errorf("%w: %w", errHistory, err)
		}
		err = db.View(func(tx *bolt.Tx) error {
			info, err := os.Stat(h.path(historyFile))
			if err != nil {
				return err
			}
			if info.Size() < tx.Size() || tx.Bucket(bucketRecords) == nil || tx.Bucket(bucketTimes) == nil {
				return errHistory
			}
			tx.Bucket(bucketRecords).Cursor().Last()
			return nil
		})
		if err != nil {
			return errors.Join(err, db.Close())
		}
		h.db = db
		return nil
	})
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.db == nil {
		return nil
	}
	return h.db.Close()
}

func (h *history) view(f func(tx *bolt.Tx) error) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	err := guarded(func() error { return h.db.View(f) })
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w: %w", errHistory, err)
	}
	return err
}

// find finds a record; ErrUnknown, errHistory.
func (h *history) find(id ID) (e ending, err error) {
	err = h.view(func(tx *bolt.Tx) error {
		at := tx.Bucket(bucketTimes).Get(id[:])
		if at == nil {
			return ErrUnknown
		}
		k := append(at[:len(at):len(at)], id[:]...)
		e, err = decodeRecord(k, tx.Bucket(bucketRecords).Get(k))
		return err
	})
	return e, err
}

func decodeRecord(k, v []byte) (e ending, err error) {
	v, err = checkSum(k, v)
	if err != nil || len(k) != 8+len(ID{}) || json.Unmarshal(v, &e) != nil {
		return e, errHistory
	}
	e.Entry.ID = ID(k[8:])
	return e, nil
}

// newest calls f with records of between from and to, the newest first.
func (h *history) newest(ctx context.Context, from, to time.Time, limit int, f func(ending) (more bool)) error {
	return h.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		step := c.Last
		if k, _ := c.Seek(sortable(to)); k != nil {
			step = c.Prev
		}
		for k, v := step(); k != nil && limit > 0; k, v = c.Prev() {
			e, err := decodeRecord(k, v)
			if err != nil {
				continue // Scrub mends it
			}
			if e.Entry.Done.Before(from) {
				return nil
			}
			if !f(e) {
				return nil
			}
			limit--
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	})
}

// salvage calls f with every record that can be read of a damaged history, from both
// its ends.
func (h *history) salvage(f func(ending) error) (err error) {
	if h.db == nil {
		return nil
	}
	var last []byte
	take := func(k, v []byte) {
		if e, bad := decodeRecord(k, v); bad == nil && string(digest(e.Receipt)) == string(e.Entry.Receipt) && err == nil {
			err = f(e)
		}
	}
	// A bad page ends a walk: what it says about itself is known already.
	h.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			take(k, v)
			last = append(last[:0], k...)
		}
		return nil
	})
	h.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		for k, v := c.Last(); k != nil && bytes.Compare(k, last) > 0; k, v = c.Prev() {
			take(k, v)
		}
		return nil
	})
	return err
}

// walk calls f with every record, in transactions that do not last. errHistory when
// something is not in order. Nothing moves there meanwhile.
func (h *history) walk(ctx context.Context, f func(ending) error) error {
	h.moving.Lock()
	defer h.moving.Unlock()
	var next []byte
	records := 0
	for {
		last := records + 1000
		err := h.view(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucketRecords).Cursor()
			k, v := c.Seek(next)
			for ; k != nil && records < last; k, v = c.Next() {
				e, err := decodeRecord(k, v)
				if err != nil {
					return err
				}
				at := tx.Bucket(bucketTimes).Get(e.Entry.ID[:])
				if string(at) != string(k[:8]) || string(digest(e.Receipt)) != string(e.Entry.Receipt) {
					return errHistory
				}
				if err := f(e); err != nil {
					return err
				}
				records++
			}
			next = append(next[:0], k...)
			return ctx.Err()
		})
		if err != nil {
			return err
		}
		if len(next) == 0 {
			break
		}
	}
	if n, _, err := h.count(); err != nil || n != records {
		return errors.Join(err, errHistory)
	}
	return nil
}

func (h *history) count() (n int, seq uint64, err error) {
	err = h.view(func(tx *bolt.Tx) error {
		n, seq = tx.Bucket(bucketTimes).Stats().KeyN, tx.Bucket(bucketRecords).Sequence()
		return nil
	})
	return n, seq, err
}

// add puts records into the history, in one transaction.
func (h *history) add(db *bolt.DB, records []ending) error {
	return h.update(db, historyFile, func(tx *bolt.Tx) error {
		b, times := tx.Bucket(bucketRecords), tx.Bucket(bucketTimes)
		b.FillPercent = 1 // they come in order
		seq := b.Sequence()
		for _, e := range records {
			e.Entry.State = Purged
			v, err := json.Marshal(e)
			if err != nil {
				return err
			}
			id, at := e.Entry.ID, sortable(e.Entry.Done)
			if old := times.Get(id[:]); old != nil {
				if err := b.Delete(append(old[:len(old):len(old)], id[:]...)); err != nil {
					return err
				}
			}
			k := append(at[:8:8], id[:]...)
			if err := errors.Join(b.Put(k, withSum(k, v)), times.Put(id[:], at)); err != nil {
				return err
			}
			seq = max(seq, e.Entry.Seq)
		}
		return b.SetSequence(seq)
	})
}

// sortable is a time as eight bytes that sort like times do.
func sortable(t time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(t.UnixNano())^1<<63)
}

// makeHistory makes the history of what can be read of the old one and of what the
// journal has, but for those that skip says yes to, and puts it in the place of the
// old one.
func (q *Queue) makeHistory(ctx context.Context, r *Report, skip func(ID) bool) error {
	tmp := historyFile + tmpSuffix
	if err := q.before("write", tmp); err != nil {
		return err
	}
	if err := os.Remove(q.path(tmp)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(q.path(tmp), 0o600, historyOptions(true))
	if err != nil {
		return err
	}
	defer func() {
		if db != nil {
			db.Close()
		}
	}()
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketRecords, bucketTimes} {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var some []ending
	add := func() error {
		err := q.history.add(db, some)
		some = some[:0]
		return errors.Join(err, ctx.Err())
	}
	take := func(e ending) error {
		if e.Receipt == nil || skip(e.Entry.ID) {
			return nil
		}
		if some = append(some, e); len(some) == 1000 {
			return add()
		}
		return nil
	}
	err = q.history.salvage(take)
	if err == nil {
		_, err = q.journal.each(func(_ ID, e ending) error { return take(e) })
	}
	if err == nil && len(some) > 0 {
		err = add()
	}
	if err != nil {
		return err
	}
	if !q.unsynced {
		if err := q.before("sync", tmp); err != nil {
			return err
		}
		if err := db.Sync(); err != nil {
			return &os.PathError{Op: "sync", Path: tmp, Err: err}
		}
	}
	err, db = db.Close(), nil
	if err != nil {
		return err
	}
	q.history.mu.Lock()
	defer q.history.mu.Unlock()
	if q.history.db != nil {
		if err := errors.Join(q.history.db.Close(), q.setAside(r, historyFile)); err != nil {
			return err
		}
	}
	if err := q.before("rename", historyFile); err != nil {
		return err
	}
	if err := os.Rename(q.path(tmp), q.path(historyFile)); err != nil {
		return err
	}
	if err := q.syncDir("."); err != nil {
		return err
	}
	return q.history.open()
}

// archive moves the purged to the history: there first.
func (q *Queue) archive() error {
	if !q.history.moving.TryLock() {
		return nil // another time
	}
	defer q.history.moving.Unlock()
	ids := q.purged
	var moved []ending
	err := q.view(func(tx *bolt.Tx) error {
		for _, id := range ids {
			e, err := entry(tx, id)
			if err != nil {
				return err
			}
			receipt := tx.Bucket(bucketReceipts).Get(be(e.Seq))
			if string(digest(receipt)) != string(e.Receipt) {
				old, err := q.journal.find(id)
				if receipt = old.Receipt; err != nil || string(digest(receipt)) != string(e.Receipt) {
					continue // it stays where it is
				}
			}
			moved = append(moved, ending{Record: id.String(), Entry: e, Receipt: append([]byte(nil), receipt...)})
		}
		return nil
	})
	if err == nil && len(moved) > 0 {
		err = q.history.add(q.history.db, moved)
	}
	if err == nil && len(moved) > 0 {
		err = q.commit(func(tx *bolt.Tx) error {
			for _, e := range moved {
				id, k := e.Entry.ID, be(e.Entry.Seq)
				if err := errors.Join(tx.Bucket(bucketIDs).Delete(id[:]), tx.Bucket(bucketEnded).Delete(k), tx.Bucket(bucketReceipts).Delete(k)); err != nil {
					return err
				}
			}
			c, err := readCounts(tx)
			if err != nil {
				return err
			}
			c.Archived += int64(len(moved))
			return writeCounts(tx, c)
		})
	}
	if clean(err) {
		return nil // they stay until there is room
	}
	if err != nil {
		return q.failed("history", err)
	}
	q.purged = nil
	return q.shortenJournal()
}

// shortenJournal takes the oldest lines out of a journal that has become too long.
func (q *Queue) shortenJournal() error {
	if q.journal.size < q.opts.journalAt {
		return nil
	}
	err := q.journal.shorten(q.opts.journalAt/2, func(id ID) (bool, error) {
		_, err := q.here(id)
		if errors.Is(err, ErrUnknown) {
			return false, nil
		}
		return true, err
	})
	if clean(err) {
		return nil // another time
	}
	if err != nil {
		return q.failed("journal", err)
	}
	return nil
}

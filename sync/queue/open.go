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
	berrors "go.etcd.io/bbolt/errors"
)

// Report says what opening found and did.
type Report struct {
	Created     bool     // there was no queue here
	Rebuilt     bool     // the database was damaged or gone: made anew from spool and journal
	SetAside    []string // files kept under damaged/
	Recovered   int      // records put back into the database
	Repaired    int      // copies of records written again from the other copy
	Single      int      // records with no second copy, for want of room
	Quarantined int      // waiting records of which no good copy is left
	Unreadable  int      // damaged lines of the journal; counted in a rebuild only
	Cleaned     int      // files that were left over
}

// Open opens the queue in dir, made if it is not there. Errors: ErrLocked when
// another process has it, ErrDamaged when not even the second copies can be
// read, ErrFull.
func Open(ctx context.Context, dir string, o Options) (*Queue, Report, error) {
	var r Report
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Check == nil {
		o.Check = check
	}
	if err := os.MkdirAll(filepath.Join(dir, spoolDir), 0o700); err != nil {
		return nil, r, fmt.Errorf("make queue: %w", err)
	}
	lock, err := lockDir(ctx, dir, o.LockTimeout)
	if err != nil {
		return nil, r, err
	}
	w := files{dir: dir, step: o.step, unsynced: o.unsynced}
	q := &Queue{files: w, opts: o, lock: lock, spool: spool{files: w, at: map[ID]place{}, live: map[uint64]int{}}}
	if err := q.open(ctx, &r); err != nil {
		return nil, r, errors.Join(err, q.Close())
	}
	return q, r, nil
}

func (q *Queue) open(ctx context.Context, r *Report) (err error) {
	file := q.path(database)
	dirs := []string{".", spoolDir}
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && info.Size() == 0: // new, or gone
		dirs = append(dirs, "..")
		if err := q.makeDatabase(); err != nil {
			return q.failed("make database", err)
		}
	case err != nil:
		return fmt.Errorf("open queue: %w", err)
	default:
		err := q.opts.Check(ctx, file)
		if errors.Is(err, ErrDamaged) {
			r.Rebuilt = true
			err = q.setAside(r, database)
		}
		if err != nil {
			return err
		}
	}
	if q.journal, err = openJournal(q.files); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	q.db, err = bolt.Open(file, 0o600, q.boltOptions())
	if errors.Is(err, berrors.ErrTimeout) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	for _, dir := range dirs {
		if err := q.syncDir(dir); err != nil {
			return q.failed("sync directory", err)
		}
	}
	if err := q.reconcile(ctx, r); err != nil {
		return err
	}
	return q.load()
}

func (q *Queue) boltOptions() *bolt.Options {
	return &bolt.Options{Timeout: q.opts.LockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType, NoSync: q.unsynced}
}

// makeDatabase makes an empty database, which gets its name when it is whole.
func (q *Queue) makeDatabase() error {
	tmp := database + tmpSuffix
	if err := q.before("write", tmp); err != nil {
		return err
	}
	if err := os.Remove(q.path(tmp)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(q.path(tmp), 0o600, q.boltOptions()) // synced by bbolt
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := q.before("rename", database); err != nil {
		return err
	}
	return os.Rename(q.path(tmp), q.path(database))
}

// reconcile makes the database agree with the second copies, in one transaction:
// what a cut kept from it or a rebuild has lost comes back, what is damaged in
// it is written again. Then the second copies are made whole.
func (q *Queue) reconcile(ctx context.Context, r *Report) error {
	segments, strange, err := q.spool.load(ctx)
	if err != nil {
		return err
	}
	fileHead, err := q.readHeadFile(r)
	if err != nil {
		return err
	}
	q.headFileSeq = fileHead.seq
	var frames []frame
	for _, s := range segments {
		frames = append(frames, s.frames...)
	}
	slices.SortStableFunc(frames, func(a, b frame) int { return cmp.Compare(a.seq, b.seq) })
	fresh := false
	err = q.commit(func(tx *bolt.Tx) error {
		if fresh = tx.Bucket(bucketEntries) == nil; fresh {
			if err := makeBuckets(tx); err != nil {
				return err
			}
			if err := q.importJournal(tx, frames, r); err != nil {
				return err
			}
		}
		head, err := readHead(tx)
		if err != nil {
			return err
		}
		if fileHead.seq > head.seq {
			head = fileHead
		}
		q.seq = max(tx.Bucket(bucketEntries).Sequence(), fileHead.seq)
		for _, f := range frames {
			if err := ctx.Err(); err != nil {
				return err
			}
			if f.head != nil && f.seq > head.seq {
				head = dbHead{f.seq, f.head}
			}
			if err := q.reconcileFrame(tx, f, r); err != nil {
				return err
			}
		}
		q.headSeq = head.seq
		if err := tx.Bucket(bucketEntries).SetSequence(q.seq); err != nil {
			return err
		}
		if head.seq == 0 {
			return nil
		}
		return writeHead(tx, head)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return q.failed("reconcile", err)
	}
	found := len(segments)+len(strange)+r.Recovered+r.Unreadable > 0 || fileHead.seq > 0
	r.Created = fresh && !r.Rebuilt && !found
	r.Rebuilt = r.Rebuilt || fresh && found
	for _, name := range strange {
		if err := q.setAside(r, name); err != nil {
			return err
		}
	}
	for _, s := range segments {
		if err := q.tidy(s, r); err != nil {
			return err
		}
	}
	return q.respool(ctx, r)
}

// reconcileFrame makes the database agree with one record of the spool.
func (q *Queue) reconcileFrame(tx *bolt.Tx, f frame, r *Report) error {
	e, err := entry(tx, f.id)
	switch {
	case errors.Is(err, ErrUnknown): // cut before the database was told
		s, err := q.spool.readAt(f.id, f.place)
		if err != nil {
			return err
		}
		if f.seq > q.seq {
			q.seq = f.seq
		} else if tx.Bucket(bucketWaiting).Get(be(f.seq)) != nil {
			q.seq++
			f.seq = q.seq
		}
		if err := insert(tx, s.Item, f.seq, f.put); err != nil {
			return err
		}
		r.Recovered++
	case err != nil:
		return err
	case e.State == Purged || !bytes.Equal(e.Digest, f.digest):
		return nil
	case !bytes.Equal(e.Digest, digest(tx.Bucket(bucketData).Get(f.id[:]))):
		s, err := q.spool.readAt(f.id, f.place)
		if err != nil {
			return err
		}
		if err := tx.Bucket(bucketData).Put(f.id[:], s.Data); err != nil {
			return err
		}
		r.Repaired++
	}
	q.spool.adopt(f.id, f.place)
	return nil
}

// readHeadFile reads the head's second copy; nothing when there is none. A
// damaged one is set aside: the database has the first.
func (q *Queue) readHeadFile(r *Report) (h dbHead, err error) {
	if err := os.Remove(q.path(headFile + tmpSuffix)); err == nil {
		r.Cleaned++
	}
	b, err := readBounded(q.path(headFile), MaxHead+64)
	if errors.Is(err, os.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		h.seq, h.head, err = decodeHead(b)
	}
	if err != nil {
		return dbHead{}, q.setAside(r, headFile)
	}
	return h, nil
}

// importJournal brings back what the journal knows of records. The bytes of
// those that were not purged come from the spool.
func (q *Queue) importJournal(tx *bolt.Tx, frames []frame, r *Report) (err error) {
	spooled := map[ID][]frame{}
	for _, f := range frames {
		spooled[f.id] = append(spooled[f.id], f)
	}
	r.Unreadable, err = q.journal.each(func(id ID, e ending) error {
		i := slices.IndexFunc(spooled[id], func(f frame) bool { return bytes.Equal(f.digest, e.Entry.Digest) })
		if e.Receipt != nil && i < 0 {
			e.Entry.State = Purged
		}
		if old, err := entry(tx, id); err == nil {
			if err := uncount(tx, old); err != nil {
				return err
			}
		} else {
			r.Recovered++
		}
		if i >= 0 {
			s, err := q.spool.readAt(id, spooled[id][i].place)
			if err != nil {
				return err
			}
			if err := tx.Bucket(bucketData).Put(id[:], s.Data); err != nil {
				return err
			}
		}
		if e.Receipt != nil {
			if err := tx.Bucket(bucketReceipts).Put(id[:], e.Receipt); err != nil {
				return err
			}
		}
		if e.Entry.Seq > tx.Bucket(bucketEntries).Sequence() {
			if err := tx.Bucket(bucketEntries).SetSequence(e.Entry.Seq); err != nil {
				return err
			}
		}
		return putEntry(tx, e.Entry)
	})
	return err
}

// tidy removes a file of the spool that no record needs, and sets a damaged one
// aside once its good records stand in another.
func (q *Queue) tidy(s segment, r *Report) error {
	// A piece at the end is what a cut leaves of a record that was never
	// acknowledged: the database, being whole, has never heard of it.
	if s.bad && (r.Rebuilt || !s.tail) {
		for _, f := range s.frames {
			if p, _ := q.spool.place(f.id); p != f.place {
				continue
			}
			copied, err := q.spool.read(f.id)
			if err == nil {
				err = q.spool.add(copied.Item, copied.seq, copied.put)
			}
			if clean(err) {
				return nil // no room to make it better
			}
			if err != nil {
				return q.failed("spool", err)
			}
			r.Repaired++
		}
		return q.setAside(r, segmentName(s.number))
	}
	if q.spool.live[s.number] > 0 {
		return nil
	}
	r.Cleaned++
	return q.remove(segmentName(s.number))
}

// respool writes second copies again where they are gone, and quarantines
// waiting records of which no good copy is left.
func (q *Queue) respool(ctx context.Context, r *Report) error {
	type job struct {
		e    Entry
		data []byte
	}
	var jobs []job
	err := q.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketEntries).ForEach(func(k, v []byte) error {
			e, err := decodeEntry(k, v)
			if _, ok := q.spool.place(e.ID); err == nil && !ok && e.State != Purged {
				data, _ := q.data(tx, e)
				jobs = append(jobs, job{e, data})
			}
			return errors.Join(err, ctx.Err())
		})
	})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.data == nil {
			if j.e.State != Queued {
				continue
			}
			r.Quarantined++
			if err := q.Quarantine(ctx, j.e.ID, bothDamaged); err != nil {
				return err
			}
			continue
		}
		switch err := q.spool.add(Item{ID: j.e.ID, Data: j.data}, j.e.Seq, j.e.Put); {
		case clean(err):
			r.Single++
		case err != nil:
			return q.failed("spool", err)
		default:
			r.Repaired++
		}
	}
	if q.headFileSeq < q.headSeq {
		if err := q.saveHead(ctx); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
	}
	return nil
}

// setAside moves a file of the queue to damaged/, under a name of its own.
func (q *Queue) setAside(r *Report, name string) error {
	if err := os.MkdirAll(q.path(damagedDir), 0o700); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	to := filepath.Join(damagedDir, fmt.Sprintf("%s-%d", filepath.Base(name), q.opts.Clock().UnixNano()))
	if err := os.Rename(q.path(name), q.path(to)); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	r.SetAside = append(r.SetAside, to)
	if err := errors.Join(q.syncDir("."), q.syncDir(damagedDir), q.syncDir(filepath.Dir(name))); err != nil {
		return q.failed("set aside", err)
	}
	return nil
}

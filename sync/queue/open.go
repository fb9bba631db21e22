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
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Report says what opening, or Scrub, found and did.
type Report struct {
	Created     bool     // there was no queue here
	Rebuilt     bool     // the database was damaged or gone: made anew from spool and journal
	History     bool     // the history was damaged or gone: made anew from the journal
	SetAside    []string // files kept under damaged/
	Recovered   int      // records put back into the database, or that it had not been told of before a crash
	Repaired    int      // copies of records and receipts written again from the other copy
	Single      int      // records with no second copy, for want of room
	Quarantined int      // waiting records of which no good copy is left
	Unreadable  int      // damaged lines of the journal; counted when it is read only
	Cleaned     int      // files that were left over
	Purged      int      // receipted records whose bytes were still here
	Compacted   int64    // bytes that the database gave back
}

// Mended says that something was wrong: what else a report counts is every day's.
func (r Report) Mended() bool { return r.String() != "" }

// String says it in words, for logs and for whoever looks after the kiosk; "" when
// nothing was wrong.
func (r Report) String() string {
	var said []string
	say := func(yes bool, format string, args ...any) {
		if yes {
			said = append(said, fmt.Sprintf(format, args...))
		}
	}
	say(r.Rebuilt, "database made anew from the second copies")
	say(r.History, "history made anew from the journal")
	say(r.Rebuilt && r.Recovered > 0, "%d records put back", r.Recovered)
	say(r.Repaired > 0, "%d copies written again", r.Repaired)
	say(r.Single > 0, "no room for the second copies of %d records", r.Single)
	say(r.Quarantined > 0, "%d records set aside, damaged in both copies", r.Quarantined)
	say(r.Unreadable > 0, "%d lines of the journal damaged", r.Unreadable)
	say(len(r.SetAside) > 0, "kept for a look: %s", strings.Join(r.SetAside, ", "))
	return strings.Join(said, "; ")
}

// Open opens the queue in dir, made if it is not there. Errors: ErrLocked when
// another process has it, ErrDamaged when not even the second copies can be
// read, ErrFull.
func Open(ctx context.Context, dir string, o Options) (*Queue, Report, error) {
	var r Report
	o.LockTimeout = cmp.Or(o.LockTimeout, time.Second)
	o.Reserve = cmp.Or(o.Reserve, DefaultReserve)
	o.archiveAt = cmp.Or(o.archiveAt, 256)
	o.compactAt = cmp.Or(o.compactAt, 16<<20)
	o.fullPart = cmp.Or(o.fullPart, 2)
	o.reserveDB = cmp.Or(o.reserveDB, 4<<20)
	o.journalAt = cmp.Or(o.journalAt, 64<<20)
	o.untoldAt = cmp.Or(o.untoldAt, 2048)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Check == nil {
		o.Check = check
	}
	if err := ofBefore(dir); err != nil {
		return nil, r, err
	}
	if err := os.MkdirAll(filepath.Join(dir, spoolDir), 0o700); err != nil {
		return nil, r, fmt.Errorf("make queue: %w", err)
	}
	lock, err := lockDir(ctx, dir, o.LockTimeout)
	if err != nil {
		return nil, r, err
	}
	w := files{dir: dir, step: o.step, unsynced: o.unsynced}
	q := &Queue{files: w, opts: o, lock: lock, untold: map[ID]Entry{}, history: history{files: w}, spool: spool{files: w}}
	if err := q.open(ctx, &r); err != nil {
		return nil, r, errors.Join(err, q.Close())
	}
	return q, r, nil
}

// ofBefore refuses a queue whose files are of the format before: a database queue.db, and
// spool/1 without a second copy.
func ofBefore(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, "queue.db")); err == nil {
		return fmt.Errorf("%w: queue.db", ErrFormat)
	}
	names, err := os.ReadDir(filepath.Join(dir, spoolDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open queue: %w", err)
	}
	for _, f := range names {
		if _, err := strconv.ParseUint(f.Name(), 10, 64); err == nil {
			return fmt.Errorf("%w: %s", ErrFormat, filepath.Join(spoolDir, f.Name()))
		}
	}
	return nil
}

func (q *Queue) open(ctx context.Context, r *Report) (err error) {
	dirs := []string{"."}
	closed := false
	info, err := os.Lstat(q.path(database))
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && info.Size() == 0: // new, or gone
		dirs = append(dirs, "..", spoolDir)
		if err := q.makeDatabase(); err != nil {
			return q.failed("make database", err)
		}
	case err != nil:
		return fmt.Errorf("open queue: %w", err)
	default:
		if closed = q.closedAs(); closed {
			break
		}
		err := q.opts.Check(ctx, q.path(database))
		if errors.Is(err, ErrDamaged) {
			r.Rebuilt = true
			err = q.setAside(r, database)
		}
		if err != nil {
			return err
		}
	}
	if err := q.unmarkClosed(); err != nil {
		return q.failed("open", err)
	}
	if q.journal, err = openJournal(q.files); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	if err := q.openDatabase(); err != nil {
		return err
	}
	if err := q.compact(ctx, r); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := q.syncDir(dir); err != nil {
			return q.failed("sync directory", err)
		}
	}
	if err := q.reconcile(ctx, closed, r); err != nil {
		return err
	}
	if err := q.load(); err != nil {
		return err
	}
	q.whole = true
	return nil
}

func (q *Queue) openDatabase() (err error) {
	q.db, err = bolt.Open(q.path(database), 0o600, q.boltOptions())
	if errors.Is(err, berrors.ErrTimeout) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return nil
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
	if err := errors.Join(db.Close(), q.reserve(tmp)); err != nil {
		return err
	}
	if err := q.before("rename", database); err != nil {
		return err
	}
	return os.Rename(q.path(tmp), q.path(database))
}

// reserve gives a database, durably, the room that a kiosk's days take: its writes
// allocate nothing, which spares the file system's journal two writes out of three,
// and find their place on a full disk. Without room it grows as it must.
func (q *Queue) reserve(name string) error {
	f, err := os.OpenFile(q.path(name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() >= q.opts.reserveDB {
		return err
	}
	if _, err := f.WriteAt(make([]byte, q.opts.reserveDB-info.Size()), info.Size()); clean(err) {
		return f.Truncate(info.Size())
	} else if err != nil {
		return err
	}
	return q.sync(f, name)
}

// compact gives back what the database no longer uses, when that is half of it: its
// file never shrinks by itself. The new one is written beside the old, synced and
// checked before it takes the name. Without room the old one stays.
func (q *Queue) compact(ctx context.Context, r *Report) error {
	free, used := int64(q.db.Stats().FreePageN)*int64(q.db.Info().PageSize), q.used()
	if free < q.opts.compactAt || free < used/q.opts.fullPart {
		return nil
	}
	tmp := database + tmpSuffix
	err := q.compactTo(tmp)
	if err == nil {
		err = q.reserve(tmp)
	}
	if clean(err) || err == nil && q.opts.Check(ctx, q.path(tmp)) != nil {
		os.Remove(q.path(tmp))
		return ctx.Err()
	}
	if err == nil {
		err = q.db.Close()
	}
	if err == nil {
		err = q.before("rename", database)
	}
	if err == nil {
		err = os.Rename(q.path(tmp), q.path(database))
	}
	if err != nil {
		return q.failed("compact", err)
	}
	// The directory is synced before anything is written into the new file.
	if err := q.openDatabase(); err != nil {
		return err
	}
	r.Compacted = used - q.used()
	return nil
}

// used is the size of the database, without what is reserved behind it.
func (q *Queue) used() (n int64) {
	q.view(func(tx *bolt.Tx) error { n = tx.Size(); return nil })
	return n
}

func (q *Queue) compactTo(tmp string) error {
	if err := q.before("write", tmp); err != nil {
		return err
	}
	if err := os.Remove(q.path(tmp)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	o := q.boltOptions()
	o.NoSync = true // once, at the end
	db, err := bolt.Open(q.path(tmp), 0o600, o)
	if err != nil {
		return err
	}
	err = guarded(func() error { return bolt.Compact(db, q.db, 1<<20) })
	if err == nil && !q.unsynced {
		if err = q.before("sync", tmp); err == nil {
			err = db.Sync()
		}
	}
	return errors.Join(err, db.Close())
}

// reconcile makes the database agree with what stands in spool, journal and head file,
// in one transaction: what a cut kept from it or a rebuild has lost comes back. Then the
// files are made whole.
func (q *Queue) reconcile(ctx context.Context, closed bool, r *Report) error {
	here, strange, err := q.spool.list()
	if err != nil {
		return err
	}
	known, err := q.knownSpool()
	if err != nil {
		return err
	}
	// Of a closed queue the database knows every record. After a crash the newest pair
	// that it knows of, and those that it does not, may hold records that it was not
	// told of.
	var look []uint64
	for n := range here {
		q.spool.last = max(q.spool.last, n)
		if known.fresh || n > known.last || n == known.last && !closed {
			look = append(look, n)
		}
	}
	q.spool.last = max(q.spool.last, known.last)
	slices.Sort(look)
	segments, err := q.spool.loadAll(ctx, look)
	if err != nil {
		return err
	}
	var frames []frame
	for _, s := range segments {
		frames = append(frames, s.frames...)
	}
	slices.SortStableFunc(frames, func(a, b frame) int { return cmp.Compare(a.seq, b.seq) })
	// What a killed program has written is there, and on the disk perhaps not yet.
	for _, s := range segments {
		if err := q.syncPair(s); err != nil {
			return q.failed("spool", err)
		}
	}
	if err := q.openHistory(ctx, r, known.fresh, frames); err != nil {
		return err
	}
	fileHead, err := q.readHeadFile(r)
	if err != nil {
		return err
	}
	q.headFileSeq = fileHead.seq
	ends, err := q.knownEnds(known.fresh, closed, known.last) // where in a pair the last frame ends that the database knows
	if err != nil {
		return err
	}
	tell := q.commit
	if closed && len(frames) == 0 && fileHead.seq <= known.head {
		tell = q.view // there is nothing to be told
	}
	err = tell(func(tx *bolt.Tx) error {
		var t tally
		if known.fresh {
			if err := makeBuckets(tx); err != nil {
				return err
			}
			if err := q.importEndings(tx, &t, frames, r); err != nil {
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
		q.seq = max(tx.Bucket(bucketIDs).Sequence(), fileHead.seq)
		for _, f := range frames {
			if err := ctx.Err(); err != nil {
				return err
			}
			if f.head != nil && f.seq > head.seq {
				head = dbHead{f.seq, f.head}
			}
			if err := q.reconcileFrame(tx, &t, f, r); err != nil {
				return err
			}
		}
		q.headSeq = head.seq
		if !tx.Writable() {
			return nil
		}
		if err := errors.Join(t.write(tx), q.setSequences(tx)); err != nil || head.seq == 0 {
			return err
		}
		return writeHead(tx, head)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return q.failed("reconcile", err)
	}
	found := len(here)+len(strange)+r.Recovered+r.Unreadable > 0 || fileHead.seq > 0
	r.Created = known.fresh && !r.Rebuilt && !found
	r.Rebuilt = r.Rebuilt || known.fresh && found
	for _, name := range strange {
		if err := q.setAside(r, name); err != nil {
			return err
		}
	}
	if err := q.tidy(here, segments, ends, r); err != nil {
		return err
	}
	return q.finish(ctx, r)
}

func (q *Queue) syncPair(s segment) error {
	for n, c := range s.copies {
		if len(s.frames) == 0 || c.content == nil {
			continue
		}
		f, err := os.OpenFile(q.path(copyName(s.number, n)), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(q.sync(f, copyName(s.number, n)), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// knownSpool is what the database says before anything is made of the files.
type knownSpool struct {
	fresh bool   // it is empty
	last  uint64 // the newest pair of files
	head  uint64 // number of the head
}

func (q *Queue) knownSpool() (k knownSpool, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		if k.fresh = tx.Bucket(bucketIDs) == nil; !k.fresh {
			head, err := readHead(tx)
			k.last, k.head = tx.Bucket(bucketSpool).Sequence(), head.seq
			return err
		}
		return nil
	})
	return k, err
}

// knownEnds finds where, in the newest pair of files, the last frame ends that the
// database knows. What stands behind it is what a cut leaves of records that were
// never acknowledged, in any order.
func (q *Queue) knownEnds(fresh, closed bool, last uint64) (map[uint64]int64, error) {
	ends := map[uint64]int64{}
	if fresh || closed {
		return ends, nil
	}
	return ends, q.view(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketWaiting, bucketEnded} {
			c := tx.Bucket(b).Cursor()
			for k, v := c.Last(); k != nil; k, v = c.Prev() {
				e, err := decodeEntry(k, v)
				if err != nil {
					return err
				}
				if e.at.segment == last {
					ends[last] = max(ends[last], e.at.offset+int64(e.at.size))
				}
			}
		}
		return nil
	})
}

// openHistory opens the history, or makes it anew when that cannot be done.
func (q *Queue) openHistory(ctx context.Context, r *Report, fresh bool, frames []frame) error {
	_, err := os.Lstat(q.path(historyFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		r.History = q.journal.size > 0
	case err != nil:
		return fmt.Errorf("open history: %w", err)
	default:
		err = q.history.open()
		if err == nil && fresh { // what is not there is taken from the journal
			err = q.history.walk(ctx, func(ending) error { return nil })
		}
		if err == nil || !errors.Is(err, ErrDamaged) {
			return err
		}
		r.History = true
		if q.history.db == nil {
			if err := q.setAside(r, historyFile); err != nil {
				return err
			}
		}
	}
	spooled := map[ID]bool{}
	for _, f := range frames {
		spooled[f.id] = fresh
	}
	err = q.makeHistory(ctx, r, func(id ID) bool {
		if fresh {
			return spooled[id]
		}
		_, err := q.here(id)
		return !errors.Is(err, ErrUnknown)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return q.failed("make history", err)
	}
	return nil
}

// reconcileFrame tells the database of one record of the spool, if it does not know
// it: cut before it was told, or the database was lost.
func (q *Queue) reconcileFrame(tx *bolt.Tx, t *tally, f frame, r *Report) error {
	if _, err := entry(tx, f.id); err == nil || !errors.Is(err, ErrUnknown) {
		return err
	}
	old, err := q.history.find(f.id)
	if err == nil && bytes.Equal(old.Entry.Digest, f.digest[:]) {
		return nil
	}
	if err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, errHistory) {
		return err
	}
	if f.seq > q.seq {
		q.seq = f.seq
	} else if taken(tx, f.seq) {
		q.seq++
		f.seq = q.seq
	}
	r.Recovered++
	return putEntry(tx, t, Entry{ID: f.id, State: Queued, Seq: f.seq, Size: f.length, Digest: f.digest[:], Put: f.put, at: f.place})
}

// readHeadFile reads the head's second copy; nothing when there is none. A
// damaged one is set aside: the database has the first. What was being written goes.
func (q *Queue) readHeadFile(r *Report) (h dbHead, err error) {
	for _, name := range []string{headFile, journalFile, closedFile} {
		if err := os.Remove(q.path(name + tmpSuffix)); err == nil {
			r.Cleaned++
		}
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

// importEndings brings back what the journal knows of records that are not in the
// history. The bytes of those that were not purged are in the spool.
func (q *Queue) importEndings(tx *bolt.Tx, t *tally, frames []frame, r *Report) (err error) {
	spooled := map[ID][]frame{}
	for _, f := range frames {
		spooled[f.id] = append(spooled[f.id], f)
	}
	archived, seq, err := q.history.count()
	if err != nil {
		return err
	}
	r.Unreadable, err = q.journal.each(func(id ID, e ending) error {
		seq = max(seq, e.Entry.Seq)
		if _, err := q.history.find(id); err == nil {
			return nil
		}
		i := slices.IndexFunc(spooled[id], func(f frame) bool { return bytes.Equal(f.digest[:], e.Entry.Digest) })
		if i >= 0 {
			e.Entry.at = spooled[id][i].place
		} else if e.Receipt != nil {
			e.Entry.State = Purged
		}
		old, err := entry(tx, id)
		switch {
		case err == nil:
			err = dropEntry(tx, t, old)
		case errors.Is(err, ErrUnknown):
			r.Recovered++
			err = nil
		}
		if err != nil {
			return err
		}
		if e.Receipt != nil {
			if err := tx.Bucket(bucketReceipts).Put(be(e.Entry.Seq), e.Receipt); err != nil {
				return err
			}
		}
		return putEntry(tx, t, e.Entry)
	})
	if err != nil {
		return err
	}
	t.counts.Archived += int64(archived)
	t.counts.Receipted += int64(archived)
	return tx.Bucket(bucketIDs).SetSequence(seq)
}

// tidy makes the files of the spool what opening wants to find next time: gone when no
// record needs them, both of a pair there, and those that were read alike.
func (q *Queue) tidy(here map[uint64]bool, read []segment, ends map[uint64]int64, r *Report) error {
	var needed map[uint64]int64
	if err := q.view(func(tx *bolt.Tx) (err error) { needed, err = live(tx); return err }); err != nil {
		return err
	}
	for n := range here {
		i := slices.IndexFunc(read, func(s segment) bool { return s.number == n })
		end := int64(1 << 62) // all of it was known
		if i >= 0 && !r.Rebuilt {
			end = ends[n]
		}
		switch {
		case needed[n] > 0 && i >= 0:
			if err := q.repair(read[i], end, r); err != nil {
				return err
			}
		case needed[n] > 0:
			if err := q.findCopies(n, r); err != nil {
				return err
			}
		case i >= 0 && read[i].damaged(end): // nobody knows what that was
			if err := q.asidePair(n, r); err != nil {
				return err
			}
		default:
			r.Cleaned++
			if err := q.spool.drop(n); err != nil {
				return q.failed("spool", err)
			}
		}
	}
	return nil
}

// findCopies makes a copy of a pair anew when its file is gone.
func (q *Queue) findCopies(number uint64, r *Report) error {
	for n := range copies {
		if _, err := os.Lstat(q.path(copyName(number, n))); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		s, err := q.spool.load(number)
		if err != nil {
			return err
		}
		return q.repair(s, 1<<62, r)
	}
	return nil
}

// finish ends what a crash kept from its end.
func (q *Queue) finish(ctx context.Context, r *Report) error {
	ended, err := q.list(ctx, 1<<31, func(e Entry) bool { return e.State == Receipted || e.State == Purged }, bucketEnded)
	if err != nil {
		return err
	}
	var receipted []ID
	for _, e := range ended {
		if e.State == Purged {
			q.purged = append(q.purged, e.ID)
		} else {
			receipted = append(receipted, e.ID)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for some := range slices.Chunk(receipted, 256) {
		for _, err := range q.purgeAll(ctx, some) {
			if err != nil && !errors.Is(err, ErrFull) {
				return err
			}
			r.Purged++
		}
	}
	if q.headFileSeq < q.headSeq {
		if err := q.saveHead(ctx); err != nil && !errors.Is(err, ErrFull) {
			return err
		}
	}
	if len(q.purged) >= q.opts.archiveAt {
		return q.archive()
	}
	return nil
}

// setAside moves a file of the queue to damaged/, under a name of its own.
func (q *Queue) setAside(r *Report, name string) error {
	if err := os.MkdirAll(q.path(damagedDir), 0o700); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	to := q.asideName(name)
	if err := os.Rename(q.path(name), q.path(to)); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	r.SetAside = append(r.SetAside, to)
	if err := errors.Join(q.syncDir("."), q.syncDir(damagedDir), q.syncDir(filepath.Dir(name))); err != nil {
		return q.failed("set aside", err)
	}
	return nil
}

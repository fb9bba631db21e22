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
	Recovered   int      // records put back into the database
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
	say(r.Recovered > 0, "%d records put back", r.Recovered)
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
	o.reserveDB = cmp.Or(o.reserveDB, 4<<20)
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
	q := &Queue{files: w, opts: o, lock: lock, history: history{files: w}, spool: spool{files: w, at: map[ID]place{}, live: map[uint64]int{}}}
	if err := q.open(ctx, &r); err != nil {
		return nil, r, errors.Join(err, q.Close())
	}
	return q, r, nil
}

func (q *Queue) open(ctx context.Context, r *Report) (err error) {
	dirs := []string{".", spoolDir}
	info, err := os.Lstat(q.path(database))
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && info.Size() == 0: // new, or gone
		dirs = append(dirs, "..")
		if err := q.makeDatabase(); err != nil {
			return q.failed("make database", err)
		}
	case err != nil:
		return fmt.Errorf("open queue: %w", err)
	default:
		err := q.opts.Check(ctx, q.path(database))
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
	if err := q.reconcile(ctx, r); err != nil {
		return err
	}
	return q.load()
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

// compact gives back what the database no longer uses, when that is most of it: its
// file never shrinks by itself. The new one is written beside the old, synced and
// checked before it takes the name. Without room the old one stays.
func (q *Queue) compact(ctx context.Context, r *Report) error {
	free, used := int64(q.db.Stats().FreePageN)*int64(q.db.Info().PageSize), q.used()
	if free < q.opts.compactAt || free < used/2 {
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

// reconcile makes the database agree with the second copies, in one transaction:
// what a cut kept from it or a rebuild has lost comes back. Then the second copies
// are made whole.
func (q *Queue) reconcile(ctx context.Context, r *Report) error {
	fresh, entries, err := q.entries(ctx)
	if err != nil {
		return err
	}
	// The indexes in the spool are of what a whole database knows.
	segments, strange, err := q.spool.load(ctx, fresh)
	if err != nil {
		return err
	}
	var frames []frame
	for _, s := range segments {
		frames = append(frames, s.frames...)
	}
	slices.SortStableFunc(frames, func(a, b frame) int { return cmp.Compare(a.seq, b.seq) })
	if err := q.openHistory(ctx, r, fresh, entries, frames); err != nil {
		return err
	}
	fileHead, err := q.readHeadFile(r)
	if err != nil {
		return err
	}
	q.headFileSeq = fileHead.seq
	known := map[uint64]int64{} // where in each file the last frame ends that the database knew
	err = q.commit(func(tx *bolt.Tx) error {
		if fresh {
			if err := makeBuckets(tx); err != nil {
				return err
			}
			if err := q.importEndings(tx, entries, frames, r); err != nil {
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
			was, err := q.reconcileFrame(tx, entries, f, r)
			if err != nil {
				return err
			}
			if was {
				known[f.segment] = max(known[f.segment], f.offset+int64(f.size))
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
		if err := q.tidy(s, known[s.number], r); err != nil {
			return err
		}
	}
	return q.respool(ctx, entries, r)
}

// entries reads all that the database knows; fresh says that it is empty.
func (q *Queue) entries(ctx context.Context) (fresh bool, entries map[ID]Entry, err error) {
	entries = map[ID]Entry{}
	err = q.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketEntries)
		if fresh = b == nil; fresh {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			e, err := decodeEntry(k, v)
			entries[e.ID] = e
			return errors.Join(err, ctx.Err())
		})
	})
	return fresh, entries, err
}

// openHistory opens the history, or makes it anew when that cannot be done.
func (q *Queue) openHistory(ctx context.Context, r *Report, fresh bool, entries map[ID]Entry, frames []frame) error {
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
		if err := q.history.close(); err != nil {
			return fmt.Errorf("open history: %w", err)
		}
		r.History = true
		if err := q.setAside(r, historyFile); err != nil {
			return err
		}
	}
	spooled := map[ID]bool{}
	if fresh {
		for _, f := range frames {
			spooled[f.id] = true
		}
	}
	err = q.makeHistory(ctx, r, func(id ID) bool { _, here := entries[id]; return here || spooled[id] })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return q.failed("make history", err)
	}
	return nil
}

// reconcileFrame makes the database agree with one record of the spool, and says
// whether the database knew it.
func (q *Queue) reconcileFrame(tx *bolt.Tx, entries map[ID]Entry, f frame, r *Report) (known bool, err error) {
	e, known := entries[f.id]
	if !known {
		old, err := q.history.find(f.id)
		if err == nil && bytes.Equal(old.Entry.Digest, f.digest[:]) {
			return true, nil
		}
		if err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, errHistory) {
			return false, err
		}
		// Cut before the database was told, or the database was lost.
		s, err := q.spool.readAt(f.id, f.place)
		if err != nil {
			return false, err
		}
		if f.seq > q.seq {
			q.seq = f.seq
		} else if taken(tx, f.seq) {
			q.seq++
			s.seq = q.seq
		}
		if err := insert(tx, s); err != nil {
			return false, err
		}
		if e, err = entry(tx, f.id); err != nil {
			return false, err
		}
		entries[f.id] = e
		r.Recovered++
	}
	if e.State != Purged && bytes.Equal(e.Digest, f.digest[:]) {
		q.spool.adopt(f.id, f.place)
	}
	return known, nil
}

// taken says that another record has this number.
func taken(tx *bolt.Tx, seq uint64) bool {
	return tx.Bucket(bucketWaiting).Get(be(seq)) != nil || tx.Bucket(bucketData).Get(be(seq)) != nil
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

// importEndings brings back what the journal knows of records that are not in the
// history. The bytes of those that were not purged come from the spool.
func (q *Queue) importEndings(tx *bolt.Tx, entries map[ID]Entry, frames []frame, r *Report) (err error) {
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
		if e.Receipt != nil && i < 0 {
			e.Entry.State = Purged
		}
		if old, ok := entries[id]; ok {
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
			if err := tx.Bucket(bucketData).Put(be(e.Entry.Seq), s.Data); err != nil {
				return err
			}
		}
		if e.Receipt != nil {
			if err := tx.Bucket(bucketReceipts).Put(id[:], e.Receipt); err != nil {
				return err
			}
		}
		entries[id] = e.Entry
		return putEntry(tx, e.Entry)
	})
	if err != nil {
		return err
	}
	c, err := readCounts(tx)
	if err != nil {
		return err
	}
	c.Archived += archived
	c.Receipted += archived
	return errors.Join(writeCounts(tx, c), tx.Bucket(bucketEntries).SetSequence(seq))
}

// tidy makes a file of the spool what opening wants to find next time: gone when no
// record needs it, without what a crash has left, set aside when it is damaged.
func (q *Queue) tidy(s segment, known int64, r *Report) error {
	if q.spool.live[s.number] == 0 && (s.bad < 0 || s.bad >= known && !r.Rebuilt) {
		r.Cleaned++
		return q.remove(segmentName(s.number))
	}
	if s.indexed {
		return nil
	}
	// What stands behind the last record that the database knew is what a cut leaves
	// of records that were never acknowledged, in any order.
	torn := s.bad >= known && !r.Rebuilt
	if s.bad >= 0 {
		from := int64(0)
		if torn {
			from = s.bad
		}
		if err := q.rewrite(s.number, from, r); clean(err) {
			return nil // no room to make it better
		} else if err != nil {
			return q.failed("spool", err)
		}
		if !torn {
			return q.setAside(r, segmentName(s.number))
		}
		s.size = s.bad
		if q.spool.live[s.number] == 0 {
			return q.remove(segmentName(s.number))
		}
	}
	f, err := os.OpenFile(q.path(segmentName(s.number)), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer f.Close()
	if s.bad >= 0 {
		a := appender{files: q.files, name: segmentName(s.number), f: f}
		if err := a.cut(s.size); err != nil {
			return q.failed("spool", err)
		}
	}
	q.spool.seal(f, s.number, s.size)
	return nil
}

// rewrite gives the records whose frames stand in a file at from or behind, new
// frames in another one. Those that cannot be read are taken off its count.
func (q *Queue) rewrite(number uint64, from int64, r *Report) error {
	if number == q.spool.last {
		if err := q.spool.end(false); err != nil {
			return err
		}
	}
	ids, places := q.spool.in(number)
	for i, id := range ids {
		if places[i].offset < from {
			continue
		}
		copied, err := q.spool.read(id)
		if errors.Is(err, ErrDamaged) {
			q.spool.forget(id)
			continue
		}
		if err == nil {
			err = q.spool.add(copied)
		}
		if err != nil {
			return err
		}
		r.Repaired++
	}
	return nil
}

// respool writes second copies again where they are gone, quarantines waiting
// records of which no good copy is left, and ends what a crash kept from its end.
func (q *Queue) respool(ctx context.Context, entries map[ID]Entry, r *Report) error {
	var look []Entry
	for id, e := range entries {
		if _, ok := q.spool.place(id); !ok || e.State == Receipted {
			look = append(look, e)
		}
	}
	slices.SortFunc(look, func(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, e := range look {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.State == Purged {
			q.purged = append(q.purged, e.ID)
			continue
		}
		if _, ok := q.spool.place(e.ID); !ok {
			if err := q.mend(e, r); err != nil {
				return err
			}
		}
		if e.State == Receipted {
			if err := q.Purge(ctx, e.ID); err != nil && !errors.Is(err, ErrFull) {
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

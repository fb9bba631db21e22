// Package queue keeps opaque records durably until the registry has them.
//
// A record is in one of four states, and each arrow between them is one bbolt
// transaction:
//
//	queued -> receipted -> purged
//	queued -> quarantined
//
// Promises: when Put has returned nil the record survives any power cut; a
// record's bytes leave the disk only after its receipt is durable; one bad
// record never stops the others; nothing is ever recreated empty over damage.
//
// Put writes to the spool alone. bbolt is told of all that was put, in one transaction,
// before anything else is asked or done, and an opening after a crash tells it.
//
// Everything stands twice, the second time before bbolt is told: a record's bytes in
// two files of the spool; what bbolt says of it, in the frame around them and, when it
// has a receipt or the reason of its quarantine, as a line of the journal; the caller's
// head in the newest frame or the head file. bbolt's pages carry no checksum, so every
// value carries one; a read that meets damage takes the other copy. A database that is
// not what it was when it was closed, and fails its check (made in a child process: a
// bad page can end the process that reads it), is set aside and made anew from spool
// and journal.
//
// The database knows the records that are still here, and holds nothing of their
// bytes. What is left of the purged, entry and receipt, moves to another one, the
// history. Opening after a close reads neither the history nor the spool nor any
// entry of what waits; of the database it makes a checksum. Scrub reads everything,
// beside the work. After a crash the database is checked, and of the spool what was
// written last is read.
//
// The history keeps every receipt. The journal, its second copy, keeps those of the
// records that are still here and the newest others: an older one that rots can be had
// from the registry again.
//
// After a failed write the queue is as it was before, if there was no room; if
// the kernel may have lost something, this queue writes no more and must be
// opened anew. An operation that failed may be repeated.
//
// The queue knows nothing of what it keeps: the caller gives the id and, beside
// each record, an opaque head that must not get lost either. Sending is not its
// job, nor is knowing whether a receipt is genuine.
package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// DefaultReserve is what must be free on the disk before an enrollment, in bytes.
const DefaultReserve = 64 << 20

// Limits, in bytes: of a record, of a receipt or a reason, of the caller's head.
const (
	MaxData    = 1 << 20
	MaxReceipt = 64 << 10
	MaxHead    = 64 << 10
)

// Errors of the queue.
var (
	ErrFull     = errors.New("the disk is full: make room before the next enrollment")
	ErrLocked   = errors.New("another agent uses this queue: stop it first")
	ErrDamaged  = errors.New("the queue is damaged: call staff")
	ErrConflict = errors.New("another record has this id")
	ErrUnknown  = errors.New("no record of this id")
	ErrState    = errors.New("the record is not in a state for this")
	ErrSize     = errors.New("record or receipt too large or empty")
	ErrClosed   = errors.New("the queue is closed")
	ErrFormat   = errors.New("another version of this program has written the queue: deliver its records with that version")
)

// ID names a record. The caller supplies it.
type ID [32]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Item is a record to keep. Head is an opaque value of the caller's that is
// stored in the same transaction; nil leaves the old one.
type Item struct {
	ID   ID
	Data []byte
	Head []byte
}

// State of a record.
type State string

const (
	Queued      State = "queued"
	Receipted   State = "receipted"   // the receipt is durable, the bytes are still here
	Purged      State = "purged"      // only the receipt is left
	Quarantined State = "quarantined" // kept with its reason, never sent again
)

// Reason says why a record was quarantined. Evidence is what the registry
// signed, kept as it came.
type Reason struct {
	Code     string `json:"code"`
	Text     string `json:"text"`
	Evidence []byte `json:"evidence,omitempty"`
}

// Entry is what the queue knows about a record.
type Entry struct {
	ID     ID        `json:"-"`
	State  State     `json:"state"`
	Seq    uint64    `json:"seq"` // order of Put
	Size   int       `json:"size"`
	Digest []byte    `json:"digest"` // SHA-256 of the bytes
	Put    time.Time `json:"put"`
	Done   time.Time `json:"done,omitzero"` // receipted or quarantined
	Reason *Reason   `json:"reason,omitempty"`
	// SHA-256 of the receipt.
	Receipt []byte `json:"receipt,omitempty"`

	at place // of its bytes in the spool
}

// Stats counts what is here.
type Stats struct {
	Waiting     int
	Oldest      time.Time // of the waiting records; zero when none waits
	Quarantined int
	Receipted   int // receipted or purged
	Bytes       int64
}

// Options of a queue. The zero value is right for a kiosk.
type Options struct {
	LockTimeout time.Duration    // how long to wait for another process; default 1 s
	Reserve     int64            // bytes that must be free before an enrollment; default DefaultReserve
	Clock       func() time.Time // default time.Now
	// Check runs the database check; default: in a child process, when the
	// program called RunCheck at its start, and in this process otherwise.
	// Errors that wrap ErrDamaged make Open rebuild, others make it fail.
	Check func(ctx context.Context, file string) error

	step      func(op, name string) error // tests cut and fail here
	unsynced  bool                        // tests' negative control
	archiveAt int                         // purged records that move to the history at once; tests have fewer
	compactAt int64                       // bytes that are worth a compaction; tests have fewer
	fullPart  int64                       // and one of so many parts of the database; tests have a smaller one
	reserveDB int64                       // least size of the database; tests have less
	journalAt int64                       // size at which the journal is made smaller; tests have less
	untoldAt  int                         // records that the database is not told of at most, which an opening after a crash reads; tests have fewer
}

// Queue is an open queue. Its methods may be called from several goroutines.
type Queue struct {
	files
	opts    Options
	db      *bolt.DB
	spool   spool
	journal *journal
	history history
	lock    *os.File

	arrivals arrivals

	mu          sync.Mutex // one change at a time, over all that stands on disk
	fatal       error      // after a failed sync nothing is written any more
	seq         uint64     // last number given to a record or head
	headSeq     uint64     // number of the head in force
	headFileSeq uint64     // number of the head in the head file
	whole       bool       // opening has ended, and closing may say that all is well
	purged      []ID       // records to move to the history

	untold     map[ID]Entry // records that were put and are not in the database yet
	untoldHead dbHead       // the head of the newest of them that has one
	behind     atomic.Bool  // there are such
}

// Close releases the queue.
func (q *Queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var errs []error
	if q.db != nil {
		if err := q.tellLocked(); err != nil { // the next opening finds them
			q.whole = false
		}
		errs = append(errs, q.endSpool(), q.closeDatabase())
		q.whole = false
	}
	if q.journal != nil {
		errs = append(errs, q.journal.close())
	}
	return errors.Join(append(errs, q.history.close(), q.lock.Close())...)
}

// endSpool ends the newest pair of files, which goes when nothing is in it.
func (q *Queue) endSpool() error {
	if q.spool.now[0] == nil {
		return nil
	}
	if q.fatal == nil && q.spool.now[0].size == 0 {
		return q.spool.drop(q.spool.last)
	}
	return q.spool.end()
}

// failed turns a write error into the caller's. For want of room the queue stays
// usable. After any other error the kernel may have dropped what it could not
// write, so this queue writes no more: a new opening looks at what is really
// there.
func (q *Queue) failed(what string, err error) error {
	if clean(err) {
		return fmt.Errorf("%s: %w: %w", what, ErrFull, err)
	}
	if q.fatal == nil {
		q.fatal = fmt.Errorf("%s: %w: %w", what, ErrDamaged, err)
	}
	return q.fatal
}

// Head returns the caller's value, nil when none was stored.
func (q *Queue) Head(ctx context.Context) (head []byte, err error) {
	if err := q.tell(); err != nil {
		return nil, err
	}
	err = q.view(func(tx *bolt.Tx) error {
		h, err := readHead(tx)
		head = bytes.Clone(h.head)
		return err
	})
	return head, err
}

// SetHead stores the caller's value durably. After an error the old value or the
// new one is in force.
func (q *Queue) SetHead(ctx context.Context, head []byte) error {
	if len(head) > MaxHead {
		return ErrSize
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.tellLocked(); err != nil {
		return err
	}
	q.seq++
	seq := q.seq
	if err := q.replace(headFile, encodeHead(seq, head)); err != nil {
		return q.failed("head", err)
	}
	q.headFileSeq = seq
	err := q.commit(func(tx *bolt.Tx) error {
		return errors.Join(q.setSequences(tx), writeHead(tx, dbHead{seq, head}))
	})
	if err != nil {
		return q.failed("head", err)
	}
	q.headSeq = seq
	return nil
}

// saveHead brings the head file up to the head in force.
func (q *Queue) saveHead(ctx context.Context) error {
	head, err := q.Head(ctx)
	if err != nil {
		return err
	}
	if err := q.replace(headFile, encodeHead(q.headSeq, head)); err != nil {
		return q.failed("head", err)
	}
	q.headFileSeq = q.headSeq
	return nil
}

// Waiting returns queued records, oldest first, without those that skip says yes
// to: at most items of them and size bytes in total, but at least one. A record
// whose copies are both damaged is quarantined and left out.
func (q *Queue) Waiting(ctx context.Context, items, size int, skip func(ID) bool) ([]Item, error) {
	if err := q.tell(); err != nil {
		return nil, err
	}
	var entries []Entry
	var total int
	err := q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketWaiting).Cursor()
		for k, v := c.First(); k != nil && len(entries) < items; k, v = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			e, err := decodeEntry(k, v)
			if err != nil {
				return err
			}
			if skip(e.ID) {
				continue
			}
			if len(entries) > 0 && total+e.Size > size {
				break
			}
			total += e.Size
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]Item, 0, len(entries))
	for _, e := range entries {
		data, err := q.Data(ctx, e.ID)
		switch {
		case errors.Is(err, errBoth):
			if err := q.Quarantine(ctx, e.ID, bothDamaged); err != nil && !errors.Is(err, ErrState) {
				return nil, err
			}
		case errors.Is(err, ErrState): // purged meanwhile
		case err != nil:
			return nil, err
		default:
			out = append(out, Item{ID: e.ID, Data: data})
		}
	}
	return out, nil
}

var bothDamaged = Reason{Code: "queue-damaged", Text: "both copies on this disk are damaged"}

// errBoth is ErrDamaged, of both copies of a record.
var errBoth = fmt.Errorf("%w: both copies of the record", ErrDamaged)

// Receipt is the receipt of a record.
type Receipt struct {
	ID    ID
	Bytes []byte
}

// StoreReceipt keeps a verified receipt: queued -> receipted. The same receipt
// again is harmless, another one ErrConflict.
func (q *Queue) StoreReceipt(ctx context.Context, id ID, receipt []byte) error {
	return q.StoreReceipts(ctx, []Receipt{{id, receipt}})[0]
}

// StoreReceipts is StoreReceipt for several records, in one transaction. The errors
// are theirs, in the same order.
func (q *Queue) StoreReceipts(ctx context.Context, receipts []Receipt) []error {
	arrows := make([]arrow, len(receipts))
	for i, r := range receipts {
		arrows[i] = arrow{id: r.ID, receipt: r.Bytes, turn: func(e *Entry) error {
			switch {
			case e.State == Quarantined:
				return ErrState
			case e.State == Queued:
				e.State, e.Done, e.Receipt = Receipted, q.opts.Clock().UTC(), digest(r.Bytes)
			case !bytes.Equal(e.Receipt, digest(r.Bytes)):
				return ErrConflict
			}
			return nil
		}}
		if len(r.Bytes) == 0 || len(r.Bytes) > MaxReceipt {
			arrows[i].refused = ErrSize
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.change(ctx, arrows)
}

// Purge removes the bytes of a receipted record: receipted -> purged. Entry and
// receipt stay. ErrState while there is no receipt.
func (q *Queue) Purge(ctx context.Context, id ID) error { return q.PurgeAll(ctx, []ID{id})[0] }

// PurgeAll is Purge for several records, in one transaction. The errors are theirs,
// in the same order.
func (q *Queue) PurgeAll(ctx context.Context, ids []ID) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.purgeAll(ctx, ids)
}

func (q *Queue) purgeAll(ctx context.Context, ids []ID) []error {
	arrows := make([]arrow, len(ids))
	for i, id := range ids {
		arrows[i] = arrow{id: id, turn: func(e *Entry) error {
			switch e.State {
			case Purged:
			case Receipted:
				e.State = Purged
			default:
				return ErrState
			}
			return nil
		}}
	}
	return q.change(ctx, arrows)
}

// Quarantine sets a record aside with its reason: queued -> quarantined. Its
// bytes stay in both places.
func (q *Queue) Quarantine(ctx context.Context, id ID, r Reason) error {
	if len(r.Code)+len(r.Text)+len(r.Evidence) > MaxReceipt {
		return ErrSize
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.quarantine(ctx, id, r)
}

func (q *Queue) quarantine(ctx context.Context, id ID, r Reason) error {
	return q.change(ctx, []arrow{{id: id, turn: func(e *Entry) error {
		switch e.State {
		case Quarantined:
		case Queued:
			e.State, e.Done, e.Reason = Quarantined, q.opts.Clock().UTC(), &r
		default:
			return ErrState
		}
		return nil
	}}})[0]
}

// arrow is a record's way to another state.
type arrow struct {
	id      ID
	turn    func(*Entry) error // makes the entry what it is to be, or leaves it; the error is the caller's
	receipt []byte             // stored with a record that becomes Receipted
	refused error              // whatever the record is
}

// change moves records to another state, under the lock, in one transaction. What
// must be durable first is: a line of the journal, the head's second copy.
func (q *Queue) change(ctx context.Context, arrows []arrow) []error {
	errs := make([]error, len(arrows))
	if err := q.tellLocked(); err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	todo := make([]int, len(arrows))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		var later []int // another arrow of the same record goes first
		seen := map[ID]bool{}
		now := slices.DeleteFunc(slices.Clone(todo), func(i int) bool {
			again := seen[arrows[i].id]
			seen[arrows[i].id] = true
			if again {
				later = append(later, i)
			}
			return again
		})
		err := q.changeOnce(ctx, arrows, now, errs)
		if errors.Is(err, ErrFull) && q.unload() {
			err = q.changeOnce(ctx, arrows, now, errs)
		}
		for _, i := range now {
			errs[i] = cmp.Or(errs[i], err)
		}
		todo = later
	}
	if q.fatal == nil && len(q.purged) >= q.opts.archiveAt {
		if err := q.archive(); err != nil {
			for i := range errs {
				errs[i] = cmp.Or(errs[i], err)
			}
		}
	}
	return errs
}

// changeOnce moves the records of some arrows. errs are for the callers of those that
// are refused; the error is for all others.
func (q *Queue) changeOnce(ctx context.Context, arrows []arrow, some []int, errs []error) error {
	if q.fatal != nil {
		return q.fatal
	}
	type move struct {
		from, to Entry
		receipt  []byte
	}
	var moves []move
	var lines []byte
	head := false
	for _, i := range some {
		from, err := Entry{}, arrows[i].refused
		if err == nil {
			from, err = q.Get(ctx, arrows[i].id)
		}
		to := from
		if err == nil {
			err = arrows[i].turn(&to)
		}
		if errs[i] = err; err != nil || to.State == from.State {
			continue
		}
		m := move{from: from, to: to}
		switch to.State {
		case Receipted:
			m.receipt = arrows[i].receipt
		case Purged: // its frame may be the head's second copy
			head = head || to.Seq == q.headSeq && q.headFileSeq < q.headSeq
		}
		if to.State != Purged {
			line, err := encodeEnding(ending{Record: to.ID.String(), Entry: to, Receipt: m.receipt})
			if err != nil {
				return err
			}
			lines = append(lines, line...)
		}
		moves = append(moves, m)
	}
	if len(moves) == 0 {
		return nil
	}
	if head {
		if err := q.saveHead(ctx); err != nil {
			return err
		}
	}
	if len(lines) > 0 {
		if err := q.journal.add(lines); err != nil {
			return q.failed("journal", err)
		}
	}
	err := q.commit(func(tx *bolt.Tx) error {
		var t tally
		for _, m := range moves {
			if err := errors.Join(dropEntry(tx, &t, m.from), putEntry(tx, &t, m.to)); err != nil {
				return err
			}
			if m.receipt != nil {
				if err := tx.Bucket(bucketReceipts).Put(be(m.to.Seq), m.receipt); err != nil {
					return err
				}
			}
		}
		return t.write(tx)
	})
	if err != nil {
		return q.failed("update", err)
	}
	emptied := map[uint64]bool{}
	for _, m := range moves {
		if m.to.State == Purged {
			q.purged = append(q.purged, m.to.ID)
			emptied[m.to.at.segment] = true
		}
	}
	return q.dropEmpty(emptied)
}

// dropEmpty removes those of the pairs of files that no record needs. Only now, when
// the database says so: a crash before leaves files that the next opening removes.
func (q *Queue) dropEmpty(pairs map[uint64]bool) error {
	var live map[uint64]int64
	if err := q.view(func(tx *bolt.Tx) (err error) { live, err = liveOf(tx, pairs); return err }); err != nil {
		return q.failed("purge", err)
	}
	for n := range pairs {
		if n != 0 && live[n] == 0 {
			if err := q.spool.drop(n); err != nil {
				return q.failed("purge", err)
			}
		}
	}
	return nil
}

// Get returns what is known about a record; ErrUnknown.
func (q *Queue) Get(ctx context.Context, id ID) (Entry, error) {
	if err := q.tell(); err != nil {
		return Entry{}, err
	}
	e, err := q.here(id)
	if errors.Is(err, ErrUnknown) {
		var old ending
		old, err = q.former(id)
		e = old.Entry
	}
	return e, err
}

// here finds a record in the database.
func (q *Queue) here(id ID) (e Entry, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		e, err = entry(tx, id)
		return err
	})
	return e, err
}

// former finds a purged record in the history, or in the journal when the history
// is damaged.
func (q *Queue) former(id ID) (ending, error) {
	e, err := q.history.find(id)
	if errors.Is(err, errHistory) {
		e, err = q.journal.find(id)
		e.Entry.State = Purged
	}
	return e, err
}

// Data returns a record's bytes, checked; ErrState when they are purged.
func (q *Queue) Data(ctx context.Context, id ID) ([]byte, error) {
	if err := q.tell(); err != nil {
		return nil, err
	}
	r, err := q.read(id)
	if errors.Is(err, errBoth) || errors.Is(err, ErrUnknown) {
		// It may have been moved or purged between two looks.
		q.mu.Lock()
		defer q.mu.Unlock()
		r, err = q.read(id)
	}
	if errors.Is(err, ErrUnknown) {
		if _, err = q.former(id); err == nil {
			err = ErrState
		}
	}
	return r.Data, err
}

// read reads a record that is still here.
func (q *Queue) read(id ID) (spooled, error) {
	e, err := q.here(id)
	if err != nil {
		return spooled{}, err
	}
	if e.State == Purged {
		return spooled{}, ErrState
	}
	r, err := q.spool.read(e)
	if err != nil {
		err = fmt.Errorf("%w: %w", errBoth, err)
	}
	return r, err
}

// Receipt returns a stored receipt; ErrUnknown.
func (q *Queue) Receipt(ctx context.Context, id ID) (receipt []byte, err error) {
	if err := q.tell(); err != nil {
		return nil, err
	}
	var e Entry
	err = q.view(func(tx *bolt.Tx) error {
		e, err = entry(tx, id)
		receipt = bytes.Clone(tx.Bucket(bucketReceipts).Get(be(e.Seq)))
		return err
	})
	if errors.Is(err, ErrUnknown) {
		var old ending
		old, err = q.former(id)
		e, receipt = old.Entry, old.Receipt
	}
	switch {
	case err != nil:
		return nil, err
	case e.Receipt == nil:
		return nil, ErrUnknown
	case bytes.Equal(digest(receipt), e.Receipt):
		return receipt, nil
	}
	old, err := q.journal.find(id)
	if err != nil || !bytes.Equal(digest(old.Receipt), e.Receipt) {
		return nil, fmt.Errorf("%w: receipt", ErrDamaged)
	}
	return old.Receipt, nil
}

// List returns entries in no particular order, at most limit of those that keep
// says yes to. Of the purged it knows those of late: Delivered has them all.
func (q *Queue) List(ctx context.Context, limit int, keep func(Entry) bool) ([]Entry, error) {
	return q.list(ctx, limit, keep, bucketEnded, bucketWaiting)
}

// Queued returns the entries of queued records, oldest first, at most limit.
func (q *Queue) Queued(ctx context.Context, limit int) ([]Entry, error) {
	return q.list(ctx, limit, func(Entry) bool { return true }, bucketWaiting)
}

func (q *Queue) list(ctx context.Context, limit int, keep func(Entry) bool, buckets ...[]byte) (out []Entry, err error) {
	if err := q.tell(); err != nil {
		return nil, err
	}
	err = q.view(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			c := tx.Bucket(b).Cursor()
			for k, v := c.First(); k != nil && len(out) < limit; k, v = c.Next() {
				if err := ctx.Err(); err != nil {
					return err
				}
				e, err := decodeEntry(k, v)
				if err != nil {
					return err
				}
				if keep(e) {
					out = append(out, e)
				}
			}
		}
		return nil
	})
	return out, err
}

// Delivered returns records that have a receipt of between from and to, the newest
// first, at most limit. Zero times are no bounds.
func (q *Queue) Delivered(ctx context.Context, from, to time.Time, limit int) ([]Entry, error) {
	if to.IsZero() {
		to = time.Unix(0, 1<<63-1)
	}
	within := func(e Entry) bool {
		return (e.State == Receipted || e.State == Purged) && !e.Done.Before(from) && e.Done.Before(to)
	}
	out, err := q.list(ctx, 1<<31, within, bucketEnded)
	if err != nil {
		return nil, err
	}
	here := map[ID]bool{}
	for _, e := range out {
		here[e.ID] = true // a cut may have left it in both places
	}
	if err := q.history.newest(ctx, from, to, limit, func(e ending) bool {
		if !here[e.Entry.ID] {
			out = append(out, e.Entry)
		}
		return true
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Or(b.Done.Compare(a.Done), cmp.Compare(b.Seq, a.Seq)) })
	return out[:min(limit, len(out))], nil
}

// Stats counts what is here.
func (q *Queue) Stats(ctx context.Context) (s Stats, err error) {
	if err := q.tell(); err != nil {
		return s, err
	}
	err = q.view(func(tx *bolt.Tx) error {
		c, err := readCounts(tx)
		if err != nil {
			return err
		}
		s = Stats{Waiting: int(c.Waiting), Quarantined: int(c.Quarantined), Receipted: int(c.Receipted), Bytes: c.Bytes}
		if k, v := tx.Bucket(bucketWaiting).Cursor().First(); k != nil {
			e, err := decodeEntry(k, v)
			if err != nil {
				return err
			}
			s.Oldest = e.Put
		}
		return nil
	})
	return s, err
}

// Room says, before an enrollment begins, whether its record will fit: ErrFull,
// or why this queue writes no more. What can be made ready for the record, is.
func (q *Queue) Room(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fatal != nil {
		return q.fatal
	}
	free, err := Free(q.dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free < q.opts.Reserve {
		return ErrFull
	}
	if err := q.spool.ready(); err != nil {
		return q.failed("spool", err)
	}
	return q.load()
}

// ballastSize is enough for the receipts of a few hundred records.
const ballastSize = 1 << 20

// load takes ballast on, if there is none and room for it.
func (q *Queue) load() error {
	file := q.path(ballastFile)
	if _, err := os.Lstat(file); err == nil {
		return nil
	}
	if free, err := Free(q.dir); err != nil || free < 2*ballastSize {
		return err
	}
	return os.WriteFile(file, make([]byte, ballastSize), 0o600)
}

// unload gives the ballast up and says whether there was some.
func (q *Queue) unload() bool { return os.Remove(q.path(ballastFile)) == nil }

func (q *Queue) view(f func(tx *bolt.Tx) error) error {
	return guarded(func() error { return q.db.View(f) })
}

// commit runs one transaction.
func (q *Queue) commit(f func(tx *bolt.Tx) error) error { return q.update(q.db, database, f) }

func (w files) update(db *bolt.DB, name string, f func(tx *bolt.Tx) error) error {
	if err := w.before("commit", name); err != nil {
		return err
	}
	if err := guarded(func() error { return db.Update(f) }); err != nil {
		return err
	}
	return w.before("go on", name)
}

// guarded turns bbolt's panic or fault over a bad page into an error: the check at
// opening keeps most of them away, and a disk can go bad later.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	if err = f(); errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

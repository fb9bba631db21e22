// Package queue keeps opaque records durably until the registry has them.
//
// A record is in one of four states, and each arrow is one bbolt transaction:
//
//	queued -> receipted -> purged
//	queued -> quarantined
//
// Promises: when Put has returned nil the record survives any power cut; a
// record's bytes leave the disk only after its receipt is durable; one bad
// record never stops the others; nothing is ever recreated empty over damage.
//
// Everything stands twice, and the second copy is durable before bbolt is told:
// a record's bytes in spool/, what became of it (receipt, or reason of
// its quarantine) as a line of the journal, the caller's head in the newest frame
// of the spool or the head file. bbolt's pages carry no checksum, so every value carries
// one; a read that meets damage takes the other copy. A database that fails its
// check at opening (made in a child process: a bad page can end the process that
// reads it) is set aside and made anew from the second copies.
//
// The database holds the records that are still here. What is left of the purged,
// entry and receipt, moves to another one, the history, so that opening costs as
// much after a million records as after none. It reads neither the history nor all
// of the spool: Scrub does, beside the work.
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
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
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
	reserveDB int64                       // least size of the database; tests have less
}

var (
	bucketEntries  = []byte("entries")  // id -> Entry, see encodeEntry; the history has the others
	bucketWaiting  = []byte("waiting")  // Seq, big endian -> id
	bucketData     = []byte("data")     // Seq -> bytes
	bucketReceipts = []byte("receipts") // id -> receipt
	bucketMeta     = []byte("meta")
	keyHead        = []byte("head")
	keyCounts      = []byte("counts")

	buckets = [][]byte{bucketEntries, bucketWaiting, bucketData, bucketReceipts, bucketMeta}
)

// counts are kept beside the entries, so that Stats does not walk over them.
type counts struct {
	Waiting     int   `json:"waiting"`
	Receipted   int   `json:"receipted"` // purged ones too
	Archived    int   `json:"archived"`  // of these, in the history
	Quarantined int   `json:"quarantined"`
	Bytes       int64 `json:"bytes"`
}

func (c *counts) add(e Entry, n int) {
	switch e.State {
	case Queued:
		c.Waiting += n
	case Receipted, Purged:
		c.Receipted += n
	case Quarantined:
		c.Quarantined += n
	}
	if e.State != Purged {
		c.Bytes += int64(n * e.Size)
	}
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

	arriving sync.Mutex
	arrived  []*putting // records that nobody has begun to put
	putting  bool       // somebody puts, and will give the first of them its turn

	mu          sync.Mutex // one change at a time, over all that stands on disk
	fatal       error      // after a failed sync nothing is written any more
	seq         uint64     // last number given to a record or head
	headSeq     uint64     // number of the head in force
	headFileSeq uint64     // number of the head in the head file
	purged      []ID       // records to move to the history
}

// Close releases the queue.
func (q *Queue) Close() error {
	var errs []error
	if q.db != nil {
		errs = append(errs, q.db.Close())
	}
	if q.journal != nil {
		errs = append(errs, q.journal.close())
	}
	return errors.Join(append(errs, q.history.close(), q.spool.end(q.fatal == nil), q.lock.Close())...)
}

// Put keeps item: when it returns nil the record survives any power cut after
// that instant. Putting the same record again is harmless; ErrConflict is
// another record under the id of one. Records that are put at the same time share
// the waiting for the disk.
func (q *Queue) Put(ctx context.Context, item Item) error {
	if len(item.Data) == 0 || len(item.Data) > MaxData || len(item.Head) > MaxHead {
		return ErrSize
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &putting{spooled: spooled{Item: item}, turn: make(chan struct{}, 1)}
	q.arriving.Lock()
	q.arrived = append(q.arrived, p)
	first := !q.putting
	q.putting = true
	q.arriving.Unlock()
	if !first {
		<-p.turn
	}
	if !p.done {
		runtime.Gosched() // those whose turn has just ended come with their next
		q.mu.Lock()
		q.putArrived() // p is the first of them
		q.mu.Unlock()
		q.arriving.Lock()
		if q.putting = len(q.arrived) > 0; q.putting {
			q.arrived[0].turn <- struct{}{}
		}
		q.arriving.Unlock()
	}
	return p.err
}

// putting is a record of which a caller of Put waits: for another to have put it,
// or for his turn to put all that have arrived.
type putting struct {
	spooled
	turn chan struct{}
	done bool
	err  error
}

// putArrived puts as many of the records that have arrived as one write takes.
func (q *Queue) putArrived() {
	q.arriving.Lock()
	n, size := 0, 0
	for ; n < len(q.arrived); n++ {
		if size += len(q.arrived[n].Data) + len(q.arrived[n].Head) + frameHeader + sha256.Size; n > 0 && size > segmentSize {
			break
		}
	}
	now := q.arrived[:n:n]
	q.arrived = q.arrived[n:]
	q.arriving.Unlock()
	first := map[ID]*putting{}
	var fresh, again []*putting
	for _, p := range now {
		if first[p.ID] != nil {
			again = append(again, p)
			continue
		}
		first[p.ID] = p
		if known, err := q.knows(p.Item); known || err != nil {
			p.err = err
			continue
		}
		fresh = append(fresh, p)
	}
	if err := q.putAll(fresh); clean(err) && len(fresh) > 1 {
		for _, p := range fresh { // there may be room for some
			p.err = q.putAll([]*putting{p})
		}
	} else {
		for _, p := range fresh {
			p.err = err
		}
	}
	for _, p := range again {
		if known, err := q.knows(p.Item); known || err != nil {
			p.err = err
		} else {
			p.err = first[p.ID].err
		}
	}
	for _, p := range now {
		p.done = true
		p.turn <- struct{}{}
	}
}

// knows says that a record is here already.
func (q *Queue) knows(item Item) (bool, error) {
	if q.fatal != nil {
		return false, q.fatal
	}
	old, err := q.here(item.ID)
	if errors.Is(err, ErrUnknown) {
		var e ending
		e, err = q.history.find(item.ID)
		old = e.Entry
	}
	switch {
	case errors.Is(err, ErrUnknown), errors.Is(err, errHistory):
		return false, nil // the registry knows what a damaged history has forgotten
	case err == nil && !bytes.Equal(old.Digest, digest(item.Data)):
		return false, ErrConflict
	}
	return err == nil, err
}

// putAll puts records that are not here yet, all of them or none.
func (q *Queue) putAll(puts []*putting) error {
	if q.fatal != nil || len(puts) == 0 {
		return q.fatal
	}
	now := q.opts.Clock().UTC()
	records := make([]spooled, len(puts))
	var head dbHead
	for i, p := range puts {
		q.seq++
		records[i] = spooled{p.Item, q.seq, now}
		if p.Head != nil {
			head = dbHead{q.seq, p.Head}
		}
	}
	// The spool first: a record that bbolt knows always has its second copy.
	if err := q.spool.add(records...); err != nil {
		return q.failed("spool", err)
	}
	err := q.commit(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketEntries).SetSequence(q.seq); err != nil {
			return err
		}
		if head.head != nil {
			if err := writeHead(tx, head); err != nil {
				return err
			}
		}
		for _, r := range records {
			if err := insert(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if clean(err) {
		// What the caller is told to have failed must not come back at the next
		// opening, beside what he makes instead.
		if undo := q.spool.takeBack(records...); undo != nil {
			err = undo
		}
	}
	if err != nil {
		return q.failed("put", err)
	}
	if head.head != nil {
		q.headSeq = head.seq
	}
	return nil
}

// insert makes r a queued record.
func insert(tx *bolt.Tx, r spooled) error {
	e := Entry{ID: r.ID, State: Queued, Seq: r.seq, Size: len(r.Data), Digest: digest(r.Data), Put: r.put}
	if err := tx.Bucket(bucketData).Put(be(r.seq), r.Data); err != nil {
		return err
	}
	return putEntry(tx, e)
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
	if q.fatal != nil {
		return q.fatal
	}
	q.seq++
	seq := q.seq
	if err := q.replace(headFile, encodeHead(seq, head)); err != nil {
		return q.failed("head", err)
	}
	q.headFileSeq = seq
	err := q.commit(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketEntries).SetSequence(seq); err != nil {
			return err
		}
		return writeHead(tx, dbHead{seq, head})
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
	var out []Item
	var bad []ID
	var total int
	err := q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketWaiting).Cursor()
		for k, v := c.First(); k != nil && len(out) < items; k, v = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			id := ID(v)
			if skip(id) {
				continue
			}
			e, err := entry(tx, id)
			if err != nil {
				return err
			}
			if len(out) > 0 && total+e.Size > size {
				break
			}
			data, err := q.data(tx, e)
			if err != nil {
				bad = append(bad, id)
				continue
			}
			total += len(data)
			out = append(out, Item{ID: id, Data: data})
		}
		return nil
	})
	for _, id := range bad {
		if err := q.Quarantine(ctx, id, bothDamaged); err != nil {
			return nil, err
		}
	}
	return out, err
}

var bothDamaged = Reason{Code: "queue-damaged", Text: "both copies on this disk are damaged"}

// StoreReceipt keeps a verified receipt: queued -> receipted. The same receipt
// again is harmless, another one ErrConflict.
func (q *Queue) StoreReceipt(ctx context.Context, id ID, receipt []byte) error {
	if len(receipt) == 0 || len(receipt) > MaxReceipt {
		return ErrSize
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.change(ctx, id, func(e *Entry) error {
		switch {
		case e.State == Quarantined:
			return ErrState
		case e.State == Queued:
			e.State, e.Done, e.Receipt = Receipted, q.opts.Clock().UTC(), digest(receipt)
			return q.journal.add(*e, receipt)
		case !bytes.Equal(e.Receipt, digest(receipt)):
			return ErrConflict
		}
		return nil
	}, func(tx *bolt.Tx, _ Entry) error { return tx.Bucket(bucketReceipts).Put(id[:], receipt) })
}

// Purge removes the bytes of a receipted record: receipted -> purged. Entry and
// receipt stay. ErrState while there is no receipt.
func (q *Queue) Purge(ctx context.Context, id ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.change(ctx, id, func(e *Entry) error {
		switch e.State {
		case Purged:
			return nil
		case Receipted:
			e.State = Purged
			if e.Seq == q.headSeq && q.headFileSeq < q.headSeq {
				return q.saveHead(ctx) // its frame is the head's second copy
			}
			return nil
		}
		return ErrState
	}, func(tx *bolt.Tx, e Entry) error { return tx.Bucket(bucketData).Delete(be(e.Seq)) })
}

// Quarantine sets a record aside with its reason: queued -> quarantined. Its
// bytes stay in both places.
func (q *Queue) Quarantine(ctx context.Context, id ID, r Reason) error {
	if len(r.Code)+len(r.Text)+len(r.Evidence) > MaxReceipt {
		return ErrSize
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.quarantine(id, r)
}

func (q *Queue) quarantine(id ID, r Reason) error {
	return q.change(context.Background(), id, func(e *Entry) error {
		switch e.State {
		case Quarantined:
			return nil
		case Queued:
			e.State, e.Done, e.Reason = Quarantined, q.opts.Clock().UTC(), &r
			return q.journal.add(*e, nil)
		}
		return ErrState
	}, func(*bolt.Tx, Entry) error { return nil })
}

// change moves a record to another state, under the lock. decide changes the entry, having made
// what must be durable first; store is the rest of the transaction. When decide
// leaves the entry as it was, nothing is written.
func (q *Queue) change(ctx context.Context, id ID, decide func(*Entry) error, store func(*bolt.Tx, Entry) error) error {
	err := q.changeOnce(ctx, id, decide, store)
	if errors.Is(err, ErrFull) && q.unload() {
		err = q.changeOnce(ctx, id, decide, store)
	}
	if err == nil && len(q.purged) >= q.opts.archiveAt {
		err = q.archive()
	}
	return err
}

func (q *Queue) changeOnce(ctx context.Context, id ID, decide func(*Entry) error, store func(*bolt.Tx, Entry) error) error {
	if q.fatal != nil {
		return q.fatal
	}
	old, err := q.Get(ctx, id)
	if err != nil {
		return err
	}
	e := old
	if err := decide(&e); err != nil {
		if errors.Is(err, ErrState) || errors.Is(err, ErrConflict) || errors.Is(err, ErrFull) || q.fatal != nil {
			return err
		}
		return q.failed("journal", err)
	}
	if e.State != old.State {
		err := q.commit(func(tx *bolt.Tx) error {
			if err := uncount(tx, old); err != nil {
				return err
			}
			if err := store(tx, e); err != nil {
				return err
			}
			return putEntry(tx, e)
		})
		if err != nil {
			return q.failed("update", err)
		}
		if e.State == Purged {
			q.purged = append(q.purged, id)
		}
	}
	if e.State == Purged {
		// Only now: a crash before leaves a file that the next opening removes.
		if err := q.spool.drop(id); err != nil {
			return q.failed("purge", err)
		}
	}
	return nil
}

// Get returns what is known about a record; ErrUnknown.
func (q *Queue) Get(ctx context.Context, id ID) (Entry, error) {
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
func (q *Queue) Data(ctx context.Context, id ID) (data []byte, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		e, err := entry(tx, id)
		if err != nil {
			return err
		}
		if e.State == Purged {
			return ErrState
		}
		data, err = q.data(tx, e)
		return err
	})
	if errors.Is(err, ErrUnknown) {
		if _, err = q.former(id); err == nil {
			err = ErrState
		}
	}
	return data, err
}

// Receipt returns a stored receipt; ErrUnknown.
func (q *Queue) Receipt(ctx context.Context, id ID) (receipt []byte, err error) {
	var e Entry
	err = q.view(func(tx *bolt.Tx) error {
		e, err = entry(tx, id)
		receipt = bytes.Clone(tx.Bucket(bucketReceipts).Get(id[:]))
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
func (q *Queue) List(ctx context.Context, limit int, keep func(Entry) bool) (out []Entry, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketEntries).Cursor()
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
		return nil
	})
	return out, err
}

// Queued returns the entries of queued records, oldest first, at most limit.
func (q *Queue) Queued(ctx context.Context, limit int) (out []Entry, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketWaiting).Cursor()
		for k, v := c.First(); k != nil && len(out) < limit; k, v = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			e, err := entry(tx, ID(v))
			if err != nil {
				return err
			}
			out = append(out, e)
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
	out, err := q.List(ctx, 1<<31, within)
	if err != nil {
		return nil, err
	}
	here := map[ID]bool{}
	for _, e := range out {
		here[e.ID] = true // a cut may have left it in both places
	}
	if err := q.history.newest(ctx, from, to, limit, func(e Entry) {
		if !here[e.ID] {
			out = append(out, e)
		}
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Or(b.Done.Compare(a.Done), cmp.Compare(b.Seq, a.Seq)) })
	return out[:min(limit, len(out))], nil
}

// Stats counts what is here.
func (q *Queue) Stats(ctx context.Context) (s Stats, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		c, err := readCounts(tx)
		if err != nil {
			return err
		}
		s = Stats{Waiting: c.Waiting, Quarantined: c.Quarantined, Receipted: c.Receipted, Bytes: c.Bytes}
		if _, id := tx.Bucket(bucketWaiting).Cursor().First(); id != nil {
			e, err := entry(tx, ID(id))
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
// or why this queue writes no more.
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

// data returns a record's bytes from bbolt, or from the spool when bbolt's are
// not what was put.
func (q *Queue) data(tx *bolt.Tx, e Entry) ([]byte, error) {
	data := tx.Bucket(bucketData).Get(be(e.Seq))
	if bytes.Equal(digest(data), e.Digest) {
		return bytes.Clone(data), nil
	}
	copied, err := q.spool.read(e.ID)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(digest(copied.Data), e.Digest) {
		return nil, fmt.Errorf("%w: spool", ErrDamaged)
	}
	return copied.Data, nil
}

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

func makeBuckets(tx *bolt.Tx) error {
	for _, b := range buckets {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return err
		}
	}
	return nil
}

func entry(tx *bolt.Tx, id ID) (Entry, error) {
	v := tx.Bucket(bucketEntries).Get(id[:])
	if v == nil {
		return Entry{}, ErrUnknown
	}
	return decodeEntry(id[:], v)
}

// An entry stands in the database as
//
//	state 1 | seq 8 | size 4 | SHA-256 of the data 32 | put 8 | done 8 | 0, or 32 and the SHA-256 of the receipt | reason as JSON, or nothing
//
// behind its checksum: opening reads them all. Numbers are big-endian, times are
// nanoseconds since 1970, 0 for none.
const entryHeader = 1 + 8 + 4 + sha256.Size + 8 + 8 + 1

var stateCodes = []State{Queued, Receipted, Purged, Quarantined}

func encodeEntry(e Entry) ([]byte, error) {
	b := append(make([]byte, 0, entryHeader+sha256.Size), byte(slices.Index(stateCodes, e.State)))
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Size))
	b = append(b, e.Digest...)
	for _, t := range []time.Time{e.Put, e.Done} {
		n := int64(0)
		if !t.IsZero() {
			n = t.UnixNano()
		}
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(append(b, byte(len(e.Receipt))), e.Receipt...)
	if e.Reason == nil {
		return b, nil
	}
	reason, err := json.Marshal(e.Reason)
	return append(b, reason...), err
}

func decodeEntry(k, v []byte) (e Entry, err error) {
	bad := fmt.Errorf("%w: entry", ErrDamaged)
	v, err = checkSum(k, v)
	if err != nil || len(k) != len(e.ID) || len(v) < entryHeader || int(v[0]) >= len(stateCodes) {
		return e, bad
	}
	e.ID, e.State = ID(k), stateCodes[v[0]]
	e.Seq, v = binary.BigEndian.Uint64(v[1:]), v[9:]
	e.Size, v = int(binary.BigEndian.Uint32(v)), v[4:]
	e.Digest, v = bytes.Clone(v[:sha256.Size]), v[sha256.Size:]
	for _, t := range []*time.Time{&e.Put, &e.Done} {
		if n := int64(binary.BigEndian.Uint64(v)); n != 0 {
			*t = time.Unix(0, n).UTC()
		}
		v = v[8:]
	}
	n := int(v[0])
	if v = v[1:]; n != 0 && n != sha256.Size || len(v) < n {
		return e, bad
	}
	if n > 0 {
		e.Receipt, v = bytes.Clone(v[:n]), v[n:]
	}
	if len(v) > 0 && json.Unmarshal(v, &e.Reason) != nil {
		return e, bad
	}
	return e, nil
}

// putEntry writes an entry and, with it, index and counts.
func putEntry(tx *bolt.Tx, e Entry) error {
	b, err := encodeEntry(e)
	if err != nil {
		return err
	}
	if err := tx.Bucket(bucketEntries).Put(e.ID[:], withSum(e.ID[:], b)); err != nil {
		return err
	}
	if e.State == Queued {
		if err := tx.Bucket(bucketWaiting).Put(be(e.Seq), e.ID[:]); err != nil {
			return err
		}
	}
	return count(tx, e, +1)
}

// uncount takes an entry out of index and counts, before another one takes its
// place.
func uncount(tx *bolt.Tx, e Entry) error {
	if e.State == Queued {
		if err := tx.Bucket(bucketWaiting).Delete(be(e.Seq)); err != nil {
			return err
		}
	}
	return count(tx, e, -1)
}

func readCounts(tx *bolt.Tx) (c counts, err error) {
	b := tx.Bucket(bucketMeta).Get(keyCounts)
	if b == nil {
		return c, nil
	}
	b, err = checkSum(keyCounts, b)
	if err != nil || json.Unmarshal(b, &c) != nil {
		return c, fmt.Errorf("%w: counts", ErrDamaged)
	}
	return c, nil
}

func count(tx *bolt.Tx, e Entry, n int) error {
	c, err := readCounts(tx)
	if err != nil {
		return err
	}
	c.add(e, n)
	return writeCounts(tx, c)
}

func writeCounts(tx *bolt.Tx, c counts) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put(keyCounts, withSum(keyCounts, b))
}

// dbHead is the caller's head and the number of the step that set it.
type dbHead struct {
	seq  uint64
	head []byte
}

func readHead(tx *bolt.Tx) (h dbHead, err error) {
	if b := tx.Bucket(bucketMeta).Get(keyHead); b != nil {
		h.seq, h.head, err = decodeHead(b)
	}
	return h, err
}

func writeHead(tx *bolt.Tx, h dbHead) error {
	return tx.Bucket(bucketMeta).Put(keyHead, encodeHead(h.seq, h.head))
}

func digest(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

func be(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

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
// Until a record is receipted its bytes stand twice: in bbolt and as a file in
// spool/, each under SHA-256 of the bytes, because bbolt's pages carry no
// checksum. Every read checks that digest and falls back to the other copy. A
// database that fails its check at opening (made in a child process, as a bad
// page can end the process that reads it) is set aside and rebuilt from the
// spool.
//
// The queue knows nothing of what it keeps: the caller gives the id and, beside
// each record, an opaque head that must not get lost either. Sending is not its
// job, nor is knowing whether a receipt is genuine.
package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"path/filepath"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// DefaultReserve is what must be free on the disk before an enrollment, in bytes.
const DefaultReserve = 64 << 20

// MaxData bounds a record, MaxReceipt a receipt, in bytes.
const (
	MaxData    = 1 << 20
	MaxReceipt = 64 << 10
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
	Check func(ctx context.Context, file string) error
}

var (
	bucketEntries  = []byte("entries")  // id -> Entry as JSON
	bucketWaiting  = []byte("waiting")  // Seq, big endian -> id
	bucketData     = []byte("data")     // id -> bytes
	bucketReceipts = []byte("receipts") // id -> receipt
	bucketMeta     = []byte("meta")
	keyHead        = []byte("head")
	keyCounts      = []byte("counts")
)

// counts are kept beside the entries, so that neither opening nor Stats walks
// over a million purged records.
type counts struct {
	Waiting     int   `json:"waiting"`
	Receipted   int   `json:"receipted"`
	Quarantined int   `json:"quarantined"`
	Bytes       int64 `json:"bytes"`
}

// Queue is an open queue. Its methods may be called from several goroutines.
type Queue struct {
	dir   string
	opts  Options
	db    *bolt.DB
	lock  *os.File
	mu    sync.Mutex // spool and bbolt change together
	fatal error      // after a failed sync nothing is written any more
}

// Close releases the queue.
func (q *Queue) Close() error { return errors.Join(q.db.Close(), q.lock.Close()) }

// Put keeps item: when it returns nil the record survives any power cut after
// that instant. Putting the same record again is harmless. After an error
// nothing of it is kept, or all of it: Put may be repeated.
func (q *Queue) Put(ctx context.Context, item Item) error {
	if len(item.Data) == 0 || len(item.Data) > MaxData {
		return ErrSize
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fatal != nil {
		return q.fatal
	}
	digest := sha256.Sum256(item.Data)
	old, err := q.Get(ctx, item.ID)
	switch {
	case err == nil && !bytes.Equal(old.Digest, digest[:]):
		return ErrConflict
	case err == nil:
		return nil
	case !errors.Is(err, ErrUnknown):
		return err
	}
	// The spool first: a record that bbolt knows always has its second copy.
	put := q.opts.Clock().UTC()
	seq, err := q.nextSeq()
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(q.dir, spoolDir), item.ID.String(), encodeSpool(item, seq, put)); err != nil {
		return q.failed("spool", err)
	}
	err = q.db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(bucketEntries).SetSequence(seq); err != nil {
			return err
		}
		return insert(tx, item, seq, put)
	})
	if err != nil {
		return q.failed("put", err)
	}
	return nil
}

// insert makes item a queued record.
func insert(tx *bolt.Tx, item Item, seq uint64, put time.Time) error {
	digest := sha256.Sum256(item.Data)
	e := Entry{ID: item.ID, State: Queued, Seq: seq, Size: len(item.Data), Digest: digest[:], Put: put}
	if err := putEntry(tx, e); err != nil {
		return err
	}
	if err := tx.Bucket(bucketWaiting).Put(be(seq), item.ID[:]); err != nil {
		return err
	}
	if err := tx.Bucket(bucketData).Put(item.ID[:], item.Data); err != nil {
		return err
	}
	if item.Head != nil {
		if err := tx.Bucket(bucketMeta).Put(keyHead, item.Head); err != nil {
			return err
		}
	}
	return count(tx, func(c *counts) { c.Waiting++; c.Bytes += int64(e.Size) })
}

// failed turns a write error into the caller's. A full disk leaves the queue
// usable. After any other failure of a write the kernel may have dropped what it
// could not write, so this process writes no more: a new opening looks at what
// is really there.
func (q *Queue) failed(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s: %w: %w", what, ErrFull, err)
	}
	q.fatal = fmt.Errorf("%s: %w: %w", what, ErrDamaged, err)
	return q.fatal
}

// Head returns the caller's value, nil when none was stored.
func (q *Queue) Head(ctx context.Context) (head []byte, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		head = bytes.Clone(tx.Bucket(bucketMeta).Get(keyHead))
		return nil
	})
	return head, err
}

// SetHead stores the caller's value durably.
func (q *Queue) SetHead(ctx context.Context, head []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.fatal != nil {
		return q.fatal
	}
	if err := writeFile(q.dir, headFile, head); err != nil {
		return q.failed("head", err)
	}
	return q.update("head", func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyHead, head) })
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
		if err := q.Quarantine(ctx, id, Reason{Code: "queue-damaged", Text: "both copies on this disk are damaged"}); err != nil {
			return nil, err
		}
	}
	return out, err
}

// StoreReceipt keeps a verified receipt: queued -> receipted. The same receipt
// again is harmless.
func (q *Queue) StoreReceipt(ctx context.Context, id ID, receipt []byte) error {
	if len(receipt) == 0 || len(receipt) > MaxReceipt {
		return ErrSize
	}
	return q.change(id, func(tx *bolt.Tx, e *Entry) error {
		switch e.State {
		case Receipted, Purged:
			if bytes.Equal(tx.Bucket(bucketReceipts).Get(id[:]), receipt) {
				return nil
			}
			return ErrConflict
		case Quarantined:
			return ErrState
		}
		if err := tx.Bucket(bucketReceipts).Put(id[:], receipt); err != nil {
			return err
		}
		e.State, e.Done = Receipted, q.opts.Clock().UTC()
		if err := tx.Bucket(bucketWaiting).Delete(be(e.Seq)); err != nil {
			return err
		}
		return count(tx, func(c *counts) { c.Waiting--; c.Receipted++ })
	})
}

// Purge removes the bytes of a receipted record: receipted -> purged. Entry and
// receipt stay.
func (q *Queue) Purge(ctx context.Context, id ID) error {
	err := q.change(id, func(tx *bolt.Tx, e *Entry) error {
		switch e.State {
		case Purged:
			return nil
		case Receipted:
		default:
			return ErrState
		}
		e.State = Purged
		if err := tx.Bucket(bucketData).Delete(id[:]); err != nil {
			return err
		}
		return count(tx, func(c *counts) { c.Bytes -= int64(e.Size) })
	})
	if err != nil {
		return err
	}
	// Only now: a crash before leaves a file that the next opening removes.
	return removeFile(filepath.Join(q.dir, spoolDir), id.String())
}

// Quarantine sets a record aside with its reason: queued -> quarantined. Its
// bytes stay in both places.
func (q *Queue) Quarantine(ctx context.Context, id ID, r Reason) error {
	return q.change(id, func(tx *bolt.Tx, e *Entry) error {
		switch e.State {
		case Quarantined:
			return nil
		case Queued:
		default:
			return ErrState
		}
		e.State, e.Done, e.Reason = Quarantined, q.opts.Clock().UTC(), &r
		if err := tx.Bucket(bucketWaiting).Delete(be(e.Seq)); err != nil {
			return err
		}
		return count(tx, func(c *counts) { c.Waiting--; c.Quarantined++ })
	})
}

// Get returns what is known about a record; ErrUnknown.
func (q *Queue) Get(ctx context.Context, id ID) (e Entry, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		e, err = entry(tx, id)
		return err
	})
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
	return data, err
}

// Receipt returns a stored receipt; ErrUnknown.
func (q *Queue) Receipt(ctx context.Context, id ID) (receipt []byte, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		receipt = bytes.Clone(tx.Bucket(bucketReceipts).Get(id[:]))
		if receipt == nil {
			return ErrUnknown
		}
		return nil
	})
	return receipt, err
}

// List returns entries in no particular order, at most limit of those that keep
// says yes to.
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
// or why this process writes no more.
func (q *Queue) Room(ctx context.Context) error {
	q.mu.Lock()
	fatal := q.fatal
	q.mu.Unlock()
	if fatal != nil {
		return fatal
	}
	free, err := Free(q.dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free < q.opts.Reserve {
		return ErrFull
	}
	return nil
}

// data returns a record's bytes from bbolt, or from the spool when bbolt's are
// not what was put.
func (q *Queue) data(tx *bolt.Tx, e Entry) ([]byte, error) {
	data := tx.Bucket(bucketData).Get(e.ID[:])
	if sum := sha256.Sum256(data); bytes.Equal(sum[:], e.Digest) {
		return bytes.Clone(data), nil
	}
	copied, err := readSpool(filepath.Join(q.dir, spoolDir, e.ID.String()))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(copied.Data); !bytes.Equal(sum[:], e.Digest) {
		return nil, fmt.Errorf("%w: spool", ErrDamaged)
	}
	return copied.Data, nil
}

// nextSeq is the number of the next record. Only Put, under the lock, uses it.
func (q *Queue) nextSeq() (seq uint64, err error) {
	err = q.view(func(tx *bolt.Tx) error {
		seq = tx.Bucket(bucketEntries).Sequence() + 1
		return nil
	})
	return seq, err
}

func (q *Queue) view(f func(tx *bolt.Tx) error) error {
	err := q.db.View(f)
	if errors.Is(err, bolt.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// change updates one entry in one transaction.
func (q *Queue) change(id ID, f func(tx *bolt.Tx, e *Entry) error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.update("update", func(tx *bolt.Tx) error {
		e, err := entry(tx, id)
		if err != nil {
			return err
		}
		if err := f(tx, &e); err != nil {
			return err
		}
		return putEntry(tx, e)
	})
}

func (q *Queue) update(what string, f func(tx *bolt.Tx) error) error {
	if q.fatal != nil {
		return q.fatal
	}
	var refused error
	err := q.db.Update(func(tx *bolt.Tx) error {
		refused = f(tx)
		return refused
	})
	if err != nil && refused == nil { // the commit itself failed
		return q.failed(what, err)
	}
	return err
}

func entry(tx *bolt.Tx, id ID) (Entry, error) {
	v := tx.Bucket(bucketEntries).Get(id[:])
	if v == nil {
		return Entry{}, ErrUnknown
	}
	return decodeEntry(id[:], v)
}

func decodeEntry(k, v []byte) (e Entry, err error) {
	if len(k) != len(e.ID) || json.Unmarshal(v, &e) != nil {
		return e, fmt.Errorf("%w: entry", ErrDamaged)
	}
	e.ID = ID(k)
	return e, nil
}

func putEntry(tx *bolt.Tx, e Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketEntries).Put(e.ID[:], b)
}

func readCounts(tx *bolt.Tx) (c counts, err error) {
	if b := tx.Bucket(bucketMeta).Get(keyCounts); b != nil && json.Unmarshal(b, &c) != nil {
		return c, fmt.Errorf("%w: counts", ErrDamaged)
	}
	return c, nil
}

func count(tx *bolt.Tx, f func(*counts)) error {
	c, err := readCounts(tx)
	if err != nil {
		return err
	}
	f(&c)
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put(keyCounts, b)
}

func be(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// dirs below the queue's own.
const (
	spoolDir = "spool"
	database = "queue.db"
	headFile = "head"
)

// Free is how many bytes an ordinary user may still write at dir.
func Free(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

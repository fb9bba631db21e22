package queue

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The database says of each record that is still here what state it is in and where
// its bytes stand in the spool. Keys that come in order keep a commit's pages
// few, so entries are found by their number and only that by the id.
var (
	bucketIDs      = []byte("ids")      // id -> seq; its sequence is the last number given
	bucketWaiting  = []byte("waiting")  // seq -> Entry of a queued record, see encodeEntry
	bucketEnded    = []byte("ended")    // seq -> Entry of any other; the history has those that were purged long ago
	bucketReceipts = []byte("receipts") // seq -> receipt
	bucketSpool    = []byte("spool")    // number of a pair of files -> records in it that are not purged; its sequence is the newest number
	bucketMeta     = []byte("meta")
	keyHead        = []byte("head")
	keyCounts      = []byte("counts")

	buckets = [][]byte{bucketIDs, bucketWaiting, bucketEnded, bucketReceipts, bucketSpool, bucketMeta}
)

func makeBuckets(tx *bolt.Tx) error {
	for _, b := range buckets {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return err
		}
	}
	return nil
}

// An entry stands in the database as
//
//	state 1 | id 32 | size 4 | SHA-256 of the data 32 | pair 8, offset 4, length 4 in the spool | put 8 | done 8 |
//	0, or 32 and the SHA-256 of the receipt | reason as JSON, or nothing
//
// behind its checksum. Numbers are big-endian, times are nanoseconds since 1970, 0
// for none.
const entryHeader = 1 + 32 + 4 + sha256.Size + 8 + 4 + 4 + 8 + 8 + 1

var stateCodes = []State{Queued, Receipted, Purged, Quarantined}

func encodeEntry(e Entry) ([]byte, error) {
	b := append(make([]byte, 0, entryHeader+sha256.Size), byte(slices.Index(stateCodes, e.State)))
	b = append(b, e.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Size))
	b = append(b, e.Digest...)
	b = binary.BigEndian.AppendUint64(b, e.at.segment)
	b = binary.BigEndian.AppendUint32(b, uint32(e.at.offset))
	b = binary.BigEndian.AppendUint32(b, uint32(e.at.size))
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
	if err != nil || len(k) != 8 || len(v) < entryHeader || int(v[0]) >= len(stateCodes) {
		return e, bad
	}
	e.Seq, e.State, e.ID, v = binary.BigEndian.Uint64(k), stateCodes[v[0]], ID(v[1:]), v[33:]
	e.Size, v = int(binary.BigEndian.Uint32(v)), v[4:]
	e.Digest, v = bytes.Clone(v[:sha256.Size]), v[sha256.Size:]
	e.at = place{binary.BigEndian.Uint64(v), int64(binary.BigEndian.Uint32(v[8:])), int(binary.BigEndian.Uint32(v[12:]))}
	v = v[16:]
	for _, t := range []*time.Time{&e.Put, &e.Done} {
		if n := int64(binary.BigEndian.Uint64(v)); n != 0 {
			*t = time.Unix(0, n).UTC()
		}
		v = v[8:]
	}
	n := int(v[0])
	if v = v[1:]; n != 0 && n != sha256.Size || len(v) < n || e.at.size > maxFrame {
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

// entry finds a record; ErrUnknown.
func entry(tx *bolt.Tx, id ID) (Entry, error) {
	k := tx.Bucket(bucketIDs).Get(id[:])
	if k == nil {
		return Entry{}, ErrUnknown
	}
	for _, b := range [][]byte{bucketWaiting, bucketEnded} {
		if v := tx.Bucket(b).Get(k); v != nil {
			e, err := decodeEntry(k, v)
			if err == nil && e.ID != id {
				err = fmt.Errorf("%w: entry", ErrDamaged)
			}
			return e, err
		}
	}
	return Entry{}, fmt.Errorf("%w: entry", ErrDamaged)
}

// each calls f with the entries of a bucket, in the order of Put.
func each(tx *bolt.Tx, bucket []byte, f func(Entry) error) error {
	return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
		e, err := decodeEntry(k, v)
		if err != nil {
			return err
		}
		return f(e)
	})
}

// taken says that another record has this number.
func taken(tx *bolt.Tx, seq uint64) bool {
	return tx.Bucket(bucketWaiting).Get(be(seq)) != nil || tx.Bucket(bucketEnded).Get(be(seq)) != nil
}

func (e Entry) bucket() []byte {
	if e.State == Queued {
		return bucketWaiting
	}
	return bucketEnded
}

// putEntry writes the entry of a record that has none. Who has changed entries writes
// the tally in the end.
func putEntry(tx *bolt.Tx, t *tally, e Entry) error {
	b, err := encodeEntry(e)
	if err != nil {
		return err
	}
	if err := tx.Bucket(bucketIDs).Put(e.ID[:], be(e.Seq)); err != nil {
		return err
	}
	entries := tx.Bucket(e.bucket())
	entries.FillPercent = 0.9 // they come in order
	t.add(e, +1)
	return entries.Put(be(e.Seq), withSum(be(e.Seq), b))
}

// dropEntry removes an entry; another one of the same record takes its place, or
// forgetID is called.
func dropEntry(tx *bolt.Tx, t *tally, e Entry) error {
	t.add(e, -1)
	return tx.Bucket(e.bucket()).Delete(be(e.Seq))
}

// counts are kept beside the entries, so that Stats does not walk over them.
type counts struct {
	Waiting     int64
	Receipted   int64 // purged ones too
	Archived    int64 // of these, in the history
	Quarantined int64
	Bytes       int64
}

func (c *counts) add(e Entry, n int64) {
	switch e.State {
	case Queued:
		c.Waiting += n
	case Receipted, Purged:
		c.Receipted += n
	case Quarantined:
		c.Quarantined += n
	}
	if e.State != Purged {
		c.Bytes += n * int64(e.Size)
	}
}

func (c *counts) fields() []*int64 {
	return []*int64{&c.Waiting, &c.Receipted, &c.Archived, &c.Quarantined, &c.Bytes}
}

func readCounts(tx *bolt.Tx) (c counts, err error) {
	b := tx.Bucket(bucketMeta).Get(keyCounts)
	if b == nil {
		return c, nil
	}
	if b, err = checkSum(keyCounts, b); err != nil || len(b) != 8*len(c.fields()) {
		return c, fmt.Errorf("%w: counts", ErrDamaged)
	}
	for i, f := range c.fields() {
		*f = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return c, nil
}

func writeCounts(tx *bolt.Tx, c counts) error {
	var b []byte
	for _, f := range c.fields() {
		b = binary.BigEndian.AppendUint64(b, uint64(*f))
	}
	return tx.Bucket(bucketMeta).Put(keyCounts, withSum(keyCounts, b))
}

// tally is what a transaction adds to the counts, and to those of pairs of files.
type tally struct {
	counts counts
	live   map[uint64]int64
}

func (t *tally) add(e Entry, n int64) {
	t.counts.add(e, n)
	if e.State != Purged && e.at.segment != 0 {
		if t.live == nil {
			t.live = map[uint64]int64{}
		}
		t.live[e.at.segment] += n
	}
}

// write writes the counts as they are with the tally.
func (t *tally) write(tx *bolt.Tx) error {
	c, err := readCounts(tx)
	if err != nil {
		return err
	}
	for i, f := range c.fields() {
		*f += *t.counts.fields()[i]
	}
	if err := writeCounts(tx, c); err != nil {
		return err
	}
	b := tx.Bucket(bucketSpool)
	for segment, n := range t.live {
		k := be(segment)
		live, err := readLive(k, b.Get(k))
		if err != nil {
			return err
		}
		if live += n; live <= 0 {
			err = b.Delete(k)
		} else {
			err = b.Put(k, withSum(k, be(uint64(live))))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readLive reads how many records in a pair of files are not purged.
func readLive(k, v []byte) (n int64, err error) {
	if v == nil {
		return 0, nil
	}
	if v, err = checkSum(k, v); err != nil || len(v) != 8 || len(k) != 8 {
		return 0, fmt.Errorf("%w: count of a file", ErrDamaged)
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}

// live is readLive for all pairs.
func live(tx *bolt.Tx) (map[uint64]int64, error) {
	out := map[uint64]int64{}
	err := tx.Bucket(bucketSpool).ForEach(func(k, v []byte) error {
		n, err := readLive(k, v)
		if err == nil {
			out[binary.BigEndian.Uint64(k)] = n
		}
		return err
	})
	return out, err
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

// liveOf is live for some pairs.
func liveOf(tx *bolt.Tx, pairs map[uint64]bool) (map[uint64]int64, error) {
	out := map[uint64]int64{}
	for n := range pairs {
		var err error
		if out[n], err = readLive(be(n), tx.Bucket(bucketSpool).Get(be(n))); err != nil {
			return nil, err
		}
	}
	return out, nil
}

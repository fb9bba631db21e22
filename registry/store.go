package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// store is what the registry remembers. Every method is one transaction that is
// durable when it returns nil; all may be called concurrently.
type store interface {
	intake
	outbox
	openings
	inventory
	Close() error
}

// intake is the store as the front sees it.
type intake interface {
	// Add stores a record with its places in the log's and the vault's outboxes.
	// The errors errFork, errKeyTaken and errHolder refuse it for good. A record
	// that is there already is left as it is.
	Add(ctx context.Context, e entry) (added, error)
	// Status is what is known of a record that sender sent; errNotHeld if nothing.
	Status(ctx context.Context, sender string, id [32]byte) (status, error)
	// Reject keeps a rejection of what sender sent and returns the one in force,
	// which is the first. It never touches a record that is held.
	Reject(ctx context.Context, sender string, id [32]byte, d decision) (decision, error)
	// Brought is the id of the record that brought a DID; errHolder if there is none,
	// or the DID has ended.
	Brought(ctx context.Context, did string) ([32]byte, error)
	// KeepPolicy remembers a policy for good, Policies returns all.
	KeepPolicy(ctx context.Context, digest [32]byte, signed []byte) error
	Policies(ctx context.Context) ([][]byte, error)
	// Backlog is what waits for the log and the vault.
	Backlog(ctx context.Context) (backlog, error)
	// Gaps is the number of sequence numbers below a kiosk's highest of which no
	// record has come, counted from the number after first.
	Gaps(ctx context.Context, kiosk string, first uint64) (uint64, error)
}

// outbox is the store as the log role sees it.
type outbox interface {
	// Unlogged lists records that have no receipt, at most limit.
	Unlogged(ctx context.Context, limit int) ([]leaf, error)
	// Scanned is the log's size up to which every leaf is accounted for.
	Scanned(ctx context.Context) (uint64, error)
	// Logged keeps the receipts of records and the new Scanned.
	Logged(ctx context.Context, receipts map[[32]byte][]byte, scanned uint64) error
}

// openings is the store as the vault role sees it.
type openings interface {
	// Unopened lists records without the vault's verdict, at most limit, after
	// the given one in the order of ids.
	Unopened(ctx context.Context, after [32]byte, limit int) ([][32]byte, error)
	// Submission is a record as it was sent.
	Submission(ctx context.Context, id [32]byte) ([]byte, error)
	// Decided keeps the vault's verdict. refused is nil, or the refused record's
	// payload: what it did to DIDs is undone.
	Decided(ctx context.Context, id [32]byte, d decision, refused *record.Payload) error
}

// entry is an accepted record on its way into the store.
type entry struct {
	submission record.Submission
	sender     string    // kiosk that sent it; empty: any kiosk may ask for it
	received   time.Time //
	first      uint64    // the kiosk's counter before its first record
	approval   approval  // of an enrollment; zero for other records
	quota      uint64    // of the officer's approvals on that day; 0: none
	newKey     [32]byte  // thumbprint of a key that must be new; zero if none is
	personal   bool      // the vault must open it
}

// approval is one officer's day.
type approval struct {
	officer receipt.Officer
	day     receipt.Day
}

// added is what came of an entry. It is zero for a record that is there already.
type added struct {
	gap      bool   // the kiosk's sequence number before this one, if there is one above first, has not come
	approved uint64 // enrollments that the officer approved on this day, this one included
}

type leaf struct{ id, blind [32]byte }

// backlog is how many records wait, and since when.
type backlog struct{ unlogged, unopened queueDepth }

type queueDepth struct {
	count  uint64
	oldest time.Time // received; zero if none waits
}

// decision is a signed verdict with what it says: rejected by the registry,
// active or refused by the vault.
type decision struct {
	Status  api.Status `json:"status"`
	Code    string     `json:"code,omitempty"`
	Verdict string     `json:"verdict"` // compact JWS
}

// status is what is known of a record.
type status struct {
	decision decision // zero while there is none
	receipt  []byte   // nil until logged
}

var (
	errFork     = errors.New("another record has this sequence number of this kiosk")
	errKeyTaken = errors.New("another record has this key")
	errHolder   = errors.New("the did is unknown or has ended")
	errNotHeld  = errors.New("no such record")
)

// Buckets. Keys are record ids unless said otherwise.
var (
	bucketRecords      = []byte("records")      // the JWS
	bucketAttestations = []byte("attestations") // apart from the records: they identify tokens
	bucketHeld         = []byte("held")         // a held, JSON
	bucketSequences    = []byte("sequences")    // kiosk, 0, number -> id
	bucketKeys         = []byte("keys")         // thumbprint -> id
	bucketHolders      = []byte("holders")      // did -> a holder, JSON
	bucketUnlogged     = []byte("unlogged")     // blind
	bucketUnopened     = []byte("unopened")     // empty
	bucketReceipts     = []byte("receipts")     // tlog-proof
	bucketVerdicts     = []byte("verdicts")     // the vault's decision, JSON
	bucketRejections   = []byte("rejections")   // kiosk, 0, id -> the registry's decision, JSON
	bucketPolicies     = []byte("policies")     // digest -> signed policy
	bucketLog          = []byte("log")          // "scanned" -> log size
	bucketApprovals    = []byte("approvals")    // officer, day -> number of enrollments
)

var buckets = [][]byte{bucketRecords, bucketAttestations, bucketHeld, bucketSequences, bucketKeys, bucketHolders, bucketUnlogged,
	bucketUnopened, bucketReceipts, bucketVerdicts, bucketRejections, bucketPolicies, bucketLog, bucketApprovals}

var keyScanned = []byte("scanned")

// held is what stands beside a record.
type held struct {
	Sender   string    `json:"sender"`
	Received time.Time `json:"received"`
}

// holder is the standing of a DID.
type holder struct {
	Record  []byte `json:"record"`             // the record that brought it
	EndedBy []byte `json:"ended_by,omitempty"` // the record that ended it
}

// boltStore keeps everything in one bbolt file.
type boltStore struct{ db *bbolt.DB }

// errStoreBusy means that another process serves this directory.
var errStoreBusy = errors.New("the store is in use: another registry serves this directory")

func openStore(file string) (*boltStore, error) {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, errStoreBusy
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		db.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &boltStore{db}, nil
}

func (s *boltStore) Close() error { return s.db.Close() }

func (s *boltStore) update(ctx context.Context, f func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.Update(f)
}

func (s *boltStore) view(ctx context.Context, f func(tx *bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.View(f)
}

func sequenceKey(kiosk string, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(kiosk), 0), n)
}

func rejectionKey(kiosk string, id [32]byte) []byte {
	return append(append([]byte(kiosk), 0), id[:]...)
}

func putJSON(b *bbolt.Bucket, key []byte, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put(key, value)
}

func (s *boltStore) Add(ctx context.Context, e entry) (out added, err error) {
	r := e.submission.Record()
	p, id := r.Payload(), r.ID()
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketRecords).Get(id[:]) != nil {
			return nil
		}
		if p.Context.Sequence != 0 {
			key := sequenceKey(p.Context.KioskID, p.Context.Sequence)
			before := p.Context.Sequence - 1
			out.gap = before > e.first && tx.Bucket(bucketSequences).Get(sequenceKey(p.Context.KioskID, before)) == nil
			if tx.Bucket(bucketSequences).Get(key) != nil {
				return errFork
			}
			if err := tx.Bucket(bucketSequences).Put(key, id[:]); err != nil {
				return err
			}
		}
		if err := takeKey(tx, e.newKey, id); err != nil {
			return err
		}
		if err := moveHolder(tx, p, id); err != nil {
			return err
		}
		if a, ok := e.submission.Attestation(); ok {
			if err := tx.Bucket(bucketAttestations).Put(id[:], a.Bytes()); err != nil {
				return err
			}
		}
		if err := tx.Bucket(bucketRecords).Put(id[:], r.Bytes()); err != nil {
			return err
		}
		if err := putJSON(tx.Bucket(bucketHeld), id[:], held{e.sender, e.received.UTC()}); err != nil {
			return err
		}
		if e.personal {
			if err := tx.Bucket(bucketUnopened).Put(id[:], []byte{}); err != nil {
				return err
			}
		}
		if out.approved, err = approve(tx, e.approval); err != nil {
			return err
		}
		return tx.Bucket(bucketUnlogged).Put(id[:], p.Blind[:])
	})
	return out, err
}

// approve counts an enrollment for its officer and day.
func approve(tx *bbolt.Tx, a approval) (n uint64, err error) {
	if a == (approval{}) {
		return 0, nil
	}
	key := append(a.officer[:], a.day...)
	b := tx.Bucket(bucketApprovals)
	if value := b.Get(key); value != nil {
		n = binary.BigEndian.Uint64(value)
	}
	n++
	return n, b.Put(key, binary.BigEndian.AppendUint64(nil, n))
}

func takeKey(tx *bbolt.Tx, thumbprint, id [32]byte) error {
	if thumbprint == [32]byte{} {
		return nil
	}
	b := tx.Bucket(bucketKeys)
	if b.Get(thumbprint[:]) != nil {
		return errKeyTaken
	}
	return b.Put(thumbprint[:], id[:])
}

// holderOf is the standing of a DID; errHolder if it never had one.
func holderOf(tx *bbolt.Tx, did string) (holder, error) {
	var h holder
	value := tx.Bucket(bucketHolders).Get([]byte(did))
	if value == nil {
		return h, errHolder
	}
	if err := json.Unmarshal(value, &h); err != nil {
		return h, fmt.Errorf("holder: %w", err)
	}
	return h, nil
}

// living is holderOf a DID that has not ended; errHolder if it has.
func living(tx *bbolt.Tx, did string) (holder, error) {
	h, err := holderOf(tx, did)
	if err == nil && h.EndedBy != nil {
		err = errHolder
	}
	return h, err
}

func (s *boltStore) Brought(ctx context.Context, did string) (id [32]byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		h, err := living(tx, did)
		if err == nil {
			copy(id[:], h.Record)
		}
		return err
	})
	return id, err
}

// moveHolder follows what a record does to DIDs.
func moveHolder(tx *bbolt.Tx, p record.Payload, id [32]byte) error {
	b := tx.Bucket(bucketHolders)
	end := func(did string) error {
		h, err := living(tx, did)
		if err != nil {
			return err
		}
		h.EndedBy = id[:]
		return putJSON(b, []byte(did), h)
	}
	switch p.Context.Purpose {
	case record.Replace:
		if err := end(p.Replaces); err != nil {
			return err
		}
	case record.Update:
		_, err := living(tx, p.Holder.DID)
		return err
	case record.Revoke:
		return end(p.Holder.DID)
	case record.Void:
		return nil
	}
	return putJSON(b, []byte(p.Holder.DID), holder{Record: id[:]})
}

func (s *boltStore) Status(ctx context.Context, sender string, id [32]byte) (out status, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		var h held
		value := tx.Bucket(bucketHeld).Get(id[:])
		if value != nil {
			if err := json.Unmarshal(value, &h); err != nil {
				return fmt.Errorf("record's particulars: %w", err)
			}
		}
		if value == nil || h.Sender != "" && h.Sender != sender {
			out.decision, err = decisionIn(tx, bucketRejections, rejectionKey(sender, id))
			if err == nil && out.decision.Status == "" {
				err = errNotHeld
			}
			return err
		}
		out.receipt = bytes.Clone(tx.Bucket(bucketReceipts).Get(id[:]))
		out.decision, err = decisionIn(tx, bucketVerdicts, id[:])
		return err
	})
	return out, err
}

// decisionIn is zero if there is none.
func decisionIn(tx *bbolt.Tx, bucket, key []byte) (d decision, err error) {
	if value := tx.Bucket(bucket).Get(key); value != nil {
		if err = json.Unmarshal(value, &d); err != nil {
			err = fmt.Errorf("kept verdict: %w", err)
		}
	}
	return d, err
}

func (s *boltStore) Reject(ctx context.Context, sender string, id [32]byte, d decision) (decision, error) {
	key := rejectionKey(sender, id)
	err := s.update(ctx, func(tx *bbolt.Tx) error {
		first, err := decisionIn(tx, bucketRejections, key)
		if err != nil {
			return err
		}
		if first.Status != "" {
			d = first
			return nil
		}
		return putJSON(tx.Bucket(bucketRejections), key, d)
	})
	return d, err
}

func (s *boltStore) KeepPolicy(ctx context.Context, digest [32]byte, signed []byte) error {
	return s.update(ctx, func(tx *bbolt.Tx) error { return tx.Bucket(bucketPolicies).Put(digest[:], signed) })
}

func (s *boltStore) Policies(ctx context.Context) (out [][]byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketPolicies).ForEach(func(_, v []byte) error {
			out = append(out, bytes.Clone(v))
			return nil
		})
	})
	return out, err
}

func (s *boltStore) Gaps(ctx context.Context, kiosk string, first uint64) (gaps uint64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		prefix := append([]byte(kiosk), 0)
		c := tx.Bucket(bucketSequences).Cursor()
		next := first + 1
		for k, _ := c.Seek(sequenceKey(kiosk, next)); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
			n := binary.BigEndian.Uint64(k[len(prefix):])
			gaps += n - next
			next = n + 1
		}
		return nil
	})
	return gaps, err
}

func (s *boltStore) Backlog(ctx context.Context) (out backlog, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		for name, q := range map[*[]byte]*queueDepth{&bucketUnlogged: &out.unlogged, &bucketUnopened: &out.unopened} {
			c := tx.Bucket(*name).Cursor()
			for k, _ := c.First(); k != nil; k, _ = c.Next() {
				var h held
				if value := tx.Bucket(bucketHeld).Get(k); value == nil || json.Unmarshal(value, &h) != nil {
					return fmt.Errorf("record's particulars: %w", errNotHeld)
				}
				if q.count++; q.oldest.IsZero() || h.Received.Before(q.oldest) {
					q.oldest = h.Received
				}
			}
		}
		return nil
	})
	return out, err
}

func (s *boltStore) Unlogged(ctx context.Context, limit int) (out []leaf, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketUnlogged).Cursor()
		for k, v := c.First(); k != nil && len(out) < limit; k, v = c.Next() {
			out = append(out, leaf{[32]byte(k), [32]byte(v)})
		}
		return nil
	})
	return out, err
}

func (s *boltStore) Scanned(ctx context.Context) (n uint64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketLog).Get(keyScanned); v != nil {
			n = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	return n, err
}

func (s *boltStore) Logged(ctx context.Context, receipts map[[32]byte][]byte, scanned uint64) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		for id, b := range receipts {
			if tx.Bucket(bucketReceipts).Get(id[:]) == nil { // built once, kept for good
				if err := tx.Bucket(bucketReceipts).Put(id[:], b); err != nil {
					return err
				}
			}
			if err := tx.Bucket(bucketUnlogged).Delete(id[:]); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketLog).Put(keyScanned, binary.BigEndian.AppendUint64(nil, scanned))
	})
}

func (s *boltStore) Inventory(ctx context.Context, after [32]byte, limit int) (out []stock, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		k, v := c.Seek(after[:])
		if bytes.Equal(k, after[:]) {
			k, v = c.Next()
		}
		for ; k != nil && len(out) < limit; k, v = c.Next() {
			out = append(out, stock{[32]byte(k), bytes.Clone(v), bytes.Clone(tx.Bucket(bucketReceipts).Get(k))})
		}
		return nil
	})
	return out, err
}

func (s *boltStore) Unopened(ctx context.Context, after [32]byte, limit int) (out [][32]byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketUnopened).Cursor()
		k, _ := c.Seek(after[:])
		if bytes.Equal(k, after[:]) {
			k, _ = c.Next()
		}
		for ; k != nil && len(out) < limit; k, _ = c.Next() {
			out = append(out, [32]byte(k))
		}
		return nil
	})
	return out, err
}

func (s *boltStore) Submission(ctx context.Context, id [32]byte) (out []byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		r := tx.Bucket(bucketRecords).Get(id[:])
		if r == nil {
			return errNotHeld
		}
		out = []byte("{")
		if a := tx.Bucket(bucketAttestations).Get(id[:]); a != nil {
			out = append(append(append(out, `"attestation":`...), a...), ',')
		}
		out = append(append(append(out, `"record":`...), r...), '}')
		return nil
	})
	return out, err
}

func (s *boltStore) Decided(ctx context.Context, id [32]byte, d decision, refused *record.Payload) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucketUnopened).Delete(id[:]); err != nil {
			return err
		}
		if tx.Bucket(bucketVerdicts).Get(id[:]) != nil {
			return nil
		}
		if refused != nil {
			if err := undoHolder(tx, *refused, id); err != nil {
				return err
			}
		}
		return putJSON(tx.Bucket(bucketVerdicts), id[:], d)
	})
}

// undoHolder ends the DID that a refused record brought, and gives the one that
// it replaced its standing back.
func undoHolder(tx *bbolt.Tx, p record.Payload, id [32]byte) error {
	b := tx.Bucket(bucketHolders)
	if h, err := holderOf(tx, p.Holder.DID); err == nil && bytes.Equal(h.Record, id[:]) && h.EndedBy == nil {
		h.EndedBy = id[:]
		if err := putJSON(b, []byte(p.Holder.DID), h); err != nil {
			return err
		}
	}
	if h, err := holderOf(tx, p.Replaces); err == nil && bytes.Equal(h.EndedBy, id[:]) {
		h.EndedBy = nil
		return putJSON(b, []byte(p.Replaces), h)
	}
	return nil
}

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

	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/record"
)

// Buckets. Keys are record ids unless said otherwise.
var (
	bucketRecords      = []byte("records")      // the JWS
	bucketAttestations = []byte("attestations") // apart from the records: they identify tokens
	bucketHeld         = []byte("held")         // particulars, JSON
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

// particulars are what stands beside a record.
type particulars struct {
	Sender   string    `json:"sender"`
	Received time.Time `json:"received"`
}

// boltStore keeps records and what follows from them in one bbolt file, which
// one process at a time can open.
type boltStore struct{ db *bbolt.DB }

// errStoreBusy means that another process serves this directory.
var errStoreBusy = fmt.Errorf("%w: another registry serves this directory", console.ErrBusy)

func openBolt(file string) (*boltStore, error) {
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

func (s *boltStore) Add(ctx context.Context, entries []entry) (out []added, err error) {
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		out = make([]added, len(entries))
		for i, e := range entries {
			if out[i], err = add(tx, e); refusal(err) {
				out[i] = added{refused: err}
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// add stores one record.
func add(tx *bbolt.Tx, e entry) (out added, err error) {
	r := e.submission.Record()
	p, id := r.Payload(), r.ID()
	var held bool
	if held, out.gap, err = admit(boltFacts{tx}, e); held || err != nil {
		return out, err
	}
	if p.Context.Sequence != 0 {
		if err := tx.Bucket(bucketSequences).Put(sequenceKey(p.Context.KioskID, p.Context.Sequence), id[:]); err != nil {
			return out, err
		}
	}
	if e.newKey != [32]byte{} {
		if err := tx.Bucket(bucketKeys).Put(e.newKey[:], id[:]); err != nil {
			return out, err
		}
	}
	if a, ok := e.submission.Attestation(); ok {
		if err := tx.Bucket(bucketAttestations).Put(id[:], a.Bytes()); err != nil {
			return out, err
		}
	}
	if err := tx.Bucket(bucketRecords).Put(id[:], r.Bytes()); err != nil {
		return out, err
	}
	if err := putJSON(tx.Bucket(bucketHeld), id[:], particulars{e.sender, e.received.UTC()}); err != nil {
		return out, err
	}
	if e.personal {
		if err := tx.Bucket(bucketUnopened).Put(id[:], []byte{}); err != nil {
			return out, err
		}
	}
	if out.approved, err = approve(tx, e.approval); err != nil {
		return out, err
	}
	return out, tx.Bucket(bucketUnlogged).Put(id[:], p.Blind[:])
}

// boltFacts are what a transaction sees.
type boltFacts struct{ *bbolt.Tx }

func (tx boltFacts) has(bucket, key []byte) bool { return tx.Bucket(bucket).Get(key) != nil }

func (tx boltFacts) held(id [32]byte) bool             { return tx.has(bucketRecords, id[:]) }
func (tx boltFacts) keyTaken(thumbprint [32]byte) bool { return tx.has(bucketKeys, thumbprint[:]) }
func (tx boltFacts) sequenceTaken(p place) bool {
	return tx.has(bucketSequences, sequenceKey(p.kiosk, p.sequence))
}

func (tx boltFacts) holder(did string) (h holder, err error) {
	value := tx.Bucket(bucketHolders).Get([]byte(did))
	if value == nil {
		return h, errHolder
	}
	if err := json.Unmarshal(value, &h); err != nil {
		return h, fmt.Errorf("holder: %w", err)
	}
	return h, nil
}

func (tx boltFacts) keepHolder(did string, h holder) error {
	return putJSON(tx.Bucket(bucketHolders), []byte(did), h)
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

func (s *boltStore) Brought(ctx context.Context, did string) (id [32]byte, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		h, err := living(boltFacts{tx}, did)
		if err == nil {
			copy(id[:], h.Record)
		}
		return err
	})
	return id, err
}

func (s *boltStore) Status(ctx context.Context, sender string, ids ...[32]byte) (map[[32]byte]status, error) {
	out := map[[32]byte]status{}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		for _, id := range ids {
			known, held, err := statusOf(tx, sender, id)
			if err != nil {
				return err
			}
			if held {
				out[id] = known
			}
		}
		return nil
	})
	return out, err
}

func statusOf(tx *bbolt.Tx, sender string, id [32]byte) (out status, known bool, err error) {
	var h particulars
	value := tx.Bucket(bucketHeld).Get(id[:])
	if value != nil {
		if err := json.Unmarshal(value, &h); err != nil {
			return out, false, fmt.Errorf("record's particulars: %w", err)
		}
	}
	if value == nil || h.Sender != "" && h.Sender != sender {
		out.decision, err = decisionIn(tx, bucketRejections, rejectionKey(sender, id))
		return out, out.decision.Status != "", err
	}
	out.receipt = bytes.Clone(tx.Bucket(bucketReceipts).Get(id[:]))
	out.decision, err = decisionIn(tx, bucketVerdicts, id[:])
	return out, true, err
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

func (s *boltStore) Reject(ctx context.Context, sender string, rejections map[[32]byte]decision) (map[[32]byte]decision, error) {
	out := map[[32]byte]decision{}
	err := s.update(ctx, func(tx *bbolt.Tx) error {
		for id, d := range rejections {
			key := rejectionKey(sender, id)
			first, err := decisionIn(tx, bucketRejections, key)
			if err != nil {
				return err
			}
			if first.Status == "" {
				first = d
				if err := putJSON(tx.Bucket(bucketRejections), key, d); err != nil {
					return err
				}
			}
			out[id] = first
		}
		return nil
	})
	return out, err
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

func (s *boltStore) Logged(ctx context.Context, _ uint64, receipts map[[32]byte][]byte, scanned uint64) error {
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
		out = submission(r, tx.Bucket(bucketAttestations).Get(id[:]))
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
			if err := undoHolder(boltFacts{tx}, *refused, id); err != nil {
				return err
			}
		}
		return putJSON(tx.Bucket(bucketVerdicts), id[:], d)
	})
}

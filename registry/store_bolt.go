package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/record"
)

// Buckets. Keys are record ids unless said otherwise.
var (
	bucketHeld       = []byte("held")       // particulars, JSON
	bucketArrivals   = []byte("arrivals")   // number of arrival -> id
	bucketBodies     = []byte("bodies")     // number of arrival -> the JWS
	bucketEvidence   = []byte("evidence")   // number of arrival -> attestation, apart from the records: it identifies a token
	bucketLinks      = []byte("links")      // kiosk, 0, number -> a link, JSON
	bucketForks      = []byte("forks")      // kiosk, 0, arrival -> a Fork, JSON
	bucketHeard      = []byte("heard")      // kiosk -> time
	bucketKeys       = []byte("keys")       // thumbprint -> id
	bucketHolders    = []byte("holders")    // did -> a holder, JSON
	bucketUnlogged   = []byte("unlogged")   // blind
	bucketUnopened   = []byte("unopened")   // empty
	bucketReceipts   = []byte("receipts")   // tlog-proof
	bucketVerdicts   = []byte("verdicts")   // the vault's decision, JSON
	bucketRejections = []byte("rejections") // kiosk, 0, id -> the registry's decision with its number, JSON
	bucketPolicies   = []byte("policies")   // digest -> time since when, signed policy
	bucketLog        = []byte("log")        // "scanned" -> log size, "outcomes" -> the vault's last one
	bucketApprovals  = []byte("approvals")  // officer, day -> number of enrollments

	bucketCodes         = []byte("codes")         // hash of a cancel code -> id, did
	bucketCancellations = []byte("cancellations") // did -> a Cancellation, JSON
	bucketSuspended     = []byte("suspended")     // due, did -> empty

	bucketIssuer    = []byte("issuer")     // kind, 0, key -> what the issuer keeps
	bucketIssuerDue = []byte("issuer-due") // time, kind, 0, key -> empty: when it expires

	// Stores of before have their records and attestations here, by id. Nothing is
	// written to them any more.
	bucketRecords      = []byte("records")
	bucketAttestations = []byte("attestations")
)

var buckets = [][]byte{bucketRecords, bucketAttestations, bucketHeld, bucketArrivals, bucketBodies, bucketEvidence, bucketLinks, bucketForks, bucketHeard, bucketKeys, bucketHolders,
	bucketUnlogged, bucketUnopened, bucketReceipts, bucketVerdicts, bucketRejections, bucketPolicies, bucketLog, bucketApprovals,
	bucketCodes, bucketCancellations, bucketSuspended, bucketIssuer, bucketIssuerDue}

var keyScanned, keyOutcomes = []byte("scanned"), []byte("outcomes")

// particulars are what stands beside a record.
type particulars struct {
	Sender   string    `json:"sender"`
	Received time.Time `json:"received"`
	Sequence uint64    `json:"sequence,omitempty"`
	DID      string    `json:"did,omitempty"`
	Number   uint64    `json:"number,omitempty"` // of its arrival; 0: it lies where stores of before have it
}

// tombstone is a rejection as it is kept.
type tombstone struct {
	decision
	Sequence uint64 `json:"sequence,omitempty"` // 0: nothing proves that it has one
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
		return numberArrivals(tx)
	}); err != nil {
		db.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &boltStore{db}, nil
}

// numberArrivals numbers what a store of before holds.
func numberArrivals(tx *bbolt.Tx) error {
	arrivals := tx.Bucket(bucketArrivals)
	if arrivals.Sequence() > 0 {
		return nil
	}
	type arrival struct {
		id []byte
		at time.Time
	}
	var all []arrival
	if err := tx.Bucket(bucketHeld).ForEach(func(id, value []byte) error {
		var h particulars
		err := json.Unmarshal(value, &h)
		all = append(all, arrival{bytes.Clone(id), h.Received})
		return err
	}); err != nil {
		return fmt.Errorf("record's particulars: %w", err)
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return a.at.Compare(b.at) })
	for _, a := range all {
		if _, err := arrive(tx, a.id); err != nil {
			return err
		}
	}
	return nil
}

// arrive gives a record the next number.
func arrive(tx *bbolt.Tx, id []byte) (number uint64, err error) {
	arrivals := tx.Bucket(bucketArrivals)
	arrivals.FillPercent = 1 // nothing comes in between later
	if number, err = arrivals.NextSequence(); err == nil {
		err = arrivals.Put(binary.BigEndian.AppendUint64(nil, number), id)
	}
	return number, err
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
	if e.newKey != [32]byte{} {
		if err := tx.Bucket(bucketKeys).Put(e.newKey[:], id[:]); err != nil {
			return out, err
		}
	}
	number, err := putBody(tx, e.submission)
	if err != nil {
		return out, err
	}
	if err := putJSON(tx.Bucket(bucketHeld), id[:], particulars{e.sender, e.received.UTC(), p.Context.Sequence, p.Holder.DID, number}); err != nil {
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

// putBody appends a record and its attestation. They are by far the most of what is
// written: in the order of ids each would have its neighbours written anew.
func putBody(tx *bbolt.Tx, s record.Submission) (number uint64, err error) {
	bodies, evidence := tx.Bucket(bucketBodies), tx.Bucket(bucketEvidence)
	bodies.FillPercent, evidence.FillPercent = 1, 1
	id := s.ID()
	if number, err = arrive(tx, id[:]); err != nil {
		return 0, err
	}
	key := binary.BigEndian.AppendUint64(nil, number)
	if a, ok := s.Attestation(); ok {
		if err := evidence.Put(key, a.Bytes()); err != nil {
			return 0, err
		}
	}
	return number, bodies.Put(key, s.Record().Bytes())
}

// body is a record with its attestation, nil if it has none; errNotHeld.
func body(tx *bbolt.Tx, id []byte) (jws, attestation []byte, err error) {
	var h particulars
	if has, err := (boltFacts{tx}).get(bucketHeld, id, &h); err != nil {
		return nil, nil, err
	} else if !has {
		return nil, nil, errNotHeld
	}
	jws, attestation = tx.Bucket(bucketRecords).Get(id), tx.Bucket(bucketAttestations).Get(id)
	if h.Number != 0 {
		key := binary.BigEndian.AppendUint64(nil, h.Number)
		jws, attestation = tx.Bucket(bucketBodies).Get(key), tx.Bucket(bucketEvidence).Get(key)
	}
	if jws == nil {
		return nil, nil, fmt.Errorf("%w: its body is missing", errNotHeld)
	}
	return jws, attestation, nil
}

// boltFacts are what a transaction sees.
type boltFacts struct{ *bbolt.Tx }

func (tx boltFacts) has(bucket, key []byte) bool { return tx.Bucket(bucket).Get(key) != nil }

func (tx boltFacts) held(id [32]byte) bool { return tx.has(bucketHeld, id[:]) }
func (tx boltFacts) keyTaken(thumbprint [32]byte, _ string) bool {
	return tx.has(bucketKeys, thumbprint[:])
}

// get reads JSON; has is false if there is none.
func (tx boltFacts) get(bucket, key []byte, v any) (has bool, err error) {
	value := tx.Bucket(bucket).Get(key)
	if value == nil {
		return false, nil
	}
	if err := json.Unmarshal(value, v); err != nil {
		return false, fmt.Errorf("kept in %s: %w", bucket, err)
	}
	return true, nil
}

func (tx boltFacts) link(p place) (l link, has bool, err error) {
	has, err = tx.get(bucketLinks, sequenceKey(p.kiosk, p.sequence), &l)
	return l, has, err
}

func (tx boltFacts) keepLink(p place, l link) error {
	return putJSON(tx.Bucket(bucketLinks), sequenceKey(p.kiosk, p.sequence), l)
}

func (tx boltFacts) numberOf(kiosk string, id [32]byte) (uint64, error) {
	var h particulars
	if has, err := tx.get(bucketHeld, id[:], &h); err != nil || has && h.Sender == kiosk {
		return h.Sequence, err
	}
	var t tombstone
	_, err := tx.get(bucketRejections, rejectionKey(kiosk, id), &t)
	return t.Sequence, err
}

func (tx boltFacts) keepFork(kiosk string, f Fork) error {
	b := tx.Bucket(bucketForks)
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	return putJSON(b, sequenceKey(kiosk, n), f)
}

func (tx boltFacts) keepCode(hash [32]byte, did string, id [32]byte) error {
	if tx.has(bucketCodes, hash[:]) {
		return nil
	}
	return tx.Bucket(bucketCodes).Put(hash[:], append(id[:], did...))
}

func (tx boltFacts) code(hash [32]byte) (did string, id [32]byte, known bool, err error) {
	value := tx.Bucket(bucketCodes).Get(hash[:])
	if len(value) < len(id) {
		return "", id, false, nil
	}
	return string(value[len(id):]), [32]byte(value), true, nil
}

func (tx boltFacts) cancellation(did string) (c Cancellation, err error) {
	has, err := tx.get(bucketCancellations, []byte(did), &c)
	if err == nil && !has {
		err = ErrNoCancellation
	}
	return c, err
}

func (tx boltFacts) keepCancellation(c Cancellation) error {
	due := dueKey(c.Due, c.DID)
	err := tx.Bucket(bucketSuspended).Delete(due)
	if c.State == CancelSuspended {
		err = tx.Bucket(bucketSuspended).Put(due, []byte{})
	}
	return errors.Join(err, putJSON(tx.Bucket(bucketCancellations), []byte(c.DID), c))
}

// dueKey sorts by time.
func dueKey(due time.Time, did string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(due.Unix())), did...)
}

func (tx boltFacts) holder(did string) (h holder, err error) {
	has, err := tx.get(bucketHolders, []byte(did), &h)
	if err == nil && !has {
		err = errHolder
	}
	return h, err
}

func (tx boltFacts) keepHolder(did string, h holder) error {
	if err := endCredentials(tx.Tx, h); err != nil {
		return err
	}
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
	out, from, err := heldIn(tx, id)
	if err == nil && (from == "" || from == sender) {
		return out, true, nil
	}
	if err != nil && !errors.Is(err, errNotHeld) {
		return status{}, false, err
	}
	out = status{}
	out.decision, err = decisionIn(tx, bucketRejections, rejectionKey(sender, id))
	return out, out.decision.Status != "", err
}

func (s *boltStore) Held(ctx context.Context, id [32]byte) (out status, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		out, _, err = heldIn(tx, id)
		return err
	})
	return out, err
}

// heldIn is what is known of a record that was taken on, and who sent it; errNotHeld.
func heldIn(tx *bbolt.Tx, id [32]byte) (out status, sender string, err error) {
	value := tx.Bucket(bucketHeld).Get(id[:])
	if value == nil {
		return out, "", errNotHeld
	}
	var h particulars
	if err := json.Unmarshal(value, &h); err != nil {
		return out, "", fmt.Errorf("record's particulars: %w", err)
	}
	out.receipt = bytes.Clone(tx.Bucket(bucketReceipts).Get(id[:]))
	if out.decision, err = decisionIn(tx, bucketVerdicts, id[:]); err != nil || h.DID == "" {
		return out, h.Sender, err
	}
	out.did = h.DID
	out.holder, err = boltFacts{tx}.holder(h.DID)
	return out, h.Sender, err
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

func (s *boltStore) Reject(ctx context.Context, sender string, rejections map[[32]byte]rejection) (map[[32]byte]decision, error) {
	out := map[[32]byte]decision{}
	err := s.update(ctx, func(tx *bbolt.Tx) error {
		for id, r := range rejections {
			key := rejectionKey(sender, id)
			first, err := decisionIn(tx, bucketRejections, key)
			if err != nil {
				return err
			}
			if first.Status == "" {
				first = r.decision
				if err := errors.Join(bury(boltFacts{tx}, sender, r), putJSON(tx.Bucket(bucketRejections), key, tombstone{r.decision, r.number})); err != nil {
					return err
				}
			}
			out[id] = first
		}
		return nil
	})
	return out, err
}

func (s *boltStore) KeepPolicy(ctx context.Context, digest [32]byte, signed []byte, since time.Time) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketPolicies)
		if b.Get(digest[:]) != nil {
			return nil
		}
		return b.Put(digest[:], append(binary.BigEndian.AppendUint64(nil, uint64(since.Unix())), signed...))
	})
}

func (s *boltStore) Policies(ctx context.Context) (out []keptPolicy, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketPolicies).ForEach(func(_, v []byte) error {
			if len(v) < 8 {
				return errors.New("kept policy: cut short")
			}
			out = append(out, keptPolicy{bytes.Clone(v[8:]), time.Unix(int64(binary.BigEndian.Uint64(v)), 0).UTC()})
			return nil
		})
	})
	return out, err
}

// chain hands a kiosk's numbers from one on to f, until it says no.
func (tx boltFacts) chain(kiosk string, from uint64, f func(n uint64, value []byte) (more bool, err error)) error {
	prefix := append([]byte(kiosk), 0)
	c := tx.Bucket(bucketLinks).Cursor()
	for k, v := c.Seek(sequenceKey(kiosk, from)); bytes.HasPrefix(k, prefix) && len(k) == len(prefix)+8; k, v = c.Next() {
		if more, err := f(binary.BigEndian.Uint64(k[len(prefix):]), v); err != nil || !more {
			return err
		}
	}
	return nil
}

func (s *boltStore) Gaps(ctx context.Context, kiosk string, first uint64) (gaps uint64, err error) {
	next := first + 1
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		return boltFacts{tx}.chain(kiosk, next, func(n uint64, _ []byte) (bool, error) {
			gaps += n - next
			next = n + 1
			return true, nil
		})
	})
	return gaps, err
}

func (s *boltStore) Links(ctx context.Context, kiosk string, after uint64, limit int) (out []numbered, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		return boltFacts{tx}.chain(kiosk, after+1, func(n uint64, value []byte) (bool, error) {
			one := numbered{number: n}
			if err := json.Unmarshal(value, &one.link); err != nil {
				return false, fmt.Errorf("kept link: %w", err)
			}
			out = append(out, one)
			return len(out) < limit, nil
		})
	})
	return out, err
}

func (s *boltStore) Forks(ctx context.Context, kiosk string, limit int) (out []Fork, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		prefix := append([]byte(kiosk), 0)
		c := tx.Bucket(bucketForks).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			var f Fork
			if err := json.Unmarshal(v, &f); err != nil {
				return fmt.Errorf("kept fork: %w", err)
			}
			if out = append(out, f); len(out) > limit {
				out = out[1:]
			}
		}
		return nil
	})
	return out, err
}

func (s *boltStore) Heard(ctx context.Context, kiosk string, at time.Time) error {
	return s.update(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketHeard).Put([]byte(kiosk), binary.BigEndian.AppendUint64(nil, uint64(at.Unix())))
	})
}

func (s *boltStore) LastHeard(ctx context.Context, kiosk string) (at time.Time, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketHeard).Get([]byte(kiosk)); len(v) == 8 {
			at = time.Unix(int64(binary.BigEndian.Uint64(v)), 0).UTC()
		}
		return nil
	})
	return at, err
}

func (s *boltStore) Cancel(ctx context.Context, hash [32]byte, now, due time.Time) (c Cancellation, done bool, err error) {
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		// A transaction that writes waits for the disk; one that does not, does not.
		if _, err := tx.Bucket(bucketCodes).NextSequence(); err != nil {
			return err
		}
		c, done, err = cancel(boltFacts{tx}, hash, now, due)
		return err
	})
	return c, done, err
}

func (s *boltStore) Cancellations(ctx context.Context, all bool) (out []Cancellation, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketCancellations).ForEach(func(_, v []byte) error {
			var c Cancellation
			if err := json.Unmarshal(v, &c); err != nil {
				return fmt.Errorf("kept cancellation: %w", err)
			}
			if all || c.State == CancelSuspended {
				out = append(out, c)
			}
			return nil
		})
	})
	slices.SortFunc(out, func(a, b Cancellation) int {
		return cmp.Or(a.Received.Compare(b.Received), strings.Compare(a.DID, b.DID))
	})
	return out, err
}

func (s *boltStore) Cancellation(ctx context.Context, did string) (c Cancellation, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		c, err = boltFacts{tx}.cancellation(did)
		return err
	})
	return c, err
}

func (s *boltStore) ResolveCancellation(ctx context.Context, did string, state CancelState, d Resolution) (c Cancellation, err error) {
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		c, err = resolveCancellation(boltFacts{tx}, did, state, &d, d.Time)
		return err
	})
	return c, err
}

func (s *boltStore) RevokeDue(ctx context.Context, now time.Time, limit int) (out []Cancellation, err error) {
	var dids []string
	due := func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketSuspended).Cursor()
		for k, _ := c.First(); len(k) > 8 && len(dids) < limit; k, _ = c.Next() {
			if time.Unix(int64(binary.BigEndian.Uint64(k)), 0).After(now) {
				break
			}
			dids = append(dids, string(k[8:]))
		}
		return nil
	}
	if err := s.view(ctx, due); err != nil || len(dids) == 0 {
		return nil, err
	}
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		out = nil
		for _, did := range dids {
			c, err := resolveCancellation(boltFacts{tx}, did, CancelRevoked, nil, now)
			if errors.Is(err, ErrCancelResolved) { // meanwhile
				continue
			}
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

func (s *boltStore) Backlog(ctx context.Context) (out backlog, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		depth := func(bucket []byte) (q queueDepth, err error) {
			c := tx.Bucket(bucket).Cursor()
			for k, _ := c.First(); k != nil; k, _ = c.Next() {
				var p particulars
				if value := tx.Bucket(bucketHeld).Get(k); value == nil || json.Unmarshal(value, &p) != nil {
					return q, fmt.Errorf("record's particulars: %w", errNotHeld)
				}
				if q.count++; q.oldest.IsZero() || p.Received.Before(q.oldest) {
					q.oldest = p.Received
				}
			}
			return q, nil
		}
		var err error
		if out.unlogged, err = depth(bucketUnlogged); err != nil {
			return err
		}
		out.unopened, err = depth(bucketUnopened)
		return err
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

func (s *boltStore) Inventory(ctx context.Context, after [32]byte, limit int) (out []stock, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketHeld).Cursor()
		k, _ := c.Seek(after[:])
		if bytes.Equal(k, after[:]) {
			k, _ = c.Next()
		}
		for ; k != nil && len(out) < limit; k, _ = c.Next() {
			jws, _, _ := body(tx, k) // none: it is examined as damaged
			out = append(out, stock{[32]byte(k), bytes.Clone(jws), bytes.Clone(tx.Bucket(bucketReceipts).Get(k))})
		}
		return nil
	})
	return out, err
}

// Snapshot writes the store as it is at one moment, while it is written to.
func (s *boltStore) Snapshot(ctx context.Context, w io.Writer) error {
	tx, err := s.db.Begin(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.WriteTo(w)
	return errors.Join(err, ctx.Err())
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
		jws, attestation, err := body(tx, id[:])
		if err == nil {
			out = submission(jws, attestation)
		}
		return err
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

func (s *boltStore) Judged(ctx context.Context, after uint64, limit int) (out []judged, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketArrivals).Cursor()
		for k, id := c.Seek(binary.BigEndian.AppendUint64(nil, after+1)); k != nil && len(out) < limit; k, id = c.Next() {
			d, err := decisionIn(tx, bucketVerdicts, id)
			if err != nil {
				return err
			}
			if d.Verdict != "" {
				out = append(out, judged{binary.BigEndian.Uint64(k), [32]byte(id), d.Verdict})
			}
		}
		return nil
	})
	return out, err
}

func (s *boltStore) Outcomes(ctx context.Context) (n uint64, err error) {
	err = s.view(ctx, func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketLog).Get(keyOutcomes); v != nil {
			n = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	return n, err
}

func (s *boltStore) Redecided(ctx context.Context, o outcome) (applied bool, err error) {
	err = s.update(ctx, func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucketLog).Put(keyOutcomes, binary.BigEndian.AppendUint64(nil, o.number)); err != nil {
			return err
		}
		d, err := decisionIn(tx, bucketVerdicts, o.record[:])
		if err != nil || sha256.Sum256([]byte(d.Verdict)) != o.supersedes {
			return err
		}
		jws, _, err := body(tx, o.record[:])
		if err != nil {
			return err
		}
		r, err := record.Parse(jws)
		if err != nil {
			return fmt.Errorf("kept record: %w", err)
		}
		applied = true
		return errors.Join(redecide(boltFacts{tx}, r.Payload(), o.record, o.decision.Status == api.Active),
			putJSON(tx.Bucket(bucketVerdicts), o.record[:], o.decision))
	})
	return applied, err
}

package vault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/record"
)

// store is the vault's memory, one bbolt file: verdicts, policies, and who is
// enrolled, as keyed hashes.
type store struct{ db *bbolt.DB }

var (
	bucketVerdicts = []byte("verdicts") // record id -> JWS
	bucketPolicies = []byte("policies") // digest -> signed policy
	bucketPersons  = []byte("persons")  // token -> did
	bucketHolders  = []byte("holders")  // did -> document token, person token
	bucketReviews  = []byte("reviews")  // record id -> a review, JSON
)

// review is what a person must decide: a record and the enrollment that it
// collides with.
type review struct {
	DID   string    `json:"did"`
	Other string    `json:"other"` // did; empty if there should be one and is none
	Time  time.Time `json:"time"`
}

// ErrBusy means that another process has this directory.
var ErrBusy = errors.New("the vault is in use by another process")

func openStore(file string) (*store, error) {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketVerdicts, bucketPolicies, bucketPersons, bucketHolders, bucketReviews} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &store{db}, nil
}

func (s *store) Close() error { return s.db.Close() }

func (s *store) verdict(id [32]byte) (out []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		out = bytes.Clone(tx.Bucket(bucketVerdicts).Get(id[:]))
		return nil
	})
	return out, err
}

func (s *store) keepPolicy(digest [32]byte, signed []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketPolicies).Put(digest[:], signed) })
}

func (s *store) policies() (out [][]byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketPolicies).ForEach(func(_, b []byte) error {
			out = append(out, bytes.Clone(b))
			return nil
		})
	})
	return out, err
}

// outcome is a verdict with what it does to the store.
type outcome struct {
	code   string // empty: active
	person tokens
	other  string // did that a review is about
	review bool
}

// outcome compares a person with those enrolled. The same person may stand
// under one DID only; a new key or a renewed document must be of the person
// whose DID it was.
func (s *store) outcome(p record.Payload, id [32]byte, found examined) (o outcome, err error) {
	o = outcome{code: found.code, person: found.person}
	if o.code != "" {
		return o, nil
	}
	own := p.Holder.DID // whose DID the person must have had so far
	switch p.Context.Purpose {
	case record.Enroll:
		own = ""
	case record.Replace:
		own = p.Replaces
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		persons := tx.Bucket(bucketPersons)
		for _, token := range [][32]byte{found.person.document, found.person.person} {
			if did := persons.Get(token[:]); did != nil && string(did) != own {
				o.code, o.other, o.review = api.CodeReview, string(did), true
				return nil
			}
		}
		if own == "" {
			return nil
		}
		known := tx.Bucket(bucketHolders).Get([]byte(own))
		same := len(known) == 64 && (bytes.Equal(known[:32], found.person.document[:]) || bytes.Equal(known[32:], found.person.person[:]))
		if !same {
			o.code, o.other, o.review = api.CodeReview, own, true
		}
		return nil
	})
	return o, err
}

// decide keeps a verdict and what follows from it in one transaction.
func (s *store) decide(p record.Payload, id [32]byte, verdict []byte, o outcome) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucketVerdicts).Put(id[:], verdict); err != nil {
			return err
		}
		if o.review {
			b, err := json.Marshal(review{DID: p.Holder.DID, Other: o.other, Time: time.Now().UTC()})
			if err != nil {
				return err
			}
			return tx.Bucket(bucketReviews).Put(id[:], b)
		}
		if o.code != "" {
			return nil
		}
		persons, holders := tx.Bucket(bucketPersons), tx.Bucket(bucketHolders)
		for _, did := range []string{p.Replaces, p.Holder.DID} { // what stood for the person before
			if old := bytes.Clone(holders.Get([]byte(did))); len(old) == 64 {
				if err := errors.Join(persons.Delete(old[:32]), persons.Delete(old[32:]), holders.Delete([]byte(did))); err != nil {
					return err
				}
			}
		}
		did := []byte(p.Holder.DID)
		both := append(bytes.Clone(o.person.document[:]), o.person.person[:]...)
		return errors.Join(persons.Put(both[:32], did), persons.Put(both[32:], did), holders.Put(did, both))
	})
}

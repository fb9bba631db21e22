package vault

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/console"
	"enrollkiosk/registry/record"
)

// store is the vault's memory, one bbolt file: verdicts, policies, and who is
// enrolled, as keyed hashes.
type store struct{ db *bbolt.DB }

var (
	bucketVerdicts = []byte("verdicts") // record id -> JWS
	bucketPolicies = []byte("policies") // digest -> signed policy
	bucketPersons  = []byte("persons")  // document token -> did
	bucketNames    = []byte("names")    // person token, did -> empty
	bucketHolders  = []byte("holders")  // did -> document token, person token
	bucketReviews  = []byte("reviews")  // record id -> a review, JSON
	bucketBrought  = []byte("brought")  // did -> id of the record that brought it
	bucketOutcomes = []byte("outcomes") // number -> an api.Outcome, JSON
	bucketState    = []byte("state")    // "behind" -> since when

	bucketUnblocks = []byte("unblocks") // did, 0, number -> an unblocking, JSON
	bucketAnswers  = []byte("answers")  // request id -> JWS
	bucketDesks    = []byte("desks")    // day, 0, number of the officer -> how many unblockings
)

var buckets = [][]byte{bucketVerdicts, bucketPolicies, bucketPersons, bucketNames, bucketHolders, bucketReviews, bucketBrought, bucketOutcomes, bucketState,
	bucketUnblocks, bucketAnswers, bucketDesks}

// ErrBusy means that another process has this directory.
var ErrBusy = fmt.Errorf("%w: another process has the vault", console.ErrBusy)

func openStore(file string) (*store, error) {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range buckets {
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
	code    string // empty: active
	person  tokens
	other   string // did that a review is about; empty if there is none
	officer string // number of the officer that a review is about; likewise

	guardian bool // stands beside the holder
}

// outcome compares a person with those enrolled. A document may stand under one
// DID only; a new key or a renewed document must be of the person whose DID it
// was. Another person of the same name, date of birth and issuer is no
// reason to refuse, in a country of many people: a review notes it.
func (s *store) outcome(p record.Payload, id [32]byte, found examined) (o outcome, err error) {
	o = outcome{code: found.code, person: found.person, officer: found.officer, guardian: found.guardian}
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
		if did := tx.Bucket(bucketPersons).Get(found.person.document[:]); did != nil && string(did) != own {
			o.code, o.other = api.CodeReview, string(did)
			return nil
		}
		if own != "" {
			known := tx.Bucket(bucketHolders).Get([]byte(own))
			named := len(known) == 64 && bytes.Equal(known[32:], found.person.person[:])
			if !named && !(len(known) == 64 && bytes.Equal(known[:32], found.person.document[:])) {
				o.code, o.other = api.CodeReview, own
			}
			if named || o.code != "" {
				return nil // noted when the name came
			}
		}
		o.other = namesake(tx, found.person.person, own)
		return nil
	})
	return o, err
}

// namesake is a DID other than own of a person with a name and date of birth;
// empty if there is none.
func namesake(tx *bbolt.Tx, person [32]byte, own string) string {
	c := tx.Bucket(bucketNames).Cursor()
	for k, _ := c.Seek(person[:]); bytes.HasPrefix(k, person[:]); k, _ = c.Next() {
		if did := string(k[len(person):]); did != own {
			return did
		}
	}
	return ""
}

// decide keeps a verdict and what follows from it in one transaction.
func (s *store) decide(p record.Payload, id [32]byte, verdict []byte, o outcome, at time.Time) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucketVerdicts).Put(id[:], verdict); err != nil {
			return err
		}
		if o.other != "" || o.officer != "" || o.code == api.CodeReview {
			r := review{DID: p.Holder.DID, Other: o.other, Officer: o.officer, Refused: o.code != "", Time: at, Replaces: p.Replaces, Update: p.Context.Purpose == record.Update, Guardian: o.guardian}
			if o.officer == "" {
				r.Person = slices.Concat(o.person.document[:], o.person.person[:])
			}
			if err := putReview(tx, id, r); err != nil {
				return err
			}
		}
		if o.code != "" {
			return nil
		}
		return settle(tx, o.person, p.Replaces, p.Holder.DID, broughtBy(p, id))
	})
}

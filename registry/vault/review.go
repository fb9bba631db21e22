package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// Errors of Resolve. All are a no to the person who decides.
var (
	ErrNoReview      = errors.New("there is no review of this record")
	ErrResolved      = errors.New("somebody has decided already")
	ErrReviewChanged = errors.New("another enrollment has this document now: look at the review again, then decide")
	ErrOwnReview     = errors.New("an officer cannot enroll himself: have another officer enroll the person")
	ErrDecision      = errors.New("a decision is active or refused, and says by whom and why")
)

// Review is what a person must look at: a record, and an enrollment that it
// collides with or whose person has the same name and date of birth, or an officer
// who is the holder. It holds no personal data.
type Review struct {
	Record     api.ID      `json:"record"`
	DID        string      `json:"did"`
	Other      string      `json:"other,omitempty"`    // did that it collides with
	Officer    string      `json:"officer,omitempty"`  // number of the officer who would have enrolled himself, or is the guardian
	Guardian   bool        `json:"guardian,omitempty"` // a guardian stands beside the holder
	Refused    bool        `json:"refused"`            // the vault's own verdict; else the record is active
	Time       time.Time   `json:"time"`
	Resolution *Resolution `json:"resolution,omitempty"` // nil: open
}

// Resolution is what a person has decided.
type Resolution struct {
	Decision receipt.Status `json:"decision"` // Active or Refused
	By       string         `json:"by"`       // who decided
	Reason   string         `json:"reason"`
	Time     time.Time      `json:"time"`
}

// Longest texts, in bytes.
const (
	maxBy     = 100
	maxReason = 1000
)

func (r Resolution) check() error {
	decided := r.Decision == receipt.Active || r.Decision == receipt.Refused
	if by, reason := strings.TrimSpace(r.By), strings.TrimSpace(r.Reason); !decided || by == "" || reason == "" || len(r.By) > maxBy || len(r.Reason) > maxReason {
		return ErrDecision
	}
	return nil
}

// review is a Review as it is kept, with what is needed to have it followed.
type review struct {
	DID        string      `json:"did"`
	Other      string      `json:"other,omitempty"`
	Officer    string      `json:"officer,omitempty"`
	Guardian   bool        `json:"guardian,omitempty"`
	Refused    bool        `json:"refused"`
	Time       time.Time   `json:"time"`
	Replaces   string      `json:"replaces,omitempty"`
	Update     bool        `json:"update,omitempty"` // the record brought no DID
	Person     []byte      `json:"person,omitempty"` // document and person token; none about an officer
	Resolution *Resolution `json:"resolution,omitempty"`
}

func (r review) public(id [32]byte) Review {
	return Review{Record: id, DID: r.DID, Other: r.Other, Officer: r.Officer, Guardian: r.Guardian, Refused: r.Refused, Time: r.Time, Resolution: r.Resolution}
}

// own is the DID whose person the holder must have been so far; "" for none.
func (r review) own() string {
	if r.Update {
		return r.DID
	}
	return r.Replaces
}

// Reviews lists what waits for a decision, oldest first; with all, what was
// decided too.
func (v *Vault) Reviews(all bool) (out []Review, err error) {
	out = []Review{}
	err = v.store.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketReviews).ForEach(func(id, b []byte) error {
			var r review
			if err := json.Unmarshal(b, &r); err != nil {
				return fmt.Errorf("kept review: %w", err)
			}
			if all || r.Resolution == nil {
				out = append(out, r.public([32]byte(id)))
			}
			return nil
		})
	})
	slices.SortFunc(out, func(a, b Review) int { return a.Time.Compare(b.Time) })
	return out, err
}

// Review is the review of one record; ErrNoReview if there is none.
func (v *Vault) Review(id [32]byte) (Review, error) {
	var r review
	err := v.store.db.View(func(tx *bbolt.Tx) (err error) {
		r, err = reviewOf(tx, id)
		return err
	})
	return r.public(id), err
}

func reviewOf(tx *bbolt.Tx, id [32]byte) (r review, err error) {
	b := tx.Bucket(bucketReviews).Get(id[:])
	if b == nil {
		return r, ErrNoReview
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("kept review: %w", err)
	}
	return r, nil
}

// Resolve closes a review with what a person has decided, once and for all.
//
// Where the decision is not the verdict's, a new verdict is signed that takes the
// place of the first, and stands among the outcomes for the registry. A record
// that becomes active takes over the document: the enrollment that had it is
// refused by the same decision, so that a document still stands under one DID only.
func (v *Vault) Resolve(ctx context.Context, id [32]byte, decision Resolution) (Review, error) {
	decision.Time = v.now()
	if err := decision.check(); err != nil {
		return Review{}, err
	}
	v.one.Lock()
	defer v.one.Unlock()
	if err := v.isLevel(); err != nil {
		return Review{}, err
	}
	var r review
	err := v.store.db.Update(func(tx *bbolt.Tx) (err error) {
		if r, err = reviewOf(tx, id); err != nil {
			return err
		}
		if r.Resolution != nil {
			return fmt.Errorf("%w: %s, by %s", ErrResolved, r.Resolution.Decision, r.Resolution.By)
		}
		if err := v.follow(ctx, tx, id, r, decision.Decision); err != nil {
			return err
		}
		r.Resolution = &decision
		return putReview(tx, id, r)
	})
	if errors.Is(err, ErrReviewChanged) {
		err = errors.Join(err, v.store.noteOther(id))
	}
	if err != nil {
		return Review{}, err
	}
	v.metrics.reviews.Add(-1)
	v.opts.Log.Info("review resolved", "record", api.ID(id), "decision", decision.Decision)
	return r.public(id), nil
}

func (v *Vault) now() time.Time { return v.opts.Now().UTC().Truncate(time.Second) }

// follow does what a decision means.
func (v *Vault) follow(ctx context.Context, tx *bbolt.Tx, id [32]byte, r review, decision receipt.Status) error {
	first, err := v.kept(tx, id)
	if err != nil {
		return err
	}
	switch {
	case first.Status == decision:
		return nil
	case first.Supersedes != [32]byte{}:
		return fmt.Errorf("%w: when another review of the same document was resolved", ErrResolved)
	case decision == receipt.Refused:
		return errors.Join(v.supersede(ctx, tx, id, first, decision), forget(tx, r.DID, id))
	case len(r.Person) != 64:
		return ErrOwnReview
	}
	person := tokensIn(r.Person)
	if did := standsUnder(tx, r, person); did != "" {
		if did != r.Other {
			return ErrReviewChanged
		}
		other := tx.Bucket(bucketBrought).Get([]byte(did))
		if len(other) != 32 {
			return fmt.Errorf("the record that brought %s is not known", did)
		}
		verdict, err := v.kept(tx, [32]byte(other))
		if err != nil {
			return err
		}
		if verdict.Supersedes != [32]byte{} {
			return fmt.Errorf("%w: that the other enrollment is the right one", ErrResolved)
		}
		if err := errors.Join(v.supersede(ctx, tx, [32]byte(other), verdict, receipt.Refused), forget(tx, did, [32]byte(other))); err != nil {
			return err
		}
	}
	brought := id
	if r.Update {
		brought = [32]byte{}
	}
	return errors.Join(v.supersede(ctx, tx, id, first, decision), settle(tx, person, r.Replaces, r.DID, brought))
}

// standsUnder is the DID, other than the record's own, that a document stands
// under now.
func standsUnder(tx *bbolt.Tx, r review, person tokens) string {
	if did := string(tx.Bucket(bucketPersons).Get(person.document[:])); did != r.own() && did != r.DID {
		return did
	}
	return ""
}

// noteOther has a review say which enrollment the record collides with now.
func (s *store) noteOther(id [32]byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		r, err := reviewOf(tx, id)
		if err != nil {
			return err
		}
		r.Other = standsUnder(tx, r, tokensIn(r.Person))
		return putReview(tx, id, r)
	})
}

func putReview(tx *bbolt.Tx, id [32]byte, r review) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return tx.Bucket(bucketReviews).Put(id[:], b)
}

// keys are those that this vault's verdicts are signed with, earlier ones too.
func (v *Vault) keys() []record.JWK { return v.opts.Policy.Policy().VerdictKeys.Vault }

// kept is this vault's verdict on a record.
func (v *Vault) kept(tx *bbolt.Tx, id [32]byte) (receipt.Verdict, error) {
	verdict, err := receipt.VerifyVerdict(tx.Bucket(bucketVerdicts).Get(id[:]), nil, v.keys(), id)
	if err != nil {
		return receipt.Verdict{}, fmt.Errorf("kept verdict: %w", err)
	}
	return verdict.Claims(), nil
}

// supersede signs the verdict that takes the place of first, and puts it among the
// outcomes. Why a record is refused is not told.
func (v *Vault) supersede(ctx context.Context, tx *bbolt.Tx, id [32]byte, first receipt.Verdict, status receipt.Status) error {
	next := receipt.Verdict{Record: id, DID: first.DID, Status: status, Time: v.now(), Supersedes: sha256.Sum256(tx.Bucket(bucketVerdicts).Get(id[:]))}
	if status == receipt.Refused {
		next.Code = api.CodeReview
	}
	signed, err := receipt.SignVerdict(ctx, next, v.verdict)
	if err != nil {
		return fmt.Errorf("sign verdict: %w", err)
	}
	outcomes := tx.Bucket(bucketOutcomes)
	n, err := outcomes.NextSequence()
	if err != nil {
		return err
	}
	b, err := json.Marshal(api.Outcome{Number: n, Record: id, Verdict: string(signed)})
	if err != nil {
		return err
	}
	return errors.Join(tx.Bucket(bucketVerdicts).Put(id[:], signed), outcomes.Put(binary.BigEndian.AppendUint64(nil, n), b))
}

// Outcomes are the verdicts that took the place of others, after a number.
func (v *Vault) Outcomes(after uint64) (out api.Outcomes, err error) {
	out.Outcomes = []api.Outcome{}
	if err := v.isLevel(); err != nil {
		return out, err
	}
	err = v.store.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOutcomes)
		out.Last = b.Sequence()
		c := b.Cursor()
		for k, value := c.Seek(binary.BigEndian.AppendUint64(nil, after+1)); k != nil && len(out.Outcomes) < api.MaxOutcomes; k, value = c.Next() {
			var o api.Outcome
			if err := json.Unmarshal(value, &o); err != nil {
				return fmt.Errorf("kept outcome: %w", err)
			}
			out.Outcomes = append(out.Outcomes, o)
		}
		return nil
	})
	return out, err
}

// settle has a document and a person stand under a DID, and under none that stood
// for the person before. brought is the record that brought the DID, zero for one
// that renews what it stands on.
func settle(tx *bbolt.Tx, person tokens, replaces, did string, brought [32]byte) error {
	persons, names, holders := tx.Bucket(bucketPersons), tx.Bucket(bucketNames), tx.Bucket(bucketHolders)
	for _, old := range []string{replaces, did} {
		if err := drop(tx, old); err != nil {
			return err
		}
	}
	both := append(bytes.Clone(person.document[:]), person.person[:]...)
	err := errors.Join(persons.Put(both[:32], []byte(did)), names.Put(slices.Concat(both[32:], []byte(did)), []byte{}), holders.Put([]byte(did), both))
	if err == nil && brought != [32]byte{} {
		err = tx.Bucket(bucketBrought).Put([]byte(did), brought[:])
	}
	return err
}

// forget ends what stands under a DID, if that record brought it.
func forget(tx *bbolt.Tx, did string, brought [32]byte) error {
	if !bytes.Equal(tx.Bucket(bucketBrought).Get([]byte(did)), brought[:]) {
		return nil
	}
	return drop(tx, did)
}

// drop takes a DID's document and person away from it.
func drop(tx *bbolt.Tx, did string) error {
	persons, names, holders := tx.Bucket(bucketPersons), tx.Bucket(bucketNames), tx.Bucket(bucketHolders)
	both := bytes.Clone(holders.Get([]byte(did)))
	if len(both) != 64 {
		return nil
	}
	var err error
	if string(persons.Get(both[:32])) == did { // another may have taken the document over
		err = persons.Delete(both[:32])
	}
	return errors.Join(err, names.Delete(append(bytes.Clone(both[32:]), did...)), holders.Delete([]byte(did)))
}

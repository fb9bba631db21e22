package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// ErrBehind means that the vault was put back from a backup and does not know yet
// what it has judged since: it gives no verdict, answers no request and takes no
// decision before the registry has shown it.
var ErrBehind = errors.New("the vault was put back from a backup: it waits until the registry has shown it what it has judged since")

// ErrLevel is the answer to a registry that shows a vault what it knows.
var ErrLevel = errors.New("the vault is not behind")

// keyBehind in bucketState: since when, RFC 3339. It is written by Restore, and
// deleted when all has been shown.
var keyBehind = []byte("behind")

// Level has a vault that was put back learn what it had judged after its backup,
// from the registry, which keeps every record and every verdict.
//
// A verdict counts by this vault's own signature and is not given anew: the record is
// opened for the person alone, as of the verdict's time. Verdicts must come in the
// order in which the registry took the records on, for each may rest on those before
// it. A registry that keeps one back gains what it had gained by never sending the
// record.
//
// A verdict whose record shows no person any more, or that is signed with a key that
// the policy does not name, is passed over and logged: it holds up no other.
func (v *Vault) Level(_ context.Context, shown api.LevelRequest) (out api.LevelResult, err error) {
	v.one.Lock()
	defer v.one.Unlock()
	out.Missing = []api.ID{}
	if err := v.isBehind(); err != nil {
		return out, err
	}
	for _, j := range shown.Judged {
		verdict, err := receipt.VerifyVerdict([]byte(j.Verdict), nil, v.keys(), j.Record)
		if err != nil {
			v.passOver(j.Record, err)
			continue
		}
		known, err := v.store.knows(j.Record, verdict)
		switch {
		case err != nil:
			return out, err
		case known:
		case len(j.Submission) == 0:
			out.Missing = append(out.Missing, j.Record)
		default:
			if err := v.relearn(j, verdict); err != nil {
				return out, err
			}
		}
	}
	if !shown.Done {
		return out, nil
	}
	if err := errors.Join(v.countReviews(), v.store.setLevel(shown.Outcomes)); err != nil {
		return out, err
	}
	v.opts.Log.Info("vault is level with the registry")
	return out, nil
}

// LearnPolicy takes a policy that was in force after the backup: records name it.
func (v *Vault) LearnPolicy(signed []byte) error {
	v.one.Lock()
	defer v.one.Unlock()
	if err := v.isBehind(); err != nil {
		return err
	}
	s, err := v.addPolicy(signed)
	if err != nil || !s.Valid() {
		return err
	}
	return v.store.keepPolicy(s.Digest(), s.Bytes())
}

// Behind is since when the vault is; zero: it is not.
func (v *Vault) Behind() (time.Time, error) { return v.store.behind() }

// isBehind is ErrLevel for a vault that is not.
func (v *Vault) isBehind() error {
	since, err := v.store.behind()
	if err == nil && since.IsZero() {
		err = ErrLevel
	}
	return err
}

// isLevel is ErrBehind for a vault that is not.
func (v *Vault) isLevel() error {
	since, err := v.store.behind()
	if err == nil && !since.IsZero() {
		err = ErrBehind
	}
	return err
}

func (v *Vault) passOver(id [32]byte, cause error) {
	v.metrics.lost.Inc()
	v.opts.Log.Error("alarm", "kind", "person-lost", "record", api.ID(id), "error", cause)
}

// relearn follows a verdict that is not known here.
func (v *Vault) relearn(j api.Judged, verdict receipt.Verified[receipt.Verdict]) error {
	s, err := record.ParseSubmission(j.Submission)
	if err != nil || s.ID() != j.Record {
		v.passOver(j.Record, errors.Join(err, errors.New("not the record of the verdict")))
		return nil
	}
	p, claims := s.Record().Payload(), verdict.Claims()
	decided := claims.Supersedes != [32]byte{} // by a person
	var found examined
	if claims.Status == receipt.Active || !decided && (claims.Code == api.CodeReview || claims.Code == api.CodeOwnEnrollment) {
		if found, err = v.recall(s.Record(), claims); errors.Is(err, errNoPerson) {
			v.passOver(j.Record, err)
			return v.store.keepVerdict(j.Record, verdict.Bytes())
		} else if err != nil {
			return err
		}
	}
	if decided {
		return v.store.decided(p, j.Record, verdict, found.person)
	}
	o, err := v.store.outcome(p, j.Record, found)
	if err != nil {
		return err
	}
	o.code = claims.Code // the verdict stands, whatever is there by now
	return v.store.decide(p, j.Record, verdict.Bytes(), o, claims.Time)
}

var errNoPerson = errors.New("the record shows no person any more")

// recall opens a record once more, for the person that its verdict was about;
// errNoPerson.
func (v *Vault) recall(r record.Record, claims receipt.Verdict) (examined, error) {
	then := v.judge
	then.revoked = nil // since the verdict
	found, err := v.examine(r, then, claims.Time)
	want := ""
	if claims.Code == api.CodeOwnEnrollment {
		want = claims.Code
	}
	switch {
	case errors.Is(err, ErrUnknownPolicy):
		err = fmt.Errorf("%w: %w", errNoPerson, err)
	case err == nil && found.code != want:
		err = fmt.Errorf("%w: its identity gives %q", errNoPerson, found.code)
	}
	return found, err
}

// behind is since when the store is.
func (s *store) behind() (since time.Time, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketState).Get(keyBehind)
		if b == nil {
			return nil
		}
		since, err = time.Parse(time.RFC3339, string(b))
		return err
	})
	return since, err
}

func (s *store) setBehind(now time.Time) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketState).Put(keyBehind, now.UTC().AppendFormat(nil, time.RFC3339))
	})
}

// setLevel ends it. Outcomes are numbered after all that the registry has seen, and
// reviews name what has the document now.
func (s *store) setLevel(outcomes uint64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		open, err := openReviews(tx)
		if err != nil {
			return err
		}
		for id, r := range open {
			if r.Refused && r.Other == "" && len(r.Person) == 64 {
				r.Other = standsUnder(tx, r, tokensIn(r.Person))
				if err := putReview(tx, id, r); err != nil {
					return err
				}
			}
		}
		if b := tx.Bucket(bucketOutcomes); b.Sequence() < outcomes {
			if err := b.SetSequence(outcomes); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketState).Delete(keyBehind)
	})
}

// knows says whether a verdict, or one that takes its place, is kept.
func (s *store) knows(id [32]byte, verdict receipt.Verified[receipt.Verdict]) (bool, error) {
	own, err := s.verdict(id)
	return own != nil && sha256.Sum256(own) != verdict.Claims().Supersedes, err
}

func (s *store) keepVerdict(id [32]byte, verdict []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketVerdicts).Put(id[:], verdict) })
}

// decided follows a verdict by which a person had resolved a review. Who that was and
// why is not known any more.
func (s *store) decided(p record.Payload, id [32]byte, verdict receipt.Verified[receipt.Verdict], person tokens) error {
	claims := verdict.Claims()
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucketVerdicts).Put(id[:], verdict.Bytes()); err != nil {
			return err
		}
		r, err := reviewOf(tx, id)
		switch {
		case err == nil && r.Resolution == nil:
			r.Resolution = &Resolution{Decision: claims.Status, By: "unknown", Reason: "decided after the backup that the vault was put back from", Time: claims.Time}
			err = putReview(tx, id, r)
		case errors.Is(err, ErrNoReview):
			err = nil
		}
		if err != nil {
			return err
		}
		if claims.Status != receipt.Active {
			return forget(tx, p.Holder.DID, id)
		}
		return settle(tx, person, p.Replaces, p.Holder.DID, broughtBy(p, id))
	})
}

// broughtBy is the record, if it brought the DID that it is about.
func broughtBy(p record.Payload, id [32]byte) [32]byte {
	if p.Context.Purpose == record.Update {
		return [32]byte{}
	}
	return id
}

func tokensIn(person []byte) (t tokens) {
	copy(t.document[:], person)
	copy(t.person[:], person[len(t.document):])
	return t
}

// countReviews has the metrics know how many wait.
func (v *Vault) countReviews() error {
	return v.store.db.View(func(tx *bbolt.Tx) error {
		open, err := openReviews(tx)
		v.metrics.reviews.Store(int64(len(open)))
		return err
	})
}

// openReviews are those that wait for a decision.
func openReviews(tx *bbolt.Tx) (map[[32]byte]review, error) {
	out := map[[32]byte]review{}
	err := tx.Bucket(bucketReviews).ForEach(func(id, _ []byte) error {
		r, err := reviewOf(tx, [32]byte(bytes.Clone(id)))
		if err == nil && r.Resolution == nil {
			out[[32]byte(id)] = r
		}
		return err
	})
	return out, err
}

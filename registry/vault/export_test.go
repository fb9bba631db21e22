package vault

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"enrollkiosk/registry/record"
)

// ReviewOf is the DID that a record's review is about, and whether it was refused
// for it; empty if there is no review.
func ReviewOf(t testing.TB, v *Vault, id [32]byte) (other string, refused bool) {
	t.Helper()
	r, err := v.Review(id)
	if err != nil && !errors.Is(err, ErrNoReview) {
		t.Fatal(err)
	}
	return r.Other, r.Refused
}

// Known verifies the document in an identity that was opened, and returns what
// the vault would know it and its holder by.
func Known(v *Vault, p record.Payload, id record.Identity, at time.Time) (document, person [32]byte, err error) {
	holder, _, err := v.judge.rules[p.Context.PolicyDigest].people(p, id, at, false)
	if err != nil {
		return document, person, err
	}
	t := tokensOf(v.officers.key, holder.Kind(), holder.Person(at))
	return t.document, t.person, nil
}

// Serve counts n unblockings for an officer's day.
func Serve(t testing.TB, v *Vault, officer string, day time.Time, n uint64) {
	t.Helper()
	if err := v.store.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketDesks).Put(deskKey(unblocking{Officer: officer, Time: day}), binary.BigEndian.AppendUint64(nil, n))
	}); err != nil {
		t.Fatal(err)
	}
}

// Reached says whether somebody has so many years.
var Reached = reached

package vault

import (
	"encoding/json"
	"testing"

	"go.etcd.io/bbolt"
)

// Review is the DID that a record's review is about, and whether it was refused
// for it; empty if there is no review.
func Review(t testing.TB, v *Vault, id [32]byte) (other string, refused bool) {
	t.Helper()
	var r review
	if err := v.store.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketReviews).Get(id[:])
		if b == nil {
			return nil
		}
		return json.Unmarshal(b, &r)
	}); err != nil {
		t.Fatal(err)
	}
	return r.Other, r.Refused
}

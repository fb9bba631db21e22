package credential_test

import (
	"slices"
	"testing"

	"enrollkiosk/registry/credential"
)

// The sealed places of a batch open under their record and key alone, and are of one
// length whatever the batch.
func TestLinks(t *testing.T) {
	w := newWorld(t)
	full := make([]credential.Link, credential.MaxBatch)
	for i := range full {
		full[i] = credential.Link{List: uint8(i % 4), Index: uint32(i) << 20}
	}
	for _, links := range [][]credential.Link{{}, full[:1], full} {
		sealed, err := credential.SealLinks(w.vault.PublicKey(), escrowKey, w.record, links)
		if err != nil || len(sealed) != credential.SealedLinks {
			t.Fatal(len(sealed), err)
		}
		if got, err := credential.OpenLinks(sealed, w.vault, escrowKey, w.record); err != nil || !slices.Equal(got, links) {
			t.Error(got, err)
		}
		_, err = credential.OpenLinks(sealed, w.vault, escrowKey, [32]byte{1})
		wants(t, err, credential.ErrEscrow)
		_, err = credential.OpenLinks(sealed, w.vault, "other", w.record)
		wants(t, err, credential.ErrEscrow)
		sealed[len(sealed)-1] ^= 1
		_, err = credential.OpenLinks(sealed, w.vault, escrowKey, w.record)
		wants(t, err, credential.ErrEscrow)
	}
	_, err := credential.SealLinks(w.vault.PublicKey(), escrowKey, w.record, append(full, full[0]))
	wants(t, err, credential.ErrSize)
	_, err = credential.OpenLinks(nil, w.vault, escrowKey, w.record)
	wants(t, err, credential.ErrEscrow)
}

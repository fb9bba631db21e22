package tpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"enrollkiosk/kiosk/durable"
)

// Wipe destroys the kiosk's counter and keys, and citizens' keys in custody with
// them. It may be run again, also after a power cut at any point, and does not
// need Init to have run. Where somebody has set an owner authorization the counter
// stays, and ErrOwned says so when all else is gone.
//
// The storage root key stays too: it is the machine's, other software may rest on
// it, and the TPM would make the same one again. So copies of the key files that
// somebody else has still work in this TPM, until it is cleared (TPM2_Clear).
func (t *TPM) Wipe(ctx context.Context) error {
	return t.do(ctx, "wipe tpm keys", func(r transport.TPM) error {
		kept := t.removeCounter(r) // first: the key files say which TPM it is
		if kept != nil && !errors.Is(kept, ErrOwned) {
			return kept
		}
		t.mu.Lock()
		clear(t.keys)
		t.mu.Unlock()
		t.root = nil
		if err := os.RemoveAll(t.options.Dir); err != nil {
			return err
		}
		if err := durable.SyncDir(filepath.Dir(t.options.Dir)); err != nil {
			return err
		}
		return kept
	})
}

// removeCounter undefines the counter (TPM 2.0 Part 3, 31.4). What stands in its
// place and is not ours stays.
func (t *TPM) removeCounter(r transport.TPM) error {
	srk, err := t.srk(r)
	if errors.Is(err, ErrNotInitialized) {
		return nil
	}
	if err != nil {
		return err
	}
	nv, err := counter(r, t.options.Counter)
	if errors.Is(err, ErrNotInitialized) || errors.Is(err, ErrForeign) {
		return nil
	}
	if err != nil {
		return err
	}
	s, done, err := session(r, srk, authOnly)
	if err != nil {
		return err
	}
	defer done()
	_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: s}, NVIndex: nv.NamedHandle}.Execute(r)
	if err != nil {
		return fmt.Errorf("remove counter: %w", owned(err))
	}
	return nil
}

package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/registry/receipt"
)

// A kiosk without a network cannot ask the log whether it continues what the kiosk
// has seen of it: a drive brings the answer, for the checkpoint that the kiosk wrote
// to it and for those of the receipts.

// ErrNoLogProof means that kiosks cannot hold the receipts on a drive against what
// they have seen of the log.
var ErrNoLogProof = errors.New("no proof of the public log was written: the receipts count, but what the kiosk has seen of the log is not held against them")

type logQuestion struct {
	Seen  []byte   `json:"seen,omitempty"` // a checkpoint that a kiosk has seen, signed
	Sizes []uint64 `json:"sizes"`          // trees that receipts are under
}

// proveLog proves the newest checkpoint to continue the one that a kiosk has seen
// and those of receipts. ErrLogCut when the kiosk has seen more leaves than there are.
func (r *Registry) proveLog(ctx context.Context, q logQuestion) (checkpoint.Proof, error) {
	if r.files.root == nil {
		return checkpoint.Proof{}, errors.New("the log is in another registry's directory: import the drive there")
	}
	log := r.opts.Policy.Policy().Log()
	signed, err := r.files.Read(ctx, checkpoint.PathCheckpoint, checkpoint.MaxSize)
	if err != nil {
		return checkpoint.Proof{}, fmt.Errorf("read log: %w", err)
	}
	newest, err := log.Open(signed)
	if err != nil {
		return checkpoint.Proof{}, fmt.Errorf("read log: %w", err)
	}
	sizes := slices.Compact(slices.Sorted(slices.Values(q.Sizes)))
	// What anybody may have put on the drive in its place is nothing to go by.
	if seen, err := log.Unwitnessed().Open(q.Seen); err == nil {
		if seen.Size() > newest.Size() {
			return checkpoint.Proof{}, fmt.Errorf("%w: it holds %d leaves, a kiosk has seen %d", ErrLogCut, newest.Size(), seen.Size())
		}
		sizes = append([]uint64{seen.Size()}, sizes...)
	}
	sizes = append(log.Ends(), sizes...)
	return checkpoint.Prove(ctx, r.files, newest, sizes...)
}

// treeOf is the number of leaves that a receipt is under; 0 when it is not under a
// key of the log.
func (r *Registry) treeOf(known string, id [32]byte) uint64 {
	f, err := receipt.Verify([]byte(known), r.opts.Policy.Policy().Log().Unwitnessed(), id)
	if err != nil {
		return 0
	}
	return f.Checkpoint().Size()
}

// proveLogs writes to the drive, for each kiosk that has receipts there, what the
// log proves. It is written anew each time, so that all of a drive is under one
// checkpoint.
func (in *importing) proveLogs(ctx context.Context) error {
	for i := range in.done.Parcels {
		p := &in.done.Parcels[i]
		sizes := in.trees[p.Kiosk]
		if len(sizes) == 0 || slices.ContainsFunc(in.done.Parcels[:i], func(before ImportedParcel) bool { return before.Kiosk == p.Kiosk }) {
			continue
		}
		var proof checkpoint.Proof
		seen, err := in.drive.Read(parcel.KioskName(p.Kiosk, parcel.Seen))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.NoLogProof = err.Error() // not a plain file: the rest is proved all the same
		}
		err = in.registry.Do(ctx, "POST", pathImportLog, logQuestion{seen, sizes}, &proof)
		var refused *Refused
		switch {
		case errors.As(err, &refused):
			p.NoLogProof = err.Error()
			continue
		case err != nil:
			return err
		}
		if err := in.drive.Write(parcel.KioskName(p.Kiosk, parcel.Log), proof.Bytes()); err != nil {
			p.NoLogProof = err.Error()
		}
	}
	return nil
}

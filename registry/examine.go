package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	t_api "github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// inventory is the store as an examination sees it.
type inventory interface {
	// Inventory lists records with their receipts, at most limit, after the given one
	// in the order of ids.
	Inventory(ctx context.Context, after [32]byte, limit int) ([]stock, error)
	Scanned(ctx context.Context) (uint64, error)
}

// snapshotter is a store that can be copied while it is used. Databases have means
// of their own.
type snapshotter interface {
	// Snapshot writes the store as it is at one moment.
	Snapshot(ctx context.Context, w io.Writer) error
}

// stock is one record as it is held.
type stock struct {
	id      [32]byte
	record  []byte // the JWS
	receipt []byte // nil until logged
}

const (
	examineBatch = 512
	mostDamaged  = 100
)

// examine compares what is stored with what is logged, and each record with its
// id. It reads the log at its checkpoint; ErrLogCut if the store knows more of it.
func examine(ctx context.Context, s inventory, from LogSource, log checkpoint.Log) (Report, error) {
	var r Report
	// The store first: the log may have grown when it is read, and not shrunk.
	scanned, err := s.Scanned(ctx)
	if err != nil {
		return r, err
	}
	type place struct {
		id, leaf [32]byte
		index    uint64
	}
	var places []place
	for after := [32]byte{}; ; {
		batch, err := s.Inventory(ctx, after, examineBatch)
		if err != nil {
			return r, fmt.Errorf("examine: %w", err)
		}
		for _, one := range batch {
			r.Records++
			after = one.id
			parsed, err := record.Parse(one.record)
			if err != nil || parsed.ID() != one.id {
				r.damaged(one.id)
				continue
			}
			if one.receipt == nil {
				r.Waiting++
				continue
			}
			final, err := receipt.Verify(one.receipt, log, one.id)
			if err != nil {
				r.damaged(one.id)
				continue
			}
			r.Receipts++
			places = append(places, place{one.id, receipt.Leaf(parsed.Payload().Blind, one.id), final.Index()})
		}
		if len(batch) < examineBatch {
			break
		}
	}
	b, err := from(ctx, layout.CheckpointPath)
	if errors.Is(err, fs.ErrNotExist) && scanned == 0 && len(places) == 0 {
		return r, nil // never served
	}
	if err != nil {
		return r, fmt.Errorf("examine: %w", err)
	}
	head, err := log.Open(b)
	if err != nil {
		return r, fmt.Errorf("examine: %w", err)
	}
	if r.LogSize = head.Size(); r.LogSize < scanned {
		return r, fmt.Errorf("examine: %w: it holds %d leaves, there were %d", ErrLogCut, r.LogSize, scanned)
	}
	leaves, err := readLeaves(ctx, from, r.LogSize)
	if err != nil {
		return r, fmt.Errorf("examine: %w", err)
	}
	known := uint64(0)
	for _, p := range places {
		if p.index >= r.LogSize || !bytes.Equal(leaves[32*p.index:32*p.index+32], p.leaf[:]) {
			r.damaged(p.id)
			r.Receipts--
			continue
		}
		known++
	}
	r.Unknown = r.LogSize - known
	return r, nil
}

func (r *Report) damaged(id [32]byte) {
	if len(r.Damaged) < mostDamaged {
		r.Damaged = append(r.Damaged, id)
	}
}

// readLeaves is the log's entries, 32 bytes each.
func readLeaves(ctx context.Context, log LogSource, size uint64) ([]byte, error) {
	var out []byte
	for index := uint64(0); index*layout.EntryBundleWidth < size; index++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		width := min(layout.EntryBundleWidth, size-index*layout.EntryBundleWidth)
		b, err := log(ctx, layout.EntriesPath(index, uint8(width%layout.EntryBundleWidth)))
		if errors.Is(err, fs.ErrNotExist) {
			b, err = log(ctx, layout.EntriesPath(index, 0)) // full by now
		}
		if err != nil {
			return nil, err
		}
		var bundle t_api.EntryBundle
		if err := bundle.UnmarshalText(b); err != nil || uint64(len(bundle.Entries)) < width {
			return nil, fmt.Errorf("%w: bundle %d", ErrLogDamaged, index)
		}
		for _, e := range bundle.Entries[:width] {
			if len(e) != 32 {
				return nil, fmt.Errorf("%w: bundle %d", ErrLogDamaged, index)
			}
			out = append(out, e...)
		}
	}
	return out, nil
}

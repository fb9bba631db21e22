package checkpoint

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// Files reads the public files of a log (C2SP tlog-tiles) by their path, such as
// "checkpoint" or "tile/0/x001/234.p/7". It returns at most limit bytes, an
// error for more, and an error that wraps fs.ErrNotExist for what is not there.
// It may be called from several goroutines.
type Files interface {
	Read(ctx context.Context, path string, limit int64) ([]byte, error)
}

// PathCheckpoint is the path of a log's newest checkpoint.
const PathCheckpoint = "checkpoint"

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	tileBytes  = tileWidth * tlog.HashSize
	// BundleWidth is the number of entries in a full bundle.
	BundleWidth = tileWidth
	bundleBytes = tileWidth * (2 + math.MaxUint16)
	maxCached   = 4096 // tiles: 32 MiB
)

// Tree reads the tree of a checkpoint. Every hash that it returns has been proved
// against the checkpoint's root. It may be used from several goroutines.
type Tree struct {
	files Files
	of    Checkpoint

	mu     sync.Mutex
	proved map[tlog.Tile][]byte // above the leaves, where tiles are read again and again
}

// NewTree reads the tree of a checkpoint from the log's files.
func NewTree(files Files, of Checkpoint) *Tree {
	return &Tree{files: files, of: of, proved: map[tlog.Tile][]byte{}}
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.of.Size() }

// Root is the hash of the first size leaves. Errors wrap ErrTiles when the log's
// tiles are not those of the checkpoint; others are those of Files.
func (t *Tree) Root(ctx context.Context, size uint64) ([32]byte, error) {
	switch {
	case size > t.of.Size():
		return [32]byte{}, fmt.Errorf("%w: %d leaves, of %d", ErrTiles, size, t.of.Size())
	case size == t.of.Size():
		return t.of.Root(), nil
	}
	r := t.reader(ctx)
	root, err := tlog.TreeHash(int64(size), r)
	return root, r.explain(err)
}

// Leaves are the Merkle leaf hashes (RFC 6962: SHA-256(0x00 || entry)) from first
// on, n of them. Errors are Root's.
func (t *Tree) Leaves(ctx context.Context, first, n uint64) ([][32]byte, error) {
	indexes := make([]int64, n)
	for i := range n {
		indexes[i] = tlog.StoredHashIndex(0, int64(first+i))
	}
	return t.hashes(ctx, indexes)
}

func (t *Tree) hashes(ctx context.Context, indexes []int64) ([][32]byte, error) {
	if t.of.Size() == 0 {
		return nil, fmt.Errorf("%w: there are no leaves", ErrTiles)
	}
	r := t.reader(ctx)
	got, err := r.ReadHashes(indexes)
	if err != nil {
		return nil, r.explain(err)
	}
	out := make([][32]byte, len(got))
	for i, h := range got {
		out[i] = h
	}
	return out, nil
}

// Entries reads the bundle that begins with entry 256*bundle, as far as the
// checkpoint covers it. The bytes are not proved: Leaves has their hashes.
func (t *Tree) Entries(ctx context.Context, bundle uint64) ([][]byte, error) {
	width := int(min(BundleWidth, t.of.Size()-bundle*BundleWidth))
	b, err := t.read(ctx, "tile/entries/"+number(bundle), width, bundleBytes)
	if err != nil {
		return nil, err
	}
	entries := make([][]byte, 0, width)
	for len(entries) < width {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return entries, fmt.Errorf("%w: bundle %d ends after %d entries of %d", ErrTiles, bundle, len(entries), width)
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		entries, b = append(entries, b[2:n]), b[n:]
	}
	return entries, nil
}

// Tile reads the level-0 tile of a bundle as the log serves it: not proved.
func (t *Tree) Tile(ctx context.Context, bundle uint64) ([][32]byte, error) {
	width := int(min(tileWidth, t.of.Size()-bundle*tileWidth))
	b, err := t.tile(ctx, tlog.Tile{H: tileHeight, L: 0, N: int64(bundle), W: width})
	if err != nil {
		return nil, err
	}
	out := make([][32]byte, width)
	for i := range out {
		out[i] = [32]byte(b[i*tlog.HashSize:])
	}
	return out, nil
}

// read gets a tile or bundle. A partial one may have gone since it was filled:
// then the full one has its beginning.
func (t *Tree) read(ctx context.Context, path string, width int, limit int64) ([]byte, error) {
	if width < tileWidth {
		b, err := t.files.Read(ctx, fmt.Sprintf("%s.p/%d", path, width), limit)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	b, err := t.files.Read(ctx, path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %s: %w", ErrTiles, path, err)
	}
	return b, err
}

func (t *Tree) tile(ctx context.Context, tile tlog.Tile) ([]byte, error) {
	path := fmt.Sprintf("tile/%d/%s", tile.L, number(uint64(tile.N)))
	b, err := t.read(ctx, path, tile.W, tileBytes)
	if err != nil {
		return nil, err
	}
	if len(b) < tile.W*tlog.HashSize {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrTiles, path, len(b))
	}
	return b[:tile.W*tlog.HashSize], nil
}

// number is how paths write a tile's number: 1234067 is x001/x234/067.
func number(n uint64) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	return s
}

// reader proves tiles for one call: the library's interface knows no context.
type reader struct {
	tree   *Tree
	ctx    context.Context
	failed error // of reading, not of proving
}

func (t *Tree) reader(ctx context.Context) *reader { return &reader{tree: t, ctx: ctx} }

func (r *reader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	return tlog.TileHashReader(tlog.Tree{N: int64(r.tree.of.Size()), Hash: r.tree.of.Root()}, r).ReadHashes(indexes)
}

func (r *reader) Height() int { return tileHeight }

func (r *reader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, tile := range tiles {
		r.tree.mu.Lock()
		out[i] = r.tree.proved[tile]
		r.tree.mu.Unlock()
		if out[i] == nil {
			if out[i], r.failed = r.tree.tile(r.ctx, tile); r.failed != nil {
				return nil, r.failed
			}
		}
	}
	return out, nil
}

// SaveTiles gets tiles that have been proved.
func (r *reader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	r.tree.mu.Lock()
	defer r.tree.mu.Unlock()
	for i, tile := range tiles {
		if tile.L == 0 {
			continue
		}
		if len(r.tree.proved) >= maxCached {
			clear(r.tree.proved)
		}
		r.tree.proved[tile] = data[i]
	}
}

// explain makes the library's errors this package's.
func (r *reader) explain(err error) error {
	if err == nil || r.failed != nil {
		return r.failed
	}
	return fmt.Errorf("%w: %s", ErrTiles, strings.TrimPrefix(err.Error(), "tlog: "))
}

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	t_api "github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"

	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/keyfile"
)

// ErrLogDamaged means that a log's entries are not those that its checkpoint
// commits to.
var ErrLogDamaged = errors.New("the log's entries are not what its checkpoint says: use another copy")

// ErrLogFork means that a log contradicts a checkpoint of its own key.
var ErrLogFork = errors.New("the log contradicts a checkpoint that was published: find out which of both is right before going on")

// LogSource reads a file of a log by its path of C2SP tlog-tiles, such as
// "checkpoint"; fs.ErrNotExist if there is none.
type LogSource func(ctx context.Context, path string) ([]byte, error)

// LogDir reads a log's directory, or a copy of one.
func LogDir(dir string) LogSource {
	return func(_ context.Context, path string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, path)) }
}

// maxLogFile bounds what a server may answer: a bundle of 256 entries of 32
// bytes, each with its length.
const maxLogFile = 256 * (2 + 32)

// LogURL reads a log that is served below a URL.
func LogURL(url string, c *http.Client) LogSource {
	return func(ctx context.Context, path string) ([]byte, error) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/"+path, nil)
		if err != nil {
			return nil, err
		}
		a, err := c.Do(q)
		if err != nil {
			return nil, err
		}
		defer a.Body.Close()
		switch a.StatusCode {
		case http.StatusOK:
		case http.StatusNotFound:
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		default:
			return nil, fmt.Errorf("%s: answer %d", path, a.StatusCode)
		}
		b, err := io.ReadAll(io.LimitReader(a.Body, maxLogFile+1))
		if err == nil && len(b) > maxLogFile {
			err = fmt.Errorf("%s: more than %d bytes", path, maxLogFile)
		}
		return b, err
	}
}

// CopyLog copies a log at its checkpoint into dir, where an earlier copy may be:
// what is there of that is not read from the source again. Of the source only the
// checkpoint and the entries are used; tiles are built anew, so that a copy is
// what its checkpoint says, or ErrLogDamaged. Each of seen must be a checkpoint of
// the same log's past: ErrLogCut if it is longer than the source, ErrLogFork if it
// has another root. A registry can go on with the copy.
func CopyLog(ctx context.Context, from LogSource, dir string, log checkpoint.Log, seen ...checkpoint.Checkpoint) (checkpoint.Checkpoint, error) {
	b, err := from(ctx, layout.CheckpointPath)
	if err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("copy log: %w", err)
	}
	head, err := log.Open(b)
	if err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("copy log: %w", err)
	}
	if old, err := os.ReadFile(filepath.Join(dir, layout.CheckpointPath)); err == nil {
		earlier, err := log.Open(old)
		if err != nil {
			return checkpoint.Checkpoint{}, fmt.Errorf("copy log: what is in %s: %w", dir, err)
		}
		seen = append(seen, earlier)
	}
	roots := map[uint64][]byte{head.Size(): nil}
	for _, s := range seen {
		if s.Size() > head.Size() {
			return checkpoint.Checkpoint{}, fmt.Errorf("copy log: %w: it holds %d leaves, a checkpoint of %d was published", ErrLogCut, head.Size(), s.Size())
		}
		roots[s.Size()] = nil
	}
	w := logWriter{dir: dir, size: head.Size(), dirs: map[string]bool{}}
	if err := w.entries(ctx, from, roots); err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("copy log: %w", err)
	}
	for _, s := range seen {
		if root := s.Root(); string(roots[s.Size()]) != string(root[:]) {
			return checkpoint.Checkpoint{}, fmt.Errorf("copy log: %w: at %d leaves", ErrLogFork, s.Size())
		}
	}
	if root := head.Root(); string(roots[head.Size()]) != string(root[:]) {
		return checkpoint.Checkpoint{}, fmt.Errorf("copy log: %w", ErrLogDamaged)
	}
	return head, w.finish(head)
}

// logWriter makes the files of a log of a given size.
type logWriter struct {
	dir   string
	size  uint64
	tiles [][]byte // hashes of the tile that is begun, by level
	count []uint64 // tiles that are done, by level
	dirs  map[string]bool
}

// entries copies all entries and fills in the root at each size that roots asks
// for.
func (w *logWriter) entries(ctx context.Context, from LogSource, roots map[uint64][]byte) error {
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	note := func() error {
		if _, asked := roots[tree.End()]; !asked {
			return nil
		}
		if tree.End() == 0 {
			roots[0] = rfc6962.DefaultHasher.EmptyRoot()
			return nil
		}
		root, err := tree.GetRootHash(nil)
		roots[tree.End()] = root
		return err
	}
	if err := note(); err != nil {
		return err
	}
	for index := uint64(0); index*layout.EntryBundleWidth < w.size; index++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		bundle, err := w.bundle(ctx, from, index)
		if err != nil {
			return err
		}
		for _, e := range bundle {
			hash := rfc6962.DefaultHasher.HashLeaf(e)
			if err := tree.Append(hash, nil); err != nil {
				return err
			}
			if err := w.hash(0, hash); err != nil {
				return err
			}
			if err := note(); err != nil {
				return err
			}
		}
	}
	for level, hashes := range w.tiles {
		if n := len(hashes) / rfc6962.DefaultHasher.Size(); n > 0 {
			if err := w.write(layout.TilePath(uint64(level), w.count[level], uint8(n)), hashes); err != nil {
				return err
			}
		}
	}
	return nil
}

// bundle is the entries of one bundle, from the copy if it is there, and writes
// it. A log keeps a partial bundle only until the full one is there.
func (w *logWriter) bundle(ctx context.Context, from LogSource, index uint64) ([][]byte, error) {
	width := int(min(layout.EntryBundleWidth, w.size-index*layout.EntryBundleWidth))
	full, path := layout.EntriesPath(index, 0), layout.EntriesPath(index, uint8(width%layout.EntryBundleWidth))
	b, err := os.ReadFile(filepath.Join(w.dir, path))
	if err != nil {
		if b, err = from(ctx, path); errors.Is(err, fs.ErrNotExist) && path != full {
			b, err = from(ctx, full)
		}
	}
	if err != nil {
		return nil, err
	}
	var bundle t_api.EntryBundle
	if err := bundle.UnmarshalText(b); err != nil || len(bundle.Entries) < width {
		return nil, fmt.Errorf("%w: %s", ErrLogDamaged, path)
	}
	entries, end := bundle.Entries[:width], 0
	for _, e := range entries {
		end += 2 + len(e) // uint16 length, bytes (C2SP tlog-tiles)
	}
	return entries, w.write(path, b[:end])
}

// hash adds a node to the tile that is begun at a level. A full tile is written,
// and its root goes a level up.
func (w *logWriter) hash(level int, h []byte) error {
	if level == len(w.tiles) {
		w.tiles, w.count = append(w.tiles, nil), append(w.count, 0)
	}
	w.tiles[level] = append(w.tiles[level], h...)
	size := rfc6962.DefaultHasher.Size()
	if len(w.tiles[level]) < layout.TileWidth*size {
		return nil
	}
	nodes := w.tiles[level]
	if err := w.write(layout.TilePath(uint64(level), w.count[level], 0), nodes); err != nil {
		return err
	}
	var row [][]byte
	for ; len(nodes) > 0; nodes = nodes[size:] {
		row = append(row, nodes[:size])
	}
	for ; len(row) > 1; row = row[:len(row)/2] {
		for i := range len(row) / 2 {
			row[i] = rfc6962.DefaultHasher.HashChildren(row[2*i], row[2*i+1])
		}
	}
	w.tiles[level], w.count[level] = nil, w.count[level]+1
	return w.hash(level+1, row[0])
}

// write makes a file that never changes any more; it may be there from an earlier
// copy.
func (w *logWriter) write(path string, b []byte) error {
	file := filepath.Join(w.dir, path)
	if info, err := os.Stat(file); err == nil && info.Size() == int64(len(b)) {
		if old, err := os.ReadFile(file); err == nil && string(old) == string(b) {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		w.dirs[dir] = true
		if dir == "." {
			break
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// finish makes the copy one that Tessera goes on with, last the checkpoint.
func (w *logWriter) finish(head checkpoint.Checkpoint) error {
	for dir := range w.dirs {
		if err := durable.SyncDir(filepath.Join(w.dir, dir)); err != nil {
			return err
		}
	}
	state := filepath.Join(w.dir, treeState)
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return err
	}
	root := head.Root()
	b, err := json.Marshal(tree{head.Size(), root[:]})
	if err != nil {
		return err
	}
	if err := keyfile.Replace(state, b, 0o644); err != nil {
		return err
	}
	return keyfile.Replace(filepath.Join(w.dir, layout.CheckpointPath), head.Bytes(), 0o644)
}

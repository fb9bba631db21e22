// Package audit verifies a whole public log from outside: every entry against
// its leaf hash, every leaf against the tree, the tree against the newest
// checkpoint, and that against the last one seen.
//
// Invariants: an audit that returned no error has verified every leaf of the
// checkpoint that it names, in this run or in one before that left its mark in the
// same directory; what it finds amiss names the first leaf that is wrong. It
// trusts nothing that the log's server says. Not its job: what entries mean, but
// that each is 32 bytes.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/receipt"
)

// Errors of this package, beside those of checkpoint and receipt.
var (
	ErrMark    = errors.New("audit-mark: the mark of the last audit is damaged: begin in another directory")
	ErrReceipt = errors.New("audit-receipt: a receipt does not fit the log")
)

// WrongLeaf is the first leaf that is not what the checkpoint covers.
type WrongLeaf struct {
	Index uint64
	Why   string
}

func (e *WrongLeaf) Error() string { return fmt.Sprintf("audit-leaf: leaf %d: %s", e.Index, e.Why) }

// Options of Run.
type Options struct {
	Log   checkpoint.Log
	Files checkpoint.Files
	// Dir keeps what was seen and verified, for the next audit; it is made if it is
	// not there.
	Dir      string
	Receipts string                     // directory of receipts to hold against the log; "": none
	Workers  int                        // bundles fetched at once; default 4
	Progress func(verified, all uint64) // may be nil
}

// Report is what an audit has verified.
type Report struct {
	Origin    string                   `json:"origin"`
	Size      uint64                   `json:"size"`
	Root      string                   `json:"root"` // hexadecimal
	Since     uint64                   `json:"since"`
	Witnesses []checkpoint.Cosignature `json:"witnesses"`
	Receipts  int                      `json:"receipts"`
}

// mark is how far the log has been verified: mark.json. Those leaves were under a
// checkpoint that the keeper kept, and every later one continues it.
type mark struct {
	Key      string `json:"log_key"`
	Verified uint64 `json:"verified"`
}

const (
	fileMark  = "mark.json"
	markEvery = 64 // bundles
	leafSize  = sha256.Size
)

// Run audits a log. Errors are a *WrongLeaf, wrap ErrMark, ErrReceipt or those of
// package checkpoint (ErrWitnesses, ErrSplit, ErrBehind, ErrTiles, ...), or are those
// of Files. After ctx has ended, the next audit goes on where this one was.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Progress == nil {
		o.Progress = func(uint64, uint64) {}
	}
	k, err := checkpoint.OpenKeeper(o.Dir)
	if err != nil {
		return Report{}, err
	}
	m, err := readMark(o)
	if err != nil {
		return Report{}, err
	}
	before, err := k.Kept(ctx, o.Log)
	if err != nil {
		return Report{}, err
	}
	if o.Log.Past(before) { // a thief of its key may have made what was verified
		if err := os.Remove(filepath.Join(o.Dir, fileMark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Report{}, fmt.Errorf("keep the mark: %w", err)
		}
		m.Verified = 0
	}
	if m.Verified > before.Size() {
		return Report{}, fmt.Errorf("%w: it says more than was ever seen", ErrMark)
	}
	c, err := k.Follow(ctx, o.Log, o.Files)
	if err != nil {
		return Report{}, err
	}
	root := c.Root()
	r := Report{Origin: c.Origin(), Size: c.Size(), Root: fmt.Sprintf("%x", root), Since: m.Verified, Witnesses: c.Cosigned()}
	tree := checkpoint.NewTree(o.Files, c)
	if err := leaves(ctx, o, tree, c, m.Verified); err != nil {
		return Report{}, err
	}
	if c.Size() == 0 && root != sha256.Sum256(nil) {
		return Report{}, fmt.Errorf("%w: an empty log with a root", checkpoint.ErrTiles)
	}
	if o.Receipts != "" {
		r.Receipts, err = receipts(ctx, o, tree, c)
	}
	return r, err
}

// leaves verifies all bundles from the one that holds leaf from on. Each worker
// takes the next bundle; a wrong one ends the work after those before it, so that
// the first wrong leaf is the one that is named.
func leaves(ctx context.Context, o Options, tree *checkpoint.Tree, c checkpoint.Checkpoint, from uint64) error {
	first := from / checkpoint.BundleWidth
	bundles := (c.Size() + checkpoint.BundleWidth - 1) / checkpoint.BundleWidth
	if from == c.Size() {
		return nil
	}
	var (
		mu      sync.Mutex
		next    = first
		done    = map[uint64]bool{} // verified, beyond prefix
		prefix  = first             // all before it are verified
		worst   = bundles           // the first wrong bundle
		wrong   error
		workers sync.WaitGroup
	)
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= worst {
			return 0, false
		}
		next++
		return next - 1, true
	}
	finish := func(n uint64, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			if n < worst {
				worst, wrong = n, err
			}
			return
		}
		for done[n] = true; done[prefix]; prefix++ {
			delete(done, prefix)
			verified := min((prefix+1)*checkpoint.BundleWidth, c.Size())
			if (prefix+1)%markEvery == 0 || verified == c.Size() {
				if err := writeMark(o, verified); err != nil && prefix < worst {
					worst, wrong = prefix, err
				}
				o.Progress(verified, c.Size())
			}
		}
	}
	for range o.Workers {
		workers.Go(func() {
			for n, more := take(); more; n, more = take() {
				finish(n, bundle(ctx, tree, n))
			}
		})
	}
	workers.Wait()
	return wrong
}

// bundle verifies one bundle: each entry's hash is the leaf that the checkpoint
// covers.
func bundle(ctx context.Context, tree *checkpoint.Tree, n uint64) error {
	entries, err := tree.Entries(ctx, n)
	if err != nil && !errors.Is(err, checkpoint.ErrTiles) {
		return err
	}
	short := err
	leaves, err := tree.Leaves(ctx, n*checkpoint.BundleWidth, width(tree, n))
	if err != nil {
		return named(ctx, tree, n, entries, err)
	}
	for i, leaf := range leaves {
		index := n*checkpoint.BundleWidth + uint64(i)
		switch {
		case i >= len(entries):
			return &WrongLeaf{index, fmt.Sprintf("its entry is missing: %v", short)}
		case hash(entries[i]) != leaf:
			return &WrongLeaf{index, "the entry that is served is not the one in the tree"}
		case len(entries[i]) != leafSize:
			return &WrongLeaf{index, fmt.Sprintf("an entry of %d bytes: no record's", len(entries[i]))}
		}
	}
	return nil
}

func width(tree *checkpoint.Tree, n uint64) uint64 {
	return min(checkpoint.BundleWidth, tree.Size()-n*checkpoint.BundleWidth)
}

// hash is RFC 6962's of a leaf.
func hash(entry []byte) [32]byte { return sha256.Sum256(append([]byte{0}, entry...)) }

// named finds the leaf at which a tile that is not proved goes wrong: the entries
// tell what it should hold.
func named(ctx context.Context, tree *checkpoint.Tree, n uint64, entries [][]byte, cause error) error {
	if !errors.Is(cause, checkpoint.ErrTiles) {
		return cause
	}
	tile, err := tree.Tile(ctx, n)
	if err != nil {
		return &WrongLeaf{n * checkpoint.BundleWidth, fmt.Sprintf("its tile is missing: %v", err)}
	}
	for i, leaf := range tile {
		if i >= len(entries) || hash(entries[i]) != leaf {
			return &WrongLeaf{n*checkpoint.BundleWidth + uint64(i), fmt.Sprintf("the hash in its tile is not that of its entry, and not in the tree: %v", cause)}
		}
	}
	return &WrongLeaf{n * checkpoint.BundleWidth, fmt.Sprintf("it and what follows are not in the tree that was signed: %v", cause)}
}

func readMark(o Options) (m mark, err error) {
	b, err := os.ReadFile(filepath.Join(o.Dir, fileMark))
	if errors.Is(err, fs.ErrNotExist) {
		return mark{Key: o.Log.Key}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrMark, err)
	}
	if m.Key != o.Log.Key && !slices.ContainsFunc(o.Log.Earlier, func(e checkpoint.Earlier) bool { return e.Key == m.Key }) {
		return m, fmt.Errorf("%w: it is of another log's key", ErrMark)
	}
	return m, nil
}

func writeMark(o Options, verified uint64) error {
	b, err := json.Marshal(mark{o.Log.Key, verified})
	if err == nil {
		err = keyfile.Replace(filepath.Join(o.Dir, fileMark), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the mark: %w", err)
	}
	return nil
}

// receipts holds every receipt in a directory against the log: it verifies, and
// its checkpoint is a beginning of the log.
func receipts(ctx context.Context, o Options, tree *checkpoint.Tree, c checkpoint.Checkpoint) (n int, err error) {
	files, err := os.ReadDir(o.Receipts)
	if err != nil {
		return 0, err
	}
	proved := map[uint64][32]byte{c.Size(): c.Root()}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		if info, err := f.Info(); err != nil || info.Size() > receipt.MaxSize {
			return n, fmt.Errorf("%w: %s: it is too large", ErrReceipt, f.Name())
		}
		b, err := os.ReadFile(filepath.Join(o.Receipts, f.Name()))
		if err != nil {
			return n, err
		}
		id, err := receipt.RecordID(b)
		var final receipt.Final
		if err == nil {
			final, err = receipt.Verify(b, o.Log, id)
		}
		if err != nil {
			return n, fmt.Errorf("%w: %s: %w", ErrReceipt, f.Name(), err)
		}
		of := final.Checkpoint()
		if of.Size() > c.Size() {
			return n, fmt.Errorf("%w: %s: it rests on %d leaves, the log shows %d: %w", ErrReceipt, f.Name(), of.Size(), c.Size(), checkpoint.ErrBehind)
		}
		root, known := proved[of.Size()]
		if !known {
			if root, err = tree.Root(ctx, of.Size()); err != nil {
				return n, err
			}
			proved[of.Size()] = root
		}
		if root != of.Root() {
			split := &checkpoint.Split{First: of, Second: c}
			return n, fmt.Errorf("%w: %s: %w", ErrReceipt, f.Name(), errors.Join(split, split.Keep(filepath.Join(o.Dir, "evidence"))))
		}
		n++
	}
	return n, nil
}

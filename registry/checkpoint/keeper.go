package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/internal/keyfile"
)

// Split is the proof that a log has shown two faces: two checkpoints that it
// signed, of which neither is a continuation of the other. It is ErrSplit.
type Split struct{ First, Second Checkpoint }

func (s *Split) Error() string {
	return fmt.Sprintf("%v: %v, and %v", ErrSplit, s.First, s.Second)
}

// Is makes a Split ErrSplit.
func (s *Split) Is(target error) bool { return target == ErrSplit }

// Keep writes both checkpoints into a directory, durably, under a name that is
// theirs: HASH-1.checkpoint and HASH-2.checkpoint. Nothing is ever overwritten.
func (s *Split) Keep(dir string) error {
	pairs, err := evidence(dir)
	if err != nil {
		return err
	}
	first, second := s.First.Bytes(), s.Second.Bytes()
	h := sha256.New()
	fmt.Fprintf(h, "%d %s%s", len(first), first, second)
	pair := filepath.Join(dir, hex.EncodeToString(h.Sum(nil)[:8]))
	if len(pairs) >= maxEvidence || slices.Contains(pairs, pair) {
		return nil
	}
	for i, b := range [][]byte{first, second} {
		err := keyfile.WriteNew(fmt.Sprintf("%s-%d.checkpoint", pair, i+1), b, 0o600)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("write evidence: %w", err)
		}
	}
	return nil
}

func evidence(dir string) ([]string, error) {
	pairs, err := filepath.Glob(filepath.Join(dir, "*-2.checkpoint")) // the second is written last
	for i, f := range pairs {
		pairs[i] = strings.TrimSuffix(f, "-2.checkpoint")
	}
	return pairs, err
}

// Consistent holds that the smaller of two checkpoints of a log is a beginning of
// the larger. Errors are a *Split, or wrap ErrTiles or those of files.
func Consistent(ctx context.Context, files Files, a, b Checkpoint) error {
	if a.Size() > b.Size() {
		a, b = b, a
	}
	root, err := NewTree(files, b).Root(ctx, a.Size())
	if err != nil {
		return err
	}
	if root != a.Root() {
		return &Split{a, b}
	}
	return nil
}

// Keeper remembers, durably, the newest checkpoint of a log that was seen from
// here, and holds every other one against it. Its directory holds
//
//	NAME.checkpoint                    the newest checkpoint; NAME is of the log's key then
//	evidence/HASH-1.checkpoint, ...-2  each pair that contradicted each other
//
// It is one process's; its methods may be called from several goroutines.
type Keeper struct {
	dir  string
	busy chan struct{}
	kept Checkpoint
	log  string // whose kept is
	// Checkpoints that have been proved: many receipts come under each.
	proved map[uint64][32]byte
}

const (
	dirEvidence = "evidence"
	maxEvidence = 100 // pairs: a log that signs nonsense shall not fill the disk
	maxProved   = 1024
)

// OpenKeeper opens a directory, which it makes if it is not there.
func OpenKeeper(dir string) (*Keeper, error) {
	if err := os.MkdirAll(filepath.Join(dir, dirEvidence), 0o700); err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	if err := errors.Join(durable.SyncDir(dir), durable.SyncDir(filepath.Dir(dir))); err != nil {
		return nil, fmt.Errorf("checkpoints: %w", err)
	}
	return &Keeper{dir: dir, busy: make(chan struct{}, 1)}, nil
}

// Kept is the newest checkpoint of a log; its zero value when there was none. The
// file is verified again. Errors wrap ErrKept or ErrKey.
func (k *Keeper) Kept(ctx context.Context, l Log) (Checkpoint, error) {
	if err := k.lock(ctx); err != nil {
		return Checkpoint{}, err
	}
	defer k.unlock()
	err := k.load(l)
	return k.kept, err
}

// Follow fetches the log's newest checkpoint, verifies it, holds it against the
// one kept, and keeps it. Errors are those of Open, Accept and files, or wrap
// ErrBehind.
func (k *Keeper) Follow(ctx context.Context, l Log, files Files) (Checkpoint, error) {
	b, err := files.Read(ctx, PathCheckpoint, MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, fmt.Errorf("%w: no checkpoint: %w", ErrTiles, err)
	}
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := l.Open(b)
	if err != nil {
		return Checkpoint{}, err
	}
	err = k.Accept(ctx, l, files, c)
	if !errors.Is(err, ErrSplit) {
		if kept, loadErr := k.Kept(ctx, l); loadErr == nil && c.Size() < kept.Size() {
			err = errors.Join(fmt.Errorf("%w: %d leaves, it had %d", ErrBehind, c.Size(), kept.Size()), err)
		}
	}
	if err != nil {
		return Checkpoint{}, err
	}
	return c, nil
}

// Accept holds a checkpoint against the one kept, by tiles that it proves, and
// keeps it if it is newer. A contradiction is kept as evidence, and is a *Split;
// the checkpoint kept stays, unless a key has signed it that ended since, and the
// present one the other: who names the keys has said which of the two is the log.
// Other errors wrap ErrTiles, ErrKept, or are those of files and of writing.
func (k *Keeper) Accept(ctx context.Context, l Log, files Files, c Checkpoint) error {
	if !c.Valid() || c.Origin() != Name(l.Key) {
		return fmt.Errorf("%w: not this log's", ErrForm)
	}
	if err := k.lock(ctx); err != nil {
		return err
	}
	defer k.unlock()
	if err := k.load(l); err != nil {
		return err
	}
	if root, known := k.proved[c.Size()]; known && root == c.Root() {
		return nil
	}
	if k.kept.Valid() {
		err := Consistent(ctx, files, k.kept, c)
		var split *Split
		if !errors.As(err, &split) && errors.Is(err, ErrTiles) && l.disowns(k.kept) {
			split = &Split{k.kept, c} // nobody has to show a tree that the log's key did not sign
			err = split
		}
		if split != nil {
			err = errors.Join(err, split.Keep(filepath.Join(k.dir, dirEvidence)))
			if l.Past(k.kept) && c.SignedBy(l.Key) {
				clear(k.proved)
				err = errors.Join(err, k.keep(l, c))
			}
		}
		if err != nil {
			return err
		}
	}
	if k.kept.Valid() && c.Size() <= k.kept.Size() {
		k.prove(c.Size(), c.Root())
		return nil
	}
	if err := k.ends(ctx, l, files, c); err != nil {
		return err
	}
	return k.keep(l, c)
}

// ends holds that c's tree was at the end of each key what the key's end says.
func (k *Keeper) ends(ctx context.Context, l Log, files Files, c Checkpoint) error {
	for _, e := range l.Earlier {
		if !e.Ended() || e.Size > c.Size() || k.proved[e.Size] == e.Root {
			continue
		}
		root, err := NewTree(files, c).Root(ctx, e.Size)
		if err != nil {
			return err
		}
		if root != e.Root {
			return fmt.Errorf("%w: at %d leaves, where a key of it ended, there was another", ErrTiles, e.Size)
		}
		k.prove(e.Size, root)
	}
	return nil
}

// keep makes c the newest checkpoint.
func (k *Keeper) keep(l Log, c Checkpoint) error {
	if err := keyfile.Replace(keptFile(k.dir, l.Key), c.Bytes(), 0o600); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	k.kept = c
	k.prove(c.Size(), c.Root())
	return nil
}

func (k *Keeper) prove(size uint64, root [32]byte) {
	if len(k.proved) >= maxProved {
		clear(k.proved)
	}
	k.proved[size] = root
}

// load makes kept the checkpoint of l.
func (k *Keeper) load(l Log) error {
	if k.log == l.Key {
		return nil
	}
	k.kept, k.log, k.proved = Checkpoint{}, "", map[uint64][32]byte{}
	c, err := ReadKept(k.dir, l)
	if err != nil {
		return err
	}
	k.kept, k.log = c, l.Key
	if c.Valid() {
		k.proved[c.Size()] = c.Root()
	}
	return nil
}

// ReadKept is the newest checkpoint in a keeper's directory, read from outside;
// its zero value when there is none. Errors wrap ErrKept or ErrKey.
func ReadKept(dir string, l Log) (Checkpoint, error) {
	if err := l.Check(); err != nil {
		return Checkpoint{}, err
	}
	for _, key := range l.keys() { // a new key begins where the one before was
		file := keptFile(dir, key)
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Checkpoint{}, fmt.Errorf("checkpoint kept here: %w", err)
		}
		// It was believed when it was kept. Which witnesses were asked for then, and
		// which keys have ended since, is not to be judged now.
		c, err := l.unended().Open(b)
		if err != nil {
			return Checkpoint{}, fmt.Errorf("%w: %s: %w", ErrKept, file, err)
		}
		return c, nil
	}
	return Checkpoint{}, nil
}

func keptFile(dir, key string) string {
	h := sha256.Sum256([]byte(key))
	return filepath.Join(dir, hex.EncodeToString(h[:8])+".checkpoint")
}

// Evidence lists the contradictions that were ever found and not moved away: for
// each, the path of its two files without "-1.checkpoint" and "-2.checkpoint".
func (k *Keeper) Evidence() ([]string, error) {
	return evidence(filepath.Join(k.dir, dirEvidence))
}

func (k *Keeper) lock(ctx context.Context) error {
	select {
	case k.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *Keeper) unlock() { <-k.busy }

package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/receipt"
)

// logRole appends records to the log and makes their receipts. It is one
// goroutine in one process (the store's lock sees to that, see lead.go), and the
// only one that appends.
//
// Why each record is in the log exactly once: the store says which records have
// no receipt, and below which size of the log every leaf is some receipt's.
// Before anything is appended, what the log holds above that size is read:
// leaves that a killed process or a failed turn appended are found there, and
// not appended again. Indexes come from that reading alone, so that going on
// after a crash is the ordinary way. Should a leaf be there twice all the same,
// its lowest index counts.
type logRole struct {
	leading
	term      uint64
	store     outbox
	add       tessera.AddFn
	reader    tessera.LogReader
	interval  time.Duration  // between checkpoints
	of        checkpoint.Log // what our checkpoints must show, receipts' too
	witnesses *witnesses
	log       *slog.Logger
	stop      func(context.Context) error

	// What the log holds from the store's size up to read, and is no receipt's yet.
	read  uint64
	found map[[32]byte]uint64 // leaf -> index
}

const (
	logBatch = 256              // records in one turn
	logTurn  = 30 * time.Second // longest turn
	idleTurn = time.Second      // other processes may have taken records on
)

func openLog(dir string, signers []note.Signer, of checkpoint.Log, w *witnesses, interval time.Duration, store outbox, log *slog.Logger) (*logRole, error) {
	// Tessera does not begin a log without a first checkpoint. It says nothing, and
	// witnesses that are away shall not keep a registry from starting.
	if _, err := os.Stat(filepath.Join(dir, treeState)); errors.Is(err, os.ErrNotExist) {
		if err := beginLog(dir, signers); err != nil {
			return nil, err
		}
	}
	if err := withdraw(dir, of); err != nil {
		return nil, err
	}
	// Tessera's goroutines end with this context, after its own shutdown.
	ctx, cancel := context.WithCancel(context.Background())
	driver, err := posix.New(ctx, posix.Config{Path: dir, HTTPClient: w.client()})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open log: %w", err)
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signers[0], signers[1:]...).
		WithCheckpointInterval(interval).
		WithCheckpointRepublishInterval(max(time.Hour, interval)).
		WithBatching(logBatch, 5*time.Millisecond). // a turn adds all it has at once
		WithWitnesses(w.group, &tessera.WitnessOptions{Timeout: witnessTimeout})
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &logRole{
		store: store, add: appender.Add, reader: reader, of: of, witnesses: w, log: log,
		interval: interval,
		stop: func(ctx context.Context) error {
			defer cancel()
			short := w.short()
			if short != nil { // it would wait for a checkpoint that does not come
				var enough context.CancelFunc
				ctx, enough = context.WithTimeout(ctx, time.Second)
				defer enough()
			}
			err := shutdown(ctx)
			if err != nil && short != nil {
				// The leaves are in the log, and found at the next start.
				log.Warn("stopped before all that is in the log was cosigned", "cause", short)
				return nil
			}
			return err
		},
	}, nil
}

// treeState is the file by which Tessera's POSIX driver knows a log that was begun,
// and the tree as far as it is made: at least as much as was ever signed.
const treeState = ".state/treeState"

// beginLog makes an empty log.
func beginLog(dir string, signers []note.Signer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err == nil {
		_, _, _, err = tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().WithCheckpointSigner(signers[0], signers[1:]...))
	}
	if err != nil {
		return fmt.Errorf("begin log: %w", err)
	}
	return nil
}

// ErrLogCut means that the log on disk is shorter than it was: an older copy.
// Nothing may be appended to it, or it would contradict its own checkpoints.
var ErrLogCut = errors.New("the log was cut short or put back to an older copy: restore it before going on")

// run works until ctx ends, or the role is another's.
func (l *logRole) run(ctx context.Context) error {
	for {
		more, err := l.turn(ctx)
		wait := idleTurn
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errDeposed):
			return err
		case errors.Is(err, ErrWitnesses):
			l.failing.Store(false)
			l.log.Warn("no receipts for now, will be tried again", "cause", err)
			wait = time.Second
		case err != nil:
			l.failing.Store(true)
			l.log.Error("log turn failed, will be tried again", "error", err)
			wait = time.Second
		default:
			l.failing.Store(false)
			if more {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.kick:
		case <-time.After(wait):
		}
	}
}

// turn logs what waits, up to a batch; more says that there may be more.
func (l *logRole) turn(ctx context.Context) (more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, logTurn)
	defer cancel()
	waiting, err := l.store.Unlogged(ctx, logBatch)
	if err != nil || len(waiting) == 0 {
		return false, err
	}
	if err := l.scan(ctx); err != nil {
		return false, err
	}
	if err := l.append(ctx, waiting); err != nil {
		return false, err
	}
	if err := l.scan(ctx); err != nil {
		return false, err
	}
	receipts, err := l.receipts(ctx, waiting)
	if err != nil {
		return false, err
	}
	left := maps.Clone(l.found)
	for _, w := range waiting {
		delete(left, receipt.Leaf(w.blind, w.id))
	}
	scanned := l.read
	for _, index := range left {
		scanned = min(scanned, index)
	}
	if err := l.store.Logged(ctx, l.term, receipts, scanned); err != nil {
		return false, fmt.Errorf("store receipts: %w", err)
	}
	l.found = left
	l.log.Info("records logged", "count", len(receipts), "size", l.read)
	return len(waiting) == logBatch, nil
}

// scan reads the log's new leaves.
func (l *logRole) scan(ctx context.Context) error {
	if l.found == nil {
		start, err := l.store.Scanned(ctx)
		if err != nil {
			return err
		}
		l.read, l.found = start, map[[32]byte]uint64{}
	}
	size, err := l.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("size of the log: %w", err)
	}
	if size < l.read {
		return fmt.Errorf("%w: it holds %d leaves, there were %d", ErrLogCut, size, l.read)
	}
	for l.read < size {
		bundle, err := client.GetEntryBundle(ctx, l.reader.ReadEntryBundle, l.read/layout.EntryBundleWidth, size)
		if err != nil {
			return fmt.Errorf("read log at %d: %w", l.read, err)
		}
		entries := bundle.Entries[l.read%layout.EntryBundleWidth:]
		for _, e := range entries[:min(uint64(len(entries)), size-l.read)] {
			if len(e) == 32 {
				if _, twice := l.found[[32]byte(e)]; !twice {
					l.found[[32]byte(e)] = l.read
				}
			}
			l.read++
		}
	}
	return nil
}

// append adds the leaves that are not in the log, in an order that tells nothing
// of when they came.
func (l *logRole) append(ctx context.Context, waiting []leaf) error {
	var futures []tessera.IndexFuture
	for _, i := range rand.Perm(len(waiting)) {
		h := receipt.Leaf(waiting[i].blind, waiting[i].id)
		if _, there := l.found[h]; !there {
			futures = append(futures, l.add(ctx, tessera.NewEntry(h[:])))
		}
	}
	var err error
	for _, f := range futures {
		_, e := f()
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	return nil
}

// receipts waits for a checkpoint that covers all of waiting and builds their
// receipts.
func (l *logRole) receipts(ctx context.Context, waiting []leaf) (map[[32]byte][]byte, error) {
	var last uint64
	for _, w := range waiting {
		index, ok := l.found[receipt.Leaf(w.blind, w.id)]
		if !ok {
			return nil, errors.New("a leaf that was appended is not in the log")
		}
		last = max(last, index)
	}
	own, err := l.published(ctx, last)
	if err != nil {
		return nil, fmt.Errorf("wait for checkpoint: %w", err)
	}
	proofs, err := client.NewProofBuilder(ctx, own.Size(), l.reader.ReadTile)
	if err != nil {
		return nil, err
	}
	out := map[[32]byte][]byte{}
	for _, w := range waiting {
		index := l.found[receipt.Leaf(w.blind, w.id)]
		path, err := proofs.InclusionProof(ctx, index)
		if err != nil {
			return nil, fmt.Errorf("prove leaf %d: %w", index, err)
		}
		hashes := make([][32]byte, len(path))
		for i, h := range path {
			hashes[i] = [32]byte(h)
		}
		b := receipt.Build(index, hashes, own.Bytes(), w.blind, w.id)
		if _, err := receipt.VerifyUnder(b, own, w.id); err != nil {
			return nil, fmt.Errorf("own receipt: %w", err)
		}
		out[w.id] = b
	}
	return out, nil
}

// published waits for a checkpoint that covers a leaf. When too few witnesses
// answer, the error wraps ErrWitnesses.
func (l *logRole) published(ctx context.Context, index uint64) (checkpoint.Checkpoint, error) {
	for {
		b, err := l.reader.ReadCheckpoint(ctx)
		if err == nil {
			own, err := l.of.Open(b)
			if err != nil || own.Size() > index {
				return own, err
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			return checkpoint.Checkpoint{}, err
		}
		select {
		case <-ctx.Done():
			return checkpoint.Checkpoint{}, cmp.Or(l.witnesses.short(), ctx.Err())
		case <-time.After(l.interval / 4):
		}
	}
}

// logFiles serves the log as C2SP tlog-tiles has it: checkpoint and tiles, and
// nothing else that lies in its directory.
type logFiles struct{ root *os.Root }

func openLogFiles(dir string) (f logFiles, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return f, fmt.Errorf("open log: %w", err)
	}
	f.root, err = os.OpenRoot(dir)
	return f, err
}

var logPath = regexp.MustCompile(`^(checkpoint|tile/(entries|[0-9]{1,2})/(x[0-9]{3}/){0,6}[0-9]{3}(\.p/[0-9]{1,3})?)$`)

func (f logFiles) read(path string) ([]byte, error) {
	if !logPath.MatchString(path) {
		return nil, os.ErrNotExist
	}
	return f.root.ReadFile(path)
}

// Read makes it checkpoint.Files.
func (f logFiles) Read(_ context.Context, path string, limit int64) ([]byte, error) {
	b, err := f.read(path)
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has %d bytes", path, len(b))
	}
	return b, err
}

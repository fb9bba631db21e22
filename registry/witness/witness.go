// Package witness cosigns the checkpoints of logs that it has seen grow without
// a contradiction (C2SP tlog-witness and tlog-cosignature, Ed25519).
//
// Invariants: of each log, a cosignature is given only for a tree that continues
// the last one cosigned, proved and on disk before the cosignature leaves; one
// process at a time holds a witness's directory; a directory that has lost its
// memory of a log cosigns nothing. Not its job: the log's content, and serving
// what it knows to readers.
package witness

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	cosignature "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/lock"
)

// Names in a witness's directory.
const (
	fileKey     = "witness.key" // C2SP signed-note signer key
	filePublic  = "witness.vkey"
	fileLock    = "lock"
	dirLogs     = "logs" // HASH.vkey (checkpoint.Log.Keys) and HASH.checkpoint of each: empty before the first
	dirEvidence = "evidence"
)

// Errors of this package.
var (
	ErrName   = errors.New("the name must be visible ASCII characters without a plus sign, such as witness.example/w1")
	ErrLocked = errors.New("another process is this witness: there must be one")
	ErrState  = errors.New("what this witness knew of a log is lost or damaged: a new witness must take its place")
	ErrOld    = errors.New("the log signed with this key before its present one: it is not taken back")
)

// Init makes a witness's directory and its key, and returns its verifier key for
// the policy. Errors wrap ErrName, or keyfile.ErrExists.
func Init(dir, name string) (vkey string, err error) {
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' || c == '+' {
			return "", ErrName
		}
	}
	skey, plain, err := note.GenerateKey(rand.Reader, name)
	if err != nil || name == "" || len(name) > 255 {
		return "", ErrName
	}
	if vkey, err = cosignature.VKeyToCosignatureV1(plain); err != nil {
		return "", fmt.Errorf("witness key: %w", err)
	}
	err = keyfile.NewDir(dir, func(dir string) error {
		return errors.Join(
			os.Mkdir(filepath.Join(dir, dirLogs), 0o700),
			os.Mkdir(filepath.Join(dir, dirEvidence), 0o700),
			keyfile.WriteNew(filepath.Join(dir, fileKey), []byte(skey+"\n"), 0o600),
			keyfile.WriteNew(filepath.Join(dir, filePublic), []byte(vkey+"\n"), 0o644))
	})
	if err != nil {
		return "", fmt.Errorf("set up witness: %w", err)
	}
	return vkey, nil
}

// AddLog makes the witness watch a log, from its verifier key. A log that it
// watches gets a new key so: the ones before count beside it until the witness has
// cosigned a tree that the new one signed. With only they count no more at once:
// for a key that was stolen. The witness takes note when it is opened again.
//
// Errors wrap checkpoint.ErrKey, ErrOld, ErrState, ErrLocked (only with only), or
// are fs.ErrExist for the key that it has.
func AddLog(dir, vkey string, only bool) error {
	next := checkpoint.Log{Key: vkey}
	if err := next.Check(); err != nil {
		return err
	}
	file := filepath.Join(dir, dirLogs, nameOf(checkpoint.Name(vkey)))
	keys, err := os.ReadFile(file + ".vkey")
	if errors.Is(err, fs.ErrNotExist) {
		// Without a key the memory is nothing; a key without a memory is refused.
		if err := keyfile.WriteNew(file+".checkpoint", nil, 0o600); err != nil {
			return fmt.Errorf("watch %s: %w", checkpoint.Name(vkey), err)
		}
		return keyfile.WriteNew(file+".vkey", []byte(vkey+"\n"), 0o644)
	}
	if err != nil {
		return err
	}
	if only { // it says what was cosigned last: nobody may cosign meanwhile
		held, err := own(dir)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	l, err := readLog(file, keys)
	if err != nil {
		return err
	}
	next.Earlier = append([]checkpoint.Earlier{{Key: l.keys.Key}}, l.keys.Earlier...)
	switch {
	case l.keys.Key == vkey && !only:
		return fmt.Errorf("watch %s: %w", checkpoint.Name(vkey), fs.ErrExist)
	case l.keys.Key == vkey:
		next.Earlier = l.keys.Earlier
	case slices.ContainsFunc(l.keys.Earlier, func(e checkpoint.Earlier) bool { return e.Key == vkey }):
		return fmt.Errorf("watch %s: %w", checkpoint.Name(vkey), ErrOld)
	}
	if only {
		next.Earlier = end(next.Earlier, l.last)
	}
	if err := next.Check(); err != nil {
		return err
	}
	return keyfile.Replace(file+".vkey", []byte(strings.Join(next.Keys(), "\n")+"\n"), 0o644)
}

// end has keys end at a tree, those that did not end before.
func end(keys []checkpoint.Earlier, at checkpoint.Checkpoint) []checkpoint.Earlier {
	root := sha256.Sum256(nil)
	if at.Valid() {
		root = at.Root()
	}
	keys = slices.Clone(keys)
	for i, e := range keys {
		if !e.Ended() {
			keys[i].Size, keys[i].Root = at.Size(), root
		}
	}
	return keys
}

// nameOf is a file name for a log: its origin decides who it is.
func nameOf(origin string) string {
	h := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(h[:8])
}

// Witness is an open one.
type Witness struct {
	dir    string
	key    string
	signer note.Signer
	lock   *lock.Lock
	log    *slog.Logger
	logs   map[string]*watched // by origin
}

// watched is one log.
type watched struct {
	keys checkpoint.Log
	file string

	mu   sync.Mutex
	last checkpoint.Checkpoint // cosigned; zero before the first
}

// believed is the log as the next checkpoint must be signed: keys from before the
// one that signed the last tree have ended there.
func (l *watched) believed() checkpoint.Log {
	of := l.keys
	for i := len(of.Earlier); i > 0 && l.last.Valid(); i-- {
		newer := of.Key
		if i > 1 {
			newer = of.Earlier[i-2].Key
		}
		if l.last.SignedBy(newer) {
			of.Earlier = slices.Concat(of.Earlier[:i-1], end(of.Earlier[i-1:], l.last))
		}
	}
	return of
}

// Open opens what Init made. Errors wrap ErrLocked or ErrState.
func Open(dir string, log *slog.Logger) (_ *Witness, err error) {
	w := &Witness{dir: dir, log: log, logs: map[string]*watched{}}
	b, err := os.ReadFile(filepath.Join(dir, fileKey))
	if err != nil {
		return nil, fmt.Errorf("witness key: %w", err)
	}
	signer, err := cosignature.NewSignerForCosignatureV1(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, errors.New("witness key: the file holds none") // the cause could quote it
	}
	w.signer = signer
	if b, err = os.ReadFile(filepath.Join(dir, filePublic)); err != nil {
		return nil, fmt.Errorf("witness key: %w", err)
	}
	w.key = strings.TrimSpace(string(b))
	if w.lock, err = own(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	files, err := filepath.Glob(filepath.Join(dir, dirLogs, "*.vkey"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		keys, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		l, err := readLog(strings.TrimSuffix(file, ".vkey"), keys)
		if err != nil {
			return nil, err
		}
		w.logs[checkpoint.Name(l.keys.Key)] = l
	}
	return w, nil
}

// own keeps other processes from being this witness until the lock is closed.
func own(dir string) (*lock.Lock, error) {
	l, err := lock.File(filepath.Join(dir, fileLock))
	if errors.Is(err, lock.ErrHeld) {
		err = fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return l, err
}

// readLog reads what is remembered of a log. Errors wrap checkpoint.ErrKey or
// ErrState.
func readLog(file string, keys []byte) (*watched, error) {
	l := &watched{file: file + ".checkpoint"}
	var err error
	if l.keys, err = checkpoint.ParseKeys(string(keys)); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(l.file)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrState, checkpoint.Name(l.keys.Key), err)
	}
	if len(b) == 0 {
		return l, nil
	}
	if l.last, err = l.keys.Open(b); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrState, l.file, err)
	}
	return l, nil
}

// Close releases the directory.
func (w *Witness) Close() error { return w.lock.Close() }

// Key is the witness's verifier key.
func (w *Witness) Key() string { return w.key }

// Logs are the origins of the logs that it watches.
func (w *Witness) Logs() []string {
	var names []string
	for origin := range w.logs {
		names = append(names, origin)
	}
	return names
}

// Why a checkpoint is not cosigned.
var (
	errUnknown = errors.New("this witness does not watch that log")
	errGrown   = errors.New("the old size is not that of the last checkpoint cosigned")
	errOther   = errors.New("another tree of this size was cosigned")
	errProof   = errors.New("the consistency proof does not hold")
	errForm    = errors.New("not an add-checkpoint request")
)

// stale is errGrown with what the witness has.
type stale struct{ size uint64 }

func (s stale) Error() string        { return fmt.Sprintf("%v: %d", errGrown, s.size) }
func (s stale) Is(target error) bool { return target == errGrown }

// cosign answers a request: the cosignature's line.
func (w *Witness) cosign(q request) ([]byte, error) {
	l := w.logs[q.origin]
	if l == nil {
		return nil, errUnknown
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c, err := l.believed().Open(q.checkpoint)
	if err != nil {
		return nil, err
	}
	if q.old > c.Size() {
		return nil, fmt.Errorf("%w: the old size is beyond the new", errForm)
	}
	if q.old != l.last.Size() {
		return nil, stale{l.last.Size()}
	}
	if err := l.continues(c, q.proof); err != nil {
		if errors.Is(err, errOther) {
			split := &checkpoint.Split{First: l.last, Second: c}
			w.log.Error("a log has signed two trees of one size", "log", q.origin, "size", c.Size())
			err = errors.Join(err, split.Keep(filepath.Join(w.dir, dirEvidence)))
		}
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: text(c)}, w.signer)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	// From here on this tree is what the witness has seen, also after a power cut:
	// only then may anybody hear of it.
	if !l.last.Valid() || l.last.Size() != c.Size() || c.SignedBy(l.keys.Key) && !l.last.SignedBy(l.keys.Key) {
		if err := keyfile.Replace(l.file, c.Bytes(), 0o600); err != nil {
			return nil, fmt.Errorf("keep checkpoint: %w", err)
		}
		l.last = c
	}
	return signed[len(text(c))+1:], nil
}

// continues says whether c's tree begins with the last one.
func (l *watched) continues(c checkpoint.Checkpoint, path [][]byte) error {
	switch {
	case l.last.Size() == 0:
		// The empty tree begins every tree; there is nothing to prove.
		if len(path) > 0 {
			return errProof
		}
		if c.Size() == 0 && c.Root() != sha256.Sum256(nil) {
			return errProof
		}
		return nil
	case l.last.Size() == c.Size():
		if l.last.Root() != c.Root() {
			return errOther
		}
		if len(path) > 0 {
			return errProof
		}
		return nil
	}
	old, root := l.last.Root(), c.Root()
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, l.last.Size(), c.Size(), path, old[:], root[:]); err != nil {
		return fmt.Errorf("%w: %w", errProof, err)
	}
	return nil
}

// text is what of a checkpoint is signed: all before the empty line.
func text(c checkpoint.Checkpoint) string {
	before, _, _ := strings.Cut(string(c.Bytes()), "\n\n")
	return before + "\n"
}

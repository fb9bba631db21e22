// Package logtest is a public log for tests, as files: it signs, grows and
// serves tiles as C2SP has it, and lies as it is told. Its witnesses cosign
// whatever they are shown.
package logtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/checkpoint"
)

// Origin is every Log's.
const Origin = "registry.example/log"

// Key is what signs for a log, with witnesses beside it.
type Key struct {
	Log       checkpoint.Log // without a quorum: set it
	signers   []note.Signer
	witnesses []note.Signer
}

// NewKey makes a log's key and those of witnesses.
func NewKey(t testing.TB, witnesses int) Key {
	t.Helper()
	skey, vkey := generate(t, Origin)
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	k := Key{Log: checkpoint.Log{Key: vkey}, signers: []note.Signer{signer}}
	for i := range witnesses {
		skey, vkey := generate(t, fmt.Sprintf("witness.example/w%d", i+1))
		w, err := cosignature.NewSignerForCosignatureV1(skey)
		if err != nil {
			t.Fatal(err)
		}
		if vkey, err = cosignature.VKeyToCosignatureV1(vkey); err != nil {
			t.Fatal(err)
		}
		k.witnesses, k.Log.Witnesses = append(k.witnesses, w), append(k.Log.Witnesses, vkey)
	}
	return k
}

// Rotate is k with a new key beside the one before: both sign.
func (k Key) Rotate(t testing.TB) Key {
	t.Helper()
	next := NewKey(t, 0)
	next.Log = checkpoint.Log{Key: next.Log.Key, Earlier: append([]checkpoint.Earlier{{Key: k.Log.Key}}, k.Log.Earlier...),
		Witnesses: k.Log.Witnesses, Quorum: k.Log.Quorum, From: k.Log.From}
	next.signers, next.witnesses = append(next.signers, k.signers...), k.witnesses
	return next
}

// Retire has all keys but the present one end at a checkpoint.
func (k Key) Retire(at checkpoint.Checkpoint) Key {
	k.Log.Earlier, k.signers = slices.Clone(k.Log.Earlier), k.signers[:1]
	for i, e := range k.Log.Earlier {
		if !e.Ended() {
			k.Log.Earlier[i].Size, k.Log.Earlier[i].Root = at.Size(), at.Root()
		}
	}
	return k
}

func generate(t testing.TB, name string) (skey, vkey string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	return skey, vkey
}

// Log is one history under a key: two Logs of one key are a log with two faces.
type Log struct {
	Key
	tree    *testonly.Tree
	entries [][]byte

	mu     sync.Mutex
	files  map[string][]byte
	change map[string]func([]byte) []byte
	reads  map[string]int
}

// New begins a history.
func New(k Key) *Log {
	return &Log{Key: k, tree: testonly.New(rfc6962.DefaultHasher), files: map[string][]byte{}, change: map[string]func([]byte) []byte{}, reads: map[string]int{}}
}

// Fork is a history that shares the first n entries.
func (l *Log) Fork(n int) *Log {
	f := New(l.Key)
	f.Add(l.entries[:n]...)
	return f
}

// Add appends entries.
func (l *Log) Add(entries ...[]byte) {
	for _, e := range entries {
		l.entries = append(l.entries, e)
		l.tree.AppendData(e)
	}
}

// Fill appends n entries of 32 bytes that a seed makes.
func (l *Log) Fill(n int, seed string) {
	for range n {
		h := rfc6962.DefaultHasher.HashLeaf(fmt.Appendf(nil, "%s %d", seed, len(l.entries)))
		l.Add(h)
	}
}

// Size is the number of entries.
func (l *Log) Size() uint64 { return l.tree.Size() }

// Signed is the checkpoint at a size, cosigned by some of the witnesses.
func (l *Log) Signed(t testing.TB, size uint64, witnesses ...int) []byte {
	t.Helper()
	signers := slices.Clone(l.signers)
	for _, w := range witnesses {
		signers = append(signers, l.witnesses[w])
	}
	text := log.Checkpoint{Origin: Origin, Size: size, Hash: l.tree.HashAt(size)}.Marshal()
	signed, err := note.Sign(&note.Note{Text: string(text)}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// Path is the inclusion proof of an entry at a size.
func (l *Log) Path(t testing.TB, index, size uint64) (out [][32]byte) {
	t.Helper()
	path, err := l.tree.InclusionProof(index, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range path {
		out = append(out, [32]byte(h))
	}
	return out
}

// Publish writes the files of the first size entries, as a log does that grows:
// full tiles, and a partial one at the end of each level.
func (l *Log) Publish(t testing.TB, size uint64, witnesses ...int) {
	t.Helper()
	signed := l.Signed(t, size, witnesses...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files[checkpoint.PathCheckpoint] = signed
	maps.Copy(l.files, Files(l.entries[:size]))
}

// Files are the tiles and bundles of entries, by their path.
func Files(entries [][]byte) map[string][]byte {
	files := map[string][]byte{}
	var level [][]byte
	for _, e := range entries {
		level = append(level, rfc6962.DefaultHasher.HashLeaf(e))
	}
	for n := 0; n*256 < len(entries); n++ {
		var b []byte
		bundle := entries[n*256 : min((n+1)*256, len(entries))]
		for _, e := range bundle {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(e))), e...)
		}
		files["tile/entries/"+path(n, len(bundle))] = b
	}
	for depth := 0; len(level) > 0; depth++ {
		var above [][]byte
		for n := 0; n*256 < len(level); n++ {
			tile := level[n*256 : min((n+1)*256, len(level))]
			files[fmt.Sprintf("tile/%d/%s", depth, path(n, len(tile)))] = bytes.Join(tile, nil)
			if len(tile) == 256 {
				above = append(above, root(tile))
			}
		}
		level = above
	}
	return files
}

func root(hashes [][]byte) []byte {
	for len(hashes) > 1 {
		var above [][]byte
		for i := 0; i < len(hashes); i += 2 {
			above = append(above, rfc6962.DefaultHasher.HashChildren(hashes[i], hashes[i+1]))
		}
		hashes = above
	}
	return hashes[0]
}

func path(n, width int) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if width < 256 {
		s += fmt.Sprintf(".p/%d", width)
	}
	return s
}

// Change alters a file whenever it is read; nil takes it away, and a missing
// change puts it right again.
func (l *Log) Change(path string, change func([]byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change[path] = change
}

// Mend takes all changes back.
func (l *Log) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.change)
}

// Remove takes files away whose path begins so.
func (l *Log) Remove(prefix string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.files {
		if strings.HasPrefix(p, prefix) {
			delete(l.files, p)
		}
	}
}

// Reads is how often a path was read since the last call.
func (l *Log) Reads(prefix string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, reads := range l.reads {
		if strings.HasPrefix(p, prefix) {
			n += reads
			delete(l.reads, p)
		}
	}
	return n
}

// Read makes it checkpoint.Files.
func (l *Log) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads[path]++
	b, there := l.files[path]
	if !there {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if change := l.change[path]; change != nil {
		b = change(bytes.Clone(b))
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %d bytes", path, len(b))
	}
	return bytes.Clone(b), nil
}

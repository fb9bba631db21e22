package audit_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"enrollkiosk/registry/audit"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/receipt"
)

// watched is a log of n entries that two witnesses cosign, and an audit of it.
func watched(t testing.TB, n int) (*logtest.Log, audit.Options) {
	t.Helper()
	l := logtest.New(logtest.NewKey(t, 2))
	l.Fill(n, "a")
	l.Publish(t, uint64(n), 0, 1)
	of := l.Key.Log
	of.Quorum = 2
	return l, audit.Options{Log: of, Files: l, Dir: t.TempDir(), Workers: 3}
}

func run(t testing.TB, o audit.Options) audit.Report {
	t.Helper()
	r, err := audit.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHonestLog(t *testing.T) {
	for _, n := range []int{0, 1, 2, 255, 256, 257, 1000} {
		l, o := watched(t, n)
		r := run(t, o)
		c, err := o.Log.Open(l.Signed(t, uint64(n), 0, 1))
		if err != nil {
			t.Fatal(err)
		}
		root := c.Root()
		if r.Size != uint64(n) || r.Root != hex.EncodeToString(root[:]) || r.Since != 0 || len(r.Witnesses) != 2 {
			t.Errorf("%d: %+v", n, r)
		}
	}
}

// What was verified is not fetched again; what comes is.
func TestIncremental(t *testing.T) {
	l, o := watched(t, 1000)
	run(t, o)
	if n := l.Reads("tile/entries/"); n != 4 {
		t.Errorf("%d bundles read, want 4", n)
	}
	run(t, o)
	if n := l.Reads("tile/entries/"); n != 0 {
		t.Errorf("%d bundles read of a log that has not grown", n)
	}
	l.Fill(600, "a")
	l.Publish(t, 1600, 0, 1)
	var all []uint64
	o.Progress = func(verified, size uint64) { all = append(all, verified, size) }
	if r := run(t, o); r.Since != 1000 || r.Size != 1600 {
		t.Errorf("%+v", r)
	}
	if n := l.Reads("tile/entries/"); n != 4 { // 768 to 1600
		t.Errorf("%d bundles read, want 4", n)
	}
	if len(all) == 0 || all[len(all)-1] != 1600 {
		t.Errorf("progress %v", all)
	}
	// What was verified long ago is not looked at, and is still held by the tree: a
	// log that changes it has to change its root.
	l.Change("tile/entries/000", func(b []byte) []byte { b[10] ^= 1; return b })
	run(t, o)
	o.Dir = t.TempDir()
	if _, err := audit.Run(t.Context(), o); err == nil {
		t.Error("a new audit does not look at the first bundle")
	}
}

// An audit that was broken off goes on.
func TestResume(t *testing.T) {
	const n = 256 * 200
	l, o := watched(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(verified, _ uint64) {
		if verified >= 256*64 {
			cancel()
		}
	}
	if _, err := audit.Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	read := l.Reads("tile/entries/")
	o.Progress = nil
	r := run(t, o)
	if r.Since == 0 || r.Since%256 != 0 || r.Size != n {
		t.Errorf("%+v", r)
	}
	if again := l.Reads("tile/entries/"); read+again > 200+64+3 {
		t.Errorf("%d bundles, then %d", read, again)
	}
}

// Whatever is wrong has a name, and where a leaf is, its index.
func TestWrongLogs(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for name, c := range map[string]struct {
		change func(l *logtest.Log)
		leaf   int // -1: none is named
		want   error
	}{
		"an entry":                    {func(l *logtest.Log) { l.Change("tile/entries/001", flip(34*7+5)) }, 256 + 7, nil},
		"an entry of the last bundle": {func(l *logtest.Log) { l.Change("tile/entries/003.p/232", flip(34*231+33)) }, 999, nil},
		"two entries": {func(l *logtest.Log) {
			l.Change("tile/entries/002", flip(2))
			l.Change("tile/entries/000", flip(34*9+2))
		}, 9, nil},
		"a length":                {func(l *logtest.Log) { l.Change("tile/entries/001", flip(34*100+1)) }, 256 + 100, nil},
		"a bundle cut":            {func(l *logtest.Log) { l.Change("tile/entries/001", func(b []byte) []byte { return b[:34*50+3] }) }, 256 + 50, nil},
		"a bundle gone":           {func(l *logtest.Log) { l.Remove("tile/entries/002") }, 512, nil},
		"a leaf's hash":           {func(l *logtest.Log) { l.Change("tile/0/001", flip(32*7)) }, 256 + 7, nil},
		"a hash of the last tile": {func(l *logtest.Log) { l.Change("tile/0/003.p/232", flip(32*231)) }, 0, nil}, // no tree without it
		"a tile gone":             {func(l *logtest.Log) { l.Remove("tile/0/001") }, 256, nil},
		"an upper tile":           {func(l *logtest.Log) { l.Change("tile/1/000.p/3", flip(33)) }, 0, nil},
		"no checkpoint":           {func(l *logtest.Log) { l.Remove("checkpoint") }, -1, checkpoint.ErrTiles},
		"one witness":             {func(l *logtest.Log) { l.Publish(t, 1000, 1) }, -1, checkpoint.ErrWitnesses},
		"a signature": {func(l *logtest.Log) {
			l.Change("checkpoint", func(b []byte) []byte { return bytes.Replace(b, []byte("1000"), []byte("1001"), 1) })
		}, -1, checkpoint.ErrSignature},
	} {
		l, o := watched(t, 1000)
		c.change(l)
		for range 2 { // and again: what is wrong leaves no mark as if it were right
			_, err := audit.Run(t.Context(), o)
			var leaf *audit.WrongLeaf
			switch {
			case c.want != nil && !errors.Is(err, c.want), err == nil:
				t.Errorf("%s: %v", name, err)
			case c.leaf >= 0 && (!errors.As(err, &leaf) || leaf.Index != uint64(c.leaf)):
				t.Errorf("%s: %v, want leaf %d", name, err, c.leaf)
			}
		}
		l.Mend()
	}
}

// Entry and tile changed alike: the tree that was signed knows better.
func TestEntryAndTileAlike(t *testing.T) {
	l, o := watched(t, 1000)
	other := l.Fork(263)
	other.Fill(1000-263, "b")
	files := logtest.Files(entries(t, other, 1000))
	for _, p := range []string{"tile/entries/001", "tile/0/001"} {
		l.Change(p, func([]byte) []byte { return files[p] })
	}
	_, err := audit.Run(t.Context(), o)
	var leaf *audit.WrongLeaf
	if !errors.As(err, &leaf) || leaf.Index != 256 {
		t.Errorf("%v", err)
	}
}

func entries(t testing.TB, l *logtest.Log, n uint64) (out [][]byte) {
	t.Helper()
	l.Publish(t, n)
	c, err := l.Key.Log.Open(l.Signed(t, n))
	if err != nil {
		t.Fatal(err)
	}
	tree := checkpoint.NewTree(l, c)
	for b := range (n + 255) / 256 {
		e, err := tree.Entries(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e...)
	}
	return out
}

// A log that forks, or goes back, is told by what the audit before has seen.
func TestForkedAndRolledBack(t *testing.T) {
	for _, size := range []uint64{1000, 1300} {
		l, o := watched(t, 1000)
		run(t, o)
		other := l.Fork(700)
		other.Fill(600, "b")
		other.Publish(t, size, 0, 1)
		o.Files = other
		if _, err := audit.Run(t.Context(), o); !errors.Is(err, checkpoint.ErrSplit) {
			t.Errorf("forked, at %d: %v", size, err)
		}
		if files, err := filepath.Glob(filepath.Join(o.Dir, "evidence", "*.checkpoint")); err != nil || len(files) != 2 {
			t.Errorf("evidence %v, %v", files, err)
		}
		// Without a memory it is a log like any other.
		o.Dir = t.TempDir()
		run(t, o)
	}
	l, o := watched(t, 1000)
	run(t, o)
	l.Publish(t, 900, 0, 1)
	if _, err := audit.Run(t.Context(), o); !errors.Is(err, checkpoint.ErrBehind) || errors.Is(err, checkpoint.ErrSplit) {
		t.Errorf("rolled back: %v", err)
	}
	l.Remove("tile/")
	l.Publish(t, 900, 0, 1)
	if _, err := audit.Run(t.Context(), o); !errors.Is(err, checkpoint.ErrBehind) {
		t.Errorf("rolled back, and the rest gone: %v", err)
	}
}

func TestEntriesOfNoRecord(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(5, "a")
	l.Add([]byte("Eriksson, Anna Maria"))
	l.Publish(t, 6)
	_, err := audit.Run(t.Context(), audit.Options{Log: l.Key.Log, Files: l, Dir: t.TempDir()})
	var leaf *audit.WrongLeaf
	if !errors.As(err, &leaf) || leaf.Index != 5 {
		t.Errorf("%v", err)
	}
}

func TestReceipts(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 1))
	l.Fill(100, "a")
	id, blind := [32]byte{1}, [32]byte{2}
	leaf := receipt.Leaf(blind, id)
	l.Add(leaf[:])
	l.Fill(500, "a")
	of := l.Key.Log
	of.Quorum = 1
	build := func(l *logtest.Log, size uint64) []byte {
		return receipt.Build(100, l.Path(t, 100, size), l.Signed(t, size, 0), blind, id)
	}
	other := l.Fork(101)
	other.Fill(500, "b")
	dir := t.TempDir()
	put := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.Publish(t, 550, 0)
	o := audit.Options{Log: of, Files: l, Dir: t.TempDir(), Receipts: dir}
	for i, size := range []uint64{101, 102, 256, 300, 550, 550} {
		put(fmt.Sprint(i), build(l, size))
	}
	if r := run(t, o); r.Receipts != 6 {
		t.Errorf("%+v", r)
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"of another face":      {build(other, 300), checkpoint.ErrSplit},
		"of a log cut since":   {build(l, 600), checkpoint.ErrBehind},
		"altered":              {bytes.Replace(build(l, 300), []byte("index 100"), []byte("index 101"), 1), receipt.ErrInclusion},
		"without its witness":  {receipt.Build(100, l.Path(t, 100, 300), l.Signed(t, 300), blind, id), receipt.ErrWitnesses},
		"no receipt":           {[]byte("hello"), receipt.ErrForm},
		"larger than any is":   {bytes.Repeat([]byte("a"), receipt.MaxSize+1), audit.ErrReceipt},
		"of the same, too new": {build(other, 601), checkpoint.ErrBehind},
	} {
		put("bad", c.b)
		if _, err := audit.Run(t.Context(), o); !errors.Is(err, c.want) || !errors.Is(err, audit.ErrReceipt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedMark(t *testing.T) {
	_, o := watched(t, 300)
	run(t, o)
	for _, text := range []string{"", "{", `{"log_key":"` + o.Log.Key + `","verified":301}`, `{"log_key":"other","verified":3}`} {
		if err := os.WriteFile(filepath.Join(o.Dir, "mark.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := audit.Run(t.Context(), o); !errors.Is(err, audit.ErrMark) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// failing is a log behind a line that breaks.
type failing struct {
	checkpoint.Files
	left atomic.Int64
}

var errLine = errors.New("the line is down")

func (f *failing) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	if f.left.Add(-1) < 0 {
		return nil, errLine
	}
	return f.Files.Read(ctx, path, limit)
}

// A line that breaks is no fault of the log's.
func TestBrokenLine(t *testing.T) {
	l, o := watched(t, 1000)
	for n := range int64(14) {
		f := &failing{Files: l}
		f.left.Store(n)
		o.Files = f
		if _, err := audit.Run(t.Context(), o); err != nil && !errors.Is(err, errLine) {
			t.Errorf("after %d reads: %v", n, err)
		}
	}
	o.Files = l
	run(t, o)
}

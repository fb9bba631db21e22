package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
)

func keeper(t testing.TB, dir string) *checkpoint.Keeper {
	t.Helper()
	k, err := checkpoint.OpenKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func open(t testing.TB, l checkpoint.Log, signed []byte) checkpoint.Checkpoint {
	t.Helper()
	c, err := l.Open(signed)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A tree read from tiles is the tree that another implementation makes, at every size.
func TestTree(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(256*3+7, "a")
	for _, size := range []uint64{1, 2, 255, 256, 257, 512, 775} {
		l.Publish(t, size)
		c := open(t, l.Key.Log, l.Signed(t, size))
		tree := checkpoint.NewTree(l, c)
		for _, n := range []uint64{0, 1, 2, 3, 100, 255, 256, 300, 512, 774, 775} {
			if n > size {
				continue
			}
			root, err := tree.Root(t.Context(), n)
			if want := open(t, l.Key.Log, l.Signed(t, n)).Root(); err != nil || root != want {
				t.Errorf("%d of %d: %x, %v, want %x", n, size, root, err, want)
			}
		}
		entries, err := tree.Entries(t.Context(), (size-1)/256)
		if err != nil {
			t.Fatal(err)
		}
		leaves, err := tree.Leaves(t.Context(), (size-1)/256*256, uint64(len(entries)))
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range entries {
			if !bytes.Equal(leaves[i][:], rfc6962.DefaultHasher.HashLeaf(e)) {
				t.Errorf("leaf %d of the last bundle of %d", i, size)
			}
		}
	}
	c := open(t, l.Key.Log, l.Signed(t, 300))
	if _, err := checkpoint.NewTree(l, c).Root(t.Context(), 301); !errors.Is(err, checkpoint.ErrTiles) {
		t.Errorf("beyond the tree: %v", err)
	}
}

// No hash comes out of a tile that is not the checkpoint's: each byte of each tile.
func TestTilesAreProved(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(256*2+5, "a")
	l.Publish(t, 517)
	c := open(t, l.Key.Log, l.Signed(t, 517))
	for _, path := range []string{"tile/0/000", "tile/0/001", "tile/0/002.p/5", "tile/1/000.p/2"} {
		for at := 0; at < 32*2; at += 7 {
			l.Mend()
			l.Change(path, func(b []byte) []byte { b[at] ^= 1; return b })
			tree := checkpoint.NewTree(l, c)
			_, first := tree.Leaves(t.Context(), 0, 256)
			_, second := tree.Leaves(t.Context(), 256, 256)
			_, last := tree.Leaves(t.Context(), 512, 5)
			bad := errors.Join(first, second, last)
			if !errors.Is(bad, checkpoint.ErrTiles) {
				t.Errorf("byte %d of %s: %v", at, path, bad)
			}
			if path == "tile/0/001" && (first != nil || second == nil) {
				t.Errorf("%s: %v, %v", path, first, second)
			}
		}
		l.Change(path, func(b []byte) []byte { return b[:len(b)-1] })
		if _, err := checkpoint.NewTree(l, c).Leaves(t.Context(), 0, 517); !errors.Is(err, checkpoint.ErrTiles) {
			t.Errorf("%s cut: %v", path, err)
		}
		l.Mend()
	}
	l.Remove("tile/0/001")
	if _, err := checkpoint.NewTree(l, c).Leaves(t.Context(), 256, 1); !errors.Is(err, checkpoint.ErrTiles) {
		t.Errorf("a tile that is not there: %v", err)
	}
}

// A partial tile that has gone is read from the full one.
func TestPartialTilesGo(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(600, "a")
	l.Publish(t, 400)
	l.Publish(t, 600)
	l.Remove("tile/0/001.p")
	c := open(t, l.Key.Log, l.Signed(t, 400))
	root, err := checkpoint.NewTree(l, c).Root(t.Context(), 300)
	if err != nil || root != open(t, l.Key.Log, l.Signed(t, 300)).Root() {
		t.Errorf("%x, %v", root, err)
	}
}

func TestFollow(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 2))
	of := l.Key.Log
	of.Quorum = 2
	l.Fill(700, "a")
	dir := filepath.Join(t.TempDir(), "log")
	k := keeper(t, dir)
	for _, size := range []uint64{0, 1, 5, 5, 256, 300, 700} {
		l.Publish(t, size, 0, 1)
		c, err := k.Follow(t.Context(), of, l)
		if err != nil || c.Size() != size {
			t.Fatalf("at %d: %v", size, err)
		}
		// A restart knows as much.
		k = keeper(t, dir)
		if kept, err := k.Kept(t.Context(), of); err != nil || kept.Size() != size {
			t.Fatalf("kept %v, %v", kept, err)
		}
	}
	// What a receipt rests on is held against it, older or newer.
	for _, size := range []uint64{0, 1, 255, 256, 257, 699} {
		if err := k.Accept(t.Context(), of, l, open(t, of, l.Signed(t, size, 0, 1))); err != nil {
			t.Errorf("%d: %v", size, err)
		}
	}
	l.Reads("")
	for range 3 {
		if err := k.Accept(t.Context(), of, l, open(t, of, l.Signed(t, 257, 0, 1))); err != nil || l.Reads("") > 0 {
			t.Errorf("proved once is not enough: %v", err)
		}
	}
	l.Publish(t, 700, 0)
	if _, err := k.Follow(t.Context(), of, l); !errors.Is(err, checkpoint.ErrWitnesses) {
		t.Errorf("one witness of two: %v", err)
	}
	l.Publish(t, 500, 0, 1)
	if _, err := k.Follow(t.Context(), of, l); !errors.Is(err, checkpoint.ErrBehind) || errors.Is(err, checkpoint.ErrSplit) {
		t.Errorf("an older tree: %v", err)
	}
	if pairs, err := k.Evidence(); err != nil || len(pairs) > 0 {
		t.Errorf("evidence %v, %v", pairs, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Follow(ended, of, l); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A log with two faces is told, whatever it shows first, and what it signed is kept.
func TestSplitView(t *testing.T) {
	for _, c := range []struct{ fork, seen, shown uint64 }{
		{0, 5, 5}, {3, 5, 5}, {3, 5, 9}, {3, 9, 5}, {255, 256, 300}, {256, 300, 300}, {299, 300, 600}, {299, 600, 300},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			l := logtest.New(logtest.NewKey(t, 0))
			of := l.Key.Log
			l.Fill(600, "a")
			other := l.Fork(int(c.fork))
			other.Fill(int(600-c.fork), "b")
			dir := t.TempDir()
			k := keeper(t, dir)
			l.Publish(t, c.seen)
			if _, err := k.Follow(t.Context(), of, l); err != nil {
				t.Fatal(err)
			}
			if c.shown < c.seen {
				// The fork shows the older one, with the tiles of the newer one still there.
				if err := k.Accept(t.Context(), of, l, open(t, of, other.Signed(t, c.shown))); !errors.Is(err, checkpoint.ErrSplit) {
					t.Fatalf("%v", err)
				}
			} else {
				other.Publish(t, c.shown)
				var split *checkpoint.Split
				if _, err := k.Follow(t.Context(), of, other); !errors.As(err, &split) {
					t.Fatalf("%v", err)
				}
				// Again, and again: one piece of evidence.
				if _, err := k.Follow(t.Context(), of, other); !errors.Is(err, checkpoint.ErrSplit) {
					t.Errorf("the second time: %v", err)
				}
			}
			pairs, err := k.Evidence()
			if err != nil || len(pairs) != 1 {
				t.Fatalf("evidence %v, %v", pairs, err)
			}
			roots := map[[32]byte]bool{}
			for _, n := range []string{"-1.checkpoint", "-2.checkpoint"} {
				b, err := os.ReadFile(pairs[0] + n)
				if err != nil {
					t.Fatal(err)
				}
				roots[open(t, of, b).Root()] = true
			}
			if len(roots) != 2 {
				t.Error("the evidence is no contradiction")
			}
			// What was seen first stays, also after a restart, and the honest log goes on.
			k = keeper(t, dir)
			if kept, err := k.Kept(t.Context(), of); err != nil || kept.Size() != c.seen {
				t.Errorf("kept %v, %v", kept, err)
			}
			l.Publish(t, 600)
			if _, err := k.Follow(t.Context(), of, l); err != nil {
				t.Errorf("the first face again: %v", err)
			}
			if pairs, _ := keeper(t, dir).Evidence(); len(pairs) != 1 {
				t.Error("the evidence went")
			}
		})
	}
}

// A log that signs a fork and hides its tiles proves nothing, and is not followed.
func TestHiddenFork(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(20, "a")
	other := l.Fork(3)
	other.Fill(17, "b")
	k := keeper(t, t.TempDir())
	l.Publish(t, 10)
	if _, err := k.Follow(t.Context(), l.Key.Log, l); err != nil {
		t.Fatal(err)
	}
	l.Publish(t, 20)
	signed := other.Signed(t, 20)
	l.Change(checkpoint.PathCheckpoint, func([]byte) []byte { return signed })
	if _, err := k.Follow(t.Context(), l.Key.Log, l); !errors.Is(err, checkpoint.ErrTiles) {
		t.Errorf("%v", err)
	}
	if kept, err := k.Kept(t.Context(), l.Key.Log); err != nil || kept.Size() != 10 {
		t.Errorf("kept %v, %v", kept, err)
	}
}

// A damaged memory is not made up for; another log's key has its own.
func TestDamagedMemory(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(20, "a")
	l.Publish(t, 20)
	dir := t.TempDir()
	if _, err := keeper(t, dir).Follow(t.Context(), l.Key.Log, l); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 2
		if err := os.WriteFile(files[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keeper(t, dir).Follow(t.Context(), l.Key.Log, l); !errors.Is(err, checkpoint.ErrKept) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	other := logtest.New(logtest.NewKey(t, 0))
	other.Fill(3, "b")
	other.Publish(t, 3)
	if _, err := keeper(t, dir).Follow(t.Context(), other.Key.Log, other); err != nil {
		t.Errorf("a new log key: %v", err)
	}
}

func TestOpen(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 2))
	l.Fill(9, "a")
	of := l.Key.Log
	good := l.Signed(t, 9, 0, 1)
	of.Quorum = 2
	c := open(t, of, good)
	if !c.Valid() || c.Origin() != logtest.Origin || c.Size() != 9 || !bytes.Equal(c.Bytes(), good) || len(c.Cosigned()) != 2 || !strings.Contains(c.String(), "9 leaves") {
		t.Errorf("%v %v", c, c.Cosigned())
	}
	var zero checkpoint.Checkpoint
	if zero.Valid() || zero.Origin() != "" || zero.Size() != 0 || zero.Root() != [32]byte{} || zero.Bytes() != nil || zero.Cosigned() != nil {
		t.Error("a zero value says something")
	}
	typed := func(err error) bool {
		return errors.Is(err, checkpoint.ErrForm) || errors.Is(err, checkpoint.ErrSignature) || errors.Is(err, checkpoint.ErrWitnesses)
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := of.Open(bad); !typed(err) {
				t.Fatalf("byte %d, %q for %q: %v", i, bad[i], good[i], err)
			}
		}
		if _, err := of.Open(good[:i]); !typed(err) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	for name, bad := range map[string]checkpoint.Log{
		"no key":           {},
		"not a key":        {Key: "registry.example/log+00000000+AAAA"},
		"a witness's key":  {Key: of.Witnesses[0]},
		"a log as witness": {Key: of.Key, Witnesses: []string{of.Key}, Quorum: 1},
		"witness twice":    {Key: of.Key, Witnesses: []string{of.Witnesses[0], of.Witnesses[0]}, Quorum: 1},
		"too large":        {Key: of.Key, Witnesses: of.Witnesses, Quorum: 3},
		"negative":         {Key: of.Key, Witnesses: of.Witnesses, Quorum: -1},
	} {
		if _, err := bad.Open(good); !errors.Is(err, checkpoint.ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzOpen: only the log's own text, with as many cosignatures as asked for, is a checkpoint.
func FuzzOpen(f *testing.F) {
	l := logtest.New(logtest.NewKey(f, 1))
	l.Fill(9, "a")
	of := l.Key.Log
	of.Quorum = 1
	good := l.Signed(f, 9, 0)
	f.Add(good)
	f.Add([]byte("registry.example/log\n9\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := of.Open(b)
		if err != nil {
			if !errors.Is(err, checkpoint.ErrForm) && !errors.Is(err, checkpoint.ErrSignature) && !errors.Is(err, checkpoint.ErrWitnesses) {
				t.Errorf("untyped: %v", err)
			}
			return
		}
		if c.Size() != 9 || !bytes.HasPrefix(b, good[:bytes.Index(good, []byte("\n\n"))]) {
			t.Errorf("another checkpoint passes: %q", b)
		}
	})
}

// FuzzTiles: a tile of whatever bytes proves nothing, and crashes nothing.
func FuzzTiles(f *testing.F) {
	l := logtest.New(logtest.NewKey(f, 0))
	l.Fill(300, "a")
	l.Publish(f, 300)
	c, err := l.Key.Log.Open(l.Signed(f, 300))
	if err != nil {
		f.Fatal(err)
	}
	paths := []string{"tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44"}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(3), []byte{0, 1, 7, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, n uint8, b []byte) {
		path := paths[int(n)%len(paths)]
		l.Mend()
		l.Change(path, func([]byte) []byte { return b })
		tree := checkpoint.NewTree(l, c)
		if strings.Contains(path, "entries") {
			entries, err := tree.Entries(t.Context(), uint64(strings.Count(path, "1.p")))
			if err == nil && len(entries) != 256 && len(entries) != 44 {
				t.Errorf("%d entries", len(entries))
			}
			return
		}
		want, err := tree.Leaves(t.Context(), 0, 300)
		l.Mend()
		right, _ := checkpoint.NewTree(l, c).Leaves(t.Context(), 0, 300)
		if err == nil && fmt.Sprint(want) != fmt.Sprint(right) {
			t.Error("other leaves are proved")
		}
	})
}

package checkpoint_test

import (
	"errors"
	"io/fs"
	"testing"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
)

// sized is a log of n entries, published, with its checkpoint.
func sized(t testing.TB, n int) (*logtest.Log, checkpoint.Checkpoint) {
	t.Helper()
	l := logtest.New(logtest.NewKey(t, 0))
	l.Fill(n, "a")
	l.Publish(t, uint64(n))
	return l, open(t, l.Key.Log, l.Signed(t, uint64(n)))
}

// A keeper goes on by a proof as it does by the log itself, to the sizes that the
// proof was made for and to no others.
func TestProof(t *testing.T) {
	l, newest := sized(t, 70_000)
	made, err := checkpoint.Prove(t.Context(), l, newest, 3, 300, 65_536, 69_999, 70_000, 70_001, 0)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := checkpoint.ParseProof(made.Bytes())
	if err != nil || len(made.Bytes()) > 200_000 {
		t.Fatalf("%d bytes, %v", len(made.Bytes()), err)
	}
	for _, size := range []uint64{3, 300, 65_536, 69_999, 70_000} {
		k := keeper(t, t.TempDir())
		if err := k.Accept(t.Context(), l.Key.Log, l, open(t, l.Key.Log, l.Signed(t, size))); err != nil {
			t.Fatal(err)
		}
		if c, err := k.Follow(t.Context(), l.Key.Log, proof); err != nil || c.Size() != 70_000 {
			t.Errorf("from %d: %v", size, err)
		}
		for _, before := range []uint64{3, 300, 65_536} {
			if err := k.Accept(t.Context(), l.Key.Log, proof, open(t, l.Key.Log, l.Signed(t, before))); err != nil {
				t.Errorf("from %d back to %d: %v", size, before, err)
			}
		}
	}
	k := keeper(t, t.TempDir())
	if err := k.Accept(t.Context(), l.Key.Log, l, open(t, l.Key.Log, l.Signed(t, 40_000))); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Follow(t.Context(), l.Key.Log, proof); !errors.Is(err, checkpoint.ErrTiles) {
		t.Errorf("from a size that it was not made for: %v", err)
	}
}

// A proof of the other face is the evidence against it; one that was altered proves
// nothing.
func TestProofOfAnotherFace(t *testing.T) {
	l, newest := sized(t, 600)
	other := l.Fork(200)
	other.Fill(400, "b")
	other.Publish(t, 600)
	face := open(t, l.Key.Log, other.Signed(t, 600))
	proof, err := checkpoint.Prove(t.Context(), other, face, 300)
	if err != nil {
		t.Fatal(err)
	}
	k := keeper(t, t.TempDir())
	if err := k.Accept(t.Context(), l.Key.Log, l, open(t, l.Key.Log, l.Signed(t, 300))); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Follow(t.Context(), l.Key.Log, proof); !errors.Is(err, checkpoint.ErrSplit) {
		t.Errorf("another face: %v", err)
	}
	if pairs, err := k.Evidence(); err != nil || len(pairs) != 1 {
		t.Errorf("evidence: %v, %v", pairs, err)
	}
	good, err := checkpoint.Prove(t.Context(), l, newest, 300)
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range good.Tiles {
		for at := range b {
			b[at] ^= 1
			if _, err := k.Follow(t.Context(), l.Key.Log, good); err == nil || errors.Is(err, checkpoint.ErrSplit) {
				t.Errorf("%s altered at %d: %v", path, at, err)
			}
			b[at] ^= 1
		}
	}
	if c, err := k.Follow(t.Context(), l.Key.Log, good); err != nil || c.Size() != 600 {
		t.Errorf("unaltered: %v", err)
	}
}

// A proof holds what fits.
func TestProofIsBounded(t *testing.T) {
	l, newest := sized(t, 70_000)
	var sizes []uint64
	for n := uint64(1); n < 70_000; n += 256 {
		sizes = append(sizes, n)
	}
	made, err := checkpoint.Prove(t.Context(), l, newest, sizes...)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(made.Bytes()); n > checkpoint.MaxProof || n < checkpoint.MaxProof/2 {
		t.Errorf("%d bytes", n)
	}
	proof, err := checkpoint.ParseProof(made.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	tree := checkpoint.NewTree(proof, newest)
	if _, err := tree.Root(t.Context(), sizes[0]); err != nil {
		t.Errorf("the first is not proved: %v", err)
	}
	if _, err := tree.Root(t.Context(), sizes[len(sizes)-2]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the last but one: %v", err) // the last lies in a tile that every proof has
	}
}

func FuzzProof(f *testing.F) {
	l, newest := sized(f, 300)
	good, err := checkpoint.Prove(f.Context(), l, newest, 9, 256)
	if err != nil {
		f.Fatal(err)
	}
	want, err := checkpoint.NewTree(l, newest).Root(f.Context(), 9)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte(`{"checkpoint":"","tiles":{"checkpoint":"AA=="}}`))
	f.Add([]byte(`{"checkpoint":null,"tiles":null}{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := checkpoint.ParseProof(b)
		if err != nil {
			if !errors.Is(err, checkpoint.ErrForm) {
				t.Errorf("untyped: %v", err)
			}
			return
		}
		if root, err := checkpoint.NewTree(p, newest).Root(t.Context(), 9); err == nil && root != want {
			t.Error("another root is proved")
		}
	})
}

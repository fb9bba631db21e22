package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/registry/audit"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/receipt"
)

func end(t testing.TB, l *logtest.Log, size uint64) checkpoint.Checkpoint {
	t.Helper()
	c, err := l.Key.Log.Unwitnessed().Open(l.Signed(t, size))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// An audit goes on where it was before the log changed its key, and holds what the
// old key signed against the tree at which it ended.
func TestThroughRotation(t *testing.T) {
	l, o := watched(t, 1000)
	o.Receipts = t.TempDir()
	id, blind := [32]byte{1}, [32]byte{2}
	leaf := receipt.Leaf(blind, id)
	l.Add(leaf[:])
	give := func(of *logtest.Log, size uint64) {
		t.Helper()
		b := receipt.Build(1000, of.Path(t, 1000, size), of.Signed(t, size, 0, 1), blind, id)
		if err := os.WriteFile(filepath.Join(o.Receipts, "receipt"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.Publish(t, 1001, 0, 1)
	give(l, 1001)
	run(t, o)
	old := l.Key
	l.Key = old.Rotate(t)
	l.Fill(299, "a")
	l.Publish(t, 1300, 0, 1)
	o.Log = l.Key.Log
	o.Log.Quorum = 2
	if r := run(t, o); r.Since != 1001 || r.Size != 1300 || r.Receipts != 1 {
		t.Errorf("%+v", r)
	}
	l.Key = l.Key.Retire(end(t, l, 1300))
	l.Fill(300, "a")
	l.Publish(t, 1600, 0, 1)
	o.Log = l.Key.Log
	o.Log.Quorum = 2
	if r := run(t, o); r.Since != 1300 || r.Size != 1600 || r.Receipts != 1 {
		t.Errorf("%+v", r)
	}

	// The thief of the old key, whom the witnesses believe: a receipt beyond the end,
	// and one before it.
	thief := l.Fork(1000)
	thief.Key = old
	thief.Add(leaf[:])
	thief.Fill(599, "b")
	give(thief, 1400)
	if _, err := audit.Run(t.Context(), o); !errors.Is(err, audit.ErrReceipt) || !errors.Is(err, checkpoint.ErrEnded) {
		t.Errorf("a receipt beyond the end: %v", err)
	}
	give(thief, 1200)
	if _, err := audit.Run(t.Context(), o); !errors.Is(err, audit.ErrReceipt) || !errors.Is(err, checkpoint.ErrSplit) {
		t.Errorf("a receipt of another tree: %v", err)
	}
	o.Receipts = ""
	thief.Publish(t, 1500, 0, 1)
	o.Files = thief
	if _, err := audit.Run(t.Context(), o); !errors.Is(err, checkpoint.ErrEnded) {
		t.Errorf("a split view: %v", err)
	}
	o.Files = l
	if r := run(t, o); r.Since != 1600 {
		t.Errorf("%+v", r)
	}
}

// What was verified of a thief's log is verified anew.
func TestAfterAThief(t *testing.T) {
	for name, shown := range map[string]uint64{"beyond the end": 900, "before it": 600} {
		t.Run(name, func(t *testing.T) {
			l, o := watched(t, 1000)
			old := l.Key
			thief := l.Fork(500)
			thief.Fill(500, "b")
			thief.Publish(t, shown, 0, 1)
			o.Files = thief
			run(t, o)
			l.Key = old.Rotate(t).Retire(end(t, l, 700))
			l.Publish(t, 1000, 0, 1)
			o.Log, o.Files = l.Key.Log, l
			o.Log.Quorum = 2
			if _, err := audit.Run(t.Context(), o); !errors.Is(err, checkpoint.ErrSplit) {
				t.Errorf("%v", err)
			}
			l.Change("tile/entries/001", func(b []byte) []byte { b[9] ^= 1; return b })
			var leaf *audit.WrongLeaf
			if _, err := audit.Run(t.Context(), o); !errors.As(err, &leaf) || leaf.Index != 256 {
				t.Errorf("a leaf that the thief's log had been verified with: %v", err)
			}
			l.Mend()
			if r := run(t, o); r.Since > 256 || r.Size != 1000 {
				t.Errorf("%+v", r)
			}
		})
	}
}

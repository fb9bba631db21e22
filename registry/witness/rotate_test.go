package witness_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/witness"
)

func watch(t testing.TB, dir string, l publicLog, only bool) {
	t.Helper()
	if err := witness.AddLog(dir, l.key, only); err != nil {
		t.Fatal(err)
	}
}

// A log changes its key and stays the same log: what was cosigned under the old one
// is continued under the new, and once the new one has signed, the old one alone
// signs nothing more.
func TestALogChangesItsKey(t *testing.T) {
	old, next := newLog(t, origin), newLog(t, origin)
	both := next
	both.beside = old.signer
	dir, vkey := newWitness(t, old)
	tree, fork := grow(300, noFork), grow(300, 250)
	w := open(t, dir)
	wants(t, w, "the old key", old.request(t, tree, 0, 200), http.StatusOK)
	wants(t, w, "a key that nobody has named yet", next.request(t, tree, 200, 210), http.StatusForbidden)
	watch(t, dir, next, false) // while it serves
	wants(t, w, "before it starts again", next.request(t, tree, 200, 210), http.StatusForbidden)
	restart := func() {
		t.Helper()
		w.Close()
		w = open(t, dir)
		if len(w.Logs()) != 1 {
			t.Errorf("watches %v", w.Logs())
		}
	}
	restart()
	wants(t, w, "the old key until the registry has the new policy", old.request(t, tree, 200, 230), http.StatusOK)
	wants(t, w, "the memory is the log's, whatever the key", next.request(t, fork, 0, 300), http.StatusConflict)
	a := wants(t, w, "both keys, of the same size", both.request(t, tree, 230, 230), http.StatusOK)
	if _, err := (checkpoint.Log{Key: next.key, Witnesses: []string{vkey}, Quorum: 1}).Open(append(both.checkpoint(t, tree, 230), a.Body.Bytes()...)); err != nil {
		t.Error(err)
	}
	// The thief of the old key.
	for range 2 {
		wants(t, w, "the thief goes on", old.request(t, tree, 230, 240), http.StatusForbidden)
		wants(t, w, "the thief forks", old.request(t, fork, 230, 260), http.StatusForbidden)
		wants(t, w, "the old key at what was cosigned", old.request(t, tree, 230, 230), http.StatusOK)
		restart()
	}
	wants(t, w, "both keys", both.request(t, tree, 230, 250), http.StatusOK)
	wants(t, w, "the new key alone", next.request(t, tree, 250, 270), http.StatusOK)
	wants(t, w, "another tree of the new key", next.request(t, grow(300, 260), 270, 270), http.StatusConflict)

	third := newLog(t, origin)
	watch(t, dir, third, false)
	restart()
	wants(t, w, "the first key", old.request(t, tree, 270, 280), http.StatusForbidden)
	wants(t, w, "the second", next.request(t, tree, 270, 280), http.StatusOK)
	wants(t, w, "the third", third.request(t, tree, 280, 290), http.StatusOK)
	wants(t, w, "the second from then on", next.request(t, tree, 290, 300), http.StatusForbidden)
	for _, k := range []publicLog{old, next} {
		if err := witness.AddLog(dir, k.key, false); !errors.Is(err, witness.ErrOld) {
			t.Errorf("a key from before: %v", err)
		}
	}
	if err := witness.AddLog(dir, third.key, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the key that it has: %v", err)
	}
}

// A stolen key is given up before the new one has signed anything.
func TestAStolenKey(t *testing.T) {
	for name, learned := range map[string]bool{"named at once": false, "named before": true} {
		t.Run(name, func(t *testing.T) {
			old, next := newLog(t, origin), newLog(t, origin)
			dir, _ := newWitness(t, old)
			tree := grow(300, noFork)
			w := open(t, dir)
			wants(t, w, "the old key", old.request(t, tree, 0, 200), http.StatusOK)
			if err := witness.AddLog(dir, next.key, true); !errors.Is(err, witness.ErrLocked) {
				t.Fatalf("while it cosigns: %v", err)
			}
			w.Close()
			if learned {
				watch(t, dir, next, false)
			}
			watch(t, dir, next, true)
			w = open(t, dir)
			wants(t, w, "the thief", old.request(t, tree, 200, 210), http.StatusForbidden)
			wants(t, w, "the new key", next.request(t, tree, 200, 220), http.StatusOK)
		})
	}
	// Nothing was cosigned yet.
	old, next := newLog(t, origin), newLog(t, origin)
	dir, _ := newWitness(t, old)
	watch(t, dir, next, true)
	w := open(t, dir)
	wants(t, w, "the thief", old.request(t, grow(3, noFork), 0, 1), http.StatusForbidden)
	wants(t, w, "the new key", next.request(t, grow(3, noFork), 0, 3), http.StatusOK)
}

// Which keys a log has is not made up for.
func TestDamagedKeys(t *testing.T) {
	l := newLog(t, origin)
	dir, _ := newWitness(t, l)
	files, err := filepath.Glob(filepath.Join(dir, "logs", "*.vkey"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(files[0], []byte(l.key+" 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := witness.Open(dir, nil); !errors.Is(err, checkpoint.ErrKey) {
		t.Errorf("%v", err)
	}
	if err := witness.AddLog(dir, newLog(t, origin).key, false); !errors.Is(err, checkpoint.ErrKey) {
		t.Errorf("%v", err)
	}
}

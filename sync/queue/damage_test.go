package queue_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"enrollkiosk/sync/queue"
)

// filled is the directory of a closed queue in which all the work was done.
func filled(t testing.TB) (dir string, acknowledged []string) {
	t.Helper()
	dir = quickDir(t)
	if _, err := resumeDamaged(dir, records, nil); err != nil {
		t.Fatal(err)
	}
	return dir, lines(work(records))
}

func clone(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(quickDir(t), "queue")
	check(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

func flip(t testing.TB, file string, at int, bit byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	check(t, err)
	b[at] ^= 1 << bit
	check(t, os.WriteFile(file, b, 0o600))
}

// Bits turn in every page of the database, where something stands. Nothing that
// was acknowledged is lost, however deep the damage: it is repaired, or the
// database is set aside and made anew.
func TestDamagedDatabase(t *testing.T) {
	dir, done := filled(t)
	b, err := os.ReadFile(filepath.Join(dir, "index.db"))
	check(t, err)
	page := os.Getpagesize()
	rebuilt, repaired := 0, 0
	for p := range len(b) / page {
		var used []int
		for i, c := range b[p*page : (p+1)*page] {
			if c != 0 {
				used = append(used, p*page+i)
			}
		}
		for range min(len(used), 10) {
			at := used[rand.IntN(len(used))]
			damaged := clone(t, dir)
			flip(t, filepath.Join(damaged, "index.db"), at, byte(rand.IntN(8)))
			r, err := resumeDamaged(damaged, records, done)
			if err != nil {
				t.Errorf("byte %d (page %d): %v, %+v", at, p, err, r)
			}
			if r.Rebuilt {
				rebuilt++
				if len(r.SetAside) != 1 || !strings.HasPrefix(r.SetAside[0], "damaged/index.db-") {
					t.Errorf("the damaged database is gone: %+v", r)
				} else if _, err := os.Stat(filepath.Join(damaged, r.SetAside[0])); err != nil {
					t.Error(err)
				}
			}
			repaired += r.Repaired
		}
	}
	if rebuilt < 1 || repaired < 1 {
		t.Errorf("%d rebuilt, %d repaired: the damage does not reach what matters", rebuilt, repaired)
	}
}

func TestDatabaseGoneCutOrForeign(t *testing.T) {
	dir, done := filled(t)
	for name, spoil := range map[string]func(file string) error{
		"gone":     os.Remove,
		"empty":    func(file string) error { return os.Truncate(file, 0) },
		"cut":      func(file string) error { return os.Truncate(file, 5000) },
		"cut late": func(file string) error { return os.Truncate(file, 3*int64(os.Getpagesize())) },
		"zeros":    func(file string) error { return os.WriteFile(file, make([]byte, 32<<10), 0o600) },
		"noise":    func(file string) error { return os.WriteFile(file, bytes.Repeat([]byte("noise "), 9999), 0o600) },
	} {
		damaged := clone(t, dir)
		check(t, spoil(filepath.Join(damaged, "index.db")))
		r, err := resumeDamaged(damaged, records, done)
		if err != nil || !r.Rebuilt {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
		// The rebuilt queue opens like any other.
		if r, err := resumeDamaged(damaged, records, done); err != nil || r.Rebuilt || len(r.SetAside) > 0 {
			t.Errorf("%s, then opened: %v, %+v", name, err, r)
		}
	}
}

// A receipt spans pages that no check of the tree touches. Wherever the database
// is cut, nobody reads behind its end, which would end the program.
func TestDatabaseCutInsideAReceipt(t *testing.T) {
	dir := quickDir(t)
	q, _ := open(t, dir, queue.Options{}.Small())
	one, long := item(1), bytes.Repeat([]byte("receipt"), 9_000)
	check(t, q.Put(ctx, one))
	check(t, q.StoreReceipt(ctx, one.ID, long))
	check(t, q.Close())
	b, err := os.ReadFile(filepath.Join(dir, "index.db"))
	check(t, err)
	rebuilt := 0
	for size := os.Getpagesize(); size < len(b); size += os.Getpagesize() {
		damaged := clone(t, dir)
		check(t, os.Truncate(filepath.Join(damaged, "index.db"), int64(size)))
		q, r := open(t, damaged, queue.Options{}.Small())
		if got, err := q.Receipt(ctx, one.ID); err != nil || !bytes.Equal(got, long) {
			t.Errorf("cut to %d of %d bytes: the receipt is gone: %v, %+v", size, len(b), err, r)
		}
		if r.Rebuilt {
			rebuilt++
		}
		check(t, q.Close())
	}
	if rebuilt < len(long)/os.Getpagesize() {
		t.Errorf("%d cuts of %d bytes were noticed", rebuilt, len(b))
	}
}

// A bit turns anywhere in any file of the queue. Opening and scrubbing lose nothing
// by it and leave both copies of everything whole: afterwards either of them may go.
func TestBitFlips(t *testing.T) {
	dir, done := filled(t)
	// Files of the spool with an index, and without.
	crashed := quickDir(t)
	runChild(t, "work", crashed, "0") // closes nothing
	mended := 0
	for _, dir := range []string{dir, crashed} {
		files := 0
		check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			name, _ := filepath.Rel(dir, path)
			if err != nil || e.IsDir() || name == "lock" || dir == crashed && filepath.Dir(name) != "spool" {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			check(t, err)
			used := len(bytes.TrimRight(b, "\x00"))
			const regions = 12
			for region := range regions {
				from, to := region*used/regions, (region+1)*used/regions
				if name == "ballast" || from == to {
					from, to = 0, len(b)
				}
				at, bit := from+rand.IntN(to-from), byte(rand.IntN(8))
				damaged := clone(t, dir)
				flip(t, filepath.Join(damaged, name), at, bit)
				var r queue.Report
				var err error
				if name == "history.db" { // a key that is another hides a record until that is read
					r, err = mend(damaged, nil)
				}
				r2, err2 := resumeDamaged(damaged, records, done)
				if err := errors.Join(err, err2); err != nil {
					t.Errorf("bit %d of byte %d of %s: %v, %+v, %+v", bit, at, name, err, r, r2)
					continue
				}
				if r.Mended() || r2.Mended() {
					mended++
				}
				for _, gone := range [][]string{{"index.db", "history.db", "closed"}, {"spool/*.1", "journal", "head"}, {"spool/*.2"}} {
					left := clone(t, damaged)
					for _, pattern := range gone {
						names, err := filepath.Glob(filepath.Join(left, pattern))
						check(t, err)
						for _, name := range names {
							check(t, os.Remove(name))
						}
					}
					if r, err := resumeDamaged(left, records, done); err != nil {
						t.Errorf("bit %d of byte %d of %s, then without %v: %v, %+v", bit, at, name, gone, err, r)
					}
				}
				check(t, os.RemoveAll(filepath.Dir(damaged)))
			}
			return nil
		}))
		if dir != crashed && files < 6 {
			t.Errorf("only %d files", files)
		}
	}
	if mended < 20 {
		t.Errorf("%d flips were noticed", mended)
	}
}

// spoiled damages one copy of everything: the databases, or all the others.
func spoiled(t testing.TB, dir string, database bool) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || e.IsDir():
			return err
		case database && filepath.Ext(name) == ".db":
			return os.Truncate(path, 3*int64(os.Getpagesize()))
		case !database && (filepath.Dir(name) == "spool" || name == "journal" || name == "head"):
			flip(t, path, 20, 3)
		}
		return nil
	}))
}

// Mending is interrupted before every step, by a kill and by a failed write. The next
// one ends it.
func TestMendingInterrupted(t *testing.T) {
	dir, done := filled(t)
	for _, database := range []bool{true, false} {
		steps := 0
		for cut := 1; ; cut++ {
			killed := clone(t, dir)
			spoiled(t, killed, database)
			code := runChild(t, "mend", killed, strconv.Itoa(cut)).code
			if r, err := resumeDamaged(killed, records, done); err != nil {
				t.Fatalf("killed before step %d: %v, %+v", cut, err, r)
			}
			failed := clone(t, dir)
			spoiled(t, failed, database)
			step := 0
			if _, err := mend(failed, func(op, name string) error {
				if step++; step == cut {
					return &os.PathError{Op: op, Path: name, Err: syscall.EIO}
				}
				return nil
			}); err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatalf("step %d failed: %v", cut, err)
			}
			if r, err := resumeDamaged(failed, records, done); err != nil {
				t.Fatalf("after step %d failed: %v, %+v", cut, err, r)
			}
			check(t, errors.Join(os.RemoveAll(filepath.Dir(killed)), os.RemoveAll(filepath.Dir(failed))))
			if code == 0 {
				break
			}
			steps++
		}
		if steps < 10 {
			t.Errorf("only %d steps", steps)
		}
	}
}

// mend opens and scrubs.
func mend(dir string, step func(op, name string) error) (queue.Report, error) {
	q, r, err := queue.Open(ctx, dir, queue.Options{}.Small().CutAt(step))
	if err != nil {
		return r, err
	}
	found, err := q.Scrub(ctx)
	r.History = r.History || found.History
	r.Repaired += found.Repaired
	return r, errors.Join(err, q.Close())
}

// One receipt or record is damaged in the database of an open queue: the other
// copy is read. With both gone, only that record is lost, and loudly.
func TestReadsFallBack(t *testing.T) {
	dir := quickDir(t)
	q, _ := open(t, dir, queue.Options{})
	a, b := item(1), item(2)
	check(t, q.Put(ctx, a))
	check(t, q.Put(ctx, b))
	check(t, q.StoreReceipt(ctx, a.ID, receiptOf(a.ID)))
	check(t, q.SpoilCopy(b.ID, 0))
	check(t, q.SpoilReceipt(a.ID))
	if got, err := q.Receipt(ctx, a.ID); err != nil || !bytes.Equal(got, receiptOf(a.ID)) {
		t.Errorf("receipt: %v", err)
	}
	if w := waiting(t, q); len(w) != 1 || !bytes.Equal(w[0].Data, b.Data) {
		t.Errorf("waiting: %v", w)
	}
	check(t, q.SpoilCopy(b.ID, 1))
	check(t, q.Put(ctx, item(3)))
	if w := waiting(t, q); len(w) != 1 || w[0].ID != item(3).ID {
		t.Errorf("waiting: %v", w)
	}
	if e, err := q.Get(ctx, b.ID); err != nil || e.State != queue.Quarantined || e.Reason.Code != "queue-damaged" {
		t.Errorf("a record with no good copy: %+v, %v", e, err)
	}
	if _, err := q.Data(ctx, b.ID); !errors.Is(err, queue.ErrDamaged) {
		t.Errorf("its data: %v", err)
	}
}

// That the check could not be made says nothing about the database.
func TestCheckThatCannotBeMade(t *testing.T) {
	dir, done := filled(t)
	check(t, os.Remove(filepath.Join(dir, "closed"))) // as after a crash
	for _, want := range []error{errors.New("no memory"), queue.ErrLocked, context.DeadlineExceeded} {
		_, _, err := queue.Open(ctx, dir, queue.Options{Check: func(context.Context, string) error { return want }})
		if !errors.Is(err, want) {
			t.Errorf("%v: %v", want, err)
		}
	}
	if r, err := resumeDamaged(dir, records, done); err != nil || r.Rebuilt {
		t.Errorf("%v, %+v", err, r)
	}
}

// A rebuild brings back the newest head, wherever it stood: an old one would
// make the caller take a number twice.
func TestHeadSurvivesTheDatabase(t *testing.T) {
	a, b := item(1), item(2)
	for name, c := range map[string]struct {
		do   func(q *queue.Queue) error
		want string
	}{
		"set":          {func(q *queue.Queue) error { return q.SetHead(ctx, []byte("h")) }, "h"},
		"put":          {func(q *queue.Queue) error { return q.Put(ctx, a) }, "head 1"},
		"set then put": {func(q *queue.Queue) error { return errors.Join(q.SetHead(ctx, []byte("h")), q.Put(ctx, a)) }, "head 1"},
		"put then set": {func(q *queue.Queue) error { return errors.Join(q.Put(ctx, a), q.SetHead(ctx, []byte("h"))) }, "h"},
		"put and purged": {func(q *queue.Queue) error {
			return errors.Join(q.SetHead(ctx, []byte("h")), q.Put(ctx, a), q.StoreReceipt(ctx, a.ID, []byte("r")), q.Purge(ctx, a.ID))
		}, "head 1"},
		"older one purged": {func(q *queue.Queue) error {
			return errors.Join(q.Put(ctx, a), q.Put(ctx, b), q.StoreReceipt(ctx, a.ID, []byte("r")), q.Purge(ctx, a.ID))
		}, "head 2"},
		"put without a head": {func(q *queue.Queue) error {
			return errors.Join(q.Put(ctx, a), q.Put(ctx, queue.Item{ID: b.ID, Data: b.Data}))
		}, "head 1"},
	} {
		dir := quickDir(t)
		q, _ := open(t, dir, queue.Options{})
		check(t, c.do(q))
		check(t, q.Close())
		for range 2 { // and a second time, from what the first rebuild made
			check(t, os.Remove(filepath.Join(dir, "index.db")))
			q, r := open(t, dir, queue.Options{})
			if head, err := q.Head(ctx); err != nil || string(head) != c.want || !r.Rebuilt {
				t.Errorf("%s: head %q, want %q: %v, %+v", name, head, c.want, err, r)
			}
			check(t, q.Close())
		}
	}
}

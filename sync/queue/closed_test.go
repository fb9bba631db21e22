package queue_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"enrollkiosk/sync/queue"
)

// A database that is as it was closed is not checked; one in which a single bit
// turned meanwhile is, and so is one that was not closed.
func TestCheckedUnlessClosed(t *testing.T) {
	dir, _ := filled(t)
	checked := 0
	q, _ := open(t, dir, queue.Options{}.Counted(&checked))
	check(t, q.Close())
	if checked != 0 {
		t.Error("a closed database is checked")
	}
	q, _ = open(t, dir, queue.Options{}.Counted(&checked)) // and what is written in between is closed, too
	check(t, q.Put(ctx, item(20)))
	check(t, q.Close())
	q, _ = open(t, dir, queue.Options{}.Counted(&checked))
	if checked != 0 || len(waiting(t, q)) == 0 {
		t.Error("a closed database is checked")
	}
	check(t, q.Close())
	b, err := os.ReadFile(filepath.Join(dir, "index.db"))
	check(t, err)
	used := len(bytes.TrimRight(b, "\x00"))
	for at := 0; at < used; at += used / 20 {
		damaged := clone(t, dir)
		flip(t, filepath.Join(damaged, "index.db"), at, 0)
		checked = 0
		if q, _, err := queue.Open(ctx, damaged, queue.Options{}.Counted(&checked)); err == nil {
			q.Close()
		}
		if checked != 1 {
			t.Errorf("byte %d is another, and the database was checked %d times", at, checked)
		}
	}
	for name, spoil := range map[string]func(file string) error{
		"gone": os.Remove, "empty": func(file string) error { return os.Truncate(file, 0) },
		"long": func(file string) error { return os.WriteFile(file, make([]byte, 1<<16), 0o600) },
	} {
		other := clone(t, dir)
		check(t, spoil(filepath.Join(other, "closed")))
		checked = 0
		q, _ := open(t, other, queue.Options{}.Counted(&checked))
		check(t, q.Close())
		if checked != 1 {
			t.Errorf("closed file %s: checked %d times", name, checked)
		}
	}
	crashed := quickDir(t)
	runChild(t, "work", crashed, "0") // closes nothing
	checked = 0
	open(t, crashed, queue.Options{}.Counted(&checked))
	if checked != 1 {
		t.Errorf("after a crash the database was checked %d times", checked)
	}
}

// The closed file of another time says nothing about what was written since.
func TestClosedFileOfBefore(t *testing.T) {
	dir, _ := filled(t)
	old, err := os.ReadFile(filepath.Join(dir, "closed"))
	check(t, err)
	q, _ := open(t, dir, queue.Options{})
	if _, err := os.Stat(filepath.Join(dir, "closed")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an open queue is said to be closed: %v", err)
	}
	check(t, q.Put(ctx, item(20)))
	check(t, q.Close())
	check(t, os.WriteFile(filepath.Join(dir, "closed"), old, 0o600))
	checked := 0
	open(t, dir, queue.Options{}.Counted(&checked))
	if checked != 1 {
		t.Errorf("checked %d times", checked)
	}
}

// A queue of the format before is refused, and left as it is.
func TestFormatOfBefore(t *testing.T) {
	for _, name := range []string{"queue.db", "spool/1"} {
		dir := quickDir(t)
		check(t, os.MkdirAll(filepath.Join(dir, "spool"), 0o700))
		check(t, os.WriteFile(filepath.Join(dir, name), []byte("EKSPOOL1..."), 0o600))
		if _, _, err := queue.Open(ctx, dir, queue.Options{}); !errors.Is(err, queue.ErrFormat) || errors.Is(err, queue.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != "EKSPOOL1..." {
			t.Errorf("%s was touched: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 2 {
			t.Errorf("%v", left)
		}
	}
}

// The journal does not grow for ever; every receipt stays, and that of a record that is
// still here stands in it however old it is.
func TestJournalStaysShort(t *testing.T) {
	dir := quickDir(t)
	const limit = 200 << 10
	o := queue.Options{}.Small().ShortJournal(limit)
	q, _ := open(t, dir, o)
	old := item(1000)
	check(t, q.Put(ctx, old))
	check(t, q.Quarantine(ctx, old.ID, queue.Reason{Code: "c", Evidence: old.ID[:]}))
	const many = 100
	longest := int64(0)
	for n := range many {
		i := item(n)
		check(t, errors.Join(q.Put(ctx, i), q.StoreReceipt(ctx, i.ID, receiptOf(i.ID)), q.Purge(ctx, i.ID)))
		longest = max(longest, q.JournalSize())
	}
	if longest > limit+20<<10 || longest < limit/2 {
		t.Errorf("the journal had %d bytes", longest)
	}
	all := func(q *queue.Queue) error {
		for n := range many {
			if got, err := q.Receipt(ctx, item(n).ID); err != nil || !bytes.Equal(got, receiptOf(item(n).ID)) {
				return fmt.Errorf("receipt %d: %w", n, err)
			}
		}
		return nil
	}
	check(t, all(q))
	if r, err := q.Scrub(ctx); err != nil || r.Mended() {
		t.Errorf("scrubbing a short journal: %s, %v", r, err)
	}
	check(t, q.Close())

	// Without the database: the reason is in the journal, the receipts in the history.
	other := clone(t, dir)
	check(t, os.Remove(filepath.Join(other, "index.db")))
	q, r := open(t, other, o)
	e, err := q.Get(ctx, old.ID)
	if err != nil || e.State != queue.Quarantined || !bytes.Equal(e.Reason.Evidence, old.ID[:]) || !r.Rebuilt {
		t.Errorf("%+v, %v, %s", e, err, r)
	}
	check(t, errors.Join(all(q), q.Close()))

	// A damaged history gives what can still be read of it.
	b, err := os.ReadFile(filepath.Join(dir, "history.db"))
	check(t, err)
	at := bytes.Index(b, []byte(`"record":"`+item(3).ID.String()))
	if at < 0 {
		t.Fatal("the receipt is not in the history")
	}
	flip(t, filepath.Join(dir, "history.db"), at+20, 1)
	q, _ = open(t, dir, o)
	r, err = q.Scrub(ctx)
	if err != nil || !r.History {
		t.Errorf("%s, %v", r, err)
	}
	lost := 0
	for n := range many {
		if got, err := q.Receipt(ctx, item(n).ID); errors.Is(err, queue.ErrUnknown) {
			lost++
		} else if err != nil || !bytes.Equal(got, receiptOf(item(n).ID)) {
			t.Errorf("receipt %d: %v", n, err)
		}
	}
	if lost > 1 {
		t.Errorf("%d receipts are lost by a bit in one", lost)
	}
	check(t, q.Close())

	// All of the journal goes, and scrubbing writes the newest again, once.
	check(t, os.Remove(filepath.Join(dir, "journal")))
	q, _ = open(t, dir, o)
	if r, err := q.Scrub(ctx); err != nil || r.Repaired == 0 || q.JournalSize() > limit {
		t.Errorf("%s, %v: %d bytes", r, err, q.JournalSize())
	}
	if r, err := q.Scrub(ctx); err != nil || r.Mended() {
		t.Errorf("scrubbed again: %s, %v", r, err)
	}
}

// Several records go through an arrow together, each with its own outcome.
func TestBatches(t *testing.T) {
	dir := quickDir(t)
	syncs := 0
	q, _ := open(t, dir, queue.Options{}.CutAt(func(op, _ string) error {
		switch op {
		case "sync", "sync directory":
			syncs++
		case "commit":
			syncs += 2
		}
		return nil
	}))
	var receipts []queue.Receipt
	var ids []queue.ID
	for n := range 64 {
		i := item(n)
		check(t, q.Put(ctx, i))
		receipts, ids = append(receipts, queue.Receipt{ID: i.ID, Bytes: receiptOf(i.ID)}), append(ids, i.ID)
	}
	check(t, q.Quarantine(ctx, ids[5], queue.Reason{Code: "c"}))
	receipts[6].Bytes = nil
	receipts[7].ID = queue.ID{1, 2, 3}
	receipts = append(receipts, receipts[8], queue.Receipt{ID: ids[9], Bytes: []byte("another")})
	syncs = 0
	errs := q.StoreReceipts(ctx, receipts)
	want := map[int]error{5: queue.ErrState, 6: queue.ErrSize, 7: queue.ErrUnknown, 65: queue.ErrConflict}
	for n, err := range errs {
		if !errors.Is(err, want[n]) {
			t.Errorf("receipt %d: %v, want %v", n, err, want[n])
		}
	}
	if len(errs) != len(receipts) || syncs != 3 {
		t.Errorf("%d answers and %d syncs for %d receipts", len(errs), syncs, len(receipts))
	}
	syncs = 0
	errs = q.PurgeAll(ctx, append(ids, ids[0]))
	for n, err := range errs {
		if wrong := n >= 5 && n <= 7; wrong != errors.Is(err, queue.ErrState) || !wrong && err != nil {
			t.Errorf("purge %d: %v", n, err)
		}
	}
	if syncs > 5 { // and the head's second copy, when its frame goes
		t.Errorf("%d syncs", syncs)
	}
	s, err := q.Stats(ctx)
	if err != nil || s.Waiting != 2 || s.Quarantined != 1 || s.Receipted != 61 {
		t.Errorf("%+v, %v", s, err)
	}
	check(t, q.Close())
	if q, _ = open(t, dir, queue.Options{}); len(waiting(t, q)) != 2 {
		t.Error("not the same after opening")
	}
}

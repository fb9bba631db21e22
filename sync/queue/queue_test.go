package queue_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"enrollkiosk/sync/queue"
)

var ctx = context.Background()

func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // children that look for races need not linger
	queue.RunCheck()                         // the database check runs in a process of its own
	if child, ok := children[os.Getenv(childVariable)]; ok {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// item is the nth record, the same each time.
func item(n int) queue.Item {
	id := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("id"), uint64(n)))
	data := bytes.Repeat(id[:], 20+n%7)
	if n%4 == 0 {
		data = bytes.Repeat(data, 60) // most of the database
	}
	return queue.Item{ID: id, Data: append(data, byte(n)), Head: fmt.Appendf(nil, "head %d", n)}
}

func receiptOf(id queue.ID) []byte { return bytes.Repeat(append([]byte("receipt of "), id[:]...), 120) }

func open(t testing.TB, dir string, o queue.Options) (*queue.Queue, queue.Report) {
	t.Helper()
	q, r, err := queue.Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q, r
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func all(queue.ID) bool { return false }

func waiting(t testing.TB, q *queue.Queue) []queue.Item {
	t.Helper()
	w, err := q.Waiting(ctx, 1000, 1<<30, all)
	check(t, err)
	return w
}

func state(t testing.TB, q *queue.Queue, id queue.ID) queue.State {
	t.Helper()
	e, err := q.Get(ctx, id)
	if errors.Is(err, queue.ErrUnknown) {
		return ""
	}
	check(t, err)
	return e.State
}

func TestARecordsLife(t *testing.T) {
	dir := t.TempDir()
	q, r := open(t, dir, queue.Options{})
	if !r.Created || r.Rebuilt {
		t.Errorf("a new queue: %+v", r)
	}
	if head, err := q.Head(ctx); head != nil || err != nil {
		t.Errorf("head of a new queue: %q, %v", head, err)
	}
	a, b := item(1), item(2)
	check(t, q.Put(ctx, a))
	check(t, q.Put(ctx, b))
	check(t, q.Put(ctx, a)) // again
	w := waiting(t, q)
	if len(w) != 2 || w[0].ID != a.ID || !bytes.Equal(w[1].Data, b.Data) {
		t.Fatalf("waiting, oldest first: %v", w)
	}
	other := a
	other.Data = []byte("other bytes")
	if err := q.Put(ctx, other); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("another record under the same id: %v", err)
	}
	if err := q.Purge(ctx, a.ID); !errors.Is(err, queue.ErrState) {
		t.Errorf("purge before the receipt: %v", err)
	}
	receipt := receiptOf(a.ID)
	check(t, q.StoreReceipt(ctx, a.ID, receipt))
	check(t, q.StoreReceipt(ctx, a.ID, receipt))
	if err := q.StoreReceipt(ctx, a.ID, []byte("another")); !errors.Is(err, queue.ErrConflict) {
		t.Errorf("another receipt: %v", err)
	}
	if data, err := q.Data(ctx, a.ID); !bytes.Equal(data, a.Data) || err != nil {
		t.Errorf("the bytes went before the purge: %v", err)
	}
	check(t, q.Purge(ctx, a.ID))
	check(t, q.Purge(ctx, a.ID))
	if _, err := q.Data(ctx, a.ID); !errors.Is(err, queue.ErrState) {
		t.Errorf("data of a purged record: %v", err)
	}
	if err := q.Quarantine(ctx, a.ID, queue.Reason{Code: "x"}); !errors.Is(err, queue.ErrState) {
		t.Errorf("quarantine of a purged record: %v", err)
	}
	reason := queue.Reason{Code: "record-signature", Text: "rejected", Evidence: []byte("jws")}
	check(t, q.Quarantine(ctx, b.ID, reason))
	check(t, q.Quarantine(ctx, b.ID, queue.Reason{Code: "later"}))
	if err := q.StoreReceipt(ctx, b.ID, receipt); !errors.Is(err, queue.ErrState) {
		t.Errorf("receipt of a quarantined record: %v", err)
	}
	if err := q.StoreReceipt(ctx, item(9).ID, receipt); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("receipt of an unknown record: %v", err)
	}

	// All of it is there again after closing.
	check(t, q.Close())
	if err := q.Put(ctx, item(3)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("put into a closed queue: %v", err)
	}
	q, r = open(t, dir, queue.Options{})
	if r.Created || r.Rebuilt || len(r.SetAside)+r.Recovered+r.Repaired+r.Quarantined > 0 {
		t.Errorf("opened again: %+v", r)
	}
	if got, err := q.Receipt(ctx, a.ID); !bytes.Equal(got, receipt) || err != nil {
		t.Errorf("receipt: %q, %v", got, err)
	}
	if _, err := q.Receipt(ctx, b.ID); !errors.Is(err, queue.ErrUnknown) {
		t.Errorf("receipt of a record that has none: %v", err)
	}
	e, err := q.Get(ctx, b.ID)
	if err != nil || e.State != queue.Quarantined || e.Reason == nil || e.Reason.Code != "record-signature" || string(e.Reason.Evidence) != "jws" {
		t.Errorf("quarantined: %+v, %v", e, err)
	}
	if data, err := q.Data(ctx, b.ID); !bytes.Equal(data, b.Data) || err != nil {
		t.Errorf("the bytes of a quarantined record: %v", err)
	}
	if head, _ := q.Head(ctx); string(head) != "head 2" {
		t.Errorf("head %q", head)
	}
	s, err := q.Stats(ctx)
	if err != nil || s.Waiting != 0 || s.Quarantined != 1 || s.Receipted != 1 || s.Bytes != int64(len(b.Data)) || !s.Oldest.IsZero() {
		t.Errorf("stats %+v, %v", s, err)
	}
	list, err := q.List(ctx, 10, func(e queue.Entry) bool { return e.State == queue.Purged })
	if err != nil || len(list) != 1 || list[0].ID != a.ID {
		t.Errorf("list %v, %v", list, err)
	}
}

func TestWaitingKeepsItsLimits(t *testing.T) {
	q, _ := open(t, t.TempDir(), queue.Options{})
	for n := range 10 {
		i := queue.Item{ID: queue.ID{byte(n)}, Data: make([]byte, 1000)}
		check(t, q.Put(ctx, i))
	}
	for _, c := range []struct{ items, size, want int }{{3, 1 << 20, 3}, {64, 2500, 2}, {64, 1, 1}, {64, 1 << 20, 10}} {
		if w, err := q.Waiting(ctx, c.items, c.size, all); err != nil || len(w) != c.want {
			t.Errorf("at most %d items and %d bytes: %d, %v", c.items, c.size, len(w), err)
		}
	}
	w, err := q.Waiting(ctx, 2, 1<<20, func(id queue.ID) bool { return id[0] < 7 })
	if err != nil || len(w) != 2 || w[0].ID[0] != 7 {
		t.Errorf("after those to skip: %v, %v", w, err)
	}
}

func TestSizes(t *testing.T) {
	q, _ := open(t, t.TempDir(), queue.Options{})
	big := item(1)
	big.Data = make([]byte, queue.MaxData+1)
	head := item(2)
	head.Head = make([]byte, queue.MaxHead+1)
	for name, err := range map[string]error{
		"no data":      q.Put(ctx, queue.Item{ID: queue.ID{1}}),
		"large data":   q.Put(ctx, big),
		"large head":   q.Put(ctx, head),
		"set head":     q.SetHead(ctx, head.Head),
		"no receipt":   q.StoreReceipt(ctx, queue.ID{}, nil),
		"large proof":  q.StoreReceipt(ctx, queue.ID{}, make([]byte, queue.MaxReceipt+1)),
		"large reason": q.Quarantine(ctx, queue.ID{}, queue.Reason{Evidence: make([]byte, queue.MaxReceipt+1)}),
	} {
		if !errors.Is(err, queue.ErrSize) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big.Data, big.Head = big.Data[1:], make([]byte, queue.MaxHead)
	check(t, q.Put(ctx, big))
	check(t, q.StoreReceipt(ctx, big.ID, make([]byte, queue.MaxReceipt)))
}

func TestASecondAgentIsRefused(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir, queue.Options{})
	if _, _, err := queue.Open(ctx, dir, queue.Options{LockTimeout: 30 * time.Millisecond}); !errors.Is(err, queue.ErrLocked) {
		t.Errorf("in this process: %v", err)
	}
	// In another process.
	if code := runChild(t, "open", dir).code; code != exitLocked {
		t.Errorf("in another process: exit %d", code)
	}
	check(t, q.Put(ctx, item(1)))
	check(t, q.Close())
	if code := runChild(t, "open", dir).code; code != 0 {
		t.Errorf("after the first has gone: exit %d", code)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	open(t, dir, queue.Options{})
	if _, _, err := queue.Open(cancelled, dir, queue.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for the lock, cancelled: %v", err)
	}
}

func TestManyGoroutines(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir, queue.Options{}.Small())
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 5 {
			if r, err := q.Scrub(ctx); err != nil || r.Mended() {
				t.Errorf("scrub beside the work: %v, %s", err, r)
			}
		}
	})
	for w := range 64 {
		wg.Go(func() {
			for n := range 4 {
				i := item(w*4 + n)
				if err := q.Put(ctx, i); err != nil {
					t.Error(err)
				}
				var err error
				switch n {
				case 1:
					err = q.Quarantine(ctx, i.ID, queue.Reason{Code: "c"})
				case 2:
					err = q.StoreReceipt(ctx, i.ID, receiptOf(i.ID))
				case 3:
					err = errors.Join(q.StoreReceipt(ctx, i.ID, receiptOf(i.ID)), q.Purge(ctx, i.ID))
				}
				if err != nil {
					t.Error(err)
				}
				if _, err := q.Waiting(ctx, 8, 1<<20, all); err != nil {
					t.Error(err)
				}
				if _, err := q.Stats(ctx); err != nil {
					t.Error(err)
				}
				if err := q.SetHead(ctx, i.Head); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	check(t, q.Close())
	q, r := open(t, dir, queue.Options{})
	if r.Rebuilt || r.Recovered+r.Repaired > 0 {
		t.Errorf("%+v", r)
	}
	s, err := q.Stats(ctx)
	if err != nil || s.Waiting != 64 || s.Quarantined != 64 || s.Receipted != 128 {
		t.Errorf("%+v, %v", s, err)
	}
	if w := waiting(t, q); len(w) != 64 {
		t.Errorf("%d waiting", len(w))
	}
}

// A Put waits for the disk at most four times, bbolt's two included, when Room was
// asked before; without, once more for a new pair of files. Together, records share
// them.
func TestSyncs(t *testing.T) {
	syncs := 0
	q, _ := open(t, t.TempDir(), queue.Options{}.CutAt(func(op, _ string) error {
		switch op {
		case "sync", "sync directory":
			syncs++
		case "commit":
			syncs += 2
		}
		return nil
	}))
	for _, asked := range []bool{true, false} {
		most, sum := 0, 0
		for range 100 {
			if asked {
				check(t, q.Room(ctx))
			}
			var id queue.ID
			rand.Read(id[:])
			syncs = 0
			check(t, q.Put(ctx, queue.Item{ID: id, Data: bytes.Repeat(id[:], 1000)})) // several files of the spool
			most, sum = max(most, syncs), sum+syncs
		}
		if limit := 400; asked && (most > 4 || sum > limit) || most > 5 || sum > limit+4 {
			t.Errorf("%d syncs for a put, %d for a hundred; asked for room: %v", most, sum, asked)
		}
	}
	syncs = 0
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for n := range 4 {
				if err := q.Put(ctx, queue.Item{ID: item(1000 + 4*w + n).ID, Data: []byte("data")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if syncs > 256 {
		t.Errorf("%d syncs for 256 puts by 64 callers", syncs)
	}
}

// Callers that come together each get their own answer: the same record twice is
// there once, another one under its id is refused, the last head counts.
func TestPutTogether(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir, queue.Options{})
	const callers = 60
	answers := make([]error, callers)
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			i := item(1 + n%3)
			if n%2 == 1 {
				i.Data = []byte("another")
			}
			answers[n] = q.Put(ctx, i)
		})
	}
	wg.Wait()
	w := waiting(t, q)
	if len(w) != 3 {
		t.Fatalf("%d records of three", len(w))
	}
	won := map[queue.ID][]byte{}
	for _, i := range w {
		won[i.ID] = i.Data
	}
	for n, err := range answers {
		i := item(1 + n%3)
		if n%2 == 1 {
			i.Data = []byte("another")
		}
		if same := bytes.Equal(won[i.ID], i.Data); same && err != nil || !same && !errors.Is(err, queue.ErrConflict) {
			t.Errorf("caller %d: %v", n, err)
		}
	}
	check(t, q.Close())
	if err := q.Put(ctx, item(9)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("put into a closed queue: %v", err)
	}
	if q, _ = open(t, dir, queue.Options{}); len(waiting(t, q)) != 3 {
		t.Error("not the same after opening")
	}
}

// The bytes of records that were delivered do not stay on the disk for long.
func TestThePurgedLeaveTheSpool(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir, queue.Options{})
	for n := range 100 {
		i := item(n)
		i.Data = bytes.Repeat([]byte{byte(n)}, 50<<10)
		check(t, q.Put(ctx, i))
		if n != 50 {
			check(t, q.StoreReceipt(ctx, i.ID, receiptOf(i.ID)))
			check(t, q.Purge(ctx, i.ID))
		}
	}
	if size := spoolSize(t, dir); size > 2*(1<<20+100<<10) {
		t.Errorf("%d bytes in the spool for one waiting record", size)
	}
	// One that waits for long does not keep the others' file.
	if _, err := q.Scrub(ctx); err != nil || spoolSize(t, dir) > 1<<20 {
		t.Errorf("%d bytes in the spool for one waiting record, after scrubbing: %v", spoolSize(t, dir), err)
	}
	if data, err := q.Data(ctx, item(50).ID); err != nil || len(data) != 50<<10 {
		t.Errorf("the waiting record: %v", err)
	}
	check(t, q.StoreReceipt(ctx, item(50).ID, receiptOf(item(50).ID)))
	check(t, q.Purge(ctx, item(50).ID))
	if size := spoolSize(t, dir); size != 0 {
		t.Errorf("%d bytes in the spool for no record", size)
	}
}

func spoolSize(t testing.TB, dir string) (n int64) {
	t.Helper()
	check(t, filepath.WalkDir(filepath.Join(dir, "spool"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		n += info.Size()
		return err
	}))
	return n
}

func TestRoom(t *testing.T) {
	q, _ := open(t, t.TempDir(), queue.Options{})
	check(t, q.Room(ctx))
	q, _ = open(t, t.TempDir(), queue.Options{Reserve: 1 << 60})
	if err := q.Room(ctx); !errors.Is(err, queue.ErrFull) {
		t.Errorf("%v", err)
	}
}

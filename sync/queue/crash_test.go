package queue_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/sync/queue"
)

// The work that is interrupted: every kind of change, on several records. Each
// operation is acknowledged by its line once it has returned nil.
type operation struct {
	line string
	do   func(q *queue.Queue) error
}

func work(records int) (out []operation) {
	add := func(do func(q *queue.Queue) error, format string, n int) {
		out = append(out, operation{fmt.Sprintf(format, n), do})
	}
	for n := range records {
		i := item(n)
		add(func(q *queue.Queue) error { return q.SetHead(ctx, fmt.Appendf(nil, "reserved %d", n)) }, "reserve %d", n)
		add(func(q *queue.Queue) error { return q.Put(ctx, i) }, "put %d", n)
		switch n % 4 {
		case 0, 1:
			add(func(q *queue.Queue) error { return q.StoreReceipt(ctx, i.ID, receiptOf(i.ID)) }, "receipt %d", n)
		case 2:
			add(func(q *queue.Queue) error {
				return q.Quarantine(ctx, i.ID, queue.Reason{Code: "c", Evidence: i.ID[:]})
			}, "quarantine %d", n)
		}
		if n%4 == 0 {
			add(func(q *queue.Queue) error { return q.Purge(ctx, i.ID) }, "purge %d", n)
		}
	}
	return out
}

// audit holds what is found after a cut against what was acknowledged before it.
// The operation under way at the cut may have happened or not.
func audit(q *queue.Queue, acknowledged []string) error {
	last := map[int]string{}
	heads := []string{""}
	for _, line := range acknowledged {
		op, number, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("acknowledgement %q", line)
		}
		switch op {
		case "reserve":
			heads = append(heads, "reserved "+number)
			continue
		case "put":
			heads = append(heads, "head "+number)
		}
		last[n] = op
	}
	// Heads come in a fixed order: the one after the last acknowledged is under way.
	next := "reserved " + strconv.Itoa(len(heads)/2)
	if len(heads)%2 == 0 {
		next = "head " + strconv.Itoa(len(heads)/2-1)
	}
	if head, err := q.Head(ctx); err != nil || string(head) != heads[len(heads)-1] && string(head) != next {
		return fmt.Errorf("head %q after %q, %v", head, heads[len(heads)-1], err)
	}
	stats := queue.Stats{}
	for n := range len(last) + 1 {
		i, op := item(n), last[n]
		e, err := q.Get(ctx, i.ID)
		if errors.Is(err, queue.ErrUnknown) && op == "" {
			continue
		}
		if err != nil {
			return fmt.Errorf("record %d after %q: %w", n, op, err)
		}
		rank := map[string][]queue.State{
			"":           {queue.Queued},
			"put":        {queue.Queued, queue.Receipted, queue.Purged, queue.Quarantined},
			"receipt":    {queue.Receipted, queue.Purged},
			"quarantine": {queue.Quarantined},
			"purge":      {queue.Purged, queue.Receipted}, // bytes that come back after a rebuild are purged again
		}[op]
		if !slices.Contains(rank, e.State) {
			return fmt.Errorf("record %d is %s after %q", n, e.State, op)
		}
		switch e.State {
		case queue.Queued:
			stats.Waiting++
		case queue.Quarantined:
			stats.Quarantined++
			if e.Reason == nil || !bytes.Equal(e.Reason.Evidence, i.ID[:]) {
				return fmt.Errorf("record %d: its reason is lost", n)
			}
		default:
			stats.Receipted++
			if r, err := q.Receipt(ctx, i.ID); err != nil || !bytes.Equal(r, receiptOf(i.ID)) {
				return fmt.Errorf("receipt of record %d: %w", n, err)
			}
		}
		if e.State != queue.Purged {
			stats.Bytes += int64(len(i.Data))
			if data, err := q.Data(ctx, i.ID); err != nil || !bytes.Equal(data, i.Data) {
				return fmt.Errorf("record %d: its bytes are lost: %w", n, err)
			}
		}
	}
	s, err := q.Stats(ctx)
	if s.Oldest = (time.Time{}); err != nil || s != stats {
		return fmt.Errorf("stats %+v, want %+v, %w", s, stats, err)
	}
	waiting, err := q.Waiting(ctx, 1000, 1<<30, func(queue.ID) bool { return false })
	if err != nil || len(waiting) != stats.Waiting {
		return fmt.Errorf("%d in the index, %d wait: %w", len(waiting), stats.Waiting, err)
	}
	return nil
}

// resume opens what a cut has left, audits it, reads all of it and does the rest of
// the work.
func resume(dir string, records int, acknowledged []string) (queue.Report, error) {
	return resumeWith(queue.Options{}.Small().ShortJournal(shortJournal).CheckedHere(), dir, records, acknowledged)
}

// resumeDamaged is the same where a page may be damaged, which may end the process
// that checks it.
func resumeDamaged(dir string, records int, acknowledged []string) (queue.Report, error) {
	return resumeWith(queue.Options{}.Small(), dir, records, acknowledged)
}

func resumeWith(o queue.Options, dir string, records int, acknowledged []string) (queue.Report, error) {
	q, r, err := queue.Open(ctx, dir, o)
	if err != nil {
		return r, err
	}
	defer q.Close()
	if err := audit(q, acknowledged); err != nil {
		return r, err
	}
	found, err := q.Scrub(ctx)
	if err != nil {
		return r, fmt.Errorf("scrub: %w", err)
	}
	r.History = r.History || found.History
	r.Repaired += found.Repaired
	r.SetAside = append(r.SetAside, found.SetAside...)
	if err := audit(q, acknowledged); err != nil {
		return r, fmt.Errorf("after scrubbing, %+v: %w", found, err)
	}
	all := work(records)
	for _, op := range all[len(acknowledged):] {
		if err := op.do(q); err != nil {
			return r, fmt.Errorf("%s, after the cut: %w", op.line, err)
		}
	}
	return r, audit(q, lines(all))
}

func lines(ops []operation) (out []string) {
	for _, op := range ops {
		out = append(out, op.line)
	}
	return out
}

const records = 5

// shortJournal is less than the work writes.
const shortJournal = 20 << 10

// quickDir is on a file system in memory where there is one: what a killed
// process has written is there whether it was synced or not.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "queue")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// The process is killed before every single step that touches the disk.
func TestKilledBetweenAnyTwoSteps(t *testing.T) {
	steps := 0
	for cut := 1; ; cut++ {
		dir := quickDir(t)
		out := runChild(t, "work", dir, strconv.Itoa(cut))
		r, err := resume(dir, records, out.lines)
		if err != nil || r.Rebuilt || len(r.SetAside) > 0 {
			t.Fatalf("killed before step %d, after %q: %v, %+v", cut, out.lines, err, r)
		}
		if out.code == 0 {
			break
		}
		steps++
	}
	if steps < 60 {
		t.Errorf("only %d steps: the cuts do not reach the work", steps)
	}
}

// The process is killed at any moment.
func TestKilledAtRandom(t *testing.T) {
	killed := 0
	for range 100 {
		dir := quickDir(t)
		cmd, read := prepareChild(t, "work", dir, "0")
		at := rand.IntN(len(work(records)) / 2)
		out := read(func(line int) {
			if line == at {
				time.Sleep(rand.N(300 * time.Microsecond))
				cmd.Process.Kill()
			}
		})
		if out.code != 0 {
			killed++
		}
		if r, err := resume(dir, records, out.lines); err != nil || r.Rebuilt || len(r.SetAside) > 0 {
			t.Fatalf("after %q: %v, %+v", out.lines, err, r)
		}
	}
	if killed < 10 {
		t.Errorf("only %d were killed at work", killed)
	}
}

// After a failed sync, or a failed write that was not for want of room, nothing
// is written any more, and a new opening finds all that was acknowledged.
func TestAnyStepFails(t *testing.T) {
	for fail := 1; ; fail++ {
		dir := quickDir(t)
		step, failed := 0, ""
		o := queue.Options{}.Small().ShortJournal(shortJournal).CutAt(func(op, name string) error {
			if step++; step == fail {
				failed = name
				return &os.PathError{Op: op, Path: name, Err: syscall.EIO}
			}
			return nil
		})
		q, _, err := queue.Open(ctx, dir, o)
		if err != nil {
			if !errors.Is(err, queue.ErrDamaged) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("step %d: %v", fail, err)
			}
			if _, err := resume(dir, records, nil); err != nil {
				t.Fatalf("opening anew after step %d: %v", fail, err)
			}
			continue
		}
		var done []string
		for _, op := range work(records) {
			if err = op.do(q); err != nil {
				break
			}
			done = append(done, op.line)
		}
		if err == nil {
			if err = q.Close(); step < fail {
				check(t, err)
				return
			}
			if !errors.Is(err, syscall.EIO) {
				t.Fatalf("step %d, of closing: %v", fail, err)
			}
			if _, err := resume(dir, records, done); err != nil {
				t.Fatalf("step %d, of closing, failed: %v", fail, err)
			}
			continue
		}
		if !errors.Is(err, queue.ErrDamaged) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("step %d: %v", fail, err)
		}
		before := step
		i := item(99)
		for name, err := range map[string]error{
			"put": q.Put(ctx, i), "head": q.SetHead(ctx, nil), "receipt": q.StoreReceipt(ctx, i.ID, []byte("r")),
			"purge": q.Purge(ctx, i.ID), "quarantine": q.Quarantine(ctx, i.ID, queue.Reason{}), "room": q.Room(ctx),
		} {
			if !errors.Is(err, queue.ErrDamaged) {
				t.Errorf("%s after a failed step %d: %v", name, fail, err)
			}
		}
		if step != before {
			t.Errorf("something was written after a failed step %d", fail)
		}
		// Reading goes on, but where the database could not be told of what was put last.
		untold := failed == "index.db" && len(done) > 0 && strings.HasPrefix(done[len(done)-1], "put ")
		if _, err := q.Stats(ctx); err != nil && !(untold && errors.Is(err, queue.ErrDamaged)) {
			t.Errorf("reading after step %d failed: %v", fail, err)
		}
		check(t, q.Close())
		if _, err := resume(dir, records, done); err != nil {
			t.Fatalf("step %d failed, after %q: %v", fail, done, err)
		}
	}
}

// A write for which there was no room leaves the queue usable, and what failed
// does not come back: the caller has made something else of that number since.
func TestAnyWriteFindsNoRoom(t *testing.T) {
	for fail := 1; ; fail++ {
		dir := quickDir(t)
		step, full := 0, false
		o := queue.Options{}.Small().ShortJournal(shortJournal).CutAt(func(op, name string) error {
			if op == "sync" || op == "sync directory" || op == "go on" || op == "remove" || op == "cut" || op == "rename" {
				return nil // these need no room
			}
			if step++; step == fail {
				full = true
				return &os.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
			}
			return nil
		})
		q, _, err := queue.Open(ctx, dir, o)
		if err != nil {
			if !errors.Is(err, queue.ErrFull) {
				t.Fatalf("open without room: %v", err)
			}
			continue
		}
		for _, op := range work(records) {
			err := op.do(q)
			if full && err != nil {
				full = false
				if !errors.Is(err, queue.ErrFull) {
					t.Fatalf("step %d, %s: %v", fail, op.line, err)
				}
				if n, isPut := strings.CutPrefix(op.line, "put "); isPut {
					k, _ := strconv.Atoi(n)
					if s := state(t, q, item(k).ID); s != "" {
						t.Fatalf("a put that failed left a %s record", s)
					}
					copied := filepath.Join(quickDir(t), "copy")
					check(t, os.CopyFS(copied, os.DirFS(dir)))
					if other, _ := open(t, copied, queue.Options{}); state(t, other, item(k).ID) != "" {
						t.Fatal("a put that failed came back at the next opening")
					}
				}
				err = op.do(q)
			}
			if err != nil {
				t.Fatalf("step %d, %s again, with room: %v", fail, op.line, err)
			}
		}
		check(t, q.Close())
		if _, err := resume(dir, records, lines(work(records))); err != nil {
			t.Fatalf("step %d: %v", fail, err)
		}
		if step < fail {
			return
		}
	}
}

// Children of the tests, which is this program again.
const childVariable = "QUEUE_TEST_CHILD"

const (
	exitFailed = 20
	exitLocked = 21
)

var children = map[string]func() int{
	"open": func() int {
		q, _, err := queue.Open(ctx, os.Args[1], queue.Options{LockTimeout: 30 * time.Millisecond})
		switch {
		case errors.Is(err, queue.ErrLocked):
			return exitLocked
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
			return exitFailed
		}
		q.Close()
		return 0
	},
	"put and die": func() int {
		q, _, err := queue.Open(ctx, os.Args[1], queue.Options{})
		if err == nil {
			err = q.Put(ctx, queue.Item{ID: queue.ID(sha256.Sum256([]byte(time.Now().String()))), Data: make([]byte, 8<<10)})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return exitFailed
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	},
	"full": func() int {
		if err := fillDisk(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return exitFailed
		}
		return 0
	},
	// mend DIR N: killed before step N.
	"mend": func() int {
		cut, _ := strconv.Atoi(os.Args[2])
		step := 0
		_, err := mend(os.Args[1], func(string, string) error {
			if step++; step == cut {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		})
		return report(err)
	},
	// work DIR N: killed before step N.
	"work": func() int {
		cut, _ := strconv.Atoi(os.Args[2])
		step := 0
		q, _, err := queue.Open(ctx, os.Args[1], queue.Options{}.Small().ShortJournal(shortJournal).CutAt(func(string, string) error {
			if step++; step == cut {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
			return nil
		}))
		for _, op := range work(records) {
			if err == nil {
				err = op.do(q)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return exitFailed
			}
			fmt.Println(op.line)
		}
		return 0
	},
}

// fullDisk gives a child a file system of its own, of 12 MiB.
func fullDisk(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
}

// A disk runs full for real: what was acknowledged is there, what was refused is
// not, and delivering makes room again.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	cmd, read := prepareChild(t, "full", dir)
	fullDisk(cmd)
	if out := read(func(int) {}); out.code != 0 {
		t.Fatalf("exit %d (a private mount namespace is needed): %q", out.code, out.lines)
	}
}

func fillDisk(dir string) error {
	if err := errors.Join(syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m")); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	q, _, err := queue.Open(ctx, dir, queue.Options{})
	if err != nil {
		return err
	}
	if err := q.Room(ctx); !errors.Is(err, queue.ErrFull) {
		return fmt.Errorf("room on a small disk: %w", err)
	}
	for round := range 3 {
		kept := 0
		big := func(n int) queue.Item {
			i := item(1000*round + n)
			i.Data = bytes.Repeat(i.ID[:], 600)
			return i
		}
		for ; kept < 1000; kept++ {
			if err = q.Put(ctx, big(kept)); err != nil {
				break
			}
		}
		if !errors.Is(err, queue.ErrFull) || kept < 40 {
			return fmt.Errorf("round %d: after %d records: %w", round, kept, err)
		}
		// Not a byte is left for anybody.
		if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, 16<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("the rest of the disk: %w", err)
		}
		if round == 1 { // opened while it is full
			if err := q.Close(); err != nil {
				return err
			}
			if q, _, err = queue.Open(ctx, dir, queue.Options{}); err != nil {
				return fmt.Errorf("open on a full disk: %w", err)
			}
		}
		if _, err := q.Get(ctx, big(kept).ID); !errors.Is(err, queue.ErrUnknown) {
			return fmt.Errorf("the refused record is there: %w", err)
		}
		for n := range kept {
			i := big(n)
			if data, err := q.Data(ctx, i.ID); err != nil || !bytes.Equal(data, i.Data) {
				return fmt.Errorf("record %d of %d: %w", n, kept, err)
			}
			if err := errors.Join(q.StoreReceipt(ctx, i.ID, receiptOf(i.ID)), q.Purge(ctx, i.ID)); err != nil {
				return fmt.Errorf("deliver record %d of %d on a full disk: %w", n, kept, err)
			}
		}
		if err := errors.Join(os.Remove(filepath.Join(dir, "other")), q.Close()); err != nil {
			return err
		}
		if q, _, err = queue.Open(ctx, dir, queue.Options{}); err != nil {
			return err
		}
	}
	return q.Close()
}

type output struct {
	lines []string
	code  int
}

func prepareChild(t testing.TB, name string, args ...string) (*exec.Cmd, func(onLine func(int)) output) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	return cmd, func(onLine func(int)) (out output) {
		check(t, cmd.Start())
		for s := bufio.NewScanner(stdout); s.Scan(); {
			onLine(len(out.lines))
			out.lines = append(out.lines, s.Text())
		}
		cmd.Wait()
		if out.code = cmd.ProcessState.ExitCode(); out.code == exitFailed {
			t.Fatalf("child %s: %s", name, stderr.String())
		}
		return out
	}
}

func runChild(t testing.TB, name string, args ...string) output {
	t.Helper()
	_, read := prepareChild(t, name, args...)
	return read(func(int) {})
}

package queue_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"enrollkiosk/simulators/crashlab"
	"enrollkiosk/sync/queue"
)

// The crash lab cuts the power of ext4 and XFS under a working queue; scripts/crash
// starts it. A child works through a script on a disk that records, and says what
// it has done, one line for each operation that has returned nil; it goes on when
// it is told to, so that the line stands between the disk's writes where it belongs.
// Then, for each cut, another child opens what the cut has left.
func init() {
	children["lab"] = func() int { return report(lab(os.Args[1:])) }
	children["lab-in-its-namespace"] = func() int { return report(labInside(os.Args[1:])) }
	children["lab-work"] = func() int {
		seed, err := strconv.ParseUint(os.Args[2], 10, 64)
		return report(errors.Join(err, labWork(os.Args[1], seed, os.Args[3])))
	}
	children["lab-audit"] = func() int {
		seed, err := strconv.ParseUint(os.Args[2], 10, 64)
		done, err2 := strconv.Atoi(os.Args[4])
		return report(errors.Join(err, err2, labAudit(os.Args[1], seed, os.Args[3], done)))
	}
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return 0
}

// What the child does. The last two must be found out, or the lab finds nothing.
const (
	asShipped     = "as shipped"
	unsynced      = "without fsync"
	purgedTooSoon = "purge before the receipt"
)

// A script is a row of operations, the same for a seed.
type labOp struct {
	what string
	n    int   // record
	more []int // and others, of an operation on several
}

func (o labOp) String() string { return o.what + " " + strconv.Itoa(o.n) }

// does says whether the operation is this one, to this record.
func (o labOp) does(what string, n int) bool {
	return o.what == what && (o.n == n || slices.Contains(o.more, n))
}

// together is how many records are put, or receipted, or purged at once by an
// operation on several.
const together = 5

const labLength = 120

func labScript(seed uint64, variant string) (out []labOp) {
	chance := rand.New(rand.NewPCG(seed, 0))
	sets := map[string][]int{} // records by what was last done with them
	take := func(from string) (int, bool) {
		s := sets[from]
		if len(s) == 0 {
			return 0, false
		}
		i := chance.IntN(len(s))
		n := s[i]
		sets[from] = slices.Delete(s, i, i+1)
		return n, true
	}
	move := func(from, to string) bool {
		n, ok := take(from)
		if ok {
			op := labOp{what: to, n: n}
			sets[to] = append(sets[to], n)
			for (to == "receipt" || to == "purge") && chance.IntN(2) == 0 && len(op.more) < together-1 {
				another, ok := take(from)
				if !ok {
					break
				}
				op.more = append(op.more, another)
				sets[to] = append(sets[to], another)
			}
			out = append(out, op)
		}
		return ok
	}
	next := 0
	some := func(length int) {
		for length += len(out); len(out) < length; {
			switch k := chance.IntN(100); {
			case k < 20:
				out = append(out, labOp{what: "put", n: next})
				sets["put"] = append(sets["put"], next)
				next++
			case k < 23:
				out = append(out, labOp{what: "puts", n: next})
				for range together {
					sets["put"] = append(sets["put"], next)
					next++
				}
			case k < 30:
				out = append(out, labOp{what: "head", n: len(out)})
			case k < 90:
				if chance.IntN(9) == 0 {
					move("put", "quarantine")
				} else if variant == purgedTooSoon {
					move("put", "forget")
				} else {
					_ = chance.IntN(2) == 0 && move("receipt", "purge") || chance.IntN(2) == 0 && move("send", "receipt") || move("put", "send")
				}
			case k < 93:
				out = append(out, labOp{what: "read all"})
			case k < 95:
				out = append(out, labOp{what: "scrub"})
			case k < 98:
				out = append(out, labOp{what: "open again"})
			default:
				out = append(out, labOp{what: "rebuild"})
			}
		}
	}
	some(labLength)
	// Everything is delivered, and most of the database is empty.
	for variant != purgedTooSoon && (move("receipt", "purge") || move("send", "receipt") || move("put", "send")) {
	}
	out = append(out, labOp{what: "open again"})
	some(labLength / 4)
	return out
}

func labItem(n int) queue.Item {
	i := item(n)
	if n%3 == 0 && n%4 > 0 {
		i.Data = bytes.Repeat(i.Data, 20) // several blocks
	}
	return i
}

// labWork is the child on the disk that records.
func labWork(dir string, seed uint64, variant string) error {
	o := queue.Options{}.Small().ShortJournal(shortJournal)
	if variant == unsynced {
		o = o.Unsynced()
	}
	dir = filepath.Join(dir, "queue")
	q, r, err := queue.Open(ctx, dir, o)
	if err != nil {
		return err
	}
	compacted := 0
	again := func(damage func() error) error {
		if err := errors.Join(q.Close(), damage()); err != nil {
			return err
		}
		if q, r, err = queue.Open(ctx, dir, o); r.Compacted > 0 {
			compacted++
		}
		return err
	}
	do := func(op labOp) error {
		i := labItem(op.n)
		switch op.what {
		case "put":
			return q.Put(ctx, i)
		case "puts":
			errs := make([]error, together)
			var wg sync.WaitGroup
			for k := range errs {
				wg.Go(func() {
					i := labItem(op.n + k)
					i.Head = nil
					errs[k] = q.Put(ctx, i)
				})
			}
			wg.Wait()
			return errors.Join(errs...)
		case "head":
			return q.SetHead(ctx, fmt.Append(nil, op))
		case "send": // the registry has it once the parent has noted this line
			_, err := q.Data(ctx, i.ID)
			return err
		case "receipt":
			var receipts []queue.Receipt
			for _, n := range append([]int{op.n}, op.more...) {
				receipts = append(receipts, queue.Receipt{ID: labItem(n).ID, Bytes: receiptOf(labItem(n).ID)})
			}
			return errors.Join(q.StoreReceipts(ctx, receipts)...)
		case "purge":
			var ids []queue.ID
			for _, n := range append([]int{op.n}, op.more...) {
				ids = append(ids, labItem(n).ID)
			}
			return errors.Join(q.PurgeAll(ctx, ids)...)
		case "quarantine":
			return q.Quarantine(ctx, i.ID, queue.Reason{Code: "c", Evidence: i.ID[:]})
		case "forget":
			return q.Forget(i.ID)
		case "read all":
			_, err := q.Waiting(ctx, 1000, 1<<30, all)
			return err
		case "scrub":
			_, err := q.Scrub(ctx)
			return err
		case "open again":
			return again(func() error { return nil })
		case "rebuild":
			return again(func() error { return os.Remove(filepath.Join(dir, "index.db")) })
		}
		return fmt.Errorf("what is %q?", op.what)
	}
	for _, op := range labScript(seed, variant) {
		if err := do(op); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
		fmt.Println(op)
		if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("no go-ahead: %w", err)
		}
	}
	fmt.Fprintln(os.Stderr, compacted)
	return q.Close()
}

// labAudit is the child on what a cut has left, after done operations: it looks
// for every record, on the disk or at the registry, and delivers the rest.
func labAudit(dir string, seed uint64, variant string, done int) error {
	script := labScript(seed, variant)
	var doing labOp // may have happened or not
	if done < len(script) {
		doing = script[done]
	}
	was := map[int]string{}
	registry := map[int]int{} // times that it took a record
	var head string
	for _, op := range script[:done] {
		switch op.what {
		case "puts":
			for k := range together {
				was[op.n+k] = "put"
			}
		case "head":
			head = op.String()
		case "put":
			head = string(labItem(op.n).Head)
			was[op.n] = "put"
		case "send":
			registry[op.n]++
		case "receipt", "purge", "quarantine", "forget":
			for _, n := range append([]int{op.n}, op.more...) {
				was[n] = op.what
			}
		}
	}
	dir = filepath.Join(dir, "queue")
	q, r, err := queue.Open(ctx, dir, queue.Options{})
	if err != nil {
		return err
	}
	defer q.Close()
	// Without its database nobody knows what a cut has left from what was damaged.
	if doing.what != "rebuild" && (r.Rebuilt || r.History || len(r.SetAside) > 0) || r.Quarantined > 0 {
		return fmt.Errorf("taken for damage: %s", r)
	}
	found, err := q.Head(ctx)
	if err != nil || string(found) != head && string(found) != doing.String() && (doing.what != "put" || !bytes.Equal(found, labItem(doing.n).Head)) {
		return fmt.Errorf("head %q, want %q or that of %q: %v", found, head, doing, err)
	}
	known, queued := 0, 0
	last := slices.Max(append(mapKeys(was), doing.n)) + together
	for n := range last + 1 {
		i := labItem(n)
		e, err := q.Get(ctx, i.ID)
		new := was[n] == "" && (doing.what == "put" && n == doing.n || doing.what == "puts" && n >= doing.n && n < doing.n+together)
		if errors.Is(err, queue.ErrUnknown) && was[n] == "" {
			continue
		}
		if err != nil {
			return fmt.Errorf("record %d is lost after %q: %w", n, was[n], err)
		}
		known++
		ok := false
		switch e.State {
		case queue.Queued:
			queued++
			ok = was[n] == "put" || was[n] == "forget" || new
		case queue.Receipted, queue.Purged:
			receipt, err := q.Receipt(ctx, i.ID)
			ok = err == nil && bytes.Equal(receipt, receiptOf(i.ID)) &&
				(was[n] == "receipt" || was[n] == "purge" || doing.does("receipt", n))
		case queue.Quarantined:
			ok = (was[n] == "quarantine" || doing.does("quarantine", n)) && bytes.Equal(e.Reason.Evidence, i.ID[:])
		}
		if !ok {
			return fmt.Errorf("record %d is %s after %q, before %q", n, e.State, was[n], doing)
		}
		if e.State == queue.Purged {
			if registry[n] == 0 {
				return fmt.Errorf("record %d is purged, and not at the registry", n)
			}
		} else if data, err := q.Data(ctx, i.ID); err != nil || !bytes.Equal(data, i.Data) {
			return fmt.Errorf("record %d is lost after %q: %v", n, was[n], err)
		}
		if e.State == queue.Quarantined {
			was[n] = "quarantine"
		} else if was[n] == "" {
			was[n] = "put"
		}
	}
	here, err := q.List(ctx, 1<<20, func(e queue.Entry) bool { return e.State == queue.Queued || e.State == queue.Quarantined })
	delivered, err2 := q.Delivered(ctx, time.Time{}, time.Time{}, 1<<20)
	if err := errors.Join(err, err2); err != nil || len(here)+len(delivered) != known {
		return fmt.Errorf("%d records here and %d delivered, %d known: %v", len(here), len(delivered), known, err)
	}
	waiting, err := q.Waiting(ctx, 1<<20, 1<<30, all)
	if err != nil || len(waiting) != queued {
		return fmt.Errorf("%d waiting, %d queued: %v", len(waiting), queued, err)
	}
	// The courier sends them all, even those that the registry has: it takes a
	// record once, and gives the same receipt.
	sent := map[queue.ID]bool{}
	for _, w := range waiting {
		n := slices.IndexFunc(mapKeys(was), func(n int) bool { return labItem(n).ID == w.ID })
		if n < 0 || sent[w.ID] {
			return fmt.Errorf("record %s is delivered twice, or unknown", w.ID)
		}
		sent[w.ID] = true
		if n = mapKeys(was)[n]; registry[n] == 0 {
			registry[n]++
		}
		if err := errors.Join(q.StoreReceipt(ctx, w.ID, receiptOf(w.ID)), q.Purge(ctx, w.ID)); err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
	}
	for n, op := range was {
		if op != "quarantine" && registry[n] != 1 || op == "quarantine" && registry[n] != 0 {
			return fmt.Errorf("record %d: %d times at the registry after %q", n, registry[n], op)
		}
	}
	// And the queue works on.
	if err := errors.Join(q.Put(ctx, item(1<<20)), q.Close()); err != nil {
		return err
	}
	if q, r, err = queue.Open(ctx, dir, queue.Options{}); err != nil || r.Rebuilt || len(r.SetAside)+r.Recovered+r.Repaired > 0 {
		return fmt.Errorf("opened again: %+v, %v", r, err)
	}
	if data, err := q.Data(ctx, item(1<<20).ID); err != nil || !bytes.Equal(data, item(1<<20).Data) {
		return fmt.Errorf("the next record is lost: %v", err)
	}
	return nil
}

func mapKeys(m map[int]string) (out []int) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// lab starts the lab in a mount namespace of its own: whatever ends it, no mount
// and no device stays.
func lab(args []string) error {
	if missing := crashlab.Missing(crashlab.Ext4, crashlab.XFS); missing != "" {
		return fmt.Errorf("the crash lab needs: %s", missing)
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"=lab-in-its-namespace")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // Pdeathsig counts from the thread
	return cmd.Run()
}

// labInside makes N cuts in all, a half on each file system, and prints what they
// found.
func labInside(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("usage: N [SEED]")
	}
	cuts, err := strconv.Atoi(args[0])
	seed := uint64(time.Now().UnixNano()) % 1e9
	if err == nil && len(args) == 2 {
		seed, err = strconv.ParseUint(args[1], 10, 64)
	}
	if err != nil || cuts < 2 {
		return errors.Join(errors.New("N is the number of cuts, at least 2"), err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	dir, err := os.MkdirTemp("", "crashlab")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("seed %d\n", seed)
	failed := false
	run := func(fs crashlab.FileSystem, variant string, cuts int) error {
		start, made, events, compactions := time.Now(), 0, 0, 0
		var wrong []string
		for part := uint64(0); made < cuts; part++ {
			// A script for every hundred cuts.
			n := min(100, cuts-made)
			recording, compacted, err := record(filepath.Join(dir, "record"), fs, seed+part, variant)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", fs.Name, variant, err)
			}
			found, err := audits(dir, recording, fs, n, seed+part, variant)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", fs.Name, variant, err)
			}
			wrong = append(wrong, found...)
			made, events, compactions = made+n, events+recording.Len(), compactions+compacted
		}
		fmt.Printf("%-5s %-25s %d of %d cuts among %d writes, flushes and acknowledgements lost something; %d compactions (%.0f s)\n",
			fs.Name, variant, len(wrong), made, events, compactions, time.Since(start).Seconds())
		if variant == asShipped {
			if compactions == 0 && made >= 100 {
				failed = true
				fmt.Println("      no database was compacted: the work does not reach it")
			}
			failed = failed || len(wrong) > 0
			for _, w := range wrong[:min(len(wrong), 5)] {
				fmt.Println("     ", w)
			}
		} else if len(wrong) < made/10 {
			failed = true
			fmt.Printf("      the lab finds nothing: %q must be found out\n", variant)
		}
		return nil
	}
	for i, fs := range []crashlab.FileSystem{crashlab.Ext4, crashlab.XFS} {
		if err := errors.Join(run(fs, asShipped, (cuts+1-i)/2), run(fs, unsynced, 20), run(fs, purgedTooSoon, 20)); err != nil {
			return err
		}
	}
	if failed {
		return errors.New("the crash lab has found losses; the same again: scripts/crash N SEED")
	}
	return nil
}

// record has a child work on a disk that records, and says how often its database
// was compacted.
func record(dir string, fs crashlab.FileSystem, seed uint64, variant string) (_ *crashlab.Recording, compacted int, err error) {
	mounted := filepath.Join(dir, "mounted")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "fuse"), 0o700), os.MkdirAll(mounted, 0o700)); err != nil {
		return nil, 0, err
	}
	also := func(f func() error) { err = errors.Join(err, f()) }
	disk := crashlab.NewDisk(fs.Size)
	name, stop, err := disk.Serve(filepath.Join(dir, "fuse"))
	if err != nil {
		return nil, 0, err
	}
	defer also(stop)
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer also(file.Close)
	loop, err := crashlab.Loop(file)
	if err != nil {
		return nil, 0, err
	}
	defer loop.Close()
	if err := fs.Make(loop.Name()); err != nil {
		return nil, 0, err
	}
	unmount, err := fs.Mount(loop.Name(), mounted)
	if err != nil {
		return nil, 0, err
	}
	defer also(unmount)
	syscall.Sync()
	recorder := crashlab.Record(disk)
	limited, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(limited, os.Args[0], mounted, strconv.FormatUint(seed, 10), variant)
	cmd.Env = append(os.Environ(), childVariable+"=lab-work")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, 0, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, 0, err
	}
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	for s := bufio.NewScanner(out); s.Scan(); {
		recorder.Note(s.Text())
		if _, err := io.WriteString(in, "\n"); err != nil {
			break // it has failed, and Wait says how
		}
	}
	if err := cmd.Wait(); err != nil {
		return nil, 0, fmt.Errorf("the work: %w: %s", err, stderr.String())
	}
	compacted, err = strconv.Atoi(strings.TrimSpace(stderr.String()))
	return recorder.Stop(), compacted, err
}

// audits cuts n times, and returns what was found wrong.
func audits(dir string, recording *crashlab.Recording, fs crashlab.FileSystem, n int, seed uint64, variant string) (wrong []string, err error) {
	cuts := make(chan crashlab.Cut)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for worker := range runtime.NumCPU() {
		mounted := filepath.Join(dir, "cut"+strconv.Itoa(worker))
		if err := os.MkdirAll(mounted, 0o700); err != nil {
			return nil, err
		}
		wg.Go(func() {
			for cut := range cuts {
				if found := auditCut(mounted, cut, fs, seed, variant); found != nil {
					mu.Lock()
					wrong = append(wrong, fmt.Sprintf("seed %d, cut at %d of %d, torn %v, after %d operations: %s", seed, cut.At, recording.Len(), cut.Torn, len(cut.Notes), found))
					mu.Unlock()
				}
			}
		})
	}
	recording.Cuts(n, rand.New(rand.NewPCG(seed, 1)), func(c crashlab.Cut) bool { cuts <- c; return true })
	close(cuts)
	wg.Wait()
	return wrong, nil
}

func auditCut(mounted string, cut crashlab.Cut, fs crashlab.FileSystem, seed uint64, variant string) (err error) {
	unmount, err := cut.Images[0].Mount(fs, mounted)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(limited, os.Args[0], mounted, strconv.FormatUint(seed, 10), variant, strconv.Itoa(len(cut.Notes)))
	cmd.Env = append(os.Environ(), childVariable+"=lab-audit")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

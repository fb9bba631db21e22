package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Report says what opening found and did.
type Report struct {
	Created     bool     // there was no queue here
	Rebuilt     bool     // the database was damaged: set aside and rebuilt from the spool
	SetAside    []string // files kept under damaged/
	Recovered   int      // records put back from the spool
	Quarantined int      // waiting records of which no good copy is left
	Cleaned     int      // files that a crash had left over
}

// damagedDir keeps what was not what it should be. Nothing there is deleted.
const damagedDir = "damaged"

// Open opens the queue in dir, made if it is not there. Errors: ErrLocked when
// another process has it, ErrDamaged when not even the spool can be read.
func Open(ctx context.Context, dir string, o Options) (*Queue, Report, error) {
	var r Report
	if o.LockTimeout == 0 {
		o.LockTimeout = time.Second
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Check == nil {
		o.Check = check
	}
	if err := os.MkdirAll(filepath.Join(dir, spoolDir), 0o700); err != nil {
		return nil, r, fmt.Errorf("make queue: %w", err)
	}
	lock, err := lockDir(ctx, dir, o.LockTimeout)
	if err != nil {
		return nil, r, err
	}
	q := &Queue{dir: dir, opts: o, lock: lock}
	if err := q.open(ctx, &r); err != nil {
		lock.Close()
		return nil, r, err
	}
	return q, r, nil
}

func (q *Queue) open(ctx context.Context, r *Report) error {
	file := filepath.Join(q.dir, database)
	_, err := os.Lstat(file)
	r.Created = errors.Is(err, os.ErrNotExist)
	if !r.Created {
		if err := q.opts.Check(ctx, file); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.Rebuilt = true
			if err := q.setAside(r, database); err != nil {
				return err
			}
		}
	}
	q.db, err = bolt.Open(file, 0o600, &bolt.Options{Timeout: q.opts.LockTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := q.db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{bucketEntries, bucketWaiting, bucketData, bucketReceipts, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		q.db.Close()
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := errors.Join(syncDir(q.dir), syncDir(filepath.Join(q.dir, spoolDir))); err != nil {
		q.db.Close()
		return err
	}
	if err := q.reconcile(ctx, r); err != nil {
		q.db.Close()
		return err
	}
	return nil
}

// reconcile makes spool and database agree: leftovers go, a spool file that the
// database does not know (a cut between the two writes, or a rebuilt database)
// comes back, a waiting record without its spool file gets it again.
func (q *Queue) reconcile(ctx context.Context, r *Report) error {
	dir := filepath.Join(q.dir, spoolDir)
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var lost []spooled
	seen := map[ID]bool{}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := f.Name()
		if strings.HasSuffix(name, tmpSuffix) {
			r.Cleaned++
			if err := removeFile(dir, name); err != nil {
				return err
			}
			continue
		}
		raw, err := hex.DecodeString(name)
		s, readErr := readSpool(filepath.Join(dir, name))
		if err != nil || len(raw) != 32 || readErr != nil || s.ID != ID(raw) {
			if err := q.setAside(r, filepath.Join(spoolDir, name)); err != nil {
				return err
			}
			continue
		}
		e, err := q.Get(ctx, s.ID)
		switch {
		case err == nil && e.State == Purged:
			r.Cleaned++
			if err := removeFile(dir, name); err != nil {
				return err
			}
		case err == nil:
			seen[s.ID] = true
		case errors.Is(err, ErrUnknown):
			lost = append(lost, s)
			seen[s.ID] = true
		default:
			return err
		}
	}
	slices.SortFunc(lost, func(a, b spooled) int { return cmp.Compare(a.seq, b.seq) })
	if err := q.recover(lost, r); err != nil {
		return err
	}
	return q.respool(ctx, seen, r)
}

// recover puts spooled records back into the database, in one transaction, and
// with them the newest head that is found.
func (q *Queue) recover(lost []spooled, r *Report) error {
	fileHead, err := os.ReadFile(filepath.Join(q.dir, headFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(lost) == 0 && !(r.Rebuilt && fileHead != nil) {
		return nil
	}
	err = q.db.Update(func(tx *bolt.Tx) error {
		if r.Rebuilt && fileHead != nil {
			if err := tx.Bucket(bucketMeta).Put(keyHead, fileHead); err != nil {
				return err
			}
		}
		for _, s := range lost {
			seq := max(s.seq, tx.Bucket(bucketEntries).Sequence()+1)
			if err := tx.Bucket(bucketEntries).SetSequence(seq); err != nil {
				return err
			}
			if err := insert(tx, s.Item, seq, s.put); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return q.failed("recover", err)
	}
	r.Recovered = len(lost)
	return nil
}

// respool writes the second copy again where it is gone, and quarantines a
// waiting record of which no good copy is left.
func (q *Queue) respool(ctx context.Context, seen map[ID]bool, r *Report) error {
	type job struct {
		e    Entry
		data []byte
	}
	var jobs []job
	err := q.view(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketWaiting).ForEach(func(_, v []byte) error {
			if len(v) != 32 || seen[ID(v)] {
				return ctx.Err()
			}
			e, err := entry(tx, ID(v))
			if err != nil {
				return err
			}
			data, _ := q.data(tx, e)
			jobs = append(jobs, job{e, data})
			return ctx.Err()
		})
	})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.data == nil {
			r.Quarantined++
			if err := q.Quarantine(ctx, j.e.ID, Reason{Code: "queue-damaged", Text: "both copies on this disk are damaged"}); err != nil {
				return err
			}
			continue
		}
		b := encodeSpool(Item{ID: j.e.ID, Data: j.data}, j.e.Seq, j.e.Put)
		if err := writeFile(filepath.Join(q.dir, spoolDir), j.e.ID.String(), b); err != nil {
			return q.failed("spool", err)
		}
	}
	return nil
}

// setAside moves a file of the queue to damaged/, under a name of its own.
func (q *Queue) setAside(r *Report, name string) error {
	dir := filepath.Join(q.dir, damagedDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	to := fmt.Sprintf("%s-%d", filepath.Base(name), q.opts.Clock().UnixNano())
	if err := os.Rename(filepath.Join(q.dir, name), filepath.Join(dir, to)); err != nil {
		return fmt.Errorf("%w: set aside: %w", ErrDamaged, err)
	}
	r.SetAside = append(r.SetAside, filepath.Join(damagedDir, to))
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(filepath.Join(q.dir, name))))
}

// checkArgument makes the program check a database and exit; see RunCheck.
const checkArgument = "queue-check-database"

// checkLimit bounds the check: a page that points back at itself would make it
// endless.
const checkLimit = 2 * time.Minute

// RunCheck, called first thing in main, turns the program into the database
// check when Open has started it as such: reading a damaged page may kill the
// process, and then it is the child that dies.
func RunCheck() {
	if len(os.Args) != 3 || os.Args[1] != checkArgument {
		childCheck = true
		return
	}
	if err := checkHere(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childCheck says that this program can be its own check.
var childCheck bool

func check(ctx context.Context, file string) error {
	if !childCheck {
		return checkHere(file)
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe, checkArgument, file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		line, _, _ := strings.Cut(stderr.String(), "\n")
		return fmt.Errorf("%w: %s", ErrDamaged, line)
	}
	return nil
}

// checkHere reads every page and every entry.
func checkHere(file string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		for _, name := range [][]byte{bucketEntries, bucketWaiting, bucketData, bucketReceipts, bucketMeta} {
			if tx.Bucket(name) == nil && tx.Bucket(bucketEntries) != nil {
				return fmt.Errorf("%w: bucket %s", ErrDamaged, name)
			}
		}
		if tx.Bucket(bucketEntries) == nil {
			return nil // a cut during the first initialisation
		}
		if _, err := readCounts(tx); err != nil {
			return err
		}
		return tx.Bucket(bucketWaiting).ForEach(func(_, v []byte) error {
			if len(v) != 32 {
				return fmt.Errorf("%w: waiting", ErrDamaged)
			}
			_, err := entry(tx, ID(v))
			return err
		})
	})
}

package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// checkArgument makes the program check a database and exit; see RunCheck.
const checkArgument = "queue-check-database"

// checkLimit bounds the check: a page that points back at itself makes it
// endless.
const checkLimit = 2 * time.Minute

// childCheck says that this program can be its own check.
var childCheck bool

// RunCheck, called first thing in main, turns the program into the database
// check when Open has started it as such: reading a damaged page may kill the
// process, and then it is the child that dies.
func RunCheck() {
	if len(os.Args) != 3 || os.Args[1] != checkArgument {
		childCheck = true
		return
	}
	err := checkHere(os.Args[2])
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, ErrDamaged):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitDamaged)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(exitNoCheck)
}

// Exit codes of the child. The Go runtime ends a program that panics, or that a
// bad page stops, with 2.
const (
	exitDamaged = 10
	exitNoCheck = 11
)

// check runs the check in a child process. Only an error that wraps ErrDamaged
// says something about the database; that the check could not be made says
// nothing.
func check(ctx context.Context, file string) error {
	if !childCheck {
		return checkHere(file)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	cmd := exec.CommandContext(limited, exe, checkArgument, file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	line, _, _ := strings.Cut(stderr.String(), "\n")
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return fmt.Errorf("%w: the check does not end", ErrDamaged)
	case !errors.As(err, &exit), exit.ExitCode() == exitNoCheck, killed(exit):
		return fmt.Errorf("check database: %w: %s", err, line)
	}
	return fmt.Errorf("%w: %s", ErrDamaged, line)
}

// killed says that somebody else ended the child, for want of memory perhaps.
func killed(exit *exec.ExitError) bool {
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && (status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM || status.Signal() == syscall.SIGINT)
}

// checkHere reads every page and every entry.
func checkHere(file string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer db.Close()
	return db.View(func(tx *bolt.Tx) error {
		// bbolt maps more than there is, and its check reads no page to the end.
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: cut short", ErrDamaged)
		}
		for err := range tx.Check() {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return checkContent(tx)
	})
}

// checkContent holds entries, index, head and counts against their checksums and
// one another, and walks over all the rest: bbolt's own check leaves small
// buckets out. Receipts are checked where they are read: each has another copy to
// fall back on.
func checkContent(tx *bolt.Tx) error {
	found := 0
	if err := tx.ForEach(func([]byte, *bolt.Bucket) error { found++; return nil }); err != nil || found == 0 {
		return err // nothing was ever committed
	}
	for _, name := range buckets {
		if tx.Bucket(name) == nil || found != len(buckets) {
			return fmt.Errorf("%w: bucket %s is gone", ErrDamaged, name)
		}
	}
	if _, err := readHead(tx); err != nil {
		return err
	}
	want, err := readCounts(tx)
	if err != nil {
		return err
	}
	spool, err := live(tx)
	if err != nil {
		return err
	}
	have := counts{Receipted: want.Archived, Archived: want.Archived}
	ended, records := map[uint64]bool{}, 0
	for _, bucket := range [][]byte{bucketWaiting, bucketEnded} {
		if err := each(tx, bucket, func(e Entry) error {
			if string(e.bucket()) != string(bucket) || !bytes.Equal(tx.Bucket(bucketIDs).Get(e.ID[:]), be(e.Seq)) {
				return fmt.Errorf("%w: a record is not in the index", ErrDamaged)
			}
			have.add(e, +1)
			records++
			ended[e.Seq] = e.State != Queued
			if e.State != Purged && e.at.segment != 0 {
				spool[e.at.segment]--
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, n := range spool {
		if n != 0 {
			return fmt.Errorf("%w: count of a file", ErrDamaged)
		}
	}
	if err := tx.Bucket(bucketReceipts).ForEach(func(k, _ []byte) error {
		if len(k) != 8 || !ended[binary.BigEndian.Uint64(k)] {
			return fmt.Errorf("%w: a receipt of no record", ErrDamaged)
		}
		return nil
	}); err != nil {
		return err
	}
	indexed := 0
	err = tx.Bucket(bucketIDs).ForEach(func(_, _ []byte) error { indexed++; return nil })
	if err == nil && (have != want || indexed != records) {
		err = fmt.Errorf("%w: counts", ErrDamaged)
	}
	return err
}

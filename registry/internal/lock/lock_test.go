package lock_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"enrollkiosk/registry/internal/lock"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	for name, take := range map[string]func() (*lock.Lock, error){
		"directory": func() (*lock.Lock, error) { return lock.Dir(dir) },
		"file":      func() (*lock.Lock, error) { return lock.File(filepath.Join(dir, "lock")) },
	} {
		l, err := take()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := take(); !errors.Is(err, lock.ErrHeld) {
			t.Errorf("%s: a second one: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if l, err = take(); err != nil {
			t.Errorf("%s: after the first is gone: %v", name, err)
		} else if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := lock.Dir(filepath.Join(dir, "none")); err == nil || errors.Is(err, lock.ErrHeld) {
		t.Errorf("no directory: %v", err)
	}
}

// A program that is being started has the descriptor too, until it is executed: the
// lock ends all the same.
func TestStartedProgramsHoldNothing(t *testing.T) {
	dir := t.TempDir()
	l, err := lock.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := l.Dup()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(copied)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = lock.Dir(dir); err != nil {
		t.Fatalf("still held: %v", err)
	}
	l.Close()
}

// Package lock keeps other processes out of a directory (flock(2)).
package lock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrHeld means that another process has it.
var ErrHeld = errors.New("another process has it locked")

// Lock is held until it is closed, or its process ends.
type Lock struct{ f *os.File }

// Dir locks a directory itself.
func Dir(path string) (*Lock, error) {
	f, err := os.Open(path)
	return hold(f, err)
}

// File locks a file, made if it is not there.
func File(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return hold(f, err)
}

func hold(f *os.File, err error) (*Lock, error) {
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(ErrHeld, f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return &Lock{f}, nil
}

// Close gives the lock up. Closing the file alone would not always: a program that
// another goroutine is starting has it too until it is executed.
func (l *Lock) Close() error {
	return errors.Join(syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN), l.f.Close())
}

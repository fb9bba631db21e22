package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockDir holds an exclusive lock on the directory until the file is closed.
// bbolt locks its own file, but the check and the setting aside of a damaged
// one come before that is open.
func lockDir(ctx context.Context, dir string, limit time.Duration) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock queue: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock queue: %w", err)
		}
		select {
		case <-limited.Done():
			f.Close()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, ErrLocked
		case <-time.After(20 * time.Millisecond):
		}
	}
}

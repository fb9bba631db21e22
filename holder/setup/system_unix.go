//go:build unix

package setup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// dataDir is where the user's programs keep things (XDG Base Directory Specification).
func dataDir() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "enrollkiosk", "holder"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "enrollkiosk", "holder"), nil
}

// Browse opens an https address in the default browser. The opener may stay as long as
// the browser that it starts: who has not failed after a while has done it.
func Browse(ctx context.Context, address string) error {
	c := exec.Command("xdg-open", address)
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(10 * time.Second):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

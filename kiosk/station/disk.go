package station

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"enrollkiosk/sync/queue"
)

// Errors of the state directory.
var (
	ErrOtherUser  = errors.New("the state directory belongs to another user: run this as the agent's user")
	ErrOpenState  = errors.New("other users may read the state directory: take their rights away (chmod 700)")
	ErrFastCommit = errors.New("the disk's ext4 uses fast commits, which lose data with this kernel: turn them off (tune2fs -O ^fast_commit) or use Linux 5.17")
)

// own refuses to work on a state directory of another user: what this process
// would write, the agent could not read.
func (c Config) own() error {
	info, err := os.Stat(c.Kiosk.State)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if ownedByOther(info) {
		return fmt.Errorf("%s: %w", c.Kiosk.State, ErrOtherUser)
	}
	return nil
}

func diagnoseDisk(c Config) (string, error) {
	info, err := os.Stat(c.Kiosk.State)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s is missing: %w", c.Kiosk.State, ErrNotProvisioned)
	}
	if err != nil {
		return "", err
	}
	if err := c.own(); err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: %w", c.Kiosk.State, ErrOpenState)
	}
	if fastCommit(c.Kiosk.State) {
		return "", ErrFastCommit
	}
	free, err := queue.Free(c.Kiosk.State)
	if err != nil {
		return "", err
	}
	if free < queue.DefaultReserve {
		return "", fmt.Errorf("%w: %d MiB free, %d needed", queue.ErrFull, free>>20, queue.DefaultReserve>>20)
	}
	return fmt.Sprintf("%d MiB free", free>>20), nil
}

// mountOf finds the file system that dir lies on, in the form of
// /proc/self/mountinfo (proc_pid_mountinfo(5)).
func mountOf(mountinfo, dir string) (source, options string) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", ""
	}
	longest := -1
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		dash := strings.Index(line, " - ")
		if len(fields) < 10 || dash < 0 {
			continue
		}
		point, super := fields[4], strings.Fields(line[dash+3:])
		if len(super) < 3 || len(point) < longest || point != "/" && point != dir && !strings.HasPrefix(dir, point+"/") {
			continue
		}
		longest, source, options = len(point), super[1], fields[5]+","+super[2]
	}
	return source, options
}

// olderThan compares a kernel's release, "6.1.0-18-amd64", with a version.
func olderThan(release string, major, minor int) bool {
	var a, b int
	if n, err := fmt.Sscanf(release, "%d.%d", &a, &b); err != nil || n != 2 {
		return false
	}
	return a < major || a == major && b < minor
}

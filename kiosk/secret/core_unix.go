//go:build unix && !linux

package secret

import (
	"fmt"
	"syscall"
)

// ForbidCore keeps this process's memory out of core files. Programs that
// reveal secrets call it before they do anything else.
func ForbidCore() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("set core limit: %w", err)
	}
	return nil
}

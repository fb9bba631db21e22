package secret

import (
	"fmt"
	"syscall"
)

// prSetDumpable is PR_SET_DUMPABLE of prctl(2).
const prSetDumpable = 4

// ForbidCore keeps this process's memory out of core files, of those that are
// piped to a program too (core(5)), and out of other processes' reach. Programs
// that reveal secrets call it before they do anything else.
func ForbidCore() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("set core limit: %w", err)
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetDumpable, 0, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("forbid core files: %w", errno)
	}
	return nil
}

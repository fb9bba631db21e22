package main

import "golang.org/x/sys/unix"

// forbidCore keeps this process's memory out of core files, of those that are
// piped to a program too (core(5)), and out of other processes' reach.
func forbidCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

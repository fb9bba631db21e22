//go:build !linux

package main

import "golang.org/x/sys/unix"

// forbidCore keeps this process's memory out of core files.
func forbidCore() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

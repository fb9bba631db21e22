package main

import (
	"os"
	"strings"
	"syscall"
)

// overwriteFreed has memory overwritten when it is freed, Go's and that of the C
// libraries that draw, and what Fyne has drawn freed soon after it left the
// screen: names and faces of people who have gone lie in it. All three read that
// from the environment before main begins, so the program starts itself once
// more.
func overwriteFreed() error {
	settings := os.Getenv("GODEBUG")
	if strings.Contains(settings, "clobberfree=1") {
		return nil
	}
	if settings != "" {
		settings += ","
	}
	os.Setenv("GODEBUG", settings+"clobberfree=1") // runtime: GODEBUG
	os.Setenv("MALLOC_PERTURB_", "165")            // mallopt(3), M_PERTURB
	os.Setenv("FYNE_CACHE", "12s")                 // two repaints (ui's clock); Fyne's own is a minute
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

//go:build !linux

package station

import (
	"io/fs"
	"time"
)

var started = time.Now()

// system returns the time since this program began; whether the clock is set by
// a time source is not known here.
func system() (time.Duration, bool) { return time.Since(started), false }

// slept is not known here.
func slept() time.Duration { return 0 }

// ownedByOther is not known here.
func ownedByOther(fs.FileInfo) bool { return false }

// fastCommit: there is no ext4 here.
func fastCommit(string) bool { return false }

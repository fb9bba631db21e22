package station

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// system returns the time since boot and whether a time source has set the
// clock (adjtimex(2)).
func system() (sinceBoot time.Duration, synchronised bool) {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) == nil {
		sinceBoot = time.Duration(ts.Nano())
	}
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	return sinceBoot, err == nil && state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
}

// slept is how long this machine has been asleep since it was switched on: what
// CLOCK_BOOTTIME counts and CLOCK_MONOTONIC does not (clock_gettime(2)).
func slept() time.Duration {
	var awake, all unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil {
		return 0
	}
	return time.Duration(all.Nano() - awake.Nano())
}

// ownedByOther says whether a file belongs to another user than this process.
func ownedByOther(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) != os.Geteuid()
}

// fastCommit says whether dir lies on ext4 with fast commits, which before
// Linux 5.17 could lose what bbolt had synced (etcd-io/bbolt issue 562).
func fastCommit(dir string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil || !olderThan(unix.ByteSliceToString(u.Release[:]), 5, 17) {
		return false
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	source, options := mountOf(string(mounts), dir)
	more, _ := os.ReadFile(filepath.Join("/proc/fs/ext4", filepath.Base(source), "options"))
	return strings.Contains(options+"\n"+string(more), "fast_commit")
}

package parcel

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget has the kernel drop what it keeps in memory of a synced file, so that the
// next read comes from the drive.
func forget(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// Package durable writes files that a power cut leaves whole. Like kiosk/secret it is
// open to all packages.
package durable

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// Replace makes a file that its owner alone may read, or writes it anew, so that a
// reader and a power cut find the old one or the new one, and the new one once this
// has returned. A power cut may leave a file whose name is file's and ".*.tmp".
func Replace(file string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once it was renamed
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(file))
}

// SyncDir makes the names in a directory durable. Windows has no such call; NTFS
// keeps names in its journal.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

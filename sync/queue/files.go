package queue

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"
)

// Names below the queue's directory.
const (
	database    = "index.db"   // which records there are, and how far each is
	closedFile  = "closed"     // checksums of the database, while no program has it open
	spoolDir    = "spool"      // the records' bytes, see spool.go
	journalFile = "journal"    // one line for each record that was receipted or quarantined
	historyFile = "history.db" // what is left of purged records, see history.go
	headFile    = "head"       // second copy of the caller's head
	ballastFile = "ballast"    // room to give up, so that a full disk can be emptied by delivering
	damagedDir  = "damaged"    // what was not what it should be; nothing there is deleted
)

// files writes below the queue's directory. Every step that matters to a power
// cut is announced to step, for tests that cut or fail there; unsynced, for
// their negative control, leaves the syncing out.
type files struct {
	dir      string
	step     func(op, name string) error
	unsynced bool
}

func (w files) path(name string) string { return filepath.Join(w.dir, name) }

func (w files) before(op, name string) error {
	if w.step == nil {
		return nil
	}
	return w.step(op, name)
}

// replace makes name hold b, durably, or leaves it as it was.
func (w files) replace(name string, b []byte) (err error) {
	tmp := name + tmpSuffix
	defer func() {
		if err != nil {
			os.Remove(w.path(tmp))
		}
	}()
	if err := w.before("write", tmp); err != nil {
		return err
	}
	f, err := os.OpenFile(w.path(tmp), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = w.sync(f, tmp)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := w.before("rename", name); err != nil {
		return err
	}
	if err := os.Rename(w.path(tmp), w.path(name)); err != nil {
		return err
	}
	return w.syncDir(filepath.Dir(name))
}

// tmpSuffix marks a file that was being written; after a crash it is nothing.
const tmpSuffix = ".tmp"

// remove removes name; that it is gone already is fine. The removal need not be
// durable: a file too many is found at the next opening.
func (w files) remove(name string) error {
	if err := w.before("remove", name); err != nil {
		return err
	}
	if err := os.Remove(w.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (w files) sync(f *os.File, name string) error {
	if err := w.announceSync(name); err != nil {
		return err
	}
	return w.datasync(f, name)
}

func (w files) announceSync(name string) error {
	if w.unsynced {
		return nil
	}
	return w.before("sync", name)
}

func (w files) datasync(f *os.File, name string) error {
	if w.unsynced {
		return nil
	}
	// The size is synced with the data, where it has changed; times are not.
	if err := syscall.Fdatasync(int(f.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: name, Err: err}
	}
	return nil
}

func (w files) syncDir(name string) error {
	if err := w.announceSyncDir(name); err != nil {
		return err
	}
	return w.dirsync(name)
}

func (w files) announceSyncDir(name string) error {
	if w.unsynced {
		return nil
	}
	return w.before("sync directory", name)
}

func (w files) dirsync(name string) error {
	if w.unsynced {
		return nil
	}
	d, err := os.Open(w.path(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// appender is a file that only grows. After a crash it may end with a piece of
// what was being appended: its reader must know.
type appender struct {
	files
	name  string
	f     *os.File
	size  int64
	ahead int64 // zeroes to write behind the end: to overwrite them costs the file system no journal
	whole int64 // size that the file is going to have, reserved when much comes at once
	ready int64 // where zeroes and reserve end
}

// append adds b durably. After an error nothing of it counts.
func (a *appender) append(b []byte) error {
	if err := a.write(b); err != nil {
		return err
	}
	if err := a.sync(a.f, a.name); err != nil {
		return err
	}
	a.size += int64(len(b))
	return nil
}

// write writes b behind the end, where it does not count yet.
func (a *appender) write(b []byte) error {
	if err := a.before("append", a.name); err != nil {
		return err
	}
	end := a.size + int64(len(b))
	great := int64(len(b)) >= a.ahead/4
	if great && end > a.ready && end < a.whole && syscall.Fallocate(int(a.f.Fd()), 0, a.size, a.whole-a.size) == nil {
		a.ready = a.whole // otherwise it grows as it must
	}
	_, err := a.f.WriteAt(b, a.size)
	if err == nil && end > a.ready && !great {
		if _, err = a.f.WriteAt(make([]byte, a.ahead), end); err == nil {
			a.ready = end + a.ahead
		} else if clean(err) {
			err = a.f.Truncate(end) // then without
		}
	}
	if clean(err) {
		err = errors.Join(err, a.forget())
	}
	return err
}

// forget takes back what was written and does not count.
func (a *appender) forget() error {
	a.ready = 0
	return a.f.Truncate(a.size)
}

// cut takes back, durably, what was appended beyond size.
func (a *appender) cut(size int64) error {
	if err := a.before("cut", a.name); err != nil {
		return err
	}
	if err := a.f.Truncate(size); err != nil {
		return err
	}
	a.size, a.ready = size, 0
	return a.sync(a.f, a.name)
}

// clean says of a failed write that nothing was lost by it: there was no room.
// The same code from a sync, or any other error, means that the kernel may have
// dropped what it had taken.
func clean(err error) bool {
	var path *os.PathError
	return errors.As(err, &path) && path.Op != "sync" && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) ||
		errors.Is(err, berrors.ErrMaxSizeReached)
}

// The values that bbolt keeps stand behind eight bytes of SHA-256 over key and
// value: its pages carry no checksum.
const sumSize = 8

func withSum(key, value []byte) []byte {
	return append(checksum(key, value), value...)
}

func checkSum(key, stored []byte) ([]byte, error) {
	if len(stored) < sumSize || string(checksum(key, stored[sumSize:])) != string(stored[:sumSize]) {
		return nil, fmt.Errorf("%w: checksum", ErrDamaged)
	}
	return stored[sumSize:], nil
}

func checksum(key, value []byte) []byte {
	h := sha256.New()
	h.Write(key)
	h.Write(value)
	return h.Sum(nil)[:sumSize:sumSize]
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, filepath.Base(file))
	}
	return os.ReadFile(file)
}

// Free is how many bytes an ordinary user may still write at dir.
func Free(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

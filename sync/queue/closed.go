package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// The closed file stands beside the database while no program has it open: the
// SHA-256 of all that the database uses of its file, behind a checksum. A database
// that is still the same is as whole as it was in the hands of the program that
// closed it, and needs no other check, however much there is in it. After a crash
// there is no closed file.

// markClosed says, durably, what the database is now.
func (w files) markClosed(used int64) error {
	sum, err := w.hash(database, used)
	if err != nil {
		return err
	}
	return w.replace(closedFile, encodeClosed(used, sum))
}

// unmarkClosed is called before the database is used: nothing holds from here on.
// The directory is synced by the caller.
func (w files) unmarkClosed() error { return w.remove(closedFile) }

// closedAs says whether the database is what it was when it was closed.
func (w files) closedAs() bool {
	b, err := readBounded(w.path(closedFile), 256)
	if err != nil {
		return false
	}
	used, sum, err := decodeClosed(b)
	if err != nil {
		return false
	}
	now, err := w.hash(database, used)
	return err == nil && now == sum
}

func encodeClosed(used int64, sum [sha256.Size]byte) []byte {
	return withSum([]byte(closedFile), append(be(uint64(used)), sum[:]...))
}

func decodeClosed(b []byte) (used int64, sum [sha256.Size]byte, err error) {
	b, err = checkSum([]byte(closedFile), b)
	if err != nil || len(b) != 8+sha256.Size {
		return 0, sum, errors.Join(err, ErrDamaged)
	}
	return int64(binary.BigEndian.Uint64(b)), [sha256.Size]byte(b[8:]), nil
}

// hash is the SHA-256 of the first size bytes of a file.
func (w files) hash(name string, size int64) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(w.path(name))
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, f, size); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

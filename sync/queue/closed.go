package queue

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// The closed file stands beside the database while no program has it open: checksums
// of all that the database uses of its file, behind one of their own. A database that
// is still the same is as whole as it was in the hands of the program that closed it,
// and needs no other check, however much there is in it. After a crash there is no
// closed file.
//
// The checksums find what rots, not who forges: CRC-32C and CRC-32, which together
// are a CRC of 64 bits, and cost a tenth of a digest.
type closedSum struct{ castagnoli, ieee uint32 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// closeDatabase closes it so that the next opening has little to do.
func (q *Queue) closeDatabase() error {
	if !q.whole || q.fatal != nil {
		return q.db.Close()
	}
	// With its free pages, which otherwise are looked for all over the file.
	q.db.NoFreelistSync = false
	err := q.commit(func(*bolt.Tx) error { return nil })
	used := q.used()
	if err := errors.Join(ignoreFull(err), q.db.Close()); err != nil || used == 0 {
		return err
	}
	sum, err := q.sum(database, used)
	if err != nil {
		return nil // the next opening finds out why it cannot be read, and checks everything
	}
	return ignoreFull(q.replace(closedFile, encodeClosed(used, sum))) // without, the next opening checks more
}

// ignoreFull is err, but nil when there was no room.
func ignoreFull(err error) error {
	if clean(err) {
		return nil
	}
	return err
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
	now, err := w.sum(database, used)
	return err == nil && now == sum
}

func encodeClosed(used int64, sum closedSum) []byte {
	b := be(uint64(used))
	b = binary.BigEndian.AppendUint32(b, sum.castagnoli)
	b = binary.BigEndian.AppendUint32(b, sum.ieee)
	return withSum([]byte(closedFile), b)
}

func decodeClosed(b []byte) (used int64, sum closedSum, err error) {
	b, err = checkSum([]byte(closedFile), b)
	if err != nil || len(b) != 16 {
		return 0, sum, errors.Join(err, ErrDamaged)
	}
	return int64(binary.BigEndian.Uint64(b)), closedSum{binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])}, nil
}

// sum is that of the first size bytes of a file.
func (w files) sum(name string, size int64) (sum closedSum, err error) {
	f, err := os.Open(w.path(name))
	if err != nil {
		return sum, err
	}
	defer f.Close()
	b := make([]byte, min(size, 256<<10))
	for size > 0 {
		n, err := io.ReadFull(f, b[:min(size, int64(len(b)))])
		if err != nil {
			return sum, err
		}
		sum.castagnoli = crc32.Update(sum.castagnoli, castagnoli, b[:n])
		sum.ieee = crc32.Update(sum.ieee, crc32.IEEETable, b[:n])
		size -= int64(n)
	}
	return sum, nil
}

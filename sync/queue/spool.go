package queue

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A spool file is one record, as it was put:
//
//	magic "EKSPOOL1" | id 32 | seq 8 | put 8 | head length 4 | data length 4 | head | data | SHA-256 of all before
//
// Numbers are big-endian; put is nanoseconds since 1970; a head length of
// noHead means that the item had none.
const (
	spoolMagic  = "EKSPOOL1"
	spoolHeader = len(spoolMagic) + 32 + 8 + 8 + 4 + 4
	noHead      = 1<<32 - 1
	maxHead     = 64 << 10
)

type spooled struct {
	Item
	seq uint64
	put time.Time
}

func encodeSpool(item Item, seq uint64, put time.Time) []byte {
	b := make([]byte, 0, spoolHeader+len(item.Head)+len(item.Data)+sha256.Size)
	b = append(b, spoolMagic...)
	b = append(b, item.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, uint64(put.UnixNano()))
	n := uint32(noHead)
	if item.Head != nil {
		n = uint32(len(item.Head))
	}
	b = binary.BigEndian.AppendUint32(b, n)
	b = binary.BigEndian.AppendUint32(b, uint32(len(item.Data)))
	b = append(b, item.Head...)
	b = append(b, item.Data...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeSpool(b []byte) (s spooled, err error) {
	bad := fmt.Errorf("%w: spool file", ErrDamaged)
	if len(b) < spoolHeader+sha256.Size || string(b[:len(spoolMagic)]) != spoolMagic {
		return s, bad
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return s, bad
	}
	p := body[len(spoolMagic):]
	s.ID, p = ID(p[:32]), p[32:]
	s.seq, p = binary.BigEndian.Uint64(p), p[8:]
	s.put, p = time.Unix(0, int64(binary.BigEndian.Uint64(p))).UTC(), p[8:]
	heads, datas, p := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:]), p[8:]
	if heads != noHead {
		if heads > maxHead || uint64(len(p)) < uint64(heads) {
			return s, bad
		}
		s.Head, p = p[:heads:heads], p[heads:]
	}
	if uint64(len(p)) != uint64(datas) || datas == 0 || datas > MaxData {
		return s, bad
	}
	s.Data = p
	return s, nil
}

func readSpool(file string) (spooled, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return spooled{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !info.Mode().IsRegular() || info.Size() > int64(spoolHeader+maxHead+MaxData+sha256.Size) {
		return spooled{}, fmt.Errorf("%w: spool file", ErrDamaged)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return spooled{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return decodeSpool(b)
}

// tmpSuffix marks a file that was being written; after a crash it is nothing.
const tmpSuffix = ".tmp"

// writeFile makes name in dir hold b, durably, or leaves it as it was: written
// beside, synced, renamed, directory synced.
func writeFile(dir, name string, b []byte) (err error) {
	tmp := filepath.Join(dir, name+tmpSuffix)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err = os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// removeFile removes name from dir; that it is gone already is fine. The
// removal need not be durable: a file too many is found at the next opening.
func removeFile(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if closeErr := d.Close(); err == nil {
		err = closeErr
	}
	return err
}

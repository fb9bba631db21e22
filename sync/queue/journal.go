package queue

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// The journal is the second copy of what becomes of records: a line is appended
// and synced before bbolt is told. It is read when the database was lost, and
// for a receipt that bbolt holds damaged. A line is
//
//	SHA-256 of the rest, hexadecimal | space | JSON | line feed
//
// and a damaged or cut one costs no other. The last line about a record counts. When
// the journal has become too long it is written anew, without the oldest lines of
// records that are in the history.
type journal struct {
	appender
	mu   sync.RWMutex // f is replaced under it
	torn bool         // what a crash left at the end is no whole line
	from int64        // size after it was last made shorter
}

// ending is a line of the journal.
type ending struct {
	Record  string `json:"record"` // id, hexadecimal
	Entry   Entry  `json:"entry"`  // state receipted or quarantined
	Receipt []byte `json:"receipt,omitempty"`
}

// maxLine bounds a line: receipt or evidence in base64, twice over for the rest.
const maxLine = 4 * MaxReceipt

func openJournal(w files) (*journal, error) {
	f, err := os.OpenFile(w.path(journalFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{appender: appender{files: w, name: journalFile, f: f}}
	last := []byte{'\n'}
	if j.size, err = f.Seek(0, io.SeekEnd); err == nil && j.size > 0 {
		_, err = f.ReadAt(last, j.size-1)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	j.torn = last[0] != '\n'
	return j, nil
}

// add appends lines, durably.
func (j *journal) add(lines []byte) error {
	if j.torn {
		lines = append([]byte{'\n'}, lines...)
	}
	if err := j.append(lines); err != nil {
		return err
	}
	j.torn = false
	return nil
}

// shorten writes the journal anew: with all lines of records that are needed, and of the
// others those in its last bytes. The new one is whole and synced before it takes
// the name.
func (j *journal) shorten(last int64, needed func(ID) (bool, error)) error {
	if j.size < 2*j.from {
		return nil // it has just been done
	}
	var kept []byte
	_, err := j.eachLine(func(id ID, _ ending, line []byte, at int64) error {
		keep := at >= j.size-last
		if !keep {
			var err error
			if keep, err = needed(id); err != nil {
				return err
			}
		}
		if keep {
			kept = append(append(kept, line...), '\n')
		}
		return nil
	})
	if err == nil {
		err = j.replace(journalFile, kept)
	}
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	f, err := os.OpenFile(j.path(journalFile), os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	j.f.Close()
	j.f, j.size, j.torn, j.from = f, int64(len(kept)), false, int64(len(kept))
	return nil
}

func encodeEnding(e ending) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	return fmt.Appendf(nil, "%x %s\n", sum, b), nil
}

func decodeEnding(line []byte) (e ending, id ID, err error) {
	bad := fmt.Errorf("%w: journal line", ErrDamaged)
	sum, text, ok := bytes.Cut(line, []byte{' '})
	want := sha256.Sum256(text)
	if !ok || string(sum) != hex.EncodeToString(want[:]) {
		return e, id, bad
	}
	if json.Unmarshal(text, &e) != nil {
		return e, id, bad
	}
	raw, err := hex.DecodeString(e.Record)
	receipted := e.Entry.State == Receipted && len(e.Receipt) > 0 && len(e.Receipt) <= MaxReceipt
	if err != nil || len(raw) != len(id) || len(e.Entry.Digest) != sha256.Size || !receipted && (e.Entry.State != Quarantined || len(e.Receipt) > 0) {
		return e, id, bad
	}
	e.Entry.ID = ID(raw)
	return e, e.Entry.ID, nil
}

// each calls f with every good line and counts the others.
func (j *journal) each(f func(ID, ending) error) (bad int, err error) {
	return j.eachLine(func(id ID, e ending, _ []byte, _ int64) error { return f(id, e) })
}

// eachLine is each, with the line itself and where it stands.
func (j *journal) eachLine(f func(id ID, e ending, line []byte, at int64) error) (bad int, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	r := bufio.NewReaderSize(io.NewSectionReader(j.f, 0, 1<<62), maxLine)
	at := int64(0)
	for {
		start := at
		line, err := r.ReadSlice('\n')
		at += int64(len(line))
		tooLong := false
		for errors.Is(err, bufio.ErrBufferFull) {
			tooLong = true
			var more []byte
			more, err = r.ReadSlice('\n')
			at += int64(len(more))
		}
		if err != nil && err != io.EOF {
			return bad, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if line := bytes.TrimSuffix(line, []byte{'\n'}); tooLong {
			bad++
		} else if len(line) > 0 {
			if e, id, decodeErr := decodeEnding(line); decodeErr != nil {
				bad++
			} else if err := f(id, e, line, start); err != nil {
				return bad, err
			}
		}
		if err == io.EOF {
			return bad, nil
		}
	}
}

// find finds what became of a record; ErrUnknown.
func (j *journal) find(id ID) (found ending, err error) {
	unknown := true
	if _, err = j.each(func(other ID, e ending) error {
		if other == id {
			found, unknown = e, false
		}
		return nil
	}); err == nil && unknown {
		err = ErrUnknown
	}
	return found, err
}

func (j *journal) close() error { return j.f.Close() }

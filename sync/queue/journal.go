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
)

// The journal is the second copy of what becomes of records: a line is appended
// and synced before bbolt is told. It is read when the database was lost, and
// for a receipt that bbolt holds damaged. A line is
//
//	SHA-256 of the rest, hexadecimal | space | JSON | line feed
//
// and a damaged or cut one costs no other. The last line about a record counts.
type journal struct {
	appender
	torn bool // what a crash left at the end is no whole line
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

// add appends a line, durably.
func (j *journal) add(e Entry, receipt []byte) error {
	line, err := encodeEnding(ending{Record: e.ID.String(), Entry: e, Receipt: receipt})
	if err != nil {
		return err
	}
	if j.torn {
		line = append([]byte{'\n'}, line...)
	}
	if err := j.append(line); err != nil {
		return err
	}
	j.torn = false
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
	r := bufio.NewReaderSize(io.NewSectionReader(j.f, 0, 1<<62), maxLine)
	for {
		line, err := r.ReadSlice('\n')
		tooLong := false
		for errors.Is(err, bufio.ErrBufferFull) {
			tooLong = true
			_, err = r.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return bad, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if line := bytes.TrimSuffix(line, []byte{'\n'}); tooLong {
			bad++
		} else if len(line) > 0 {
			if e, id, decodeErr := decodeEnding(line); decodeErr != nil {
				bad++
			} else if err := f(id, e); err != nil {
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

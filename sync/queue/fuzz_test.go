package queue

import (
	"bytes"
	"testing"
	"time"
)

// Whatever stands in a file of the spool: no panic, what is taken for a frame is
// exactly one, and frames and other bytes add up to the file.
func FuzzSpool(f *testing.F) {
	at := time.Unix(1, 2).UTC()
	one := encodeFrame(Item{ID: ID{1}, Data: []byte("data"), Head: []byte("head")}, 7, at)
	two := encodeFrame(Item{ID: ID{2}, Data: []byte(frameMagic)}, 8, at)
	f.Add(one)
	f.Add(append(bytes.Clone(two), one...))
	f.Add(append([]byte(frameMagic), one...))
	f.Add(one[:len(one)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := 0
		bad, tail := scan(b, func(r spooled, offset int64, size int) {
			sum += size
			if again := encodeFrame(r.Item, r.seq, r.put); !bytes.Equal(again, b[offset:offset+int64(size)]) {
				t.Errorf("frame at %d is %x, reads as %x", offset, b[offset:offset+int64(size)], again)
			}
		})
		if bad != (sum < len(b)) || tail && !bad {
			t.Errorf("%d of %d bytes in frames, bad %v, tail %v", sum, len(b), bad, tail)
		}
		// What comes after is found all the same.
		found := false
		scan(append(bytes.Clone(b), one...), func(r spooled, _ int64, _ int) { found = found || r.ID == ID{1} && r.seq == 7 })
		if !found && !bytes.HasSuffix(b, one) {
			t.Error("a frame after this is lost")
		}
	})
}

// Whatever a journal's line is: no panic, and a line that is taken is of a kind
// that the queue writes.
func FuzzJournal(f *testing.F) {
	e := Entry{ID: ID{1}, State: Receipted, Seq: 1, Size: 4, Digest: digest([]byte("data")), Receipt: digest([]byte("r"))}
	line, err := encodeEnding(ending{Record: e.ID.String(), Entry: e, Receipt: []byte("r")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line[:len(line)-1])
	f.Add([]byte("00 {}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, id, err := decodeEnding(b)
		if err != nil {
			return
		}
		if e.Entry.ID != id || len(e.Entry.Digest) != 32 || e.Entry.State != Receipted && e.Entry.State != Quarantined {
			t.Errorf("%s is taken as %+v", b, e)
		}
	})
}

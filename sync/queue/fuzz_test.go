package queue

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"
)

// Whatever stands in a file of the spool: no panic, what is taken for a frame is
// exactly one, and other bytes are noticed, but for zeroes at the end.
func FuzzSpool(f *testing.F) {
	at := time.Unix(1, 2).UTC()
	made := func(id ID, data, head string, seq uint64) []byte {
		i := Item{ID: id, Data: []byte(data)}
		if head != "" {
			i.Head = []byte(head)
		}
		return appendFrame(nil, spooled{i, seq, at, sha256.Sum256(i.Data)})
	}
	one, two := made(ID{1}, "data", "head", 7), made(ID{2}, frameMagic, "", 8)
	f.Add(one)
	f.Add(append(bytes.Clone(two), one...))
	f.Add(append([]byte(frameMagic), one...))
	f.Add(one[:len(one)-1])
	f.Add(append(bytes.Clone(one), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := int64(0)
		bad := scan(b, func(r spooled, offset int64, size int) {
			if offset == sum {
				sum += int64(size)
			}
			if again := appendFrame(nil, r); !bytes.Equal(again, b[offset:offset+int64(size)]) {
				t.Errorf("frame at %d is %x, reads as %x", offset, b[offset:offset+int64(size)], again)
			}
		})
		rest := bytes.TrimRight(b[sum:], "\x00")
		if bad >= 0 && bad < sum || (bad < 0) != (len(rest) == 0) {
			t.Errorf("frames from the start up to %d, bad %d, %d bytes behind them", sum, bad, len(rest))
		}
		// What comes after is found all the same.
		found := false
		scan(append(bytes.Clone(b), one...), func(r spooled, _ int64, _ int) { found = found || r.ID == ID{1} && r.seq == 7 })
		if !found && !bytes.HasSuffix(b, one) {
			t.Error("a frame after this is lost")
		}
	})
}

// Whatever stands in the file of a closed queue: no panic, and what is taken for one is
// written the same again.
func FuzzClosed(f *testing.F) {
	whole := encodeClosed(8192, closedSum{1, 2})
	f.Add(whole)
	f.Add(whole[1:])
	f.Add(append(bytes.Clone(whole), 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, withSum([]byte(closedFile), b)} {
			if used, sum, err := decodeClosed(b); err == nil && !bytes.Equal(encodeClosed(used, sum), b) {
				t.Errorf("%x is taken", b)
			}
		}
	})
}

// Whatever stands for an entry: no panic, and what is taken for one is written the
// same again.
func FuzzEntry(f *testing.F) {
	at := time.Unix(1, 2).UTC()
	for _, e := range []Entry{
		{State: Queued, at: place{1, 2, 300}, Size: 4, Digest: digest(nil), Put: at},
		{State: Purged, Size: 4, Digest: digest(nil), Put: at, Done: at, Receipt: digest([]byte("r"))},
		{State: Quarantined, Size: 4, Digest: digest(nil), Put: at, Done: at, Reason: &Reason{Code: "c", Evidence: []byte("e")}},
	} {
		b, err := encodeEntry(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k := be(7)
		e, err := decodeEntry(k, withSum(k, b))
		if err != nil {
			return
		}
		again, err := encodeEntry(e)
		if err != nil || e.Reason == nil && !bytes.Equal(again, b) && !bytes.HasSuffix(b, []byte("null")) {
			t.Errorf("%x is taken as %+v, which is %x, %v", b, e, again, err)
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

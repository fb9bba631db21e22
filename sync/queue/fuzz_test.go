package queue

import (
	"bytes"
	"testing"
	"time"
)

// Whatever stands in a file of the spool: no panic, what is taken for a frame is
// exactly one, and other bytes are noticed, but for zeroes at the end and an index.
func FuzzSpool(f *testing.F) {
	at := time.Unix(1, 2).UTC()
	one := appendFrame(nil, spooled{Item{ID: ID{1}, Data: []byte("data"), Head: []byte("head")}, 7, at})
	two := appendFrame(nil, spooled{Item{ID: ID{2}, Data: []byte(frameMagic)}, 8, at})
	f.Add(one)
	f.Add(append(bytes.Clone(two), one...))
	f.Add(append([]byte(frameMagic), one...))
	f.Add(one[:len(one)-1])
	f.Add(append(bytes.Clone(one), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum, end := int64(0), int64(0)
		size, bad := scan(b, func(r spooled, offset int64, size int) {
			if offset == sum {
				sum += int64(size)
			}
			end = offset + int64(size)
			if again := appendFrame(nil, r); !bytes.Equal(again, b[offset:offset+int64(size)]) {
				t.Errorf("frame at %d is %x, reads as %x", offset, b[offset:offset+int64(size)], again)
			}
		})
		rest := bytes.TrimRight(b[sum:], "\x00")
		if size != end || bad >= 0 && bad < sum || bad >= 0 && len(rest) == 0 {
			t.Errorf("frames up to %d, from the start up to %d, bad %d", size, sum, bad)
		}
		if bad < 0 && len(rest) > 0 && !bytes.HasPrefix(rest, []byte(indexMagic)) {
			t.Errorf("bytes in no frame at %d are not noticed", sum)
		}
		// What comes after is found all the same.
		found := false
		scan(append(bytes.Clone(b), one...), func(r spooled, _ int64, _ int) { found = found || r.ID == ID{1} && r.seq == 7 })
		if !found && !bytes.HasSuffix(b, one) {
			t.Error("a frame after this is lost")
		}
	})
}

// Whatever stands at the end of a file of the spool: no panic, and what is taken for
// an index is exactly one.
func FuzzIndex(f *testing.F) {
	s := spool{at: map[ID]place{{1}: {3, 0, 200, 7, [32]byte{9}}, {2}: {3, 200, 300, 8, [32]byte{8}}, {3}: {4, 0, 99, 9, [32]byte{}}}, live: map[uint64]int{}}
	f.Add(s.index(3))
	f.Add(s.index(5))
	f.Add(s.index(4)[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, n, err := decodeIndex(b, 3)
		if err != nil {
			return
		}
		again := spool{at: map[ID]place{}}
		for _, f := range frames {
			again.at[f.id] = f.place
		}
		if len(again.at) == len(frames) && n != len(again.index(3)) {
			t.Errorf("%x reads as %v", b, frames)
		}
	})
}

// Whatever stands for an entry: no panic, and what is taken for one is written the
// same again.
func FuzzEntry(f *testing.F) {
	at := time.Unix(1, 2).UTC()
	for _, e := range []Entry{
		{State: Queued, Seq: 1, Size: 4, Digest: digest(nil), Put: at},
		{State: Purged, Seq: 2, Size: 4, Digest: digest(nil), Put: at, Done: at, Receipt: digest([]byte("r"))},
		{State: Quarantined, Seq: 3, Size: 4, Digest: digest(nil), Put: at, Done: at, Reason: &Reason{Code: "c", Evidence: []byte("e")}},
	} {
		b, err := encodeEntry(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id := ID{1}
		e, err := decodeEntry(id[:], withSum(id[:], b))
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

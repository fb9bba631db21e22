package crashlab

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// sector returns a write of n sectors filled with v.
func write(d *Disk, v byte, sector, n int) {
	d.add(event{data: bytes.Repeat([]byte{v}, n*sectorSize), off: int64(sector * sectorSize)})
}

func at(i Image, sector int) byte {
	b := make([]byte, sectorSize)
	i.blocks.read(b, int64(sector*sectorSize))
	if !bytes.Equal(b, bytes.Repeat(b[:1], sectorSize)) {
		panic("a sector is torn")
	}
	return b[0]
}

// What was flushed is there after every cut; of what was not, each write may be
// there or not, whatever came before it; torn ones in part. Nothing that was
// written after the cut is.
func TestCuts(t *testing.T) {
	d := NewDisk(1 << 20)
	write(d, 1, 0, 16)
	rec := Record(d)
	write(d, 2, 0, 4)
	rec.Note("a")
	d.add(event{flush: true})
	rec.Note("b")
	write(d, 3, 8, 4)
	write(d, 4, 12, 4)
	r := rec.Stop()
	write(d, 9, 0, 1)
	if r.Len() != 6 {
		t.Fatalf("%d events", r.Len())
	}
	seen := map[string]int{}
	r.Cuts(2000, rand.New(rand.NewPCG(1, 2)), func(c Cut) bool {
		if at(c.Images[0], 4) != 1 {
			t.Fatalf("cut %d: what was there before the recording is gone", c.At)
		}
		if c.At >= 3 && at(c.Images[0], 0) != 2 {
			t.Fatalf("cut %d: a flushed write is gone", c.At)
		}
		if c.At == 0 && at(c.Images[0], 0) != 1 || c.At <= 4 && at(c.Images[0], 8) != 1 || c.At <= 5 && at(c.Images[0], 12) != 1 {
			t.Fatalf("cut %d: a write of later", c.At)
		}
		if want := min(max(c.At, 1), 2) - 1; c.At < 4 && len(c.Notes) != want || c.At >= 4 && len(c.Notes) != 2 {
			t.Fatalf("cut %d: notes %q", c.At, c.Notes)
		}
		whole := map[bool]string{true: "torn", false: "whole"}[at(c.Images[0], 8) != at(c.Images[0], 9) || at(c.Images[0], 9) != at(c.Images[0], 10)]
		if whole == "torn" && !c.Torn {
			t.Fatalf("cut %d: torn", c.At)
		}
		seen[whole]++
		if c.At == 6 && at(c.Images[0], 8) == 1 && at(c.Images[0], 12) == 4 {
			seen["out of order"]++
		}
		if c.At == 1 {
			seen[map[byte]string{1: "lost", 2: "kept"}[at(c.Images[0], 0)]]++
		}
		return true
	})
	for _, what := range []string{"torn", "whole", "out of order", "lost", "kept"} {
		if seen[what] == 0 {
			t.Errorf("no cut was %s: %v", what, seen)
		}
	}
}

func TestReadBack(t *testing.T) {
	d := NewDisk(1 << 20)
	data := make([]byte, 10000)
	for i := range data {
		data[i] = byte(i%251) + 1
	}
	d.add(event{data: data, off: 4095})
	got := make([]byte, 10002)
	d.now.read(got, 4094)
	if got[0] != 0 || got[10001] != 0 || !bytes.Equal(got[1:10001], data) {
		t.Error("what was written is not read")
	}
	d.add(event{data: make([]byte, 20000), off: 0})
	if len(d.now) != 0 {
		t.Errorf("%d blocks of zeroes are kept", len(d.now))
	}
}

// Disks are cut at one moment, and a flush of one says nothing about another; that
// of a disk that lies says nothing at all.
func TestTwoDisks(t *testing.T) {
	a, b := NewDisk(1<<20), NewDisk(1<<20)
	rec := Record(a, b)
	write(a, 1, 0, 1)
	write(b, 2, 0, 1)
	a.add(event{flush: true})
	rec.Note("flushed")
	write(b, 3, 0, 1)
	b.add(event{flush: true})
	r := rec.Stop()
	for _, lying := range []bool{false, true} {
		seen := map[[2]byte]bool{}
		if lying {
			r = r.Lying(0)
		}
		r.Cuts(2000, rand.New(rand.NewPCG(1, 2)), func(c Cut) bool {
			got := [2]byte{at(c.Images[0], 0), at(c.Images[1], 0)}
			seen[got] = true
			if !lying && c.At >= 3 && got[0] != 1 || c.At < 5 && got[1] == 3 || c.At == 6 && got[1] != 3 || (c.At >= 4) != (len(c.Notes) == 1) {
				t.Fatalf("cut %d of disks that lie (%v): %v, %q", c.At, lying, got, c.Notes)
			}
			return true
		})
		if !seen[[2]byte{1, 0}] || !seen[[2]byte{1, 2}] || !seen[[2]byte{0, 2}] || seen[[2]byte{0, 3}] != lying {
			t.Errorf("lying %v: %v", lying, seen)
		}
	}
}

func TestWhile(t *testing.T) {
	a, b := NewDisk(1<<20), NewDisk(1<<20)
	rec := Record(a, b)
	write(a, 1, 0, 1)
	rec.Note("between")
	write(b, 2, 0, 1)
	write(a, 3, 0, 1)
	b.add(event{flush: true})
	seen := map[int]bool{}
	rec.Stop().While(1).Cuts(100, rand.New(rand.NewPCG(1, 2)), func(c Cut) bool { seen[c.At] = true; return true })
	if len(seen) != 2 || !seen[3] || !seen[5] {
		t.Errorf("cut at %v", seen)
	}
}

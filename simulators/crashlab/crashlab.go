// Package crashlab cuts the power of a real file system. A disk of its own, served
// through FUSE and put under a loop device, records every write and every flush
// that the kernel makes while some program works on it. Afterwards the disk can be
// had as any power cut would have left it: all writes up to the last flush, and of
// the later ones any, whole or torn, in any order.
//
// It needs root, /dev/fuse and loop devices; the mkfs of the file system. Mounts and
// devices are the caller's to end, by the functions that are returned, and end with
// the mount namespace of the process if they are not.
package crashlab

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
)

// Sizes in bytes. A sector is what a disk writes whole or not at all.
const (
	blockSize  = 4096
	sectorSize = 512
)

// blocks is what a disk holds: by number the blocks that are not zero. A block,
// once stored, does not change, so that copies of the map share them.
type blocks map[int64][]byte

func (b blocks) write(data []byte, off int64) {
	for len(data) > 0 {
		n, at := off/blockSize, off%blockSize
		now := make([]byte, blockSize)
		copy(now, b[n])
		k := copy(now[at:], data)
		if slices.Max(now) == 0 {
			delete(b, n)
		} else {
			b[n] = now
		}
		data, off = data[k:], off+int64(k)
	}
}

func (b blocks) read(dest []byte, off int64) {
	clear(dest)
	for len(dest) > 0 {
		n, at := off/blockSize, off%blockSize
		k := min(int64(len(dest)), blockSize-at)
		if have := b[n]; have != nil {
			copy(dest[:k], have[at:])
		}
		dest, off = dest[k:], off+k
	}
}

// Disk is a disk in memory that records what happens to it.
type Disk struct {
	size int64

	mu        sync.Mutex
	now       blocks
	base      blocks // nil: not recording
	events    []event
	recording bool
}

// event is a write, a flush, or a note.
type event struct {
	data  []byte
	off   int64
	flush bool
	note  string
}

// NewDisk makes an empty disk of size bytes.
func NewDisk(size int64) *Disk { return &Disk{size: size, now: blocks{}} }

// Size is the disk's, in bytes.
func (d *Disk) Size() int64 { return d.size }

// Record begins to record; what is on the disk now survives every cut.
func (d *Disk) Record() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.base, d.events, d.recording = maps.Clone(d.now), nil, true
}

// Note puts text between the writes: what was promised by then.
func (d *Disk) Note(text string) { d.add(event{note: text}) }

// Stop ends the recording and returns it.
func (d *Disk) Stop() *Recording {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recording = false
	return &Recording{size: d.size, base: d.base, events: d.events}
}

func (d *Disk) add(e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.data != nil {
		d.now.write(e.data, e.off)
	}
	if d.recording {
		d.events = append(d.events, e)
	}
}

// Recording is what happened on a disk.
type Recording struct {
	size   int64
	base   blocks
	events []event
}

// Len is the number of writes, flushes and notes.
func (r *Recording) Len() int { return len(r.events) }

// Cut is what a power cut leaves.
type Cut struct {
	At    int      // events before it
	Torn  bool     // writes may be torn
	Notes []string // made before it
	Image Image
}

// Image is the content of a disk.
type Image struct {
	size   int64
	blocks blocks
}

// Cuts makes n cuts at chance places, every second one torn, and calls f with each
// in the order of their places until it returns false.
func (r *Recording) Cuts(n int, chance *rand.Rand, f func(Cut) bool) {
	places := make([]int, n)
	for i := range places {
		places[i] = chance.IntN(len(r.events) + 1)
	}
	slices.Sort(places)
	durable := maps.Clone(r.base)
	flushed, seen := 0, 0 // events[:flushed] are in durable, events[:seen] looked at
	var notes []string
	for i, at := range places {
		for ; seen < at; seen++ {
			switch e := r.events[seen]; {
			case e.flush:
				for ; flushed < seen; flushed++ {
					if w := r.events[flushed]; w.data != nil {
						durable.write(w.data, w.off)
					}
				}
			case e.data == nil:
				notes = append(notes, e.note)
			}
		}
		cut := Cut{At: at, Torn: i%2 == 1, Notes: slices.Clone(notes), Image: Image{r.size, maps.Clone(durable)}}
		for _, e := range r.events[flushed:at] {
			if e.data != nil && chance.IntN(2) == 0 {
				cut.Image.blocks.some(e, cut.Torn && chance.IntN(2) == 0, chance)
			}
		}
		if !f(cut) {
			return
		}
	}
}

// some writes e, or when it is torn some of its sectors.
func (b blocks) some(e event, torn bool, chance *rand.Rand) {
	if !torn {
		b.write(e.data, e.off)
		return
	}
	for at := 0; at < len(e.data); at += sectorSize {
		if chance.IntN(2) == 0 {
			b.write(e.data[at:min(at+sectorSize, len(e.data))], e.off+int64(at))
		}
	}
}

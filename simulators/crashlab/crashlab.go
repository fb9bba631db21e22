// Package crashlab cuts the power of a real file system. A disk of its own, served
// through FUSE and put under a loop device, records every write and every flush
// that the kernel makes while some program works on it. Afterwards the disk can be
// had as any power cut would have left it: all writes up to the last flush, and of
// the later ones any, whole or torn, in any order. Several disks are cut at the same
// moment.
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

// Disk is a disk in memory.
type Disk struct {
	size int64

	mu     sync.Mutex
	now    blocks
	events *Recorder // nil: nothing is recorded
	number int       // there
}

// event is a write to a disk, a flush of one, or a note.
type event struct {
	disk  int
	data  []byte
	off   int64
	flush bool
	note  string
}

// NewDisk makes an empty disk of size bytes.
func NewDisk(size int64) *Disk { return &Disk{size: size, now: blocks{}} }

// Size is the disk's, in bytes.
func (d *Disk) Size() int64 { return d.size }

func (d *Disk) add(e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e.data != nil {
		d.now.write(e.data, e.off)
	}
	if d.events != nil {
		e.disk = d.number
		d.events.add(e)
	}
}

// Recorder records what happens to disks, in one order.
type Recorder struct {
	disks []*Disk

	mu  sync.Mutex
	out Recording
}

// Record begins to record; what is on the disks now survives every cut.
func Record(disks ...*Disk) *Recorder {
	r := &Recorder{disks: disks}
	for i, d := range disks {
		d.mu.Lock()
		r.out.sizes, r.out.bases = append(r.out.sizes, d.size), append(r.out.bases, maps.Clone(d.now))
		d.events, d.number = r, i
		d.mu.Unlock()
	}
	return r
}

func (r *Recorder) add(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.events = append(r.out.events, e)
}

// Note puts text between the writes: what was promised by then.
func (r *Recorder) Note(text string) { r.add(event{note: text}) }

// Stop ends the recording and returns it.
func (r *Recorder) Stop() *Recording {
	for _, d := range r.disks {
		d.mu.Lock()
		d.events = nil
		d.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &r.out
}

// Recording is what happened on disks.
type Recording struct {
	sizes  []int64
	bases  []blocks
	events []event
	liars  map[int]bool
	places []int // that cuts are chosen from; nil for all
}

// Lying is the same on a disk that takes flushes and does nothing on them.
func (r *Recording) Lying(disk int) *Recording {
	lying := *r
	lying.liars = map[int]bool{disk: true}
	return &lying
}

// While is the same, cut only right after something has happened to one disk.
func (r *Recording) While(disk int) *Recording {
	some := *r
	some.places = []int{}
	for i, e := range r.events {
		if e.disk == disk && e.note == "" {
			some.places = append(some.places, i+1)
		}
	}
	return &some
}

// Len is the number of writes, flushes and notes.
func (r *Recording) Len() int { return len(r.events) }

// Cut is what a power cut leaves.
type Cut struct {
	At     int      // events before it
	Torn   bool     // writes may be torn
	Notes  []string // made before it
	Images []Image  // of the disks
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
		if places[i] = chance.IntN(len(r.events) + 1); len(r.places) > 0 {
			places[i] = r.places[chance.IntN(len(r.places))]
		}
	}
	slices.Sort(places)
	durable := make([]blocks, len(r.bases))
	late := make([][]event, len(r.bases)) // writes since the last flush
	for i, b := range r.bases {
		durable[i] = maps.Clone(b)
	}
	seen := 0
	var notes []string
	for i, at := range places {
		for ; seen < at; seen++ {
			switch e := r.events[seen]; {
			case e.flush:
				if r.liars[e.disk] {
					continue
				}
				for _, w := range late[e.disk] {
					durable[e.disk].write(w.data, w.off)
				}
				late[e.disk] = nil
			case e.data != nil:
				late[e.disk] = append(late[e.disk], e)
			default:
				notes = append(notes, e.note)
			}
		}
		cut := Cut{At: at, Torn: i%2 == 1, Notes: slices.Clone(notes)}
		for disk, b := range durable {
			image := Image{r.sizes[disk], maps.Clone(b)}
			for _, e := range late[disk] {
				if chance.IntN(2) == 0 {
					image.blocks.some(e, cut.Torn && chance.IntN(2) == 0, chance)
				}
			}
			cut.Images = append(cut.Images, image)
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

//go:build crash

package station

import (
	"bytes"
	"crypto"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/simulators/crashlab"
	"enrollkiosk/sync/queue"
)

// scripts/crash builds and starts these, in a mount namespace of their own.
var (
	driveCuts = flag.Int("cuts", 50, "power cuts while records are exported")
	driveSeed = flag.Uint64("seed", 1, "of chance")
)

// driveLab is a kiosk whose state lies on one disk and whose drive is another.
type driveLab struct {
	authority
	config Config // but for the state directory
	state  crashlab.FileSystem
	drive  crashlab.FileSystem
}

// The power is cut while records are exported, of the kiosk and of the drive in it at
// the same moment. What an export has reported is on the drive; what it was writing
// is whole or noticed, never other bytes; the queue is as if nothing had been exported;
// and the next export makes the drive whole. A drive that lies about its flushes must
// be found out.
func TestExportSurvivesPowerCuts(t *testing.T) {
	if missing := crashlab.Missing(crashlab.Ext4, crashlab.XFS); missing != "" {
		t.Fatalf("the crash lab needs: %s", missing)
	}
	for _, fs := range [][2]crashlab.FileSystem{{crashlab.Ext4, crashlab.XFS}, {crashlab.XFS, crashlab.Ext4}} {
		a := newAuthority(t)
		c, _ := a.provisioned(t)
		l := driveLab{a, c, fs[0], fs[1]}
		recording := l.record(t)
		half, lost, made := 0, 0, 0
		look := func(cut crashlab.Cut) bool {
			made++
			found, err := l.audit(t, cut)
			if err != nil {
				lost++
				t.Errorf("state on %s, drive on %s, cut at %d of %d, torn %v, after %q: %v", fs[0].Name, fs[1].Name, cut.At, recording.Len(), cut.Torn, last(cut.Notes), err)
			}
			half += found
			return lost < 5
		}
		recording.Cuts((*driveCuts+3)/4, rand.New(rand.NewPCG(*driveSeed, 1)), look)
		recording.While(1).Cuts((*driveCuts+3)/4, rand.New(rand.NewPCG(*driveSeed, 3)), look)
		if half == 0 {
			t.Errorf("no cut left a half-written drive: the cuts do not reach it")
		}
		const lies = 20
		caught := 0
		recording.While(1).Lying(1).Cuts(lies, rand.New(rand.NewPCG(*driveSeed, 2)), func(cut crashlab.Cut) bool {
			if _, err := l.audit(t, cut); err != nil {
				caught++
			}
			return true
		})
		if caught < lies/5 {
			t.Errorf("a drive that loses what it has taken was found out in %d of %d cuts", caught, lies)
		}
		t.Logf("state on %s, drive on %s: %d of %d cuts among %d writes, flushes and acknowledgements lost something; %d left the drive half-written; %d of %d found out a drive that lies",
			fs[0].Name, fs[1].Name, lost, made, recording.Len(), half, caught, lies)
	}
}

func last(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return notes[len(notes)-1]
}

// record works on two disks that record: records are put, exported, some delivered,
// and exported again. A note says what has been done.
func (l driveLab) record(t *testing.T) *crashlab.Recording {
	t.Helper()
	dir := t.TempDir()
	disks := []*crashlab.Disk{crashlab.NewDisk(l.state.Size), crashlab.NewDisk(l.drive.Size)}
	var mounted []string
	var ends []func() error
	for i, fs := range []crashlab.FileSystem{l.state, l.drive} {
		at, end, err := mountDisk(filepath.Join(dir, strconv.Itoa(i)), disks[i], fs)
		if err != nil {
			t.Fatal(err)
		}
		mounted, ends = append(mounted, at), append(ends, end)
	}
	c := l.config
	c.Kiosk.State = filepath.Join(mounted[0], "state")
	if err := os.CopyFS(c.Kiosk.State, os.DirFS(l.config.Kiosk.State)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.Kiosk.State, 0o700); err != nil {
		t.Fatal(err)
	}
	drive := mounted[1]
	syscall.Sync()
	r := crashlab.Record(disks...)
	next := 0
	for range 4 {
		with(t, c, func(q *queue.Queue) {
			var wg sync.WaitGroup
			for n := next; n < next+2*parcel.MaxItems; n++ { // together, that the drive has its share of the writes
				wg.Go(func() {
					if err := q.Put(t.Context(), recordOf(n)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			for range 2 * parcel.MaxItems {
				r.Note(fmt.Sprint("put ", next))
				next++
			}
			for n := next - 3; n < next-1; n++ {
				id := recordOf(n).ID
				if err := errors.Join(q.StoreReceipt(t.Context(), id, []byte("r")), q.Purge(t.Context(), id)); err != nil {
					t.Fatal(err)
				}
				r.Note(fmt.Sprint("deliver ", n))
			}
		})
		export(t, c, drive)
		r.Note("export 0")
	}
	out := r.Stop()
	for _, end := range ends {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
	return out
}

// mountDisk makes a file system on a disk and mounts it.
func mountDisk(dir string, disk *crashlab.Disk, fs crashlab.FileSystem) (mounted string, end func() error, err error) {
	mounted = filepath.Join(dir, "mounted")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "fuse"), 0o700), os.MkdirAll(mounted, 0o700)); err != nil {
		return "", nil, err
	}
	name, stop, err := disk.Serve(filepath.Join(dir, "fuse"))
	if err != nil {
		return "", nil, err
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	defer file.Close()
	loop, err := crashlab.Loop(file)
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	defer loop.Close()
	if err := fs.Make(loop.Name()); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	unmount, err := fs.Mount(loop.Name(), mounted)
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return mounted, func() error { return errors.Join(unmount(), stop()) }, nil
}

// audit holds what a cut has left against what was acknowledged before it. half is 1
// when something on the drive is not whole.
func (l driveLab) audit(t *testing.T, cut crashlab.Cut) (half int, err error) {
	dir := t.TempDir()
	c := l.config
	drive := filepath.Join(dir, "drive")
	c.Kiosk.State = filepath.Join(dir, "kiosk", "state")
	for i, at := range []string{filepath.Join(dir, "kiosk"), drive} {
		if err := os.Mkdir(at, 0o700); err != nil {
			return 0, err
		}
		fs := []crashlab.FileSystem{l.state, l.drive}[i]
		unmount, err := cut.Images[i].Mount(fs, at)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", at, err)
		}
		defer unmount()
	}
	// As acknowledged: what state each record is in, and what the drive holds.
	state, exported := map[int]queue.State{}, map[int]bool{}
	for _, note := range cut.Notes {
		op, number, _ := strings.Cut(note, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			return 0, err
		}
		switch op {
		case "put":
			state[n] = queue.Queued
		case "deliver":
			state[n] = queue.Purged
		case "export":
			for n, s := range state {
				exported[n] = exported[n] || s == queue.Queued
			}
		}
	}
	found, whole, err := l.onWholeParcels(drive)
	if err != nil {
		return 0, err
	}
	if !whole {
		half = 1
	}
	for n, is := range exported {
		if is && found[recordOf(n).ID] == nil {
			return half, fmt.Errorf("record %d was exported, and is not on the drive", n)
		}
	}
	waiting, err := l.states(t, c, state)
	if err != nil {
		return half, err
	}
	// The next export makes the drive whole, and changes nothing else.
	out, err := Export(t.Context(), c, drive, func(int, int) {})
	if err != nil || out.Records+out.Already != len(waiting) || len(out.Failed) > 0 {
		return half, fmt.Errorf("the next export: %+v of %d, %w", out, len(waiting), err)
	}
	if found, whole, err = l.onWholeParcels(drive); err != nil || !whole {
		return half, fmt.Errorf("after the next export the drive is whole: %v, %w", whole, err)
	}
	for _, n := range waiting {
		if found[recordOf(n).ID] == nil {
			return half, fmt.Errorf("record %d is not on the drive after the next export", n)
		}
	}
	again, err := l.states(t, c, state)
	if err != nil || len(again) != len(waiting) {
		return half, fmt.Errorf("after the next export %d records wait, before it %d: %w", len(again), len(waiting), err)
	}
	return half, nil
}

// states holds the queue against what was acknowledged, and returns who waits. The
// operation under way at the cut may have happened or not.
func (l driveLab) states(t *testing.T, c Config, want map[int]queue.State) (waiting []int, err error) {
	q, _, err := queue.Open(t.Context(), c.in(queueDir), queue.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	for n := range len(want) + 2*parcel.MaxItems {
		e, err := q.Get(t.Context(), recordOf(n).ID)
		if errors.Is(err, queue.ErrUnknown) && want[n] == "" {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("record %d, %s: %w", n, want[n], err)
		}
		if e.State != queue.Queued {
			if want[n] == "" {
				return nil, fmt.Errorf("record %d is %s and was not put", n, e.State)
			}
			continue // the delivery of one that is queued may have been under way
		}
		if want[n] == queue.Purged {
			return nil, fmt.Errorf("record %d was delivered and waits", n)
		}
		data, err := q.Data(t.Context(), e.ID)
		if err != nil || !bytes.Equal(data, recordOf(n).Data) {
			return nil, fmt.Errorf("record %d is other bytes: %w", n, err)
		}
		waiting = append(waiting, n)
	}
	return waiting, nil
}

// onWholeParcels opens what is whole on a drive, as the registry does, and says
// whether that is all of it. Nothing that opens may be other bytes than were put.
func (l driveLab) onWholeParcels(dir string) (out map[queue.ID][]byte, whole bool, err error) {
	out, whole = map[queue.ID][]byte{}, true
	d, err := parcel.OpenDrive(dir)
	if err != nil {
		return nil, false, err
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, false, err
	}
	named := map[string]bool{"lost+found": true}
	for _, e := range names {
		if filepath.Ext(e.Name()) != string(parcel.Manifests) {
			continue
		}
		s, _, err := d.Manifest(e.Name(), func(string, crypto.PublicKey) error { return nil })
		if err != nil {
			whole = false
			continue
		}
		named[e.Name()] = true
		for i, f := range s.Manifest().Files {
			named[f.Name()] = true
			b, err := d.Read(f.Name())
			if err != nil {
				whole = false
				continue
			}
			body, err := s.Open(i, b, []parcel.PrivateKey{l.exchange})
			if err != nil {
				whole = false
				continue
			}
			batch, err := api.Decode[api.Batch](bytes.NewReader(body))
			if err != nil {
				return nil, false, fmt.Errorf("what is signed and sealed is no batch: %w", err)
			}
			for _, item := range batch.Items {
				id := queue.ID(item.ID)
				if n := int(id[0])<<8 | int(id[1]); !bytes.Equal(item.Submission, recordOf(n).Data) {
					return nil, false, fmt.Errorf("record %d on the drive is other bytes", n)
				}
				out[id] = item.Submission
			}
		}
	}
	for _, e := range names {
		whole = whole && named[e.Name()]
	}
	return out, whole, nil
}

// The drive runs full in the middle of an export, for real: that is said, the queue is as
// it was, and the next export, with room, ends it.
func TestDriveRunsFull(t *testing.T) {
	a := newAuthority(t)
	c, _ := a.provisioned(t)
	const n = parcel.MaxItems*parcel.MaxFiles + 50 // two parcels
	fill(t, c, 0, n)
	before, drive := entries(t, c), t.TempDir()
	if err := syscall.Mount("tmpfs", drive, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(drive, 0)
	for _, left := range []int64{0, 30 << 10, 200 << 10} { // nothing fits, some of a file, some files
		other := filepath.Join(drive, "holiday.mp4")
		out, err := Export(t.Context(), c, drive, func(records, all int) {
			if records > 0 || all == 0 {
				return
			}
			free, err := queue.Free(drive)
			if err == nil {
				err = os.WriteFile(other, make([]byte, free-left), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		if !errors.Is(err, syscall.ENOSPC) || out.Records != 0 {
			t.Errorf("with %d bytes left: %v, %+v", left, err, out)
		}
		if after := entries(t, c); after != before {
			t.Errorf("with %d bytes left the queue is another", left)
		}
		if _, whole, err := (driveLab{authority: a}).onWholeParcels(drive); err != nil || whole {
			t.Errorf("with %d bytes left the drive is whole: %v, %v", left, whole, err)
		}
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
	}
	if out := export(t, c, drive); out.Records != n {
		t.Errorf("with room again: %+v", out)
	}
	a.holds(t, drive, 0, n)
	if after := entries(t, c); after != before {
		t.Error("the queue is another")
	}
}

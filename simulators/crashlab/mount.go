package crashlab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// FileSystem is one of those that the lab makes.
type FileSystem struct {
	Name    string
	Size    int64    // of the disk, in bytes
	make    []string // program and arguments before the device
	options string   // of mount
}

// The file systems. XFS wants 300 MiB, of which most stays zero; its images have
// one UUID, and several may be mounted at a time.
var (
	Ext4 = FileSystem{"ext4", 96 << 20, []string{"mkfs.ext4", "-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"}, ""}
	XFS  = FileSystem{"xfs", 300 << 20, []string{"mkfs.xfs", "-q", "-f", "-K"}, "nouuid"}
)

// Missing names what the machine lacks for these file systems; "" is nothing.
func Missing(systems ...FileSystem) string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root")
	}
	for _, dev := range []string{"/dev/fuse", "/dev/loop-control"} {
		f, err := os.OpenFile(dev, os.O_RDWR, 0)
		if err != nil {
			missing = append(missing, dev)
			continue
		}
		f.Close()
	}
	known, _ := os.ReadFile("/proc/filesystems")
	for _, s := range systems {
		if _, err := exec.LookPath(s.make[0]); err != nil {
			missing = append(missing, s.make[0])
		}
		has := false
		for line := bufio.NewScanner(strings.NewReader(string(known))); line.Scan(); {
			has = has || strings.TrimSpace(strings.TrimPrefix(line.Text(), "nodev")) == s.Name
		}
		if !has {
			missing = append(missing, "a kernel with "+s.Name)
		}
	}
	return strings.Join(missing, ", ")
}

// Make makes the file system on a device.
func (s FileSystem) Make(device string) error {
	args := append(s.make[1:len(s.make):len(s.make)], device)
	if out, err := exec.Command(s.make[0], args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", s.make[0], err, out)
	}
	return nil
}

// Mount mounts a device at dir.
func (s FileSystem) Mount(device, dir string) (unmount func() error, err error) {
	if err := unix.Mount(device, dir, s.Name, 0, s.options); err != nil {
		return nil, fmt.Errorf("mount %s on %s: %w", s.Name, device, err)
	}
	return func() error {
		for range 100 {
			if err = unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
		return fmt.Errorf("unmount %s: %w", s.Name, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH)))
	}, nil
}

// Loop puts a loop device over an open file. The device goes when it is closed
// and nothing is mounted from it.
func Loop(backing *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a loop device: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		c := unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &c); err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up a loop device: %w", err)
		}
		time.Sleep(5 * time.Millisecond) // another has taken it
	}
	return nil, errors.New("no loop device is free")
}

// Mount mounts a disk's content at dir, in memory.
func (i Image) Mount(s FileSystem, dir string) (unmount func() error, err error) {
	fd, err := unix.MemfdCreate("crashlab", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "image")
	defer file.Close()
	if err := file.Truncate(i.size); err != nil {
		return nil, err
	}
	for n, b := range i.blocks {
		if _, err := file.WriteAt(b, n*blockSize); err != nil {
			return nil, err
		}
	}
	loop, err := Loop(file)
	if err != nil {
		return nil, err
	}
	defer loop.Close()
	return s.Mount(loop.Name(), dir)
}

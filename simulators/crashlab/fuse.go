package crashlab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Serve shows the disk as the file that is returned, in dir, through FUSE. Every
// write reaches the disk at once and in the order of the block layer: there is no
// cache in between.
func (d *Disk) Serve(dir string) (file string, stop func() error, err error) {
	root := &fs.Inode{}
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "crashlab", Name: "crashlab", MaxWrite: 1 << 20},
		OnAdd: func(ctx context.Context) {
			root.AddChild("disk", root.NewPersistentInode(ctx, &diskFile{disk: d}, fs.StableAttr{Mode: syscall.S_IFREG}), true)
		},
	})
	if err != nil {
		return "", nil, fmt.Errorf("mount a FUSE file system: %w", err)
	}
	return filepath.Join(dir, "disk"), func() error {
		err := server.Unmount()
		if err != nil {
			err = errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH))
		}
		return err
	}, nil
}

type diskFile struct {
	fs.Inode
	disk *Disk
}

var (
	_ fs.NodeOpener    = (*diskFile)(nil)
	_ fs.NodeGetattrer = (*diskFile)(nil)
	_ fs.NodeReader    = (*diskFile)(nil)
	_ fs.NodeWriter    = (*diskFile)(nil)
	_ fs.NodeFsyncer   = (*diskFile)(nil)
	_ fs.NodeAllocater = (*diskFile)(nil)
)

func (f *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (f *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = syscall.S_IFREG|0o600, uint64(f.disk.size)
	return 0
}

func (f *diskFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	dest = dest[:max(0, min(int64(len(dest)), f.disk.size-off))]
	f.disk.now.read(dest, off)
	return fuse.ReadResultData(dest), 0
}

func (f *diskFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if off+int64(len(data)) > f.disk.size {
		return 0, syscall.ENOSPC
	}
	f.disk.add(event{data: slices.Clone(data), off: off})
	return uint32(len(data)), 0
}

func (f *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.add(event{flush: true})
	return 0
}

// Allocate is how a loop device passes discards and zeroes on; refused, the
// kernel writes the zeroes.
func (f *diskFile) Allocate(context.Context, fs.FileHandle, uint64, uint64, uint32) syscall.Errno {
	return syscall.ENOTSUP
}

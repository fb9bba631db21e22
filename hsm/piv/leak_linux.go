package piv

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// daemonSockets are this process's connections to the PC/SC service: inode to
// descriptor.
func daemonSockets() map[string]int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	path := os.Getenv("PCSCLITE_CSOCK_NAME")
	found := map[string]int{}
	for _, e := range entries {
		inode, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || !strings.HasPrefix(inode, "socket:") {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		peer, err := syscall.Getpeername(fd)
		if err != nil {
			continue
		}
		if u, ok := peer.(*syscall.SockaddrUnix); ok && u.Name != "" && (u.Name == path || filepath.Base(u.Name) == "pcscd.comm") {
			found[inode] = fd
		}
	}
	return found
}

// hangUpNewer ends the one connection that is not in before; the service then
// drops what hung on it. If there are several, it cannot tell which and leaves
// them. The descriptor stays open: it is the C library's.
func hangUpNewer(before map[string]int) {
	var added []int
	for inode, fd := range daemonSockets() {
		if _, old := before[inode]; !old {
			added = append(added, fd)
		}
	}
	if before != nil && len(added) == 1 {
		syscall.Shutdown(added[0], syscall.SHUT_RDWR)
	}
}

package portrait

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Confined reports whether this kernel keeps children away from files and
// network: Landlock since Linux 5.13, compiled into Debian's kernels, and a
// system call filter. Elsewhere the limits still hold.
func Confined() bool {
	_, known := auditArch[runtime.GOARCH]
	return known && landlockABI() > 0
}

// confine binds the calling thread, and every process that it starts from now
// on, for good: no privileges to gain, no file to open but the system's own
// programs and libraries and those named, no socket, no hand on another process.
func confine(files []string) error {
	abi := landlockABI()
	if abi == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := restrictFiles(abi, files); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	arch, known := auditArch[runtime.GOARCH]
	if !known {
		return nil
	}
	if err := filterCalls(arch); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}

// landlockABI is the version of Landlock, 0 without it (landlock(7)).
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// readable are the places of programs and libraries. The children's memory files
// lie outside of what Landlock rules.
var readable = []string{"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"}

func restrictFiles(abi int, files []string) error {
	const (
		readFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
		readTree = readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
		devNull  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	)
	// Whatever a version of the interface can rule is ruled: 13 kinds of access
	// in the first, then rename, truncate and device control.
	attr := unix.LandlockRulesetAttr{Handled_access_fs: unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if abi >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size += unsafe.Sizeof(attr.Handled_access_net)
	}
	if abi >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		size += unsafe.Sizeof(attr.Scoped)
	}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(ruleset))
	allow := func(path string, access uint64) error {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil
		} else if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer unix.Close(fd)
		var info unix.Stat_t
		if err := unix.Fstat(fd, &info); err != nil {
			return err
		}
		if info.Mode&unix.S_IFMT != unix.S_IFDIR {
			access &^= unix.LANDLOCK_ACCESS_FS_READ_DIR
		}
		rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, unix.LANDLOCK_RULE_PATH_BENEATH,
			uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
			return &os.PathError{Op: "allow", Path: path, Err: errno}
		}
		return nil
	}
	err := allow(os.DevNull, devNull)
	for _, path := range slices.Concat(readable, files) {
		err = errors.Join(err, allow(path, readTree))
	}
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// auditArch names the architectures for the filter, whose system call numbers
// differ (seccomp(2)).
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// forbidden are the calls that reach beyond a process: to the network, to other
// processes, to other views of the system.
var forbidden = []uint32{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_IO_URING_SETUP,
	unix.SYS_KILL, unix.SYS_TKILL, unix.SYS_TGKILL, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_GETFD,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PERF_EVENT_OPEN, unix.SYS_BPF,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_USERFAULTFD,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_MOUNT, unix.SYS_CHROOT,
	unix.SYS_SHMGET, unix.SYS_MSGGET, unix.SYS_SEMGET, unix.SYS_MQ_OPEN,
}

// filterCalls answers the forbidden calls with EPERM and kills who calls by
// another architecture's numbers.
func filterCalls(arch uint32) error {
	const (
		number       = 0 // offsets in struct seccomp_data
		architecture = 4
		x32          = 0x40000000 // second table of x86-64, __X32_SYSCALL_BIT
		load         = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal        = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atLeast      = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		answer       = unix.BPF_RET | unix.BPF_K
		deny         = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	)
	program := []unix.SockFilter{
		{Code: load, K: architecture},
		{Code: equal, K: arch, Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: number},
		{Code: atLeast, K: x32, Jf: 1},
		{Code: answer, K: deny},
	}
	for _, call := range forbidden {
		program = append(program, unix.SockFilter{Code: equal, K: call, Jf: 1}, unix.SockFilter{Code: answer, K: deny})
	}
	program = append(program, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0)
	runtime.KeepAlive(program)
	return err
}

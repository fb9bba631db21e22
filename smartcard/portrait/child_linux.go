package portrait

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killGrace is how long the last of a killed group may take to go.
const killGrace = 2 * time.Second

// run runs one child on its input and returns what it wrote, at most maxOutput
// bytes.
//
// Limits must hold before the program's first instruction. Go offers no way to
// set them between fork and exec, and setting one's own would bind the kiosk:
// prlimit of util-linux, which every Debian system has, sets them on itself and
// becomes the program.
func run(ctx context.Context, c child, maxOutput int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	program, err := lookup(c.program, c.debian)
	if err != nil {
		return nil, err
	}
	prlimit, err := lookup("prlimit", "util-linux")
	if err != nil {
		return nil, err
	}
	in, err := memory("input", c.input)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := memory("output", nil)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()

	limits := c.limits.orDefaults()
	bounded, cancel := context.WithTimeout(ctx, limits.Timeout)
	defer cancel()
	seconds := strconv.Itoa(int((limits.Timeout + time.Second - 1) / time.Second))
	args := append([]string{
		"--as=" + strconv.FormatInt(limits.Memory, 10), "--cpu=" + seconds + ":" + seconds,
		"--fsize=" + strconv.FormatInt(maxOutput, 10), "--core=0", "--nofile=32", "--", program,
	}, c.args...)
	cmd := exec.CommandContext(bounded, prlimit, args...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, null, null
	if c.output == 1 {
		cmd.Stdout = out
	} else {
		cmd.ExtraFiles = []*os.File{out}
	}
	// A group of its own, killed as one; and killed by the kernel if this process
	// ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = killGrace

	failed := make(chan error, 1)
	go func() {
		// What a thread may not do, the processes that it starts may not do
		// either. The thread is never given back: it ends with this goroutine.
		runtime.LockOSThread()
		if err := confine(slices.Concat(c.files, []string{program})); err != nil {
			failed <- fmt.Errorf("confine decoder: %w", err)
			return
		}
		failed <- cmd.Run()
	}()
	err = <-failed
	if cmd.Process != nil {
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // whatever it has left behind
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case bounded.Err() != nil:
		return nil, fmt.Errorf("%w after %v", ErrLimits, limits.Timeout)
	case errors.As(err, &exit):
		status := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return nil, fmt.Errorf("%w by %v", ErrLimits, status.Signal())
		}
		return nil, fmt.Errorf("%w: exit status %d", ErrDecoder, status.ExitStatus())
	case err != nil:
		return nil, err
	}
	return contents(out, maxOutput)
}

// lookup finds a program and follows links: what the kernel executes is what
// the child gets access to.
func lookup(name, debian string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err == nil {
		return path, nil
	}
	if debian != "" {
		return "", fmt.Errorf("%w: %s (package %s)", ErrNoDecoder, name, debian)
	}
	return "", fmt.Errorf("%w: %w", ErrNoDecoder, err)
}

// memory returns an anonymous file that lives in memory, holding b.
func memory(name string, b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("portrait-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return f, nil
}

// contents reads a memory file from its beginning.
func contents(f *os.File, maximum int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maximum {
		return nil, fmt.Errorf("%w: output of %d bytes", ErrLimits, info.Size())
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	return b, nil
}

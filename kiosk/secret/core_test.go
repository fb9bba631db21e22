//go:build linux

package secret_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"enrollkiosk/kiosk/secret"
)

// A process that forbids its core leaves none, however it ends and whatever its
// limit was.
func TestForbidCore(t *testing.T) {
	if os.Getenv("SECRET_TEST_CHILD") != "" {
		if err := secret.ForbidCore(); err != nil {
			t.Fatal(err)
		}
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit != (syscall.Rlimit{}) {
			t.Errorf("core limit %+v, %v", limit, err)
		}
		const prGetDumpable = 3
		if d, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prGetDumpable, 0, 0); errno != 0 || d != 0 {
			t.Errorf("dumpable %d, %v", d, errno)
		}
		if !t.Failed() {
			syscall.Kill(os.Getpid(), syscall.SIGABRT)
			select {}
		}
		return
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	allowed := syscall.Rlimit{Cur: limit.Max, Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &allowed); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	child := exec.Command(os.Args[0], "-test.run=^TestForbidCore$")
	child.Dir = t.TempDir()
	child.Env = append(os.Environ(), "SECRET_TEST_CHILD=1", "GOTRACEBACK=crash")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("child: %v\n%s", err, out)
	}
	status := exit.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGABRT {
		t.Fatalf("child ended with %v, want an abort\n%s", exit, out)
	}
	if files, err := os.ReadDir(child.Dir); err != nil || len(files) > 0 || status.CoreDump() {
		t.Errorf("a core was dumped: %v %v", files, err)
	}
}

package tpm_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/simulators/tpm"
)

func start(t *testing.T, dir string) *tpm.Instance {
	t.Helper()
	i, err := tpm.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// send is a client of its own: one command, one answer, raw.
func send(t *testing.T, i *tpm.Instance, command ...byte) []byte {
	t.Helper()
	c, err := net.Dial("unix", strings.TrimPrefix(i.Path(), "unix:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(command); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[2:])-10)
	if _, err := io.ReadFull(c, rest); err != nil {
		t.Fatal(err)
	}
	if rc := binary.BigEndian.Uint32(head[6:]); rc != 0 {
		t.Fatalf("command %x: response code %#x", command, rc)
	}
	return rest
}

// ekCertificate reads 0x01c00002 with owner authorization in two chunks.
func ekCertificate(t *testing.T, i *tpm.Instance) []byte {
	t.Helper()
	public := send(t, i, 0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x69, 1, 0xc0, 0, 2)
	size := int(binary.BigEndian.Uint16(public[14:])) // TPM2B size, index, hash, attributes, policy size (0), data size
	var out []byte
	for len(out) < size {
		n := min(512, size-len(out))
		cmd := []byte{0x80, 2, 0, 0, 0, 35, 0, 0, 1, 0x4E, 1, 0xc0, 0, 2, 1, 0xc0, 0, 2,
			0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
		cmd = binary.BigEndian.AppendUint16(cmd, uint16(n))
		cmd = binary.BigEndian.AppendUint16(cmd, uint16(len(out)))
		got := send(t, i, cmd...)
		out = append(out, got[6:6+n]...)
	}
	return out
}

func TestEndorsementCertificateChainsToRoots(t *testing.T) {
	i := start(t, t.TempDir())
	der := ekCertificate(t, i)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(i.Roots()[0])
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(i.Roots()[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(issuer); err != nil {
		t.Error(err)
	}
	if err := issuer.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
}

func TestSocketAndStateArePrivate(t *testing.T) {
	dir := t.TempDir()
	i := start(t, dir)
	for _, name := range []string{strings.TrimPrefix(i.Path(), "unix:"), filepath.Join(dir, "tpm2-00.permall")} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestRestartKeepsTheTPM(t *testing.T) {
	dir := t.TempDir()
	i := start(t, dir)
	before, path := ekCertificate(t, i), i.Path()
	for name, off := range map[string]func(){"stop": func() { _ = i.Stop() }, "kill": i.Kill, "running": func() {}} {
		off()
		if err := i.Restart(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if i.Path() != path || !bytes.Equal(ekCertificate(t, i), before) {
			t.Errorf("after %s it is another TPM", name)
		}
	}
}

func TestStopAndKillEndTheProcess(t *testing.T) {
	i := start(t, t.TempDir())
	for name, off := range map[string]func(){"stop": func() { _ = i.Stop() }, "kill": i.Kill} {
		if err := i.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		pid := i.PID()
		off()
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("after %s process %d: %v", name, pid, err)
		}
		if i.PID() != 0 {
			t.Errorf("after %s PID is %d", name, i.PID())
		}
	}
}

func TestManufactureMakesAnotherTPM(t *testing.T) {
	a, dir := start(t, t.TempDir()), t.TempDir()
	if err := tpm.Manufacture(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	b := start(t, dir)
	if bytes.Equal(ekCertificate(t, a), ekCertificate(t, b)) {
		t.Error("both have the same endorsement certificate")
	}
	if err := tpm.Manufacture(t.Context(), dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second TPM in one directory: %v", err)
	}
}

func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	i := start(t, dir)
	if n := len(strings.TrimPrefix(i.Path(), "unix:")); n > 107 {
		t.Errorf("socket path of %d bytes", n)
	}
	if err := i.Restart(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTwoOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir)
	if _, err := tpm.Start(t.Context(), dir); err == nil {
		t.Fatal("two TPMs share one state")
	}
	ekCertificate(t, a) // and the first is unharmed
}

func TestMissingProgramNamesThePackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := tpm.Start(t.Context(), t.TempDir())
	if !errors.Is(err, tpm.ErrNotInstalled) || !strings.Contains(err.Error(), "apt-get install swtpm-tools") {
		t.Errorf("error %v", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if i, err := tpm.Start(ctx, t.TempDir()); err == nil {
		i.Kill()
		t.Error("started under a cancelled context")
	}
}

// TestDiesWithItsParent starts a child program that starts a TPM and is killed.
func TestDiesWithItsParent(t *testing.T) {
	if dir := os.Getenv("TPM_TEST_CHILD"); dir != "" {
		i, err := tpm.Start(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		_ = os.WriteFile(filepath.Join(dir, "pid.tmp"), []byte(strconv.Itoa(i.PID())), 0o600)
		_ = os.Rename(filepath.Join(dir, "pid.tmp"), filepath.Join(dir, "pid"))
		select {}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiesWithItsParent$")
	cmd.Env = append(os.Environ(), "TPM_TEST_CHILD="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for deadline := time.Now().Add(20 * time.Second); pid == 0; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil {
			pid, _ = strconv.Atoi(string(b))
		}
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatal("the child started no TPM")
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("swtpm %d outlived the program that started it", pid)
		}
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/sam"
)

// asProgram makes this test binary the program itself.
const asProgram = "VIRTUALHARDWARE_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// startProgram returns when the program says "ready".
func startProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd, _ := startSaying(t, args...)
	return cmd
}

// startSaying returns what stands behind "ready" too.
func startSaying(t *testing.T, args ...string) (cmd *exec.Cmd, more string) {
	t.Helper()
	cmd = program(t, args...)
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if more, ready := strings.CutPrefix(lines.Text(), "ready"); ready {
			return cmd, strings.TrimPrefix(more, " ")
		}
	}
	t.Fatalf("never ready: %v\n%s", cmd.Wait(), &errors)
	return nil, ""
}

func terminate(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// once runs the program to its end.
func once(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := program(t, args...)
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	cmd.Run()
	return out.String(), errors.String(), cmd.ProcessState.ExitCode()
}

func tool(t *testing.T, socket, pkg, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", name, pkg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+socket, "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// folder is short enough for a socket's path.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func certificate(t *testing.T, b []byte) *x509.Certificate {
	t.Helper()
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestThreeReaders(t *testing.T) {
	dir := folder(t)
	socket, issuers := filepath.Join(dir, "s"), filepath.Join(dir, "a")
	cmd := startProgram(t, "--socket", socket, "--authority", issuers, "--token", "provisioned")

	list := tool(t, socket, "opensc", "opensc-tool", "-l")
	for _, name := range []string{idCardReader, tokenReader, officerReader} {
		found := false
		for line := range strings.Lines(list) {
			found = found || strings.Contains(line, name) && strings.Contains(line, "Yes")
		}
		if !found {
			t.Errorf("no card in %q:\n%s", name, list)
		}
	}
	if got := tool(t, socket, "opensc", "opensc-tool", "-r", idCardReader, "-s", "00A4040C07A0000002471001"); !strings.Contains(got, "SW1=0x90, SW2=0x00") {
		t.Errorf("the ID card has no eMRTD application: %s", got)
	}
	if got := tool(t, socket, "yubico-piv-tool", "yubico-piv-tool", "-r", "YubiKey", "-a", "status"); !strings.Contains(got, "10000001") {
		t.Errorf("status of the token: %s", got)
	}

	// Another process can verify both cards with the roots in the folder.
	f9 := certificate(t, []byte(tool(t, socket, "yubico-piv-tool", "yubico-piv-tool", "-r", "YubiKey", "-a", "read-certificate", "-s", "f9")))
	if err := f9.CheckSignatureFrom(certificate(t, read(t, issuers, "piv-root.der"))); err != nil {
		t.Errorf("token's attestation certificate: %v", err)
	}
	on := certificate(t, []byte(tool(t, socket, "yubico-piv-tool", "yubico-piv-tool", "-r", "Officer", "-a", "read-certificate", "-s", "9c")))
	if err := on.CheckSignatureFrom(certificate(t, read(t, issuers, "officers-ca.der"))); err != nil {
		t.Errorf("officer's certificate: %v", err)
	}
	if on.Subject.SerialNumber != "0001" || on.Subject.CommonName != "" {
		t.Errorf("officer's certificate says %v", on.Subject)
	}
	if got := tool(t, socket, "yubico-piv-tool", "yubico-piv-tool", "-r", "Officer", "-a", "verify-pin", "-P", "246813"); !strings.Contains(got, "Successfully verified PIN") {
		t.Errorf("officer's PIN: %s", got)
	}

	terminate(t, cmd)
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is still there")
	}
}

func TestEmptyReadersAndAnotherOfficer(t *testing.T) {
	dir := folder(t)
	socket, issuers := filepath.Join(dir, "s"), filepath.Join(dir, "a")
	if out, errors, code := once(t, "--make-authority", issuers); code != 0 || out != "" {
		t.Fatalf("make authority: %d %s%s", code, out, errors)
	}
	cmd := startProgram(t, "--socket", socket, "--authority", issuers, "--idcard", "none", "--token", "none",
		"--officer", filepath.Join(issuers, "officers", "0002"), "--officer-pin", "987654")
	list := tool(t, socket, "opensc", "opensc-tool", "-l")
	if strings.Count(list, "Yes") != 1 || strings.Count(list, "00 00")+strings.Count(list, "01 00")+strings.Count(list, "02 00") != 3 {
		t.Errorf("readers: %s", list)
	}
	on := certificate(t, []byte(tool(t, socket, "yubico-piv-tool", "yubico-piv-tool", "-r", "Officer", "-a", "read-certificate", "-s", "9c")))
	if on.Subject.SerialNumber != "0002" {
		t.Errorf("officer's certificate says %v", on.Subject)
	}
	tool(t, socket, "yubico-piv-tool", "yubico-piv-tool", "-r", "Officer", "-a", "verify-pin", "-P", "987654")
	terminate(t, cmd)
}

// Several processes that start at once share one authority.
func TestAuthorityIsMadeOnce(t *testing.T) {
	issuers := filepath.Join(folder(t), "a", "b")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, errors, code := once(t, "--make-authority", issuers); code != 0 {
				t.Errorf("%d %s", code, errors)
			}
		})
	}
	group.Wait()
	before := map[string][]byte{}
	for _, name := range []string{"csca.der", "piv-root.der", "officers-ca.der"} {
		before[name] = read(t, issuers, name)
		c := certificate(t, before[name])
		if !c.IsCA || !strings.Contains(c.Subject.String(), "SPECIMEN") && name != "piv-root.der" {
			t.Errorf("%s is %v", name, c.Subject)
		}
	}
	once(t, "--make-authority", issuers)
	for name, b := range before {
		if !bytes.Equal(read(t, issuers, name), b) {
			t.Errorf("%s was made again", name)
		}
	}
	for _, number := range []string{"0001", "0002"} {
		leaf := certificate(t, read(t, issuers, "officers", number, "officer.crt"))
		if err := leaf.CheckSignatureFrom(certificate(t, before["officers-ca.der"])); err != nil || leaf.Subject.SerialNumber != number {
			t.Errorf("officer %s: %v, %v", number, leaf.Subject, err)
		}
	}
	filepath.WalkDir(issuers, func(path string, d os.DirEntry, err error) error {
		if info, err := d.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is open to others: %v", path, info.Mode())
		}
		return nil
	})
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(issuers), ".authority*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	// Half an authority is an error, never silently a new one.
	os.Remove(filepath.Join(issuers, "piv-root.seed"))
	if _, errors, code := once(t, "--show", "--authority", issuers); code != exitFailed || !strings.Contains(errors, "piv-root.seed") {
		t.Errorf("half an authority: %d %s", code, errors)
	}
}

func TestShow(t *testing.T) {
	out, _, code := once(t, "--show")
	if code != 0 || !strings.HasPrefix(out, "CAN 123456\nMRZ I<UTO") || strings.Count(out, "\nMRZ ") != 3 || !strings.Contains(out, "MRZ ERIKSSON<<ANNA<MARIA") {
		t.Errorf("%d:\n%s", code, out)
	}
	person := filepath.Join(t.TempDir(), "person")
	os.WriteFile(person, []byte(strings.Join([]string{
		"format: TD3", "code: P", "issuer: UTO", "number: X1", "surname: DOE", "nationality: UTO",
		"sex: X", "birth: 1990-01-01", "expiry: 2035-01-01", "can: 654321", "",
	}, "\n")), 0o600)
	out, _, code = once(t, "--show", "--idcard", person)
	if code != 0 || !strings.HasPrefix(out, "CAN 654321\nMRZ P<UTODOE") || strings.Count(out, "\nMRZ ") != 2 {
		t.Errorf("%d:\n%s", code, out)
	}
}

func TestWrongUse(t *testing.T) {
	issuers := filepath.Join(t.TempDir(), "issuers") // made once
	for want, lines := range map[int][]string{
		exitUsage: {
			"", "--socket /tmp/x --vpcd 127.0.0.1:1", "--vpcd 127.0.0.1:1", "--vpcd 127.0.0.1:1 --idcard specimen --token factory",
			"--vpcd 127.0.0.1:1 --idcard none", "--nonsense", "extra", "--socket s --idcard none --token new", "--socket s --idcard none --token-faults nonsense",
		},
		exitFailed: {
			"--socket s --idcard missing", "--socket s --idcard none --officer missing", "--socket missing/s",
			"--socket " + strings.Repeat("x", 200), "--make-authority /dev/null/a",
		},
		exitDone: {"--help"},
	} {
		for _, line := range lines {
			t.Chdir(t.TempDir())
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			var said bytes.Buffer
			code := run(ctx, append(strings.Fields(line), "--authority", issuers), &said, &said)
			cancel()
			out := said.String()
			if code != want {
				t.Errorf("%q: exit %d, want %d\n%s", line, code, want, out)
			}
			if len(out) == 0 || strings.Contains("\n"+out, "\nready") {
				t.Errorf("%q says %q", line, out)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	out, errors, code := once(t, "--help")
	if code != exitDone || errors != "" || !strings.Contains(out, "without hardware") {
		t.Errorf("%d %s\n%s", code, errors, out)
	}
	for _, name := range []string{"--socket PATH", "--vpcd HOST:PORT", "--make-authority DIR", "--idcard-faults LIST", "--officer-pin PIN", "--show",
		"--belgian KIND", "--belgian-applet VERSION", "--belgian-fault NAME", "--resident KIND", "--resident-fault NAME"} {
		if !strings.Contains(out, "\n  "+name+"\n") {
			t.Errorf("help has no line %q:\n%s", name, out)
		}
	}
	flat := strings.Join(strings.Fields(out), " ")
	for name, list := range map[string]string{"ID card": listed(idcard.Faults(), ", "), "Belgian card": listed(beid.Faults(), ", "), "module": listed(sam.Faults(), ", ")} {
		if !strings.Contains(flat, list) {
			t.Errorf("help does not list the faults of the %s:\n%s", name, out)
		}
	}
	for line := range strings.Lines(out) {
		if len(line) > 90 {
			t.Errorf("too long a line: %q", line)
		}
		if strings.HasPrefix(strings.TrimSpace(line), "-") && !strings.HasPrefix(line, "  --") {
			t.Errorf("one dash: %q", line)
		}
	}
}

// pcscd comes late, asks who is there, and comes back after it was gone.
func TestPlug(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	served := make(chan error, 1)
	go func() {
		time.Sleep(300 * time.Millisecond)
		served <- fakeReader(address)
	}()
	cmd := startProgram(t, "--vpcd", address, "--token", "factory")
	if err := <-served; err != nil {
		t.Error(err)
	}
	terminate(t, cmd)
}

// fakeReader asks for the ATR on each of two connections.
func fakeReader(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer l.Close()
	for range 2 {
		l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		conn.Write([]byte{0, 1, 1, 0, 1, 4}) // power on; who are you?
		header := make([]byte, 3)
		if _, err := io.ReadFull(conn, header); err != nil || header[2] != 0x3B {
			return fmt.Errorf("ATR %x: %w", header, err)
		}
		conn.Close()
	}
	return nil
}

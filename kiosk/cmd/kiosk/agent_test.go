package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/simulators/tpm"
)

// certificates does what the registry does with a request.
func certificates(t *testing.T, request string) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(request)
	must(err)
	var r api.KioskRequest
	must(json.Unmarshal(b, &r))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "specimen"}, NotAfter: time.Now().Add(time.Hour)}
	issue := func(der []byte) [][]byte {
		csr, err := x509.ParseCertificateRequest(der)
		must(err)
		must(csr.CheckSignature())
		leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: csr.Subject, NotAfter: root.NotAfter}, root, csr.PublicKey, key)
		must(err)
		return [][]byte{leaf}
	}
	b, err = json.Marshal(api.KioskCertificates{Version: 1, KioskID: r.KioskID, Record: issue(r.RecordCSR), TLS: issue(r.TLSCSR)})
	must(err)
	file := filepath.Join(t.TempDir(), "certificates.json")
	must(os.WriteFile(file, b, 0o600))
	return file
}

// started is bin/kiosk agent that has said that it is ready.
type started struct {
	*exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

func (s *started) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func (s *started) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func startAgent(t *testing.T, config string, args ...string) *started {
	t.Helper()
	s := &started{Cmd: program(t, config, append([]string{"agent"}, args...)...)}
	s.Stderr = s
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(s.said(), "agent ready") {
		if time.Now().After(deadline) {
			t.Fatalf("the agent is not ready:\n%s", s.said())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return s
}

func TestAgentsLife(t *testing.T) {
	server := listen(t)
	for _, name := range []string{"ID Card", "YubiKey", "Officer"} {
		if _, err := server.AddReader(name + " 00 00"); err != nil {
			t.Fatal(err)
		}
	}
	chip, err := tpm.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Stop() })
	s := newSetting(t, chip.Path())
	wants(t, exitUsage, "run `kiosk init`", s.config, "agent")
	r := wants(t, exitDone, "", s.config, "init")
	request := filepath.Join(s.state, "kiosk-request.json")
	if !strings.Contains(r.out, request) || !strings.Contains(r.out, "registry kiosks sign") {
		t.Errorf("init does not say what to do next:\n%s", r.out)
	}
	wants(t, exitUsage, "kiosk init --certificates", s.config, "agent")
	wants(t, exitRefused, "this kiosk's own request", s.config, "init", "--certificates", s.config)
	wants(t, exitDone, "", s.config, "init", "--certificates", certificates(t, request))
	wants(t, exitUnreachable, "first: ", s.config, "doctor")
	wants(t, exitFailed, "no record of this id", s.config, "queue", "show", strings.Repeat("0", 64))

	timeline := filepath.Join(t.TempDir(), "timeline")
	wants(t, exitUsage, "--timeline", s.config, "agent", "--timeline", "/none/file")
	for i, end := range []struct {
		signal os.Signal
		code   int
	}{{syscall.SIGTERM, exitDone}, {os.Interrupt, exitInterrupted}, {syscall.SIGHUP, exitInterrupted}, {syscall.SIGTERM, exitDone}} {
		agent := startAgent(t, s.config, "--debug", "--timeline", timeline)
		if i == 0 {
			wants(t, exitFailed, "another agent", s.config, "agent")
			wants(t, exitUnreachable, "first: ", s.config, "doctor")
		}
		if r := wants(t, exitDone, "", s.config, "queue", "list"); r.out != "The queue is empty.\n" {
			t.Errorf("the queue: %s", r.out)
		}
		wants(t, exitFailed, "no record of this id", s.config, "queue", "show", strings.Repeat("0", 64))
		limits, err := os.ReadFile("/proc/" + strconv.Itoa(agent.Process.Pid) + "/limits")
		if err != nil || !regexp.MustCompile(`(?m)^Max core file size\s+0\s+0\s`).Match(limits) {
			t.Errorf("core files: %v\n%s", err, limits)
		}
		agent.Process.Signal(end.signal)
		agent.Wait()
		if code := agent.ProcessState.ExitCode(); code != end.code {
			t.Errorf("%v: exit code %d, want %d\n%s", end.signal, code, end.code, agent.said())
		}
		if _, err := os.Stat(filepath.Join(s.state, "agent.sock")); err == nil {
			t.Errorf("%v: the socket is left", end.signal)
		}
	}
	// A crash leaves the socket; the next agent takes its place.
	agent := startAgent(t, s.config)
	agent.Process.Kill()
	agent.Wait()
	wants(t, exitUnreachable, "start it with", s.config, "enroll")
	agent = startAgent(t, s.config)

	// The TPM goes away under the agent, and comes back.
	if err := chip.Stop(); err != nil {
		t.Fatal(err)
	}
	if r := wants(t, exitHardware, "", s.config, "doctor"); !strings.Contains(r.out, "FAIL  tpm") {
		t.Errorf("doctor without a TPM:\n%s", r.out)
	}
	if err := chip.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := wants(t, exitUnreachable, "", s.config, "doctor"); !strings.Contains(r.out, "ok    tpm") {
		t.Errorf("doctor after the TPM came back:\n%s", r.out)
	}
	agent.Process.Signal(syscall.SIGTERM)
	if err := agent.Wait(); err != nil {
		t.Errorf("%v\n%s", err, agent.said())
	}
}

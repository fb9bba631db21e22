package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
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

	"k8s.io/klog/v2"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/api"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/sync/queue"
)

// approve is a person at the registry, who waits for the fingerprint that a
// kiosk shows.
func approve(t *testing.T, s *stage.Stage, shown *started) {
	t.Helper()
	fingerprint := regexp.MustCompile(`(?m)^  EK ([0-9a-f ]{39})$`)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if m := fingerprint.FindStringSubmatch(shown.said()); m != nil {
			if _, err := s.Kiosks().Approve(t.Context(), stage.KioskID, m[1], time.Now()); err != nil {
				t.Error(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no fingerprint is shown:\n%s", shown.said())
		}
	}
}

// provisioned is a stage whose kiosk bin/kiosk has provisioned, and its
// configuration; the registry has ended.
func provisioned(t *testing.T) (s *stage.Stage, config string) {
	t.Helper()
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	dir, err := os.MkdirTemp("", "k") // short: a socket will be in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if s, err = stage.New(t.Context(), listen(t), dir, stage.Options{Unprovisioned: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	config = filepath.Join(dir, "kiosk.toml")
	code, err := s.NewCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wants(t, exitUsage, "run `kiosk provision", config, "agent")
	wants(t, exitUsage, "--code is missing", config, "provision")
	wants(t, exitUsage, "mistyped", config, "provision", "--code", code.Text()[1:])
	wants(t, exitUsage, "must agree", config, "provision", "--code", code.Text(), "--registry", "https://elsewhere.example")
	wants(t, exitUnreachable, "cannot be reached", config, "provision", "--code", code.Text())
	if err := s.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	wrong := api.Code{Secret: secret.New(make([]byte, 16)), Root: code.Root, TLS: code.TLS}
	wants(t, exitRefused, "registry kiosks code", config, "provision", "--code", wrong.Text())
	wrong = code
	wrong.TLS[0] ^= 1
	wants(t, exitUnreachable, "provisioning code", config, "provision", "--code", wrong.Text())
	wrong = code
	wrong.Root[0] ^= 1
	wants(t, exitRefused, "not signed by the authority", config, "provision", "--code", wrong.Text())
	wants(t, exitFailed, "kiosks approve", config, "provision", "--code", code.Text(), "--wait", "0s")

	cmd := &started{Cmd: program(t, config, "provision", "--code", "-", "--json")}
	cmd.Stdin, cmd.Stderr = strings.NewReader(code.Text()+"\n"), cmd
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	approve(t, s, cmd)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, cmd.said())
	}
	var done station.Provisioned
	if err := json.Unmarshal(out.Bytes(), &done); err != nil || done.KioskID != stage.KioskID {
		t.Errorf("%v in %s", err, out.Bytes())
	}
	if strings.Contains(cmd.said(), code.Text()[:9]) {
		t.Error("the code is shown")
	}
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	return s, config
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
	s, config := provisioned(t)
	wants(t, exitUnreachable, "first: ", config, "doctor")
	wants(t, exitFailed, "no record of this id", config, "queue", "show", strings.Repeat("0", 64))

	drive := t.TempDir()
	byDrive := func() {
		t.Helper()
		if r := wants(t, exitDone, "", config, "queue", "export", drive); r.out != "Nothing waits: there is nothing to export.\n" {
			t.Errorf("export: %s", r.out)
		}
		if r := wants(t, exitDone, "", config, "queue", "import-receipts", drive); r.out != "Nothing on the drive is from this kiosk.\n" {
			t.Errorf("import-receipts: %s", r.out)
		}
	}
	byDrive()

	timeline := filepath.Join(t.TempDir(), "timeline")
	wants(t, exitUsage, "--timeline", config, "agent", "--timeline", "/none/file")
	for i, end := range []struct {
		signal os.Signal
		code   int
	}{{syscall.SIGTERM, exitDone}, {os.Interrupt, exitInterrupted}, {syscall.SIGHUP, exitInterrupted}, {syscall.SIGTERM, exitDone}} {
		agent := startAgent(t, config, "--debug", "--timeline", timeline)
		if i == 0 {
			wants(t, exitFailed, "another agent", config, "agent")
			wants(t, exitUnreachable, "first: ", config, "doctor")
			byDrive()
		}
		if r := wants(t, exitDone, "", config, "queue", "list"); !strings.HasPrefix(r.out, "waiting    0\nset aside  0\nregistry   ") || !strings.HasSuffix(r.out, "\nThe queue is empty.\n") {
			t.Errorf("the queue: %s", r.out)
		}
		wants(t, exitFailed, "no record of this id", config, "queue", "show", strings.Repeat("0", 64))
		limits, err := os.ReadFile("/proc/" + strconv.Itoa(agent.Process.Pid) + "/limits")
		if err != nil || !regexp.MustCompile(`(?m)^Max core file size\s+0\s+0\s`).Match(limits) {
			t.Errorf("core files: %v\n%s", err, limits)
		}
		agent.Process.Signal(end.signal)
		agent.Wait()
		if code := agent.ProcessState.ExitCode(); code != end.code {
			t.Errorf("%v: exit code %d, want %d\n%s", end.signal, code, end.code, agent.said())
		}
		if _, err := os.Stat(s.Config.Kiosk.Socket); err == nil {
			t.Errorf("%v: the socket is left", end.signal)
		}
	}
	// A crash leaves the socket; the next agent takes its place.
	agent := startAgent(t, config)
	agent.Process.Kill()
	agent.Wait()
	wants(t, exitUnreachable, "start it with", config, "enroll")
	agent = startAgent(t, config)

	// The TPM goes away under the agent, and comes back.
	if err := s.TPM.Stop(); err != nil {
		t.Fatal(err)
	}
	if r := wants(t, exitHardware, "", config, "doctor"); !strings.Contains(r.out, "FAIL  tpm") {
		t.Errorf("doctor without a TPM:\n%s", r.out)
	}
	if err := s.TPM.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := wants(t, exitUnreachable, "", config, "doctor"); !strings.Contains(r.out, "ok    tpm") {
		t.Errorf("doctor after the TPM came back:\n%s", r.out)
	}
	agent.Process.Signal(syscall.SIGTERM)
	if err := agent.Wait(); err != nil {
		t.Errorf("%v\n%s", err, agent.said())
	}
	exported(t, s, config, drive)
}

// exported has two records leave on a drive; an empty receipts file comes back.
func exported(t *testing.T, s *stage.Stage, config, drive string) {
	t.Helper()
	q, _, err := queue.Open(t.Context(), filepath.Join(s.Config.Kiosk.State, "queue"), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if err := q.Put(t.Context(), queue.Item{ID: queue.ID{byte(n)}, Data: []byte("sealed bytes")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	r := wants(t, exitDone, "2 of 2 records are on the drive", config, "queue", "export", drive)
	if !strings.Contains(r.out, "2 records in 1 files") || !strings.Contains(r.out, "Unmount the drive") {
		t.Errorf("export: %s", r.out)
	}
	if r = wants(t, exitDone, "", config, "queue", "export", drive); !strings.Contains(r.out, "2 more were there already") {
		t.Errorf("export again: %s", r.out)
	}
	if r = wants(t, exitDone, "", config, "queue", "import-receipts", drive); !strings.Contains(r.out, "2 on the drive have no answer yet") {
		t.Errorf("import-receipts: %s", r.out)
	}
	records, err := filepath.Glob(filepath.Join(drive, "*.records"))
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	receipts := strings.TrimSuffix(records[0], ".records") + ".receipts"
	if err := os.WriteFile(receipts, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r = wants(t, exitRefused, "not in order", config, "queue", "import-receipts", drive); !strings.Contains(r.out, "REFUSED "+filepath.Base(receipts)) {
		t.Errorf("import-receipts: %s", r.out)
	}
}

package process_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
)

// An enrollment with debug logging on, and three crashes while personal data,
// PINs and the cancel code are in memory: nothing of them is in any file, log,
// spool, cache or dump that is left.
func TestNothingPersonalIsLeftBehind(t *testing.T) {
	allowCores(t)
	everything, err := os.MkdirTemp("", "canary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(everything) })
	t.Setenv("TMPDIR", everything) // of registry and vault, which run here
	output := captureOutput(t)
	log := slog.New(slog.NewTextHandler(output, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := newStage(t, "Canary", log)
	seeded := &seeds{}
	officerPIN := digits(8)
	seeded.add("officer's PIN", officerPIN)
	officer, err := issuers.Officers[0].Card(issuers.Tokens, officerPIN)
	if err != nil {
		t.Fatal(err)
	}
	s.Hold(kiosk.DeviceOfficer, officer)
	s.Reader(kiosk.DeviceToken).Trace(seeded.watchToken)
	// enroll plays one seeded citizen at an agent; act ends it.
	enroll := func(t *testing.T, a *process, act func(kiosk.State), byMRZ bool) (*kiosk.ReceiptView, error) {
		t.Helper()
		p := seeded.citizen(t, s, a)
		p.OfficerPIN, p.Officer = officerPIN, func(int) { s.Bring(kiosk.DeviceOfficer) }
		if byMRZ {
			m := s.Chip.MRZ()
			if len(m) < 90 {
				t.Fatalf("MRZ of %d characters, want TD1", len(m))
			}
			p.MRZ = seeded.key
		}
		p.OnState = func(state kiosk.State) {
			if h := state.Holder; h != nil {
				seeded.shown(t, h)
			}
			if r := state.Receipt; r != nil && r.CancelCode.Len() > 0 {
				code := string(r.CancelCode.Reveal())
				seeded.add("cancel code", code)
				seeded.add("cancel code", strings.ReplaceAll(code, "-", ""))
			}
			act(state)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return p.Enroll(ctx)
	}
	crash := func(name, dumped string, byMRZ bool, env []string, act func(*process, kiosk.State)) {
		t.Run(name, func(t *testing.T) {
			a := startAgent(t, s, env...)
			a.follow(func(kiosk.Event) {})
			if _, err := enroll(t, a, func(state kiosk.State) { act(a, state) }, byMRZ); err == nil {
				t.Fatal("the enrollment ended although the agent was to crash")
			}
			select {
			case <-a.ended:
			case <-time.After(20 * time.Second):
				t.Fatal("the agent did not crash")
			}
			status := a.ProcessState.Sys().(syscall.WaitStatus)
			if !status.Signaled() || status.Signal() != syscall.SIGABRT || status.CoreDump() {
				t.Errorf("the agent ended with %v, want an abort without a core", a.ProcessState)
			}
			b, err := os.ReadFile(a.stderr)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(b, []byte("goroutine ")) || !bytes.Contains(b, []byte(dumped)) {
				t.Errorf("no dump of %s in what the agent wrote:\n%s", dumped, tail(a.stderr))
			}
			a.close()
		})
	}
	quit := func(screen kiosk.Screen) func(*process, kiosk.State) {
		return func(a *process, state kiosk.State) {
			if state.Screen == screen {
				a.Process.Signal(syscall.SIGQUIT)
				<-a.ended
			}
		}
	}
	crash("compare", "kiosk.(*enrollment).compare", false, nil, quit(kiosk.ScreenCompare))
	crash("panic", "kiosk.(*enrollment).officerSign", true, []string{envPanic + "=" + string(kiosk.StepOfficerSign)}, func(*process, kiosk.State) {})
	crash("receipt", "kiosk.(*enrollment).handOver", false, nil, quit(kiosk.ScreenReceipt))
	t.Run("enrolled", func(t *testing.T) {
		a := startAgent(t, s)
		if limit, err := coreLimit(a.Process.Pid); err != nil || limit != "0" {
			t.Errorf("the agent's core limit is %s, %v", limit, err)
		}
		a.follow(func(kiosk.Event) {})
		r, err := enroll(t, a, func(kiosk.State) {}, true)
		if err != nil || r.Final == "" {
			t.Fatalf("enroll: %v\n%s", err, tail(a.stderr))
		}
		a.stop(t)
	})
	if err := errors.Join(s.StopRegistry(), s.StopVault()); err != nil {
		t.Fatal(err)
	}
	canaries := seeded.all()
	for _, name := range []string{"surname", "given names", "number", "access number", "birth", "machine readable zone", "PIN",
		"officer's PIN", "PUK", "management key", "cancel code", "face", "optional data"} {
		if !slices.ContainsFunc(canaries, func(c canary) bool { return c.name == name && len(c.value) >= 6 }) {
			t.Errorf("no %s was seeded", name)
		}
	}
	found, files, err := scan(everything, canaries)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("left behind in %s", f)
	}
	at := filepath.Base(s.Dir)
	for _, place := range []string{filepath.Base(output.Name()), at + "/agent.log", at + "/kiosk/queue/", at + "/kiosk/certificates.json",
		at + "/registry/registry.db", at + "/registry/log/", at + "/vault/vault.db", at + "/tpm/"} {
		if !slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, place) }) {
			t.Errorf("%s was not searched", place)
		}
	}
	if i := slices.IndexFunc(files, func(f string) bool { return strings.HasPrefix(filepath.Base(f), "core") }); i >= 0 {
		t.Errorf("a core file: %s", files[i])
	}
	for file, word := range map[string]string{filepath.Join(s.Dir, "agent.log"): "level=INFO", output.Name(): "identity judged"} {
		if b, err := os.ReadFile(file); err != nil || !bytes.Contains(b, []byte(word)) {
			t.Errorf("%s has no %q: it is not the log", file, word)
		}
	}
	t.Logf("%d canaries, %d files", len(canaries), len(files))

	// The same agent, with one line too many, is caught.
	t.Run("a leak is caught", func(t *testing.T) {
		if err := errors.Join(s.StartVault(t.Context()), s.StartRegistry(t.Context())); err != nil {
			t.Fatal(err)
		}
		a := startAgent(t, s, envLeak+"=1")
		a.follow(func(kiosk.Event) {})
		if _, err := enroll(t, a, func(kiosk.State) {}, false); err != nil {
			t.Fatal(err)
		}
		a.stop(t)
		found, _, err := scan(everything, seeded.all())
		if err != nil {
			t.Fatal(err)
		}
		caught := 0
		for _, f := range found {
			if strings.HasPrefix(f, at+"/agent.log at ") && strings.Contains(f, ": surname, plain") {
				caught++
			} else {
				t.Errorf("left behind in %s", f)
			}
		}
		if caught != 1 {
			t.Errorf("the leaked name was found %d times", caught)
		}
	})
}

// seeds collects what must be found nowhere.
type seeds struct {
	mu   sync.Mutex
	list []canary
	key  *[3]string // of the newest citizen: number, birth, expiry
}

func (s *seeds) add(name, value string) { s.addBytes(name, []byte(value)) }

func (s *seeds) addBytes(name string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.list, func(c canary) bool { return bytes.Equal(c.value, value) }) {
		s.list = append(s.list, canary{name, bytes.Clone(value)})
	}
}

func (s *seeds) all() []canary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// citizen puts a new person with new things before the agent.
func (s *seeds) citizen(t *testing.T, st *stage.Stage, a *process) *stage.Script {
	t.Helper()
	p := idcard.SpecimenPerson()
	p.Surname, p.GivenNames, p.Number, p.Optional = letters(12), letters(9), letters(1)+digits(7)+letters(1), letters(10)
	p.CAN = digits(6)
	p.Birth = time.Date(1970+random(9), time.Month(10+random(3)), 10+random(18), 0, 0, 0, 0, time.UTC)
	s.add("surname", p.Surname)
	s.add("given names", p.GivenNames)
	s.add("number", p.Number)
	s.add("optional data", p.Optional)
	s.add("access number", p.CAN)
	s.add("birth", p.Birth.Format("060102"))
	s.add("birth", p.Birth.Format("20060102"))
	s.add("birth", p.Birth.Format(time.DateOnly))
	st.Take(kiosk.DeviceDocument)
	if err := st.IssueCard(p, idcard.Options{}); err != nil {
		t.Fatal(err)
	}
	newToken(st, 1000+random(1_000_000))
	mrz := st.Chip.MRZ()
	for ; len(mrz) >= 30; mrz = mrz[30:] { // TD1: three lines (9303-5 4.2)
		s.add("machine readable zone", strings.Trim(mrz[:30], "<"))
	}
	face := st.Chip.File(0x0102)
	if len(face) < 1000 {
		t.Fatalf("a face of %d bytes", len(face))
	}
	s.addBytes("face", face[len(face)/2:][:32])
	s.key = &[3]string{p.Number, p.Birth.Format("060102"), p.Expiry.Format("060102")}
	script := a.script(st)
	script.PIN = digits(8)
	s.add("PIN", script.PIN)
	return script
}

// shown makes sure that the canaries really are in the agent's memory.
func (s *seeds) shown(t *testing.T, h *kiosk.HolderView) {
	for _, v := range [][]byte{h.Surname.Reveal(), h.GivenNames.Reveal(), h.Number.Reveal()} {
		if !slices.ContainsFunc(s.all(), func(c canary) bool { return bytes.Equal(c.value, v) }) {
			t.Errorf("the screen shows %q, which is not seeded", v)
		}
	}
}

// watchToken takes PUK and management key from the commands that set them: they
// are the token's from then on.
func (s *seeds) watchToken(e pcscd.TraceEvent) {
	switch c := e.Command; {
	case len(c) >= 21 && c[1] == 0x24 && c[3] == 0x81: // CHANGE REFERENCE DATA, PUK (SP 800-73-4 Part 2 3.2.2)
		s.addBytes("PUK", c[13:21])
	case len(c) >= 8+24 && c[1] == 0xFF && c[2] == 0xFF: // set management key: algorithm, 9B, length, key
		s.addBytes("management key", c[8:8+24])
	}
}

func random(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return int(i.Int64())
}

func pick(n int, from string) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = from[random(len(from))]
	}
	return string(b)
}

func letters(n int) string { return pick(n, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") }

func digits(n int) string { return pick(n, "0123456789") }

// allowCores gives every process that this test starts the right to dump core.
func allowCores(t *testing.T) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max == 0 {
		t.Log("this machine forbids core files to everybody: that the agent forbids them itself is shown by its limit only")
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_CORE, &limit) })
}

// coreLimit is the soft limit on core files of a process (proc_pid_limits(5)).
func coreLimit(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.Fields(rest)[0], nil
		}
	}
	return "", errors.New("no limit on core files is listed")
}

// captureOutput sends what this process writes to its standard error, where
// libraries log, into a file until the test ends. Registry and vault run here.
func captureOutput(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp("", "output")
	if err != nil {
		t.Fatal(err)
	}
	kept, err := unix.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(int(f.Fd()), 2, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Dup3(kept, 2, 0)
		unix.Close(kept)
		f.Close()
		if b, err := os.ReadFile(f.Name()); err != nil || t.Failed() || bytes.Contains(b, []byte("DATA RACE")) {
			t.Logf("standard error, %v:\n%s", err, b)
		}
	})
	return f
}

// Package process_test holds the kiosk's agent as a process of its own: what is
// left of it when it is killed between two steps, and where personal data is
// found when it crashes.
//
// The agent is this test binary started again. It opens and runs the station as
// `kiosk agent` does; pcscd, TPM, registry and vault stay with the test.
package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/specimen"
	"enrollkiosk/sync/queue"
)

// Environment of the agent's process.
const (
	envConfig = "AGENT_TEST_CONFIG" // configuration file: this process is the agent
	envPanic  = "AGENT_TEST_PANIC"  // step after which the flow panics
	envLeak   = "AGENT_TEST_LEAK"   // the agent logs the citizen's name
	envCore   = "AGENT_TEST_CORE"   // core files are not forbidden
)

// Descriptors of the agent's process: it writes each event as a line of JSON
// and waits for a byte before it goes on.
const (
	fdEvents = 3
	fdGo     = 4
)

// daemon is the one PC/SC daemon of this process: libpcsclite reads its address
// once.
var (
	daemon  *pcscd.Server
	issuers *specimen.Authority
	face    []byte // drawn once: under the race detector that takes a second
)

func TestMain(m *testing.M) {
	queue.RunCheck()
	if file := os.Getenv(envConfig); file != "" {
		if err := runAgent(file); err != nil {
			fmt.Fprintln(os.Stderr, "agent:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(func() int {
		started, dir, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
		defer daemon.Close()
		if issuers, err = specimen.Open(filepath.Join(dir, "issuers")); err != nil {
			panic(err)
		}
		if face, err = idcard.Portrait(idcard.SpecimenPerson()); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// runAgent is the agent's process.
func runAgent(file string) error {
	if os.Getenv(envCore) == "" {
		if err := secret.ForbidCore(); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // the test holds the other end: no agent outlives it
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	config, err := station.Load(file)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	events, proceed := json.NewEncoder(os.NewFile(fdEvents, "events")), os.NewFile(fdGo, "go")
	observe := func(e kiosk.Event) {
		if err := events.Encode(e); err != nil {
			panic(err)
		}
		if _, err := proceed.Read(make([]byte, 1)); err != nil {
			panic(err)
		}
		if string(e.Step) == os.Getenv(envPanic) {
			panic("the flow is broken on purpose")
		}
	}
	limits := kiosk.DefaultLimits()
	limits.Delivery = 20 * time.Second
	s, err := station.Open(ctx, config, station.Options{Log: log, Observe: observe, Limits: limits})
	if err != nil {
		return err
	}
	if os.Getenv(envLeak) != "" {
		states, err := s.Desk().States(ctx)
		if err != nil {
			return err
		}
		go leak(states, log)
	}
	return errors.Join(s.Run(ctx), s.Close())
}

// leak does what must never be done.
func leak(states <-chan kiosk.State, log *slog.Logger) {
	for s := range states {
		if s.Holder != nil {
			log.Debug("compare", "surname", string(s.Holder.Surname.Reveal()))
			return
		}
	}
}

// newStage sets a stage whose registry and vault run here and whose agent does
// not run yet. Everything of it ends with the test.
func newStage(t *testing.T, prefix string, log *slog.Logger) *stage.Stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "stage") // t.TempDir is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := stage.New(t.Context(), daemon, dir, stage.Options{Prefix: prefix, Issuers: issuers, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
	})
	for _, start := range []func(context.Context) error{s.StartVault, s.StartRegistry} {
		if err := start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// citizen is the nth person of a run: nobody is enrolled twice.
func citizen(n int) idcard.Person {
	p := idcard.SpecimenPerson()
	p.Number = fmt.Sprintf("D%08d", n)
	p.GivenNames = "ANNA " + string([]byte{'A' + byte(n/26), 'A' + byte(n%26)})
	return p
}

// process is a running agent.
type process struct {
	*exec.Cmd
	desk    *wire.Client
	events  *json.Decoder
	proceed *os.File
	stderr  string // file
	ended   chan struct{}
	close   func()
}

// startAgent starts an agent on the stage's configuration and returns when it
// serves its socket. Its output is appended to a file in the stage's directory.
func startAgent(t *testing.T, s *stage.Stage, env ...string) *process {
	t.Helper()
	for _, name := range []string{"tmp", "home", "work"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := &process{Cmd: exec.Command(os.Args[0]), stderr: filepath.Join(s.Dir, "agent.log"), ended: make(chan struct{})}
	p.Dir = filepath.Join(s.Dir, "work")
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "PCSCLITE_CSOCK_NAME=" + os.Getenv("PCSCLITE_CSOCK_NAME"),
		"TMPDIR=" + filepath.Join(s.Dir, "tmp"), "HOME=" + filepath.Join(s.Dir, "home"), "GOTRACEBACK=crash",
		envConfig + "=" + filepath.Join(s.Dir, "kiosk.toml")}, env...)
	out, err := os.OpenFile(p.stderr, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	eventsOut, eventsIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer eventsIn.Close()
	goOut, goIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer goOut.Close()
	p.Stdout, p.Stderr, p.ExtraFiles = out, out, []*os.File{eventsIn, goOut}
	alive, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Wait()
		close(p.ended)
	}()
	p.events, p.proceed = json.NewDecoder(bufio.NewReader(eventsOut)), goIn
	p.close = func() {
		p.Process.Kill() // fails only if it has ended
		<-p.ended
		alive.Close()
		eventsOut.Close()
		goIn.Close()
	}
	t.Cleanup(p.close)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if p.desk, err = wire.Dial(s.Config.Kiosk.Socket); err == nil {
			return p
		}
		select {
		case <-p.ended:
			t.Fatalf("the agent did not start: %v\n%s", p.ProcessState, tail(p.stderr))
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not serve its socket: %v\n%s", err, tail(p.stderr))
		}
	}
}

// kill ends the agent as a power cut would.
func (p *process) kill() {
	p.Process.Kill() // fails only if it has ended
	<-p.ended
}

// follow hands each event to f until the agent ends. The agent goes on when f
// has returned.
func (p *process) follow(f func(kiosk.Event)) (done <-chan struct{}) {
	end := make(chan struct{})
	go func() {
		defer close(end)
		for {
			var e kiosk.Event
			if p.events.Decode(&e) != nil {
				return
			}
			f(e)
			if _, err := p.proceed.Write([]byte{0}); err != nil {
				return
			}
		}
	}()
	return end
}

// script plays citizen and officer at this agent's desk.
func (p *process) script(s *stage.Stage) *stage.Script {
	return &stage.Script{Desk: p.desk, Language: "en", CAN: s.Chip.CAN(), PIN: "80246973", OfficerPIN: stage.OfficerPIN,
		Bring: s.Bring, Take: s.Take, Officer: s.Officer}
}

// stop ends the agent as a service is stopped.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		t.Fatalf("the agent does not end\n%s", tail(p.stderr))
	}
	if !p.ProcessState.Success() {
		t.Fatalf("the agent ended with %v\n%s", p.ProcessState, tail(p.stderr))
	}
}

// tail is the end of a file.
func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(b), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

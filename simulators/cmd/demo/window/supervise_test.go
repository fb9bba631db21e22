package window

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var packaging = filepath.Join("..", "..", "..", "..", "kiosk", "packaging")

// unit is a service unit, its settings by section and name.
type unit map[string]string

func readUnit(t testing.TB, name string) unit {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(packaging, name))
	if err != nil {
		t.Fatal(err)
	}
	u, section := unit{}, ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
		} else if k, v, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u[section+"."+k] = v
		}
	}
	return u
}

// systemd understands every line of the units, and both services come back
// however often they fall.
func TestUnits(t *testing.T) {
	dir := t.TempDir()
	analyze := tool(t, "systemd-analyze", "systemd")
	verify := func(file, text string) string {
		t.Helper()
		file = filepath.Join(dir, file)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(analyze, "--user", "verify", file)
		c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
		out, err := c.CombinedOutput()
		return strings.TrimSpace(fmt.Sprint(string(out), either(err != nil, fmt.Sprint(err), "")))
	}
	units, err := filepath.Glob(filepath.Join(packaging, "*.service"))
	if err != nil || len(units) != 3 {
		t.Fatalf("units: %v, %v", units, err)
	}
	for _, file := range units {
		name := filepath.Base(file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		program := strings.Fields(readUnit(t, name)["Service.ExecStart"])[0]
		text := strings.ReplaceAll(string(b), program, "/bin/true") // nothing is installed here
		if said := verify(name, text); said != "" {
			t.Errorf("%s: %s", name, said)
		}
		if said := verify("wrong.service", strings.ReplaceAll(text, "[Service]", "[Service]\nRestrat=always")); said == "" {
			t.Errorf("%s: a misspelt setting is not found", name)
		}
	}
	for _, name := range []string{"enrollkiosk-agent.service", "enrollkiosk-window.service"} {
		u := readUnit(t, name)
		if u["Service.Restart"] != "always" || u["Unit.StartLimitIntervalSec"] != "0" || u["Service.LimitCORE"] != "0" {
			t.Errorf("%s: %v", name, u)
		}
	}
	for _, script := range []string{"enrollkiosk-session", "enrollkiosk-displays"} {
		if out, err := exec.Command("sh", "-n", filepath.Join(packaging, script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", script, out)
		}
	}
}

func either[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}

// supervisor keeps a window running as its unit tells systemd to.
type supervisor struct {
	mu    sync.Mutex
	p     *program
	ended chan struct{} // closed when the unit says that it is over
}

// supervise starts the window of the unit on a display. It ends with the test.
func supervise(t testing.TB, d *display, args ...string) *supervisor {
	t.Helper()
	u := readUnit(t, "enrollkiosk-window.service")
	pause, err := time.ParseDuration(u["Service.RestartSec"])
	if err != nil || u["Service.Restart"] != "always" {
		t.Fatalf("the unit says %v: %v", u, err)
	}
	final := strings.Fields(u["Service.RestartPreventExitStatus"])
	s := &supervisor{p: open(t, d, args...), ended: make(chan struct{})}
	stop := make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-s.ended
	})
	go func() {
		defer close(s.ended)
		for {
			p := s.running()
			select {
			case <-p.exited:
			case <-stop:
				return
			}
			if slices.Contains(final, fmt.Sprint(p.cmd.ProcessState.ExitCode())) {
				return
			}
			select {
			case <-time.After(pause):
			case <-stop:
				return
			}
			s.mu.Lock()
			s.p = open(t, d, args...)
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *supervisor) running() *program {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// A window that is killed comes back by itself, to what the agent asks by then;
// one that an officer has closed does not.
func TestWindowComesBack(t *testing.T) {
	t.Parallel()
	d := openDisplay(t, 1280, 800)
	desk, socket := newScript(t)
	s := supervise(t, d, "--socket", socket)
	m := newMirror(1280, 800)
	m.draw(desk.show(home()))
	d.shows(t, "40-before", pages{left: m}, nil)
	asked := desk.show(choosing())
	m.draw(asked)
	d.shows(t, "41-covered", pages{left: m}, nil) // the screen was not turned yet
	s.running().kill()
	m = newMirror(1280, 800) // a new window believes whose turn it is
	m.draw(asked)
	d.shows(t, "42-back", pages{left: m}, nil)

	closed := home()
	closed.Closed = 1
	desk.show(closed)
	select {
	case <-s.ended:
	case <-time.After(patience):
		t.Fatal("closed by an officer, the window is started again")
	}
}

//go:build realstack

package realstack

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// seat is bin/kiosk enroll in a pseudo-terminal, and who sits before it.
type seat struct {
	t     *testing.T
	words *words.Catalog
	cmd   *exec.Cmd
	tty   *os.File

	mu   sync.Mutex
	said bytes.Buffer // everything on the screen
	read int          // of said, up to here it has been waited for
	done chan struct{}
}

func (l *lab) sit(config string) *seat {
	l.t.Helper()
	catalog, err := words.Open("en")
	if err != nil {
		l.t.Fatal(err)
	}
	s := &seat{t: l.t, words: catalog, cmd: exec.Command(filepath.Join(l.bin, "kiosk"), "enroll", "--once", "--config", config), done: make(chan struct{})}
	s.cmd.Env, s.cmd.Dir = l.env, l.dir
	if s.tty, err = pty.StartWithSize(s.cmd, &pty.Winsize{Rows: 50, Cols: 200}); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		buf := make([]byte, 4096)
		for {
			n, err := s.tty.Read(buf)
			s.mu.Lock()
			s.said.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	l.t.Cleanup(func() { s.cmd.Process.Kill(); s.tty.Close() })
	return s
}

func (s *seat) transcript() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// sees waits for words after those seen last.
func (s *seat) sees(text string) {
	s.t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		s.mu.Lock()
		all := s.said.String()
		i := strings.Index(all[s.read:], text)
		if i >= 0 {
			s.read += i + len(text)
		}
		s.mu.Unlock()
		if i >= 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("never saw %q; the screen:\n%s", text, all)
		}
		select {
		case <-s.done:
			if !strings.Contains(s.transcript()[s.read:], text) {
				s.t.Fatalf("it ended before %q; the screen:\n%s", text, s.transcript())
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *seat) screen(name kiosk.Screen) { s.t.Helper(); s.sees("== " + s.words.Title(name)) }

// types waits for the prompt and types a line.
func (s *seat) types(prompt, text string) {
	s.t.Helper()
	s.sees(prompt)
	if _, err := fmt.Fprintf(s.tty, "%s\n", text); err != nil {
		s.t.Fatal(err)
	}
}

// answers is types on the screen of a name.
func (s *seat) answers(name kiosk.Screen, prompt, text string) {
	s.t.Helper()
	s.screen(name)
	s.types("\n"+prompt, text)
}

// leaves waits for the program's end and returns its exit code.
func (s *seat) leaves() int {
	s.t.Helper()
	<-s.done
	s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

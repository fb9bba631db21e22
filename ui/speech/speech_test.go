//go:build unix

package speech_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/ui/speech"
)

// program is a speech program that writes its arguments, a line each, and what
// it is given to read into a file, and then runs more.
func program(t *testing.T, name, more string) (path, log string) {
	t.Helper()
	dir := t.TempDir()
	path, log = filepath.Join(dir, name), filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\nexec 3>>%[1]s\nfor a in \"$@\"; do echo \"arg $a\" >&3; done\n%[2]s\n", log, more)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, log
}

const reads = `while read -r line; do echo "in $line" >&3; done; echo end >&3`

// until waits for a file to hold something.
func until(t *testing.T, file, want string) string {
	t.Helper()
	var b []byte
	for limit := time.Now().Add(60 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if b, _ = os.ReadFile(file); strings.Contains(string(b), want) {
			return string(b)
		}
	}
	t.Fatalf("never said %q: %q", want, b)
	return ""
}

// Each program gets language and text in its own way, and the text never where
// a shell or an option could be made of it.
func TestPrograms(t *testing.T) {
	const text = "--help; $(touch x) `y` \"Your turn\""
	for name, want := range map[string]string{
		"espeak-ng": "arg -v\narg cmn\narg --stdin\nin " + text + "\nend\n",
		"spd-say":   "arg --wait\narg --language\narg zh\narg --\narg " + text + "\nend\n",
		"piper.sh":  "arg zh\nin " + text + "\nend\n",
	} {
		path, log := program(t, name, reads)
		s, err := speech.Find(path)
		if err != nil {
			t.Fatal(err)
		}
		s.Say("zh", text)
		if got := until(t, log, "end\n"); got != want {
			t.Errorf("%s was given\n%s, want\n%s", name, got, want)
		}
		s.Close()
	}
}

// gone waits for a process to be dead.
func gone(t *testing.T, pid int) {
	t.Helper()
	for limit := time.Now().Add(60 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
	}
	t.Errorf("process %d lives on", pid)
}

// A program that hangs, without ever reading, holds up nobody; it and its child
// are killed by the next sentence, by Stop and by Close.
func TestPrograms_hang(t *testing.T) {
	path, log := program(t, "hangs", "sleep 1000 & echo pid $! $$ . >&3; wait")
	s, err := speech.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("word ", 1<<20) // more than a pipe holds
	last := func(n int) (child, shell int) {
		t.Helper()
		for limit := time.Now().Add(60 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
			b, _ := os.ReadFile(log)
			if lines := strings.Split(string(b), "pid "); len(lines) > n && strings.Contains(lines[n], ".") {
				fmt.Sscan(lines[n], &child, &shell)
				return child, shell
			}
		}
		t.Fatalf("start %d never came", n)
		return 0, 0
	}
	for n, stop := range []func(){func() { s.Say("en", long) }, s.Stop, nil, s.Close} {
		if stop == nil {
			s.Say("en", long) // after Stop
			continue
		}
		if n == 0 {
			s.Say("en", long)
		}
		child, shell := last(min(n+1, 3))
		stop()
		gone(t, child)
		gone(t, shell)
	}
}

// What comes quickly after each other is not all said: the last is.
func TestTheLastIsSaid(t *testing.T) {
	path, log := program(t, "piper", reads)
	s, err := speech.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 500 {
		s.Say("en", fmt.Sprintf("sentence %d.", i))
	}
	until(t, log, "in sentence 499.\nend\n")
}

// A daemon that speaks is told to be quiet.
func TestDaemonIsHushed(t *testing.T) {
	path, log := program(t, "spd-say", `[ "$1" = --cancel ] || sleep 1000`)
	s, err := speech.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Say("en", "Your turn")
	until(t, log, "arg Your turn\n")
	s.Stop()
	until(t, log, "arg --cancel\n")
}

func TestFind(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, name := range []string{"", speech.Off} {
		if s, err := speech.Find(name); s != nil || err != nil {
			t.Errorf("%q: %v, %v", name, s, err)
		}
	}
	if _, err := speech.Find("nothing-of-that-name"); !errors.Is(err, speech.ErrProgram) || !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a program that is not there: %v", err)
	}
	path, log := program(t, "spd-say", reads)
	t.Setenv("PATH", filepath.Dir(path)+":/bin:/usr/bin")
	s, err := speech.Find("")
	if err != nil || s == nil {
		t.Fatalf("%v, %v", s, err)
	}
	defer s.Close()
	s.Say("es", "Su turno")
	until(t, log, "arg Su turno\n")
}

// A program that cannot be started is silence, and the next may speak.
func TestProgramThatCannotStart(t *testing.T) {
	path, log := program(t, "piper", reads)
	s, err := speech.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.Rename(path, path+".gone"); err != nil {
		t.Fatal(err)
	}
	s.Say("en", "one")
	s.Stop()
	if err := os.Rename(path+".gone", path); err != nil {
		t.Fatal(err)
	}
	s.Say("en", "two")
	until(t, log, "in two\nend\n")
}

//go:build realstack

package realstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lab is where everything of one run lies.
type lab struct {
	t    *testing.T
	dir  string // state of every process
	bin  string
	logs string
	env  []string

	processes []*process
	pcscd     *process
}

func (l *lab) in(names ...string) string { return filepath.Join(append([]string{l.dir}, names...)...) }

func (l *lab) write(name, content string) string {
	l.t.Helper()
	path := l.in(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// process is a program that runs beside the test.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    *log
	exited chan struct{}
}

// log keeps what a process says, in a file too.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
	file *os.File
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	return l.file.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs a program until stop, and returns when it has said ready.
func (l *lab) start(name, ready, program string, args ...string) *process {
	l.t.Helper()
	file, err := os.OpenFile(filepath.Join(l.logs, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	p := &process{name: name, log: &log{file: file}, exited: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = l.env
	p.cmd.Dir = l.dir
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		l.t.Fatalf("%s: %v", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		file.Close()
		close(p.exited)
	}()
	l.processes = append(l.processes, p)
	l.await(name+" ready", 30*time.Second, func() error {
		select {
		case <-p.exited:
			l.t.Fatalf("%s ended at once: %v\n%s", name, p.cmd.ProcessState, p.log)
		default:
		}
		if !strings.Contains(p.log.String(), ready) {
			return fmt.Errorf("it says:\n%s", p.log)
		}
		return nil
	})
	return p
}

// stop asks a process to end and wants its exit code.
func (l *lab) stop(p *process, code int) {
	l.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		l.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		l.t.Fatalf("%s does not end\n%s", p.name, p.log)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		l.t.Errorf("%s ended with %v, want exit code %d\n%s", p.name, p.cmd.ProcessState, code, p.log)
	}
}

// end kills what a failed test has left.
func (l *lab) end() {
	for _, p := range l.processes {
		select {
		case <-p.exited:
		default:
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
	}
}

// run runs a program to its end and wants its exit code.
func (l *lab) run(code int, program string, args ...string) (stdout, stderr string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	if !strings.Contains(program, "/") { // one of ours
		cmd = exec.CommandContext(ctx, filepath.Join(l.bin, program), args...)
		cmd.Env = l.env
	}
	cmd.Dir = l.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		l.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		l.t.Fatalf("%s %s: exit code %d, want %d\n%s%s", filepath.Base(program), strings.Join(args, " "), got, code, &out, &errs)
	}
	return out.String(), errs.String()
}

// await asks again and again until f is content.
func (l *lab) await(what string, limit time.Duration, f func() error) {
	l.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

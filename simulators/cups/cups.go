// Package cups runs a private CUPS on loopback whose printers put what they get
// into files. It needs root, since cupsd drops to the user lp, and Debian's packages
// cups-daemon and cups-client. It knows nothing of whoever prints.
package cups

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a running cupsd.
type Server struct {
	Address string // host:port
	dir     string
	uid     int
	gid     int
	cmd     *exec.Cmd
	ended   chan struct{}
}

// backend is the program that CUPS gives a document to (backend(7)).
const backend = `#!/bin/sh
[ $# -eq 0 ] && { echo 'direct paper "Unknown" "files"'; exit 0; }
exec cat ${6:+"$6"} >"${DEVICE_URI#paper:}"
`

// patience is for cupsd to come up and to end.
const patience = 20 * time.Second

// Start runs cupsd with everything it keeps below dir, which others may enter.
func Start(ctx context.Context, dir string) (*Server, error) {
	lp, err := user.Lookup("lp")
	if err != nil {
		return nil, fmt.Errorf("cups: %w", err)
	}
	s := &Server{dir: dir, ended: make(chan struct{})}
	s.uid, _ = strconv.Atoi(lp.Uid)
	s.gid, _ = strconv.Atoi(lp.Gid)
	for _, d := range []string{"", "spool/tmp", "cache", "state", "log", "out"} {
		if err := s.own(filepath.Join(dir, d)); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.Address = l.Addr().String()
	l.Close()
	if err := os.MkdirAll(filepath.Join(dir, "bin", "backend"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "backend", "paper"), []byte(backend), 0o755); err != nil {
		return nil, err
	}
	if err := os.Symlink("/usr/lib/cups/daemon", filepath.Join(dir, "bin", "daemon")); err != nil { // cups-exec starts backends
		return nil, err
	}
	for name, text := range map[string]string{
		"cupsd.conf": "Listen " + s.Address + "\nBrowsing No\nDefaultAuthType None\nWebInterface No\nPreserveJobHistory Yes\nPreserveJobFiles No\n" +
			"<Location />\nOrder allow,deny\nAllow all\n</Location>\n<Location /admin>\nOrder allow,deny\nAllow all\n</Location>\n" +
			"<Policy default>\n<Limit All>\nOrder allow,deny\nAllow all\n</Limit>\n</Policy>\n",
		"cups-files.conf": strings.ReplaceAll("SystemGroup root\nUser lp\nGroup lp\nServerRoot DIR\nServerBin DIR/bin\nRequestRoot DIR/spool\nTempDir DIR/spool/tmp\n"+
			"CacheDir DIR/cache\nStateDir DIR/state\nDataDir /usr/share/cups\nAccessLog DIR/log/access\nErrorLog DIR/log/error\nPageLog DIR/log/page\n", "DIR", dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	s.cmd = exec.Command("/usr/sbin/cupsd", "-f", "-c", filepath.Join(dir, "cupsd.conf"), "-s", filepath.Join(dir, "cups-files.conf"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cups (packages cups-daemon and cups-client, as root): %w", err)
	}
	go func() { s.cmd.Wait(); close(s.ended) }()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if c, err := net.Dial("tcp", s.Address); err == nil {
			c.Close()
			return s, nil
		}
		select {
		case <-s.ended:
			return nil, errors.New("cups: cupsd ended at once; it needs root")
		case <-ctx.Done():
			s.Close()
			return nil, fmt.Errorf("cups: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) own(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, s.uid, s.gid)
}

// Queue makes a printer. It returns its address and the file that is its paper.
func (s *Server) Queue(ctx context.Context, name string) (uri, paper string, err error) {
	paper = filepath.Join(s.dir, "out", name)
	if err := os.WriteFile(paper, nil, 0o644); err != nil {
		return "", "", err
	}
	if err := os.Chown(paper, s.uid, s.gid); err != nil {
		return "", "", err
	}
	return "ipp://" + s.Address + "/printers/" + name, paper, s.run(ctx, "lpadmin", "-h", s.Address, "-p", name, "-E", "-v", "paper:"+paper, "-m", "raw")
}

// Stop holds a printer up, as if it had no paper: jobs wait. Go lets them come.
func (s *Server) Stop(ctx context.Context, name string) error {
	return s.run(ctx, "cupsdisable", "-h", s.Address, "-r", "no paper", name)
}

// Go ends what Stop began.
func (s *Server) Go(ctx context.Context, name string) error {
	return s.run(ctx, "cupsenable", "-h", s.Address, name)
}

// Refuse has a printer take no jobs.
func (s *Server) Refuse(ctx context.Context, name string) error {
	return s.run(ctx, "cupsreject", "-h", s.Address, name)
}

// Waiting lists the jobs that have not come out.
func (s *Server) Waiting(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "lpstat", "-h", s.Address, "-W", "not-completed", "-o").Output()
	return string(out), err
}

// Spool lists the documents that CUPS keeps.
func (s *Server) Spool() ([]string, error) { return filepath.Glob(filepath.Join(s.dir, "spool", "d*")) }

func (s *Server) run(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cups: %s: %w: %s", name, err, out)
	}
	return nil
}

// Close ends cupsd.
func (s *Server) Close() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.cmd.Process.Kill()
		<-s.ended
	}
}

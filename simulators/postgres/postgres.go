// Package postgres starts and stops a private PostgreSQL: a cluster of its own
// in a temporary directory, behind a unix socket that only this user, and root,
// can open.
//
// It ends with Close, and with the program that started it, however that ends.
// Kill ends it as a power cut ends its machine's processes; Start brings it back
// on the same data.
//
// It is for tests and demonstrations. It imports nothing of the registry.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNotInstalled means that PostgreSQL is missing; the text says which Debian
// package has it.
var ErrNotInstalled = errors.New("not installed: apt-get install postgresql")

// Cluster is a running PostgreSQL.
type Cluster struct {
	dir      string
	bin      string
	owner    *syscall.Credential // nil: this user
	settings []string
	server   *exec.Cmd
	exited   chan struct{}
	mu       sync.Mutex // of CREATE DATABASE: its template must be alone
}

// startWait is long: a loaded machine must not fail a test.
const startWait = 2 * time.Minute

// New makes a cluster and starts it. Settings are those of postgresql.conf, such
// as "fsync=off", which makes it quick and unfit to survive the machine.
func New(ctx context.Context, settings ...string) (*Cluster, error) {
	c := &Cluster{settings: settings}
	var err error
	if c.bin, err = find(); err != nil {
		return nil, err
	}
	if c.dir, err = os.MkdirTemp("", "postgres"); err != nil {
		return nil, fmt.Errorf("make postgres: %w", err)
	}
	if os.Geteuid() == 0 { // it refuses to run as root
		if err = c.disown(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(c.dir))
		}
	}
	if _, err = c.run(ctx, "initdb", "--pgdata", c.data(), "--username", "registry", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"); err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make postgres: %w", err), os.RemoveAll(c.dir))
	}
	return c, nil
}

// find is the directory of programs: Debian's newest, or one in PATH.
func find() (string, error) {
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	slices.SortFunc(debian, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(debian, filepath.SplitList(os.Getenv("PATH"))...) {
		whole := true
		for _, program := range []string{"initdb", "postgres", "pg_isready", "createdb", "dropdb", "psql"} {
			_, err := exec.LookPath(filepath.Join(dir, program))
			whole = whole && err == nil
		}
		if whole {
			return dir, nil
		}
	}
	return "", fmt.Errorf("postgres: %w", ErrNotInstalled)
}

// disown gives the directory to the user that Debian's package made.
func (c *Cluster) disown() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("make postgres: %w: %w", err, ErrNotInstalled)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	c.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(c.dir, int(uid), int(gid))
}

// Programs is the directory of the cluster's programs, pg_dump among them.
func (c *Cluster) Programs() string { return c.bin }

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
	return cmd
}

func (c *Cluster) run(ctx context.Context, program string, args ...string) (string, error) {
	var out, problem bytes.Buffer
	cmd := c.command(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// Start starts a cluster that Stop or Kill ended, and waits until it answers.
func (c *Cluster) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		exited, err := c.launch()
		if err != nil {
			return fmt.Errorf("start postgres: %w", err)
		}
		for {
			if _, err = c.run(ctx, "pg_isready", "--host", c.dir, "--quiet"); err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return errors.Join(fmt.Errorf("start postgres: %w", err), c.Kill())
			case <-exited:
			case <-time.After(20 * time.Millisecond):
				continue
			}
			break // the killed one's processes still have its memory
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start postgres: it ends at once: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *Cluster) launch() (exited chan struct{}, err error) {
	args := []string{"-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"}
	for _, s := range c.settings {
		args = append(args, "-c", s)
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := c.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // a terminal's interrupt is for the program
	started, exited := make(chan error), make(chan struct{})
	// The parent-death signal follows the thread that forked, so that thread is
	// kept until the child is gone.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.server, c.exited = cmd, exited
	return exited, nil
}

// URL is the address of a database.
func (c *Cluster) URL(database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {c.dir}, "user": {"registry"}}.Encode()
}

// Create makes a database, as a copy of template if there is one.
func (c *Cluster) Create(ctx context.Context, database, template string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if template == "" {
		template = "template1"
	}
	_, err := c.run(ctx, "createdb", "--host", c.dir, "--username", "registry", "--template", template, database)
	return err
}

// Drop removes a database, with whoever is connected to it.
func (c *Cluster) Drop(ctx context.Context, database string) error {
	_, err := c.run(ctx, "dropdb", "--host", c.dir, "--username", "registry", "--force", database)
	return err
}

// Query runs SQL and returns its rows, one a line, columns between bars.
func (c *Cluster) Query(ctx context.Context, database, sql string) (string, error) {
	return c.run(ctx, "psql", "--host", c.dir, "--username", "registry", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1",
		"--command", sql, database)
}

// KillBackend kills one process that serves a database, if there is one: the
// server then ends all others and recovers.
func (c *Cluster) KillBackend(ctx context.Context, database string) error {
	pid, err := c.Query(ctx, database, fmt.Sprintf(`SELECT pid FROM pg_stat_activity WHERE datname = '%s' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1`, database))
	if err != nil || pid == "" {
		return err
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	return syscall.Kill(n, syscall.SIGKILL)
}

// Kill kills the server and every process of it, at once.
func (c *Cluster) Kill() error {
	if c.server == nil {
		return nil
	}
	// Its group is the server and nothing else; backends have sessions of their own,
	// and are its children.
	children, _ := exec.Command("pgrep", "--parent", strconv.Itoa(c.server.Process.Pid)).Output()
	err := c.server.Process.Kill()
	for _, pid := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(pid); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	<-c.exited
	c.server = nil
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return err
}

// Close ends the cluster and removes it.
func (c *Cluster) Close() error {
	return errors.Join(c.Kill(), os.RemoveAll(c.dir))
}

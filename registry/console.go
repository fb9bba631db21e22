package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/reply"
)

// fileConsole is the socket in the registry's directory on which a process that
// holds the store answers operators' commands. The directory is the owner's
// alone, and so is the socket: nobody else gets this far.
const fileConsole = "console.sock"

// startWait is how long a registry that has its store may take to answer.
const startWait = 10 * time.Second

// consoleRoutes is what operators' commands may ask, as http.ServeMux patterns.
func (r *Registry) consoleRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"GET /status": r.consoleStatus,

		"POST " + pathImportParcel:   importRoute(r, r.importParcel),
		"POST " + pathImportRecords:  importRoute(r, r.importRecords),
		"POST " + pathImportReceipts: importRoute(r, r.importReceipts),
	}
}

// Console is how an operator's command reaches the store: through the process
// that holds it, or, when none runs, by opening it. Both answer alike.
type Console struct {
	client *http.Client
	end    func() error
}

// OpenConsole opens the console of the registry that c describes. It must be
// closed.
func OpenConsole(ctx context.Context, c Config) (*Console, error) {
	dir := c.Registry.Dir
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dialConsole(ctx, dir) }
	console := &Console{client: &http.Client{Transport: &http.Transport{DialContext: dial}}, end: func() error { return nil }}
	o, err := c.Options()
	if err != nil {
		return nil, err
	}
	var r *Registry
	for late := time.Now().Add(startWait); ; {
		conn, err := dialConsole(ctx, dir)
		if err == nil {
			return console, conn.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("reach the registry that serves %s: %w", dir, err)
		}
		if r, err = Open(ctx, o); err == nil {
			break
		}
		if !errors.Is(err, errStoreBusy) || time.Now().After(late) || ctx.Err() != nil {
			return nil, err // else it is starting, or another command is at it
		}
	}
	stop, err := r.listenConsole()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	console.end = func() error { return errors.Join(stop(context.Background()), r.Close()) }
	return console, nil
}

// Close gives the store back.
func (c *Console) Close() error {
	c.client.CloseIdleConnections()
	return c.end()
}

// Refused is an answer other than yes.
type Refused struct {
	Status int
	Code   string
	Title  string
}

func (e *Refused) Error() string { return e.Title }

// Do asks. in is nil, an io.Reader, or a value to be sent as JSON; out is nil, an
// io.Writer, or a pointer to what the JSON answer is read into. A refusal is a
// *Refused.
func (c *Console) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case io.Reader:
		body = in
	default:
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("ask the registry: %w", err)
		}
		body = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, method, "http://console"+path, body)
	if err != nil {
		return fmt.Errorf("ask the registry: %w", err)
	}
	a, err := c.client.Do(q)
	if err != nil {
		return fmt.Errorf("ask the registry: %w", err)
	}
	defer a.Body.Close()
	if a.StatusCode >= 300 {
		if p, err := api.Decode[api.Problem](a.Body); err == nil {
			return &Refused{p.Status, p.Code, p.Title}
		}
		return &Refused{Status: a.StatusCode, Title: "the registry answers " + a.Status}
	}
	switch out := out.(type) {
	case nil:
		_, err = io.Copy(io.Discard, a.Body)
	case io.Writer:
		_, err = io.Copy(out, a.Body)
	default:
		d := json.NewDecoder(a.Body)
		d.DisallowUnknownFields()
		err = d.Decode(out)
	}
	if err != nil {
		return fmt.Errorf("ask the registry: %w", err)
	}
	return nil
}

// listenConsole answers commands until stop is called, which waits for those
// that are under way.
func (r *Registry) listenConsole() (stop func(context.Context) error, err error) {
	var l *net.UnixListener
	err = atConsole(r.opts.Dir, func(path string) error {
		// The store is ours: what lies there is of a process that was killed.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
			return err
		}
		l.SetUnlinkOnClose(false) // the path was good for this moment only
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		if l != nil {
			l.Close()
		}
		return nil, fmt.Errorf("open console: %w", err)
	}
	mux := http.NewServeMux()
	for pattern, serve := range r.consoleRoutes() {
		mux.HandleFunc(pattern, serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply.Problem(w, http.StatusNotFound, api.CodeNotFound, "this registry does not know the command: it is of another version", 0)
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(l)
	return func(ctx context.Context) error {
		os.Remove(filepath.Join(r.opts.Dir, fileConsole)) // whoever finds it left over finds nobody behind
		return s.Shutdown(ctx)
	}, nil
}

func dialConsole(ctx context.Context, dir string) (c net.Conn, err error) {
	err = atConsole(dir, func(path string) error {
		var d net.Dialer
		c, err = d.DialContext(ctx, "unix", path)
		return err
	})
	return c, err
}

// atConsole calls f with a path of the socket that is short enough for one: they
// have 107 bytes, directories may have more.
func atConsole(dir string, f func(path string) error) error {
	path := filepath.Join(dir, fileConsole)
	if len(path) < 100 {
		return f(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), fileConsole))
}

// Status is how a registry is.
type Status struct {
	Origin  string   `json:"origin"`
	Policy  uint64   `json:"policy"`  // version
	LogSize uint64   `json:"log"`     // leaves with a receipt, and those before them
	Failing []string `json:"failing"` // "log", "vault"
}

func (r *Registry) consoleStatus(w http.ResponseWriter, q *http.Request) {
	s := Status{Origin: r.origin, Policy: r.opts.Policy.Policy().Version, Failing: []string{}}
	var err error
	if s.LogSize, err = r.store.Scanned(q.Context()); err != nil {
		r.consoleFailed(w, err)
		return
	}
	if r.logRole.failing.Load() {
		s.Failing = append(s.Failing, "log")
	}
	if r.vault.failing.Load() {
		s.Failing = append(s.Failing, "vault")
	}
	reply.JSON(w, s)
}

// consoleFailed answers an operator, who may see the cause.
func (r *Registry) consoleFailed(w http.ResponseWriter, err error) {
	r.opts.Log.Error("command failed", "error", err)
	title, _, _ := strings.Cut(err.Error(), "\n")
	reply.Problem(w, http.StatusInternalServerError, api.CodeUnavailable, title, 0)
}

// Package console is how operators' commands reach the process that holds a
// directory's store: HTTP with JSON over a socket in that directory. The directory
// is the owner's alone, and so is the socket: nobody else gets this far.
package console

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
	"syscall"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/reply"
)

// File is the socket's name.
const File = "console.sock"

const (
	headerTimeout = 5 * time.Second
	startWait     = 10 * time.Second // for a process that has the store to answer
)

// ErrBusy means that another process has the store.
var ErrBusy = errors.New("the store is in use")

// Listen answers in a directory until stop is called, which waits for what is
// under way. Routes are http.ServeMux patterns. The caller holds the store.
func Listen(dir string, routes map[string]http.HandlerFunc) (stop func(context.Context) error, err error) {
	var l *net.UnixListener
	err = at(dir, func(path string) error {
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
	for pattern, serve := range routes {
		mux.HandleFunc(pattern, serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		reply.Problem(w, http.StatusNotFound, api.CodeNotFound, "the process that serves does not know the command: it is of another version", 0)
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(io.Discard, "", 0)}
	go s.Serve(l)
	return func(ctx context.Context) error {
		os.Remove(filepath.Join(dir, File)) // whoever finds it left over finds nobody behind
		return s.Shutdown(ctx)
	}, nil
}

// Console asks the process that holds a store.
type Console struct {
	http *http.Client
	end  func() error
}

// Open reaches the process that serves a directory. When none does, open opens the
// store, and this process answers itself until Close: both answer alike. While it says
// ErrBusy, somebody is waited for.
func Open(ctx context.Context, dir string, open func() (routes map[string]http.HandlerFunc, shut func() error, err error)) (*Console, error) {
	c := &Console{end: func() error { return nil }, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) }}}}
	var routes map[string]http.HandlerFunc
	var shut func() error
	for late := time.Now().Add(startWait); ; {
		conn, err := dial(ctx, dir)
		if err == nil {
			return c, conn.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("reach who serves %s: %w", dir, err)
		}
		if routes, shut, err = open(); err == nil {
			break
		}
		if !errors.Is(err, ErrBusy) || time.Now().After(late) {
			return nil, err
		}
		select { // it is starting, or another command is at it
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
	stop, err := Listen(dir, routes)
	if err != nil {
		return nil, errors.Join(err, shut())
	}
	c.end = func() error { return errors.Join(stop(context.Background()), shut()) }
	return c, nil
}

// Close gives the store back.
func (c *Console) Close() error {
	c.http.CloseIdleConnections()
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
			return fmt.Errorf("ask console: %w", err)
		}
		body = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, method, "http://console"+path, body)
	if err != nil {
		return fmt.Errorf("ask console: %w", err)
	}
	a, err := c.http.Do(q)
	if err != nil {
		return fmt.Errorf("ask console: %w", err)
	}
	defer a.Body.Close()
	if a.StatusCode >= 300 {
		if p, err := api.Decode[api.Problem](a.Body); err == nil {
			return &Refused{p.Status, p.Code, p.Title}
		}
		return &Refused{Status: a.StatusCode, Title: "the answer is " + a.Status}
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
		return fmt.Errorf("ask console: %w", err)
	}
	return nil
}

// maxCommand bounds what a command sends as JSON.
const maxCommand = 64 << 10

// Read reads what a command sent; false: it was answered with a refusal.
func Read[T any](w http.ResponseWriter, q *http.Request) (v T, ok bool) {
	d := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxCommand))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the command's body is not what is asked here", 0)
		return v, false
	}
	return v, true
}

func dial(ctx context.Context, dir string) (c net.Conn, err error) {
	err = at(dir, func(path string) error {
		var d net.Dialer
		c, err = d.DialContext(ctx, "unix", path)
		return err
	})
	return c, err
}

// at calls f with a path of the socket that is short enough for one: they have
// 107 bytes (unix(7)), directories may have more.
func at(dir string, f func(path string) error) error {
	path := filepath.Join(dir, File)
	if len(path) < 100 {
		return f(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), File))
}

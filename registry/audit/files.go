package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// httpTimeout bounds one file.
const httpTimeout = 60 * time.Second

// ErrUnreachable means that the log's server does not answer, or not with files.
var ErrUnreachable = errors.New("the log does not answer")

// HTTP are the files of a log below a URL, through a transport; nil: the default.
func HTTP(base string, transport http.RoundTripper) (*Web, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is no address of a log: want https://host[:port]/path", base)
	}
	return &Web{strings.TrimSuffix(base, "/") + "/", &http.Client{Transport: transport, Timeout: httpTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Web is a log that is fetched: checkpoint.Files.
type Web struct {
	base string
	http *http.Client
}

// Read fetches a file.
func (w *Web) Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+path, nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("User-Agent", "enrollkiosk")
	a, err := w.http.Do(q)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer a.Body.Close()
	switch {
	case a.StatusCode == http.StatusNotFound, a.StatusCode == http.StatusGone:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case a.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s: %s", ErrUnreachable, path, a.Status)
	}
	return readAll(path, a.Body, limit)
}

// Dir is a log that lies in a directory, such as a backup's: checkpoint.Files.
type Dir struct{ root *os.Root }

// OpenDir opens a directory.
func OpenDir(dir string) (Dir, error) {
	root, err := os.OpenRoot(dir)
	return Dir{root}, err
}

// Read reads a file.
func (d Dir) Read(_ context.Context, path string, limit int64) ([]byte, error) {
	f, err := d.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(path, f, limit)
}

// Close releases the directory.
func (d Dir) Close() error { return d.root.Close() }

func readAll(path string, r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrUnreachable, path, limit)
	}
	return b, nil
}

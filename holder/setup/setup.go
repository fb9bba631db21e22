// Package setup is what both of the helper's programs share: the configuration file,
// the token's reader, the default browser, and the exit codes.
package setup

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"enrollkiosk/holder"
	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/smartcard/pcsc"
)

// settings are the configuration file.
type settings struct {
	Issuer      string   `toml:"issuer"`
	IssuerRoots string   `toml:"issuer_roots"`
	SiteRoots   string   `toml:"site_roots"`
	StatusLists []string `toml:"status_lists"`
	TLSRoots    string   `toml:"tls_roots"`
	Reader      string   `toml:"reader"`
	Dir         string   `toml:"dir"`
	AnyPort     bool     `toml:"any_port"`
}

// ConfigError names file and line.
type ConfigError struct {
	file string
	line int
	err  error
}

func (e *ConfigError) Error() string {
	if e.line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.file, e.line, e.err)
	}
	return fmt.Sprintf("%s: %v", e.file, e.err)
}

func (e *ConfigError) Unwrap() error { return e.err }

// Load is the helper of a configuration file, or of the first of the usual ones when
// file is empty; it lacks its Person. Errors are *ConfigError.
func Load(file string) (*holder.Helper, error) {
	files := []string{file}
	if file == "" {
		files = []string{"/etc/enrollkiosk/holder.toml"}
		if own, err := os.UserConfigDir(); err == nil {
			files = append([]string{filepath.Join(own, "enrollkiosk", "holder.toml")}, files...)
		}
	}
	for i, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && i < len(files)-1 {
			continue
		}
		if err != nil {
			return nil, &ConfigError{file: file, err: err}
		}
		return parse(file, b)
	}
	return nil, &ConfigError{file: file, err: fs.ErrNotExist}
}

func parse(file string, b []byte) (h *holder.Helper, err error) {
	var s settings
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		e := &ConfigError{file: file, err: err}
		var strict *toml.StrictMissingError
		var decode *toml.DecodeError
		switch {
		case errors.As(err, &strict) && len(strict.Errors) > 0:
			e.line, _ = strict.Errors[0].Position()
			e.err = fmt.Errorf("unknown key %q", strings.Join(strict.Errors[0].Key(), "."))
		case errors.As(err, &decode):
			e.line, _ = decode.Position()
		}
		return nil, e
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, &ConfigError{file: file, err: err}
	}
	at := func(p string) string {
		if p == "" || filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	h = &holder.Helper{
		Authority: holder.Authority{Issuer: s.Issuer, StatusLists: s.StatusLists, AnyPort: s.AnyPort}, Dir: at(s.Dir),
		Tokens: holder.PIV{Reader: func(ctx context.Context) (string, error) { return findReader(ctx, s.Reader) }},
	}
	fail := func(key string, err error) (*holder.Helper, error) {
		return nil, &ConfigError{file: file, err: fmt.Errorf("%s: %w", key, err)}
	}
	if u, err := url.Parse(s.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || strings.HasSuffix(s.Issuer, "/") || u.RawQuery != "" || u.Fragment != "" {
		return fail("issuer", errors.New("an https address without a slash at its end"))
	}
	if len(s.StatusLists) == 0 {
		return fail("status_lists", errors.New("name all that the authority publishes"))
	}
	if h.Authority.IssuerRoots, err = roots(at(s.IssuerRoots)); err != nil {
		return fail("issuer_roots", err)
	}
	if h.Authority.SiteRoots, err = roots(at(s.SiteRoots)); err != nil {
		return fail("site_roots", err)
	}
	if s.TLSRoots != "" {
		if h.Authority.TLSRoots, err = roots(at(s.TLSRoots)); err != nil {
			return fail("tls_roots", err)
		}
	}
	if h.Dir == "" {
		if h.Dir, err = dataDir(); err != nil {
			return fail("dir", err)
		}
	}
	return h, nil
}

// roots reads certificates in PEM.
func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, errors.New("name a file with certificates in PEM")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// findReader is the reader that holds a PIV token: a card of another kind beside it,
// such as the ID card, is passed over.
func findReader(ctx context.Context, part string) (string, error) {
	all, err := pcsc.List(ctx)
	if err != nil {
		return "", err
	}
	var found error = hsm.ErrNoDevice
	for _, r := range all {
		if !strings.Contains(r.Name, part) {
			continue
		}
		if _, err := piv.Probe(ctx, r.Name); err == nil {
			return r.Name, nil
		} else if !errors.Is(err, hsm.ErrRemoved) {
			found = err
		}
	}
	return "", found
}

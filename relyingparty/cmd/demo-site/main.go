// Command demo-site is a small website whose members sign in with their tokens:
// what package relyingparty is for, shown on a real site.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `demo-site: a small website whose members sign in with their tokens.

  demo-site serve --config FILE      run until SIGTERM
  demo-site accounts --config FILE   print all that is stored of members, as JSON; not while it serves

FILE is TOML; paths are relative to it:

  [site]
  name        = "Lakeside Forum"
  url         = "https://forum.example"  # as browsers and helpers see it
  listen      = "127.0.0.1:8450"
  tls         = "tls"                    # tls.crt and tls.key: what browsers trust
  registered  = "registered"             # registered.crt (leaf first, no root) and registered.key: what the authority
                                         # over websites certified, with the DNS name and what may be asked
  data        = "forum.db"
  claims      = ["real_name_verified", "age_over_18"]  # asked at each sign-in
  legal_name  = false                    # true: members may show their legal names
  [issuer]
  id           = "https://id.example"
  roots        = ["issuer-ca.crt"]       # certificates of its CA, PEM
  tls_roots    = []                      # under which its server stands; left out: the system's
  status_lists = ["https://id.example/status/1"]

Exit codes: 0 done, 1 failed, 2 usage or configuration, 130 interrupted.
`

// Exit codes.
const (
	failed      = 1
	misuse      = 2
	interrupted = 130
)

// errUsage is a mistake of whoever called or configured.
var errUsage = errors.New("usage or configuration")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil:
		return
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(misuse)
	}
	fmt.Fprintf(os.Stderr, "demo-site: %v\n", err)
	switch {
	case errors.Is(err, errUsage):
		os.Exit(misuse)
	case ctx.Err() != nil:
		os.Exit(interrupted)
	}
	os.Exit(failed)
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: say what to do (see demo-site -h)", errUsage)
	}
	f := flag.NewFlagSet("demo-site "+args[0], flag.ContinueOnError)
	f.SetOutput(io.Discard)
	file := f.String("config", "", "")
	if args[0] == "-h" || args[0] == "--help" {
		return flag.ErrHelp
	}
	if err := f.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil || f.NArg() > 0 || *file == "" {
		return fmt.Errorf("%w: %s takes --config FILE (see demo-site -h)", errUsage, args[0])
	}
	c, err := load(*file)
	if err != nil {
		return err
	}
	switch args[0] {
	case "serve":
		listener, err := net.Listen("tcp", c.listen)
		if err != nil {
			return err
		}
		return serve(ctx, c, listener, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	case "accounts":
		return accounts(c, out)
	}
	return fmt.Errorf("%w: serve or accounts (see demo-site -h)", errUsage)
}

func accounts(c config, out io.Writer) error {
	m, err := openMembers(c.data)
	if err != nil {
		return err
	}
	defer m.close()
	all, err := m.all()
	if err != nil {
		return err
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(all)
}

// serve answers until ctx ends, and then what is being asked.
func serve(ctx context.Context, c config, listener net.Listener, log *slog.Logger) error {
	defer listener.Close()
	m, err := openMembers(c.data)
	if err != nil {
		return err
	}
	defer m.close()
	s, err := newSite(c, m, log)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: s.handler(), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		TLSConfig:      &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c.tls}},
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.party.Run(ctx)
	go s.tidy(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	log.Info("serving", "url", c.url, "listen", listener.Addr().String())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	return server.Shutdown(last)
}

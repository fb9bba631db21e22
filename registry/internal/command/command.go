// Package command is what the mains of registry and vault share: how a command
// ends. Exit codes are those of the whole project.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/tomlfile"
	"enrollkiosk/registry/policy"
)

// Exit codes.
const (
	Done        = 0
	Failed      = 1
	Usage       = 2 // or configuration
	Refused     = 4 // by a check
	Unreachable = 5
	Interrupted = 130
)

// Error is an error with its exit code.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Misuse is an error in how a command was called.
func Misuse(format string, a ...any) error { return &Error{Usage, fmt.Errorf(format, a...)} }

// Refuse marks an error as a check that said no.
func Refuse(err error) error { return &Error{Refused, err} }

// PrintJSON answers a program that asked with --json.
func PrintJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Main runs a program and exits. The context ends at the first SIGINT or
// SIGTERM; a second one ends the process at once. Logs go to standard error.
func Main(name string, run func(ctx context.Context, args []string) error) {
	if err := secret.ForbidCore(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: forbid core files: %v\n", name, err)
		os.Exit(Failed)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	klog.SetSlogLogger(log.With("from", "log")) // of the transparency log's library
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:])
	code := exit(ctx, err)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	os.Exit(code)
}

func exit(ctx context.Context, err error) int {
	var own *Error
	var file *tomlfile.Error
	switch {
	case err == nil:
		return Done
	case errors.Is(err, flag.ErrHelp):
		return Usage
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &file):
		return Usage
	case errors.Is(err, keyfile.ErrExists), errors.Is(err, policy.ErrForm), errors.Is(err, policy.ErrSignature), errors.Is(err, policy.ErrRollback):
		return Refused
	case ctx.Err() != nil:
		return Interrupted
	}
	return Failed
}

// Logger is the servers' log.
func Logger() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }

// Flags is a flag set that reports mistakes as usage errors: usage is printed
// by -h alone.
func Flags(name, usage string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	return f
}

// Parse takes flags before, between and behind the other arguments, of which it
// wants count.
func Parse(f *flag.FlagSet, args []string, count int) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, Misuse("%w (see %s -h)", err, f.Name())
		}
		if f.NArg() == 0 {
			break
		}
		rest = append(rest, f.Arg(0))
		args = f.Args()[1:]
	}
	if len(rest) != count {
		return nil, Misuse("%d arguments, want %d (see %s -h)", len(rest), count, f.Name())
	}
	return rest, nil
}

// Beside serves at an address of its own until the context ends; end waits for that.
func Beside(ctx context.Context, address string, serve func(context.Context, net.Listener) error) (end func() error, err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, l) }()
	return func() error { cancel(); return <-ended }, nil
}

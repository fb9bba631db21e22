// Command kiosk is the enrollment kiosk without its window: the agent, the flow
// in a terminal, and the tools of station IT.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/smartcard/pcsc"
	"enrollkiosk/sync/queue"
)

const usage = `kiosk enrolls citizens into the digital identity.

  kiosk agent                      own the devices, the queue and the flow
  kiosk enroll                     the flow in this terminal; the agent must run
  kiosk provision --code -         make this machine a kiosk of a registry that has given out a code
  kiosk retire                     end this machine as a kiosk: sign a farewell, destroy its keys
  kiosk card read                  read an ID card and say what it proves
  kiosk card verify DIR            verify the files that card read --save wrote
  kiosk token show                 say everything that a token tells about itself
  kiosk token provision            make a factory-new token ready outside an enrollment
  kiosk token change-pin           have a citizen choose another PIN
  kiosk token unblock              unblock an enrolled token: the citizen chooses a new PIN
  kiosk token reset --serial N     make a token factory-new; its keys are destroyed
  kiosk trust import FILE          verify and install a master list of countries' certificates
  kiosk queue list | show ID       what waits for the registry
  kiosk queue export DIR           copy it to a drive, sealed to the registry
  kiosk queue import-receipts DIR  take what the registry has written to the drive
  kiosk record verify FILE         check a record's form and signatures
  kiosk receipt verify FILE        check a receipt
  kiosk doctor                     check this machine
  kiosk config validate            check the configuration file

Every command takes --config FILE (default /etc/enrollkiosk/kiosk.toml), --json
and --help. Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 hardware
missing, 4 refused by a check, 5 not reachable, 130 interrupted.
`

// command is one command line, split.
type command struct {
	name   string
	args   []string
	flags  *flag.FlagSet
	config *string
	json   *bool
	in     *os.File
	out    io.Writer
	err    io.Writer
}

var commands = map[string]func(context.Context, *command) error{
	"agent":            runAgent,
	"enroll":           runEnroll,
	"provision":        runProvision,
	"retire":           runRetire,
	"card read":        runCardRead,
	"card verify":      runCardVerify,
	"token show":       runTokenShow,
	"token provision":  runTokenProvision,
	"token change-pin": runTokenChangePIN,
	"token unblock":    runTokenUnblock,
	"token reset":      runTokenReset,
	"trust import":     runTrustImport,
	"queue list":       runQueueList,
	"queue export":     runQueueExport,
	"queue show":       runQueueShow,

	"queue import-receipts": runImportReceipts,

	"record verify":   runRecordVerify,
	"receipt verify":  runReceiptVerify,
	"doctor":          runDoctor,
	"config validate": runConfigValidate,
}

func main() {
	queue.RunCheck() // may be the check of a database, in a process of its own
	// A production program talks to the system's PC/SC service, whatever its
	// environment says.
	pcsc.ClearEnvironment()
	// Memory holds PINs and personal data while a citizen is here.
	if err := secret.ForbidCore(); err != nil {
		fmt.Fprintf(os.Stderr, "kiosk: core files cannot be disabled: %v\n", err)
		os.Exit(exitFailed)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) { // nohup
			signal.Notify(signals, s)
		}
	}
	go func() { cancel(signalled{<-signals}) }()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// signalled is why a context ended.
type signalled struct{ signal os.Signal }

func (s signalled) Error() string { return "ended by signal: " + s.signal.String() }

// Is makes it a cancellation for whoever wraps a context's cause.
func (signalled) Is(target error) bool { return target == context.Canceled }

func run(ctx context.Context, args []string, in *os.File, out, err io.Writer) int {
	c := &command{in: in, out: out, err: err}
	f, found := c.parse(args)
	if !found {
		if len(args) > 0 {
			fmt.Fprintf(c.err, "kiosk: no command %q\n\n", strings.Join(args, " "))
		}
		fmt.Fprint(c.err, usage)
		return exitUsage
	}
	return c.finish(ctx, f(ctx, c))
}

// finish says what went wrong and returns the exit code.
func (c *command) finish(ctx context.Context, err error) int {
	var s signalled
	if errors.As(context.Cause(ctx), &s) {
		switch {
		case c.name == "agent" && s.signal == syscall.SIGTERM && (err == nil || errors.Is(err, context.Canceled)):
			return exitDone // how a service is stopped
		case err == nil && c.name != "agent":
			return exitDone // it was done already
		case err == nil, errors.Is(err, context.Canceled):
			return exitInterrupted
		}
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return exitDone
	}
	fmt.Fprintf(c.err, "kiosk: %s: %v\n", c.name, err)
	if h := hint(err); h != "" {
		fmt.Fprintf(c.err, "  -> %s\n", h)
	}
	return exitCode(err)
}

// parse finds the command of one or two words.
func (c *command) parse(args []string) (f func(context.Context, *command) error, found bool) {
	if len(args) > 0 && slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		return func(context.Context, *command) error {
			_, err := fmt.Fprint(c.out, usage)
			return err
		}, true
	}
	for words := min(2, len(args)); words > 0; words-- {
		name := strings.Join(args[:words], " ")
		if f, found = commands[name]; found {
			c.name, c.args = name, args[words:]
			c.flags = flag.NewFlagSet("kiosk "+name, flag.ContinueOnError)
			c.flags.SetOutput(io.Discard)
			c.config = c.flags.String("config", "/etc/enrollkiosk/kiosk.toml", "configuration `file`")
			c.json = c.flags.Bool("json", false, "answer in JSON")
			return f, true
		}
	}
	return nil, false
}

// usageError is a wrong command line.
type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

// flagsDone parses flags and wants exactly these further arguments.
func (c *command) flagsDone(names ...string) ([]string, error) {
	// Flags may stand behind the arguments, as people type them.
	var plain []string
	rest := c.args
	for len(rest) > 0 {
		if err := c.flags.Parse(rest); errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(c.out, "usage: %s\n\n", strings.Join(append([]string{"kiosk", c.name, "[flags]"}, names...), " "))
			c.flags.SetOutput(c.out)
			c.flags.PrintDefaults()
			return nil, err
		} else if err != nil {
			return nil, usageError{err.Error() + "; kiosk " + c.name + " --help lists the flags"}
		}
		rest = c.flags.Args()
		if len(rest) > 0 {
			plain, rest = append(plain, rest[0]), rest[1:]
		}
	}
	switch {
	case len(plain) > len(names):
		return nil, usageError{fmt.Sprintf("unexpected %q", plain[len(names)])}
	case len(plain) < len(names):
		return nil, usageError{names[len(plain)] + " is missing: kiosk " + c.name + " " + strings.Join(names, " ")}
	}
	return plain, nil
}

func (c *command) load() (station.Config, error) {
	config, err := station.Load(*c.config)
	if err != nil {
		return config, err
	}
	for _, l := range config.Kiosk.Languages {
		if !slices.Contains(words.Languages(), l) {
			return config, &station.ConfigError{File: *c.config, Err: fmt.Errorf("kiosk.languages: no sentences in %q; there are %s",
				l, strings.Join(words.Languages(), ", "))}
		}
	}
	return config, nil
}

func (c *command) print(human string, v any) error {
	if !*c.json {
		_, err := fmt.Fprintln(c.out, human)
		return err
	}
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (c *command) logger(debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level}))
}

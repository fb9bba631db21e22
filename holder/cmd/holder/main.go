// Command holder is the citizen's helper on a PC: it collects credentials with the
// token and signs in to websites that a browser hands over.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"enrollkiosk/holder"
	"enrollkiosk/holder/setup"
	"enrollkiosk/kiosk/durable"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/pcsc"
)

const usage = `holder signs its owner in to websites, under another pseudonym at each.

  holder collect [--legal-name]  fetch credentials with the token; the first time with the code on the receipt
  holder open LINK               sign in: what a browser starts; takes no flags
  holder present LINK            the same, but print the address to go back to
  holder list                    which websites know this token's owner
  holder forget SITE             be a stranger there the next time; the account is lost
  holder export FILE             websites and pseudonyms, sealed, for another PC with the same token
  holder import FILE             take what another PC has exported

All but open take --config FILE and --json. Without --config the file is
enrollkiosk/holder.toml in the user's configuration directory, then in /etc.
Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 hardware missing,
4 refused by a check or by its owner, 5 not reachable, 130 interrupted.

FILE is TOML; paths are relative to it:

  issuer       = "https://id.example"                # as its authority publishes it
  issuer_roots = "issuer-ca.pem"
  site_roots   = "sites-ca.pem"                      # of the authority that registers websites
  status_lists = ["https://id.example/status/0"]     # all that there are
  tls_roots    = ""                                  # PEM; empty: the system's
  reader       = ""                                  # part of its name; empty: whichever holds a token
  dir          = ""                                  # of the sealed files; empty: the user's
  any_port     = false                               # demonstrations: websites on other ports than 443
`

type usageError struct{ msg string }

func (e usageError) Error() string { return e.msg }

func main() {
	// A production program talks to the system's PC/SC service, whatever its
	// environment says.
	pcsc.ClearEnvironment()
	// Memory holds a PIN and keys while somebody signs in.
	if err := secret.ForbidCore(); err != nil {
		fmt.Fprintf(os.Stderr, "holder: core files cannot be disabled: %v\n", err)
		os.Exit(setup.Failed)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without a process. out gets results alone; what a person is asked
// goes to err.
func run(ctx context.Context, args []string, in *os.File, out, err io.Writer) int {
	e := (&command{in: in, out: out, err: err}).run(ctx, args)
	switch {
	case e == nil:
		return setup.Done
	case errors.Is(e, flag.ErrHelp):
		fmt.Fprint(out, usage)
		return setup.Done
	}
	if code := setup.Code(e); code != "" {
		fmt.Fprintf(err, "holder: %v [%s]\n", e, code)
	} else {
		fmt.Fprintf(err, "holder: %v\n", e)
	}
	var usage usageError
	if errors.As(e, &usage) {
		return setup.Usage
	}
	return setup.ExitCode(e)
}

type command struct {
	in   *os.File
	out  io.Writer
	err  io.Writer
	json bool
}

func (c *command) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError{"which command? holder --help lists them"}
	}
	name, args := args[0], args[1:]
	switch name {
	case "open": // the argument comes from a website: it is one argument and no flag, or nothing at all
		if len(args) != 1 {
			return fmt.Errorf("open takes one link: %w", holder.ErrLink)
		}
		if _, err := holder.ParseLink(args[0]); err != nil {
			return err
		}
		h, err := c.helper("")
		if err != nil {
			return err
		}
		return c.open(ctx, h, args[0])
	case "help", "-h", "-help", "--help":
		return flag.ErrHelp
	}
	verbs := map[string]struct {
		argument string
		do       func(context.Context, *holder.Helper, string) error
	}{
		"collect": {"", nil}, "present": {"LINK", c.present}, "list": {"", c.list}, "forget": {"SITE", c.forget},
		"export": {"FILE", c.export}, "import": {"FILE", c.importFile},
	}
	verb, known := verbs[name]
	if !known {
		return usageError{fmt.Sprintf("no command %q: holder --help lists them", name)}
	}
	f := flag.NewFlagSet("holder "+name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	config := f.String("config", "", "")
	f.BoolVar(&c.json, "json", false, "")
	legalName := false
	if name == "collect" {
		f.BoolVar(&legalName, "legal-name", false, "")
		verb.do = func(ctx context.Context, h *holder.Helper, _ string) error { return c.collect(ctx, h, legalName) }
	}
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err.Error()}
	}
	want := 0
	if verb.argument != "" {
		want = 1
	}
	if f.NArg() != want {
		return usageError{strings.TrimSpace("holder " + name + " [flags] " + verb.argument)}
	}
	h, err := c.helper(*config)
	if err != nil {
		return err
	}
	return verb.do(ctx, h, f.Arg(0))
}

// helper is the one of a configuration file.
func (c *command) helper(file string) (*holder.Helper, error) {
	h, err := setup.Load(file)
	if err != nil {
		return nil, err
	}
	h.Person = &terminal{in: c.in, out: c.err}
	return h, nil
}

func (c *command) open(ctx context.Context, h *holder.Helper, link string) error {
	p, err := h.Present(ctx, link)
	if err != nil {
		return err
	}
	if err := setup.Browse(ctx, p.Return); err != nil {
		return fmt.Errorf("%w: %w", holder.ErrBrowser, err)
	}
	c.low(p)
	return nil
}

func (c *command) present(ctx context.Context, h *holder.Helper, link string) error {
	p, err := h.Present(ctx, link)
	if err != nil {
		return err
	}
	c.low(p)
	return c.print(p.Return, map[string]any{"site": p.Site, "return": p.Return, "unused": p.Unused})
}

// low says when it is time for more: fetching them at the sign-in would tell the
// issuer of it.
func (c *command) low(p holder.Presented) {
	if p.Unused < holder.Low {
		fmt.Fprintf(c.err, "%d credentials are left for further websites: run holder collect some time\n", p.Unused)
	}
}

func (c *command) collect(ctx context.Context, h *holder.Helper, legalName bool) error {
	got, err := h.Collect(ctx, legalName)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d new credentials, %d renewed; %d are there for further websites", got.New, got.Renewed, got.Unused)
	if got.New+got.Renewed == 0 {
		text = fmt.Sprintf("nothing to fetch: %d credentials are there for further websites", got.Unused)
	}
	return c.print(text, map[string]int{"new": got.New, "renewed": got.Renewed, "unused": got.Unused})
}

func (c *command) list(ctx context.Context, h *holder.Helper, _ string) error {
	s, err := h.List(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, site := range s.Sites {
		fmt.Fprintf(&b, "%-40s until %s", site.Name, site.Expires.Format("2006-01-02"))
		if site.LegalName {
			b.WriteString("  with the name")
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%d credentials for further websites, %d with the name", s.Unused, s.UnusedForNames)
	return c.print(b.String(), s)
}

func (c *command) forget(ctx context.Context, h *holder.Helper, site string) error {
	if err := h.Forget(ctx, site); err != nil {
		return err
	}
	return c.print(site+" is forgotten", map[string]string{"forgotten": site})
}

func (c *command) export(ctx context.Context, h *holder.Helper, file string) error {
	b, err := h.Export(ctx)
	if err != nil {
		return err
	}
	if err := durable.Replace(file, b); err != nil {
		return err
	}
	return c.print("written to "+file+"; it opens with this token alone", map[string]string{"file": file})
}

func (c *command) importFile(ctx context.Context, h *holder.Helper, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	added, conflicts, err := h.Import(ctx, b)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d websites added", added)
	for _, site := range conflicts {
		text += "\n" + site + ": this PC has another pseudonym there, and keeps it"
	}
	return c.print(text, map[string]any{"added": added, "conflicts": append([]string{}, conflicts...)})
}

func (c *command) print(human string, v any) error {
	if !c.json {
		_, err := fmt.Fprintln(c.out, human)
		return err
	}
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

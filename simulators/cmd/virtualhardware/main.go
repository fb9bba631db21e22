// Command virtualhardware offers virtual readers with cards in them: a specimen
// ID card, a PIV token and an officer's card.
//
//	virtualhardware --socket PATH                   three readers on a private PC/SC socket
//	virtualhardware --vpcd HOST:PORT --idcard ...   one card in a real pcscd (vsmartcard-vpcd)
//	virtualhardware --make-authority DIR            the issuers' keys and certificates, then exit
//	virtualhardware --show                          what is printed on the ID card, then exit
//
// It writes the line "ready" when the cards answer and runs until SIGTERM or
// SIGINT. Programs reach the private socket with PCSCLITE_CSOCK_NAME=PATH.
// Everything it makes is a specimen: whoever trusts its roots must give them the
// class "test".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/specimen"
	"enrollkiosk/simulators/vpcd"
)

// Names of the readers on the private socket. Tools find a token by "YubiKey".
const (
	idCardReader  = "Specimen ID Card Reader 00 00"
	tokenReader   = "Yubico YubiKey OTP+FIDO+CCID 01 00"
	officerReader = "Specimen Officer Reader 02 00"
)

const (
	plugLimit = 30 * time.Second       // for a pcscd that is still starting
	plugRetry = 100 * time.Millisecond // between two attempts
)

const usage = `virtualhardware offers simulated smart card readers with a specimen ID card, a
PIV token and an officer's card, so that the kiosk and other PC/SC programs can
be tried and tested without hardware. One of these it does:

  virtualhardware --socket PATH        three readers on a private PC/SC socket, for
                                       programs started with PCSCLITE_CSOCK_NAME=PATH
  virtualhardware --vpcd HOST:PORT --idcard specimen
                                       one card in a real pcscd that has vsmartcard-vpcd
  virtualhardware --make-authority DIR the issuers' keys and certificates
  virtualhardware --show               what is printed on the ID card

It writes "ready" when the cards answer and runs until SIGTERM or SIGINT.

`

// printUsage writes what --help shows.
func printUsage(w io.Writer, f *flag.FlagSet) {
	fmt.Fprint(w, usage)
	f.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (default: " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  --%s\n        %s\n", strings.TrimSpace(f.Name+" "+value), text)
	})
	fmt.Fprint(w, "\nExit codes: 0 done, 1 failed, 2 usage.\n")
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errUsage is a command line that asks for nothing, or for two things at once.
var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := start(ctx, args, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "virtualhardware: %v; --help lists the options\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "virtualhardware: %v\n", err)
	return exitFailed
}

func start(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("virtualhardware", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are told once, by run
	socket := f.String("socket", "", "offer three readers on a private PC/SC socket at `PATH`")
	address := f.String("vpcd", "", "plug one card into the virtual reader of a real pcscd at `HOST:PORT`")
	makeDir := f.String("make-authority", "", "make the issuers in `DIR`, unless they are there, and exit")
	show := f.Bool("show", false, "print the ID card's CAN and MRZ")
	var c choice
	f.StringVar(&c.authority, "authority", "", "keep the issuers' keys in `DIR`, made on first use (default: new ones for each run)")
	f.StringVar(&c.idcard, "idcard", "specimen", "ID card: specimen, none, or a `FILE` describing the person")
	f.StringVar(&c.idcardFaults, "idcard-faults", "", "comma-separated `LIST` of what is wrong with the ID card")
	f.StringVar(&c.token, "token", "factory", "PIV token: `KIND` is factory, provisioned or none")
	f.StringVar(&c.tokenFaults, "token-faults", "", "comma-separated `LIST` of what is wrong with the token")
	f.StringVar(&c.officer, "officer", "", "officer's card: `DIR` with officer.key and officer.crt, or none (default: officer 0001 of the authority)")
	f.StringVar(&c.officerPIN, "officer-pin", "246813", "`PIN` of the officer's card")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			printUsage(stdout, f)
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%w: unexpected %q", errUsage, f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })

	switch {
	case *makeDir != "":
		_, err := specimen.Open(*makeDir)
		return err
	case *socket != "" && *address != "":
		return fmt.Errorf("%w: --socket or --vpcd, not both", errUsage)
	case *socket == "" && *address == "" && !*show:
		return fmt.Errorf("%w: one of --socket, --vpcd, --make-authority and --show is needed", errUsage)
	}
	a, err := specimen.Open(c.authority)
	if err != nil {
		return err
	}
	if *show {
		chip, err := c.idCard(a)
		if err != nil {
			return err
		}
		printDocument(stdout, chip)
	}
	switch {
	case *socket != "":
		return c.serve(ctx, a, *socket, stdout)
	case *address != "":
		card, err := c.single(a, given)
		if err != nil {
			return err
		}
		return plug(ctx, *address, card, stdout, stderr)
	}
	return nil
}

// printDocument prints what a holder reads off the card.
func printDocument(w io.Writer, chip *idcard.Chip) {
	fmt.Fprintf(w, "CAN %s\n", chip.CAN())
	mrz, line := chip.MRZ(), 30
	if len(mrz) == 2*44 {
		line = 44
	}
	for ; len(mrz) > 0; mrz = mrz[line:] {
		fmt.Fprintf(w, "MRZ %s\n", mrz[:line])
	}
}

// serve offers the three readers until ctx ends.
func (c choice) serve(ctx context.Context, a *specimen.Authority, socket string, stdout io.Writer) error {
	server, err := pcscd.Listen(socket)
	if err != nil {
		return err
	}
	defer server.Close()
	for _, r := range []struct {
		name string
		card func(*specimen.Authority) (pcscd.Card, error)
	}{{idCardReader, c.idCardOrNone}, {tokenReader, c.tokenOrNone}, {officerReader, c.officerOrNone}} {
		card, err := r.card(a)
		if err != nil {
			return err
		}
		reader, err := server.AddReader(r.name)
		if err != nil {
			return err
		}
		if card != nil {
			reader.Insert(card)
		}
	}
	fmt.Fprintln(stdout, "ready")
	<-ctx.Done()
	return server.Close()
}

// plug keeps one card in a real pcscd until ctx ends, also when pcscd is started
// later or again.
func plug(ctx context.Context, address string, card pcscd.Card, stdout, stderr io.Writer) error {
	a := &answering{Card: card, first: func() { fmt.Fprintln(stdout, "ready") }}
	deadline := time.Now().Add(plugLimit)
	for {
		err := vpcd.Plug(ctx, address, a)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, vpcd.ErrGone):
			deadline = time.Now().Add(plugLimit)
		case errors.Is(err, vpcd.ErrProtocol), errors.Is(err, vpcd.ErrTooLong):
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%w; is pcscd running with vsmartcard-vpcd, and is this its port?", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(plugRetry):
		}
	}
}

// answering is a card that tells when the reader has first asked who it is.
type answering struct {
	pcscd.Card
	once  sync.Once
	first func()
}

func (a *answering) ATR() []byte {
	defer a.once.Do(a.first)
	return a.Card.ATR()
}

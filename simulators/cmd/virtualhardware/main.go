// Command virtualhardware offers virtual readers with cards in them: a specimen
// ID card, a Belgian one, a PIV token and an officer's card; and the police's
// module for Chinese identity cards on a pseudo-terminal.
//
//	virtualhardware --socket PATH                   readers on a private PC/SC socket
//	virtualhardware --vpcd HOST:PORT --idcard ...   one card in a real pcscd (vsmartcard-vpcd)
//	virtualhardware --resident specimen             the module, also beside the two others
//	virtualhardware --make-authority DIR            the issuers' keys and certificates, then exit
//	virtualhardware --show                          what is printed on the ID card, then exit
//
// It writes the line "ready" when the cards answer, behind it the module's serial
// port if there is one, and runs until SIGTERM or SIGINT. SIGUSR1 lifts the card
// off the module and puts it back, without which the module does not find it a
// second time. Programs reach the private socket with PCSCLITE_CSOCK_NAME=PATH.
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

	"enrollkiosk/simulators/beid"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/simulators/sam"
	"enrollkiosk/simulators/specimen"
	"enrollkiosk/simulators/vpcd"
)

// Names of the readers on the private socket. Tools find a token by "YubiKey".
const (
	idCardReader  = "Specimen ID Card Reader 00 00"
	tokenReader   = "Yubico YubiKey OTP+FIDO+CCID 01 00"
	officerReader = "Specimen Officer Reader 02 00"
	belgianReader = "Specimen Belgian Card Reader 03 00" // only with a card
)

const (
	plugLimit = 30 * time.Second       // for a pcscd that is still starting
	plugRetry = 100 * time.Millisecond // between two attempts
)

const usage = `virtualhardware offers simulated smart card readers with a specimen ID card, a
Belgian one, a PIV token and an officer's card, and the police's module for
Chinese identity cards, so that the kiosk and other PC/SC programs can be tried
and tested without hardware. One of these it does:

  virtualhardware --socket PATH        readers on a private PC/SC socket, for
                                       programs started with PCSCLITE_CSOCK_NAME=PATH
  virtualhardware --vpcd HOST:PORT --idcard specimen
                                       one card in a real pcscd that has vsmartcard-vpcd
  virtualhardware --resident specimen  the module on a pseudo-terminal; it can also be
                                       beside the two others
  virtualhardware --make-authority DIR the issuers' keys and certificates
  virtualhardware --show               what is printed on the ID card

It writes "ready" when the cards answer, and behind it the path of the module's
pseudo-terminal if there is one, and runs until SIGTERM or SIGINT. A module finds
a card that it has read only when it is put on again: SIGUSR1 does so.

`

// printUsage writes what --help shows.
func printUsage(w io.Writer, f *flag.FlagSet) {
	fmt.Fprint(w, usage)
	f.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (default: " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  --%s\n%s", strings.TrimSpace(f.Name+" "+value), indented(text))
	})
	fmt.Fprint(w, "\nExit codes: 0 done, 1 failed, 2 usage.\n")
}

// indented breaks a text into indented lines of at most 80 letters.
func indented(text string) string {
	var b strings.Builder
	room := 0
	for word := range strings.FieldsSeq(text) {
		if room -= len(word) + 1; room < 0 {
			b.WriteString("\n       ")
			room = 80 - len("       ") - len(word) - 1
		}
		b.WriteString(" " + word)
	}
	return strings.TrimPrefix(b.String(), "\n") + "\n"
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
	err := start(ctx, args, stdout)
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

func start(ctx context.Context, args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("virtualhardware", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are told once, by run
	socket := f.String("socket", "", "offer readers on a private PC/SC socket at `PATH`")
	address := f.String("vpcd", "", "plug one card into the virtual reader of a real pcscd at `HOST:PORT`")
	makeDir := f.String("make-authority", "", "make the issuers in `DIR`, unless they are there, and exit")
	show := f.Bool("show", false, "print the ID card's CAN and MRZ")
	var c choice
	c.addFlags(f)
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

	if err := c.onlySpecimen(); err != nil {
		return err
	}
	switch {
	case *makeDir != "":
		_, err := specimen.Open(*makeDir)
		return err
	case *socket != "" && *address != "":
		return fmt.Errorf("%w: --socket or --vpcd, not both", errUsage)
	case *socket == "" && *address == "" && c.resident == none && !*show:
		return fmt.Errorf("%w: one of --socket, --vpcd, --resident, --make-authority and --show is needed", errUsage)
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
	ready := func() { fmt.Fprintln(stdout, "ready") }
	module, err := c.startModule()
	if err != nil {
		return err
	}
	if module != nil {
		defer module.Close()
		defer placeOnSignal(module)()
		ready = func() { fmt.Fprintln(stdout, "ready", module.Path()) }
	}
	switch {
	case *socket != "":
		return c.serve(ctx, a, *socket, ready)
	case *address != "":
		card, err := c.single(a, given)
		if err != nil {
			return err
		}
		return plug(ctx, *address, card, ready)
	case module != nil:
		ready()
		<-ctx.Done()
	}
	return nil
}

// placeOnSignal puts the card on the module again at each SIGUSR1; the function
// it returns ends that.
func placeOnSignal(module *sam.Module) (end func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			module.Place(sam.Resident(sam.Specimen()))
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}

// addFlags adds what says how the cards are.
func (c *choice) addFlags(f *flag.FlagSet) {
	c.applet = beid.Applet18
	f.StringVar(&c.authority, "authority", "", "keep the issuers' keys in `DIR`, made on first use (default: new ones for each run)")
	f.StringVar(&c.idcard, "idcard", "specimen", "ID card: specimen, none, or a `FILE` describing the person")
	f.StringVar(&c.idcardFaults, "idcard-faults", "", "comma-separated `LIST` of what is wrong with the ID card: "+listed(idcard.Faults(), ", "))
	f.StringVar(&c.token, "token", "factory", "PIV token: `KIND` is factory, provisioned or none")
	f.StringVar(&c.tokenFaults, "token-faults", "", "comma-separated `LIST` of what is wrong with the token: "+strings.ReplaceAll((^pivtoken.Fault(0)).String(), ",", ", "))
	f.StringVar(&c.officer, "officer", "", "officer's card: `DIR` with officer.key and officer.crt, or none (default: officer 0001 of the authority)")
	f.StringVar(&c.officerPIN, "officer-pin", "246813", "`PIN` of the officer's card")
	f.StringVar(&c.belgian, "belgian", none, "Belgian ID card: `KIND` is specimen or none; the root that it was issued under is belgium.der in the authority's folder, another one for each run")
	f.Func("belgian-applet", "`VERSION` of the Belgian card: "+listed(applets, ", ")+" (default: "+string(c.applet)+")", c.setApplet)
	f.Func("belgian-fault", "`NAME` of what is wrong with the Belgian card, may be given again: "+listed(beid.Faults(), ", "), c.addBelgianFault)
	f.StringVar(&c.resident, "resident", none, "Chinese resident identity card on a police module: `KIND` is specimen or none")
	f.Func("resident-fault", "`NAME` of what is wrong with the module or its card: "+listed(sam.Faults(), ", "), c.setResidentFault)
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

// serve offers the readers until ctx ends.
func (c choice) serve(ctx context.Context, a *specimen.Authority, socket string, ready func()) error {
	server, err := pcscd.Listen(socket)
	if err != nil {
		return err
	}
	defer server.Close()
	type slot struct {
		name string
		card func(*specimen.Authority) (pcscd.Card, error)
	}
	slots := []slot{{idCardReader, c.idCardOrNone}, {tokenReader, c.tokenOrNone}, {officerReader, c.officerOrNone}}
	if c.belgian != none {
		slots = append(slots, slot{belgianReader, c.belgianOrNone})
	}
	for _, r := range slots {
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
	ready()
	<-ctx.Done()
	return server.Close()
}

// plug keeps one card in a real pcscd until ctx ends, also when pcscd is started
// later or again.
func plug(ctx context.Context, address string, card pcscd.Card, ready func()) error {
	a := &answering{Card: card, first: ready}
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

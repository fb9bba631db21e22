package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/registry/policy"
)

// The service desk's commands for tokens. They use the token's reader beside a
// running agent; while an enrollment holds the token, it is busy. PINs are typed
// without echo and never stand in a flag.

// tokenLimit bounds the work on one token, not the typing before it.
const tokenLimit = 2 * time.Minute

// tokenReader is the reader of a token command. A reader that is named needs no
// configuration.
func (c *command) tokenReader(ctx context.Context, named string) (reader string, config station.Config, err error) {
	config, err = c.load()
	if err != nil && named == "" {
		return "", config, err
	}
	if named == "" {
		named = config.Readers.Token
	}
	reader, err = findReader(ctx, named)
	return reader, config, err
}

func (c *command) readerFlag() *string {
	return c.flags.String("reader", "", "part of the reader's `name`; default: readers.token of the configuration")
}

func runTokenShow(ctx context.Context, c *command) error {
	named := c.readerFlag()
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	reader, config, err := c.tokenReader(ctx, *named)
	if err != nil {
		return err
	}
	p, err := station.Policy(config)
	if err != nil {
		p = policy.Policy{} // trusts nobody
	}
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	d, err := station.DescribeToken(ctx, reader, p)
	if err != nil {
		return err
	}
	return c.print(tokenText(d), d)
}

// tokenText is a description for people.
func tokenText(d piv.Description) string {
	var b strings.Builder
	line := func(name, format string, a ...any) { fmt.Fprintf(&b, "%-12s%s\n", name, fmt.Sprintf(format, a...)) }
	said := func(s string) string {
		if s == "" {
			return "not said"
		}
		return s
	}
	state := "in use, or begun and not finished: kiosk token reset makes it new"
	switch {
	case d.FactoryNew:
		state = "factory-new"
	case d.Ready:
		state = "ready: PIN, PUK and management key were replaced"
	}
	if d.Serial != 0 {
		line("serial", "%d", d.Serial)
	}
	line("firmware", "%s", said(d.Firmware))
	line("form", "%s", said(d.FormFactor))
	line("PIV", "%s", said(d.Application))
	line("state", "%s", state)
	line("attests", "%s", yesNo(d.CanAttest))
	line("agrees", "%s", yesNo(d.CanAgree))
	for _, t := range []struct {
		name string
		of   piv.Tries
	}{{"PIN", d.PIN}, {"PUK", d.PUK}} {
		tries := "tries not said"
		if t.of.Total > 0 {
			tries = fmt.Sprintf("%d of %d tries left", t.of.Left, t.of.Total)
		}
		line(t.name, "%s, %s", tries, t.of.Setting)
	}
	line("management", "%s, %s, touch %s", said(d.Management.Algorithm), d.Management.Setting, said(d.Management.Touch))
	for _, o := range d.Slots {
		line("slot "+o.Slot, "%s, PIN %s, touch %s, %s", said(o.Algorithm), said(o.PIN), said(o.Touch), said(o.Origin))
		if k := o.Certificate; k != nil {
			line("", "certificate %q by %q, %s to %s", k.Subject, k.Issuer, k.NotBefore.Format(time.DateOnly), k.NotAfter.Format(time.DateOnly))
			if k.OtherKey {
				line("", "the certificate is of ANOTHER KEY")
			}
		}
		if o.Attested != "" {
			line("", "attestation %s", o.Attested)
		}
	}
	if d.CHUID != nil {
		line("CHUID", "%s, expires %s", d.CHUID.GUID, d.CHUID.Expires)
	}
	for _, object := range []struct{ name, value string }{{"CCC", d.CCC}, {"PIN usage", d.PINUsage}} {
		if object.value != "" {
			line(object.name, "%s", object.value)
		}
	}
	if d.History != nil {
		line("retired", "%d with certificates on the card, %d elsewhere", d.History.OnCard, d.History.OffCard)
	}
	for _, p := range d.Problems {
		line("odd", "%s", p)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func runTokenReset(ctx context.Context, c *command) error {
	named := c.readerFlag()
	serial := c.flags.Uint("serial", 0, "serial `number` of the token to reset; kiosk token show tells it")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	if *serial == 0 {
		return usageError{"--serial is missing: kiosk token show tells it"}
	}
	reader, _, err := c.tokenReader(ctx, *named)
	if err != nil {
		return err
	}
	t, err := openToken(ctx, reader)
	if err != nil {
		return err
	}
	serialNow := t.Info().Serial
	t.Close() // not held while somebody types
	if uint(serialNow) != *serial {
		return fmt.Errorf("%w: the token on the reader has serial number %d", errRefused, serialNow)
	}
	fmt.Fprintf(c.err, "Token %d loses its keys for good. A citizen who was enrolled with it must be enrolled anew.\n", serialNow)
	typed, err := c.ask(ctx, "Type the serial number to confirm: ")
	if err != nil {
		return err
	}
	if string(typed) != strconv.FormatUint(uint64(serialNow), 10) {
		return fmt.Errorf("%w: that is another number; nothing was done", errRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	if t, err = openToken(ctx, reader); err != nil {
		return err
	}
	defer t.Close()
	if t.Info().Serial != serialNow {
		return fmt.Errorf("%w: the token was exchanged", errRefused)
	}
	if err := t.Reset(ctx); err != nil {
		if errors.Is(err, hsm.ErrRemoved) {
			err = fmt.Errorf("%w; the same command finishes it", err)
		}
		return err
	}
	return c.print(fmt.Sprintf("Token %d is factory-new.", serialNow), map[string]any{"serial": serialNow, "factory_new": true})
}

func runTokenChangePIN(ctx context.Context, c *command) error {
	named := c.readerFlag()
	insist := c.flags.Bool("insist", false, "send the PIN although one try is left: a wrong one blocks it")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	reader, _, err := c.tokenReader(ctx, *named)
	if err != nil {
		return err
	}
	t, err := openToken(ctx, reader)
	if err != nil {
		return err
	}
	before := t.Info()
	t.Close() // not held while somebody types
	if before.PINTries == 1 && !*insist {
		return fmt.Errorf("%w; --insist sends it all the same", piv.ErrLastTry)
	}
	p := c.pins(ctx)
	defer p.close()
	old, err := p.hidden("Present PIN: ")
	if err != nil {
		return err
	}
	defer old.Wipe()
	pin, err := p.choose()
	if err != nil {
		return err
	}
	defer pin.Wipe()
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	if t, err = openToken(ctx, reader); err != nil {
		return err
	}
	defer t.Close()
	if t.Info().Serial != before.Serial {
		return fmt.Errorf("%w: the token was exchanged", errRefused)
	}
	if *insist {
		t.Insist()
	}
	if err := t.ChangePIN(ctx, old, pin); err != nil {
		return err
	}
	return c.print("The PIN was changed.", map[string]any{"serial": before.Serial, "changed": true})
}

func runTokenProvision(ctx context.Context, c *command) error {
	named := c.readerFlag()
	dir := c.flags.String("dir", ".", "`directory` to write token-SERIAL.json into")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	reader, config, err := c.tokenReader(ctx, *named)
	if err != nil {
		return err
	}
	trusted, err := station.Policy(config)
	if err != nil {
		return err
	}
	if time.Now().After(trusted.Expires) {
		return policy.ErrExpired
	}
	// Before a citizen thinks about a PIN.
	info, err := piv.Probe(ctx, reader)
	if err != nil {
		return err
	}
	if err := station.TokenInfo(info).Usable(); err != nil {
		return err
	}
	p := c.pins(ctx)
	defer p.close()
	pin, err := p.choose()
	if err != nil {
		return err
	}
	defer pin.Wipe()
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	file, err := station.ProvisionToken(ctx, station.Provisioning{Reader: reader, Policy: trusted, PIN: pin, Dir: *dir,
		Progress: func(step hsm.Progress) {
			if text, told := tokenSteps[step]; told {
				fmt.Fprintln(c.err, text)
			}
		}})
	if err != nil {
		return err
	}
	return c.print(fmt.Sprintf("Token %d is ready. %s holds the evidence of its keys and what unblocks it, sealed to the authority.", info.Serial, file),
		map[string]any{"serial": info.Serial, "ready": true, "file": file})
}

var tokenSteps = map[hsm.Progress]string{
	hsm.Generating: "making a key ...",
	hsm.TouchNow:   "Touch the token when it blinks.",
	hsm.Storing:    "locking the token ...",
}

func openToken(ctx context.Context, reader string) (*piv.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	return piv.Open(ctx, reader)
}

// ask reads one line that anybody may see.
func (c *command) ask(ctx context.Context, prompt string) ([]byte, error) {
	t := openTTY(ctx, c.in)
	defer t.close()
	fmt.Fprint(c.err, prompt)
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case l := <-t.lines:
		return l.text, l.err
	}
}

// pins asks a person for PINs, without echo.
type pins struct {
	ctx context.Context
	c   *command
	tty *tty
}

func (c *command) pins(ctx context.Context) *pins {
	p := &pins{ctx, c, openTTY(ctx, c.in)}
	p.tty.echo(false) // before the first prompt: what is typed at once is not shown either
	return p
}

func (p *pins) close() { p.tty.close() }

func (p *pins) hidden(prompt string) (secret.Text, error) {
	fmt.Fprint(p.c.err, prompt)
	defer fmt.Fprintln(p.c.err)
	line, err := p.tty.hide(p.ctx)
	return secret.New(line), err
}

// choose has a person choose a PIN and repeat it, until both are the same and
// not one that everybody tries first.
func (p *pins) choose() (secret.Text, error) {
	w, err := words.Open(words.Languages()[0])
	if err != nil {
		return secret.Text{}, err
	}
	for {
		first, err := p.hidden(fmt.Sprintf("New PIN, %d to %d digits: ", kiosk.MinPIN, kiosk.MaxPIN))
		if err != nil {
			return secret.Text{}, err
		}
		problem := kiosk.CheckPIN(first)
		if problem == kiosk.PINFine {
			second, err := p.hidden("The same again: ")
			if err != nil {
				first.Wipe()
				return secret.Text{}, err
			}
			same := first.Equal(second)
			second.Wipe()
			if same {
				return first, nil
			}
			problem = kiosk.PINDifferent
		}
		first.Wipe()
		fmt.Fprintln(p.c.err, w.Problem(kiosk.PINView{Min: kiosk.MinPIN, Max: kiosk.MaxPIN, Problem: problem}))
	}
}

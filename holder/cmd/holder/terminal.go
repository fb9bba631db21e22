package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"enrollkiosk/holder"
	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/credential"
)

// terminal is a person at a keyboard. What is asked goes to out; answers are lines of
// in, which need not be a terminal.
type terminal struct {
	in  *os.File
	out io.Writer
}

// knows says what a claim tells, in the order in which it is listed.
var knows = []struct{ claim, says string }{
	{credential.RealNameVerified, "that the authority has verified who you are, not who that is"},
	{credential.AgeOver14, "whether you are over 14"},
	{credential.AgeOver16, "whether you are over 16"},
	{credential.AgeOver18, "whether you are over 18"},
	{credential.FamilyName, "YOUR FAMILY NAME"},
	{credential.GivenName, "YOUR GIVEN NAME"},
	{credential.NameLocal, "YOUR NAME in your document's own script"},
}

// Consent wants y, or for the name the website's own name typed.
func (t *terminal) Consent(ctx context.Context, a holder.Ask) (bool, error) {
	fmt.Fprintf(t.out, "\n  %s\n  asks you to sign in.\n\n  It will know\n    - a pseudonym that no other website gets\n", a.Site)
	for _, k := range knows {
		for _, c := range a.Claims {
			if c == k.claim {
				fmt.Fprintf(t.out, "    - %s\n", k.says)
			}
		}
	}
	if strings.HasPrefix(a.Site, "xn--") || strings.Contains(a.Site, ".xn--") {
		fmt.Fprint(t.out, "\n  The name of this website has foreign letters (xn--): it may look like another's.\n")
	}
	if !a.LegalName {
		fmt.Fprint(t.out, "\n  It will not know your name, or where else you sign in.\n\n  Sign in? [y/N] ")
		answer, err := t.line(ctx)
		s := strings.TrimSpace(string(answer))
		return strings.EqualFold(s, "y") || strings.EqualFold(s, "yes"), err
	}
	fmt.Fprint(t.out, "\n  This pseudonym will bear your name for good.\n\n  Type the website's name to show yours, or Enter to decline: ")
	answer, err := t.line(ctx)
	return strings.EqualFold(strings.TrimSpace(string(answer)), a.Site), err
}

// PIN is typed blind.
func (t *terminal) PIN(ctx context.Context, wrong *hsm.WrongPIN) (secret.Text, error) {
	if wrong != nil {
		fmt.Fprintf(t.out, "  Wrong PIN, %d tries left.\n", wrong.Left)
	}
	return t.hidden(ctx, "  PIN of your token: ")
}

// ClaimCode is typed blind too: it stands on paper.
func (t *terminal) ClaimCode(ctx context.Context) (secret.Text, error) {
	return t.hidden(ctx, "  Claim code on your receipt: ")
}

// Touch goes out at once: the token blinks for a few seconds only.
func (t *terminal) Touch() { fmt.Fprintln(t.out, "  Touch your token when it blinks.") }

func (t *terminal) hidden(ctx context.Context, question string) (secret.Text, error) {
	fmt.Fprint(t.out, question)
	fd := int(t.in.Fd())
	if !term.IsTerminal(fd) {
		b, err := t.line(ctx)
		return secret.New(b), err
	}
	before, err := term.GetState(fd)
	if err != nil {
		return secret.Text{}, err
	}
	b, err := waited(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	if ctx.Err() != nil {
		term.Restore(fd, before) // what still reads would have left the echo off
	}
	fmt.Fprintln(t.out)
	return secret.New(bytes.TrimSpace(b)), ended(err)
}

// line reads one line, byte by byte: what follows is the next question's.
func (t *terminal) line(ctx context.Context) ([]byte, error) {
	b, err := waited(ctx, func() (line []byte, err error) {
		for one := make([]byte, 1); len(line) < 1024; {
			n, err := t.in.Read(one)
			if n == 1 && one[0] == '\n' {
				return line, nil
			}
			line = append(line, one[:n]...)
			if err != nil {
				if errors.Is(err, io.EOF) && len(line) > 0 {
					err = nil
				}
				return line, err
			}
		}
		return nil, errors.New("a line of more than 1024 characters")
	})
	return bytes.TrimRight(b, "\r"), ended(err)
}

// waited ends with ctx, although a read of a terminal cannot be called off.
func waited(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		b   []byte
		err error
	}
	c := make(chan answer, 1)
	go func() {
		b, err := read()
		c <- answer{b, err}
	}()
	select {
	case a := <-c:
		return a.b, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ended is a terminal that nobody answers at any more: a no, not a failure.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: nobody is at the terminal", holder.ErrDeclined)
	}
	return err
}

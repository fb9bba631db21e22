package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/term"

	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/api"
)

func runProvision(ctx context.Context, c *command) error {
	text := c.flags.String("code", "", "`code` that the registry gave out; - reads it from standard input, where the process list does not show it")
	registry := c.flags.String("registry", "", "`URL` of the registry, to make sure: it must be registry.url of the configuration")
	wait := c.flags.Duration("wait", time.Hour, "how long to wait for approval")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	switch {
	case *text == "":
		return usageError{"--code is missing: - reads it from standard input"}
	case *registry != "" && *registry != config.Registry.URL:
		return usageError{fmt.Sprintf("--registry %s: the configuration says registry.url = %q: they must agree", *registry, config.Registry.URL)}
	case *wait < 0:
		return usageError{"--wait must not be negative"}
	case *text == "-":
		if *text, err = c.readCode(ctx); err != nil {
			return err
		}
	}
	code, err := api.ParseCode(*text)
	if err != nil {
		return err
	}
	done, err := station.Provision(ctx, config, station.ProvisionOptions{Code: code, Wait: *wait, Progress: c.provisioning})
	if err != nil {
		return err
	}
	return c.print(fmt.Sprintf("%s is provisioned; its certificates are valid until %s.\nMake sure with kiosk doctor, then start the agent: kiosk agent",
		done.KioskID, done.Until.Format(time.DateOnly)), done)
}

// provisioning tells where it stands, on standard error.
func (c *command) provisioning(step station.ProvisionStep, fingerprint string) {
	switch step {
	case station.StepConnect:
		fmt.Fprintln(c.err, "connecting to the registry")
	case station.StepKeys:
		fmt.Fprintln(c.err, "making keys in the TPM")
	case station.StepProve:
		fmt.Fprintln(c.err, "proving to the registry which TPM this is")
	case station.StepWait:
		fmt.Fprintf(c.err, "waiting for approval: the registry must see the same fingerprint\n  EK %s\n", fingerprint)
	}
}

// readCode reads the code from a terminal, unseen, or from a pipe or file.
func (c *command) readCode(ctx context.Context) (string, error) {
	if term.IsTerminal(int(c.in.Fd())) {
		t := openTTY(ctx, c.in)
		defer t.close()
		fmt.Fprint(c.err, "provisioning code: ")
		defer fmt.Fprintln(c.err)
		typed, err := t.hide(ctx)
		return string(typed), err
	}
	type read struct {
		b   []byte
		err error
	}
	done := make(chan read, 1)
	go func() {
		b, err := io.ReadAll(io.LimitReader(c.in, maxLine+1))
		done <- read{b, err}
	}()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case r := <-done:
		if r.err == nil && len(r.b) > maxLine {
			r.err = errors.New("standard input holds more than a code")
		}
		return string(r.b), r.err
	}
}

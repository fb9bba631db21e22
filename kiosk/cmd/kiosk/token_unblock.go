package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
)

// runTokenUnblock is the service desk's way back into a token whose citizen has
// forgotten the PIN. It asks the authority, so it needs the registry, an officer
// of the desk, and the TPM: the agent must not run.
func runTokenUnblock(ctx context.Context, c *command) error {
	named := c.readerFlag()
	insist := c.flags.Bool("insist", false, "send a PUK although one try is left: a wrong one blocks the token for good")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	if *named == "" {
		*named = config.Readers.Token
	}
	reader, err := findReader(ctx, *named)
	if err != nil {
		return err
	}
	officer, err := findReader(ctx, config.Readers.Officer)
	if err != nil {
		return err
	}
	step := func(format string, a ...any) { fmt.Fprintf(c.err, format+"\n", a...) }
	step("connecting to the registry ...")
	desk, err := openDesk(ctx, config)
	if err != nil {
		return err
	}
	defer desk.Close()
	token, err := lookAt(ctx, reader)
	if err != nil {
		return err
	}
	step("Token %d: %s PIN tries left, %s PUK tries left.", token.Serial, tries(token.PINTries), tries(token.PUKTries))
	if token.PUKTries == 1 && !*insist {
		return fmt.Errorf("%w; --insist sends it all the same", piv.ErrLastPUKTry)
	}
	p := c.pins(ctx)
	defer p.close()
	pin, err := p.hidden("Officer's PIN: ")
	if err != nil {
		return err
	}
	defer pin.Wipe()
	step("asking the authority ...")
	release, err := askAuthority(ctx, desk, token, officer, pin)
	if err != nil {
		return err
	}
	defer release.Wipe()
	step("The citizen chooses a new PIN; nobody else looks.")
	chosen, err := p.choose()
	if err != nil {
		return err
	}
	defer chosen.Wipe()
	for {
		step("unblocking the token ...")
		err := unblock(ctx, release, reader, chosen, *insist)
		if err == nil {
			break
		}
		if !errors.Is(err, hsm.ErrRemoved) && !errors.Is(err, station.ErrOtherToken) {
			return err
		}
		step("%v", err)
		again, err := p.hidden(fmt.Sprintf("Put token %d back, then press Enter: ", token.Serial))
		if err != nil {
			return err
		}
		again.Wipe()
	}
	return c.print(fmt.Sprintf("Token %d is unblocked. It has a new PUK and management key, which the authority keeps.", token.Serial),
		map[string]any{"serial": token.Serial, "unblocked": true})
}

func tries(n int) string {
	if n < 0 {
		return "unknown"
	}
	return strconv.Itoa(n)
}

// Each piece of work has its own limit; the typing between them has none.

func openDesk(ctx context.Context, config station.Config) (*station.UnblockDesk, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	return station.OpenUnblockDesk(ctx, config)
}

func lookAt(ctx context.Context, reader string) (station.BlockedToken, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	return station.Look(ctx, reader)
}

func askAuthority(ctx context.Context, desk *station.UnblockDesk, t station.BlockedToken, officer string, pin secret.Text) (*station.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	return desk.Ask(ctx, t, officer, pin)
}

func unblock(ctx context.Context, r *station.Release, reader string, pin secret.Text, insist bool) error {
	ctx, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	return r.Unblock(ctx, reader, pin, insist)
}

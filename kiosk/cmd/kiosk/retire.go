package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/term"

	"enrollkiosk/kiosk/station"
)

func runRetire(ctx context.Context, c *command) error {
	abandon := c.flags.Int("abandon", 0, "`number` of records that are given up: all that wait and all that are set aside, no other")
	yes := c.flags.String("yes", "", "the kiosk's `id`, instead of typing it")
	file := c.flags.String("farewell", "", "new `file` for the signed farewell, which registry kiosks retire takes; else it goes to standard output")
	erase := c.flags.Bool("erase", false, "erase receipts and what is known of delivered records too")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	switch {
	case *abandon < 0:
		return usageError{"--abandon must not be negative"}
	case *yes != "" && *yes != config.Kiosk.ID:
		return usageError{fmt.Sprintf("--yes %s: the configuration says kiosk.id = %q", *yes, config.Kiosk.ID)}
	case *yes == "" && !term.IsTerminal(int(c.in.Fd())):
		return usageError{"--yes is missing: without a terminal it says the kiosk's id"}
	}
	out, err := station.Retire(ctx, config, station.RetireOptions{
		Abandon: *abandon, Erase: *erase,
		Confirm: func(r station.Retired) error {
			if *yes != "" {
				return nil
			}
			return c.confirmRetirement(ctx, r)
		},
		Farewell: func(signed []byte) error {
			switch {
			case *file != "":
				return writeFarewell(*file, append(signed, '\n'))
			case *c.json:
				return nil // it is in the answer
			}
			_, err := fmt.Fprintf(c.out, "%s\n", signed)
			return err
		},
	})
	if err != nil {
		return err
	}
	human := fmt.Sprintf("%s is retired after number %d; %d records and %d citizens' keys in custody are given up.\n", out.KioskID, out.Sequence, out.Abandoned, out.Custody)
	for _, r := range out.Remains {
		human += "NOT removed: " + r + "\n"
	}
	if out.Kept != "" {
		human += "Queue, receipts and what was known of the log are kept in " + out.Kept + ".\n"
	}
	where := *file
	if where == "" {
		where = "FILE"
	}
	human += fmt.Sprintf("Tell the registry: registry kiosks retire %s --farewell %s --by NAME\n"+
		"Clear the TPM, in the firmware or with tpm2_clear: until then copies of the key files, if somebody made any, still work in it.", out.KioskID, where)
	if *c.json || *file != "" {
		return c.print(human, out)
	}
	_, err = fmt.Fprintln(c.err, human) // standard output is the farewell's
	return err
}

// confirmRetirement has a person type the kiosk's id.
func (c *command) confirmRetirement(ctx context.Context, r station.Retired) error {
	fmt.Fprintf(c.err, "%s ends for good after number %d: its keys are destroyed, and %d citizens' keys that are in custody here.\n", r.KioskID, r.Sequence, r.Custody)
	if r.Abandoned > 0 {
		fmt.Fprintf(c.err, "%d records are given up: those citizens have to come again.\n", r.Abandoned)
	}
	typed, err := c.ask(ctx, "Type the kiosk's id to confirm: ")
	if err != nil {
		return err
	}
	if string(typed) != r.KioskID {
		return fmt.Errorf("%w: that is another id; nothing was done", errRefused)
	}
	return nil
}

// writeFarewell makes a file durably. Where this kiosk's farewell stands already, or a
// beginning of it, it is written anew: a power cut came between.
func writeFarewell(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	header := b[:bytes.IndexByte(b, '.')+1] // typ and key
	old := make([]byte, len(header))
	n, err := io.ReadFull(f, old)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if !bytes.HasPrefix(header, old[:n]) {
		return fmt.Errorf("%w: %s holds something else: name another file", errRefused, name)
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return errors.Join(f.Sync(), d.Sync())
}

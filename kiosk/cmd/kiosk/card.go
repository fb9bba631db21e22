package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/pcsc"
	"enrollkiosk/smartcard/trust"
)

// cardReport is what card read says; personal data stands in it only because
// the person who holds the card asked for it.
type cardReport struct {
	Reader  string       `json:"reader"`
	Access  string       `json:"access"`
	Files   []string     `json:"files"`
	APDUs   int          `json:"apdus"`
	Bytes   int          `json:"bytes"`
	Millis  int64        `json:"milliseconds"`
	Report  trust.Report `json:"report"`
	Refused string       `json:"refused,omitempty"`
	Surname string       `json:"surname,omitempty"`
	Given   string       `json:"given_names,omitempty"`
	Number  string       `json:"number,omitempty"`
	Birth   string       `json:"birth,omitempty"`
	Expiry  string       `json:"expiry,omitempty"`
}

var filesToRead = []lds.File{lds.EFCOM, lds.EFSOD, lds.DG1, lds.DG14, lds.DG15, lds.DG2}

func runCardRead(ctx context.Context, c *command) error {
	reader := c.flags.String("reader", "", "part of the reader's `name`; default: readers.document of the configuration")
	can := c.flags.String("can", "", "card access `number`; asked for when neither it nor the MRZ is given")
	number := c.flags.String("doc", "", "document `number`")
	born := c.flags.String("born", "", "date of birth, `YYMMDD`")
	expires := c.flags.String("expires", "", "date of expiry, `YYMMDD`")
	save := c.flags.String("save", "", "write the raw files to `directory`: personal data")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	trusted, err := station.Anchors(config)
	if err != nil {
		return err
	}
	if *reader == "" {
		*reader = config.Readers.Document
	}
	name, err := findReader(ctx, *reader)
	if err != nil {
		return err
	}
	password, err := c.password(ctx, *can, *number, *born, *expires)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readLimit)
	defer cancel()
	card, err := pcsc.Connect(ctx, name)
	if err != nil {
		return err
	}
	defer card.Close()
	began := time.Now()
	chip, err := icao.Open(ctx, card, password, icao.Options{})
	if err != nil {
		return err
	}
	defer chip.Close()
	shown := term.IsTerminal(int(os.Stderr.Fd()))
	read, err := chip.ReadAll(ctx, filesToRead, func(p icao.Progress) {
		if shown {
			fmt.Fprintf(c.err, "\r%-8v %3d %%", p.File, 100*p.Read/max(p.Total, 1))
		}
	})
	if shown {
		fmt.Fprint(c.err, "\r               \r")
	}
	if err != nil {
		return err
	}
	read, challenge, err := prove(ctx, chip, read)
	if err != nil {
		return err
	}
	out := cardReport{Reader: name, Millis: time.Since(began).Milliseconds()}
	out.Access = read.Access
	out.APDUs, out.Bytes = chip.Stats()
	for f := range read.Files {
		out.Files = append(out.Files, f.String())
	}
	slices.Sort(out.Files)
	if *save != "" {
		if err := saveFiles(*save, read); err != nil {
			return err
		}
		fmt.Fprintln(c.err, "The saved files are personal data: protect and delete them.")
	}
	_, report, verifyErr := trust.Verify(read, trusted, time.Now(), trust.Options{ExpectedChallenge: &challenge})
	out.Report = report
	if verifyErr != nil {
		out.Refused = verifyErr.Error()
	}
	if m, err := lds.ParseDG1(read.Files[lds.DG1]); err == nil || errors.Is(err, lds.ErrCheckDigit) {
		out.Surname, out.Given, out.Number = reveal(m.Primary), reveal(m.Secondary), reveal(m.Number)
		out.Birth, out.Expiry = reveal(m.Birth.Text()), reveal(m.Expiry.Text())
	}
	if err := c.print(out.human(), out); err != nil {
		return err
	}
	return verifyErr
}

// prove has the chip show that it is no copy, by each way that it offers. What
// it could not show stands in the report; only a card that is gone is an error.
func prove(ctx context.Context, chip *icao.Chip, read lds.Document) (_ lds.Document, challenge [8]byte, err error) {
	rand.Read(challenge[:])
	if dg14, ok := read.Files[lds.DG14]; ok {
		infos, err := lds.ParseDG14(dg14)
		if err == nil && len(infos.ChipAuthenticationKeys) > 0 {
			if err := chip.AuthenticateChip(ctx, infos); err != nil && !errors.Is(err, icao.ErrChipNotGenuine) {
				return read, challenge, err
			}
		}
	}
	read = chip.Document()
	if _, ok := read.Files[lds.DG15]; ok {
		active, err := chip.AuthenticateActive(ctx, challenge)
		switch {
		case err == nil:
			read.Active = &active
		case !errors.Is(err, icao.ErrChipNotGenuine) && !errors.Is(err, icao.ErrChipRefused) && !errors.Is(err, icao.ErrSecureMessaging):
			return read, challenge, err
		}
	}
	return read, challenge, nil
}

func (r cardReport) human() string {
	var b strings.Builder
	fmt.Fprintf(&b, "reader      %s\nopened      %s\nfiles       %s\ntraffic     %d APDUs, %d bytes, %d ms\n", r.Reader, r.Access,
		strings.Join(r.Files, " "), r.APDUs, r.Bytes, r.Millis)
	fmt.Fprintf(&b, "name        %s, %s\nnumber      %s\nborn        %s\nexpires     %s\n", r.Surname, r.Given, r.Number, r.Birth, r.Expiry)
	for _, v := range []struct {
		name    string
		verdict trust.Verdict
	}{{"hashes", r.Report.Hashes}, {"signature", r.Report.Signature}, {"chain", r.Report.Chain}, {"revocation", r.Report.Revocation},
		{"chip", r.Report.ChipAuthentication}, {"challenge", r.Report.ActiveAuthentication}, {"validity", r.Report.Validity}} {
		fmt.Fprintf(&b, "%-11s %s\n", v.name, v.verdict)
	}
	for _, w := range r.Report.Warnings {
		fmt.Fprintf(&b, "warning     %s\n", w)
	}
	if r.Refused != "" {
		fmt.Fprintf(&b, "NOT GENUINE %s\n", r.Refused)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// password takes the access data from flags, or asks for the CAN.
func (c *command) password(ctx context.Context, can, number, born, expires string) (icao.Password, error) {
	switch {
	case can != "":
		return icao.CAN(secret.FromString(can)), nil
	case number != "" || born != "" || expires != "":
		info, err := lds.MRZInformation(number, born, expires)
		if err != nil {
			return icao.Password{}, usageError{"--doc, --born and --expires: " + err.Error()}
		}
		return icao.MRZ(info), nil
	case !term.IsTerminal(int(c.in.Fd())):
		return icao.Password{}, usageError{"what opens the card is missing: --can, or --doc, --born and --expires"}
	}
	t := openTTY(ctx, c.in)
	defer t.close()
	t.echo(false)
	fmt.Fprint(c.err, "CAN (6 digits on the card): ")
	b, err := t.hide(ctx)
	fmt.Fprintln(c.err)
	if err != nil {
		return icao.Password{}, err
	}
	return icao.CAN(secret.New(b)), nil
}

// readLimit bounds the reading of one card.
const readLimit = 2 * time.Minute

// findReader returns the name of the first reader that has part in it and a card.
func findReader(ctx context.Context, part string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := pcsc.List(ctx)
	if err != nil {
		return "", err
	}
	for _, r := range list {
		switch {
		case !strings.Contains(r.Name, part):
		case r.Unresponsive:
			return "", pcsc.ErrUnresponsive
		case !r.Card:
			return "", fmt.Errorf("%s: %w", r.Name, pcsc.ErrNoCard)
		default:
			return r.Name, nil
		}
	}
	return "", fmt.Errorf("%q: %w", part, pcsc.ErrNoReader)
}

func saveFiles(dir string, d lds.Document) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for f, b := range d.Files {
		name := strings.ReplaceAll(f.String(), ".", "_") + "-" + hex.EncodeToString([]byte{byte(f >> 8), byte(f)}) + ".bin"
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

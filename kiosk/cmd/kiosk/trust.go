package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enrollkiosk/kiosk/station"
	"enrollkiosk/smartcard/trust"
)

// maxMasterList bounds a master list; published ones are below 2 MiB.
const maxMasterList = 16 << 20

// importReport is what trust import says.
type importReport struct {
	Country      string         `json:"country"`
	Signed       time.Time      `json:"signed"`
	Authority    string         `json:"authority"`
	Certificates int            `json:"certificates"`
	Unusable     []string       `json:"unusable,omitempty"`
	Changes      []changeReport `json:"changes"`
	Dir          string         `json:"directory"`
}

type changeReport struct {
	Country string `json:"country"`
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
}

func runTrustImport(_ context.Context, c *command) error {
	dir := c.flags.String("trust", "", "trust `directory` to install into; default: trust in kiosk.state of the configuration")
	pinned := c.flags.String("pin", "", "`SHA-256` of the CSCA certificate that vouches for a country's first list, from the list's publisher")
	args, err := c.flagsDone("FILE")
	if err != nil {
		return err
	}
	if *dir == "" {
		config, err := c.load()
		if err != nil {
			return err
		}
		*dir = filepath.Join(config.Kiosk.State, "trust")
	}
	var pin *[32]byte
	if *pinned != "" {
		p, err := station.ParsePin(*pinned)
		if err != nil {
			return usageError{"--pin: " + err.Error()}
		}
		pin = &p
	}
	info, err := os.Stat(args[0])
	switch {
	case err != nil:
		return usageError{err.Error()}
	case !info.Mode().IsRegular() || info.Size() > maxMasterList:
		return usageError{args[0] + " is no master list"}
	}
	file, err := os.ReadFile(args[0])
	if err != nil {
		return usageError{err.Error()}
	}
	list, changes, err := station.ImportMasterList(*dir, file, time.Now(), pin)
	var unpinned *station.UnpinnedError
	if errors.As(err, &unpinned) {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	if err != nil {
		return err
	}
	out := importReport{Country: list.Country, Signed: list.Signed, Authority: list.Authority, Certificates: len(list.Certificates),
		Changes: []changeReport{}, Dir: *dir}
	for _, l := range list.Certificates {
		if l.Err != nil {
			out.Unusable = append(out.Unusable, fmt.Sprintf("%s %s: %v", l.Country, l.Thumbprint, l.Err))
		}
	}
	for _, change := range changes {
		out.Changes = append(out.Changes, changeReport{change.Country, len(change.Added), len(change.Removed)})
	}
	return c.print(out.human(changes), out)
}

func (r importReport) human(changes []trust.Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "master list of %s, signed %s, %d certificates, installed in %s\n", r.Country, r.Signed.Format(time.DateOnly), r.Certificates, r.Dir)
	fmt.Fprintf(&b, "vouched for by CSCA certificate %s\n", r.Authority)
	if len(changes) == 0 {
		b.WriteString("nothing changed\n")
	}
	for _, change := range changes {
		for sign, list := range map[string][]trust.Listed{"+": change.Added, "-": change.Removed} {
			for _, l := range list {
				link := ""
				if l.Link {
					link = ", link"
				}
				fmt.Fprintf(&b, "%s %-2s  %s  %s to %s%s\n", sign, change.Country, l.Thumbprint[:16], l.NotBefore.Format(time.DateOnly), l.NotAfter.Format(time.DateOnly), link)
			}
		}
	}
	for _, u := range r.Unusable {
		fmt.Fprintf(&b, "of no use: %s\n", u)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

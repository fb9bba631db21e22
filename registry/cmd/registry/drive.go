package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/parcel"
)

// importDrive takes on what kiosks have exported to a directory.
func importDrive(ctx context.Context, args []string) (err error) {
	f := command.Flags("registry import", usage)
	file, wait, asJSON := f.String("config", "registry.toml", ""), f.Duration("wait", 30*time.Second, ""), f.Bool("json", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *wait < 0 {
		return command.Misuse("--wait must not be negative")
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	drive, err := parcel.OpenDrive(rest[0])
	if err != nil {
		return command.Misuse("%w", err)
	}
	console, err := registry.OpenConsole(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, console.Close()) }()
	in, err := registry.Import(ctx, console, drive, *wait)
	if err != nil {
		return err
	}
	if *asJSON {
		if err := command.PrintJSON(in); err != nil {
			return err
		}
	} else {
		printImported(in)
	}
	if err := in.Err(); err != nil {
		return command.Refuse(err)
	}
	return nil
}

// printImported tells one line for each parcel, and one for each thing that needs
// somebody.
func printImported(in registry.Imported) {
	for _, p := range in.Parcels {
		if p.Refused != "" {
			fmt.Printf("REFUSED  %s\n         %s\n", p.Manifest, p.Refused)
			continue
		}
		fmt.Printf("parcel   of %s, exported %s: %d files\n", p.Kiosk, p.Exported.Local().Format(time.DateTime), len(p.Files))
		for _, f := range p.Files {
			if f.Refused != "" {
				fmt.Printf("REFUSED  %s\n         %s\n", f.Name, f.Refused)
			}
			for _, r := range f.Records {
				switch {
				case r.Status == api.Rejected, r.Status == api.Refused:
					fmt.Printf("%-8s %s  %s\n", r.Status, r.ID, r.Code)
				case r.Status == api.Retry:
					fmt.Printf("not yet  %s  %s: import the drive again\n", r.ID, r.Code)
				}
			}
			if f.NotWritten != "" {
				fmt.Printf("FAILED   no receipts for %s: %s\n", f.Name, f.NotWritten)
			}
		}
	}
	for _, p := range in.Parcels {
		if p.NoLogProof != "" {
			fmt.Printf("FAILED   no proof of the public log for %s: %s\n", p.Kiosk, p.NoLogProof)
		}
	}
	for _, name := range in.Unnamed {
		fmt.Printf("REFUSED  %s\n         no manifest on the drive names it: the drive was written or copied in part\n", name)
	}
	records, settled, _ := in.Count()
	fmt.Printf("%d records, %d with a receipt or a rejection.\n", records, settled)
	if settled < records {
		fmt.Println("Import the drive again, while the registry serves, to collect the rest.")
	}
}

func newExchange(args []string) error {
	f := command.Flags("registry exchange new", usage)
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	key, err := registry.NewExchangeKey(rest[0])
	if err != nil {
		return err
	}
	fmt.Printf("made exchange key %s\nStart the registry anew, then have the authority sign a policy with the new public.json. Older keys go on opening what was exported to them.\n", key.ID)
	return nil
}

package main

import (
	"context"
	"fmt"

	"enrollkiosk/kiosk/station"
)

func runQueueExport(ctx context.Context, c *command) error {
	args, err := c.flagsDone("DIR")
	if err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	out, err := station.Export(ctx, config, args[0], func(records, all int) {
		fmt.Fprintf(c.err, "%d of %d records are on the drive\n", records, all)
	})
	if err != nil {
		return err
	}
	human := fmt.Sprintf("%d records in %d files, %d kB, written to %s, read back and compared.", out.Records, out.Files, (out.Bytes+999)/1000, out.Dir)
	switch {
	case out.Records == 0 && out.Already == 0 && len(out.Failed) == 0:
		human = "Nothing waits: there is nothing to export."
	case out.Already > 0:
		human += fmt.Sprintf("\n%d more were there already and are in order.", out.Already)
	}
	for _, f := range out.Failed {
		human += "\nNOT exported: " + f
	}
	if out.More {
		human += "\nThere are more: export again."
	}
	if out.Records+out.Already > 0 {
		human += "\nUnmount the drive before you pull it out. The records stay here until their receipts are imported or the network is back."
	}
	if err := c.print(human, out); err != nil {
		return err
	}
	if len(out.Failed) > 0 {
		return fmt.Errorf("%d records could not be read; kiosk queue show says more", len(out.Failed))
	}
	return nil
}

func runImportReceipts(ctx context.Context, c *command) error {
	args, err := c.flagsDone("DIR")
	if err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	out, err := station.ImportReceipts(ctx, config, args[0])
	if err != nil {
		return err
	}
	human := fmt.Sprintf("%d records delivered, %d rejected and set aside, %d were known, %d on the drive have no answer yet.",
		out.Count(station.OutcomeDelivered), out.Count(station.OutcomeRejected), out.Count(station.OutcomeKnown), out.Waiting)
	if out.Parcels == 0 {
		human = "Nothing on the drive is from this kiosk."
	}
	for _, r := range out.Records {
		switch {
		case r.Refused != "":
			human += fmt.Sprintf("\nREFUSED %s: %s", r.ID, r.Refused)
		case r.Outcome == station.OutcomeRejected:
			human += fmt.Sprintf("\nrejected %s: %s", r.ID, r.Code)
		}
	}
	for _, f := range out.Refused {
		human += "\nREFUSED " + f
	}
	if out.Unproved != "" {
		human += "\nNot proved: " + out.Unproved + ". The receipts were taken, held against the log's key and witnesses only."
	}
	if out.Parcels > 0 && out.Waiting == 0 && out.Err() == nil {
		human += "\nNo record on the drive waits for anything: it may be erased."
	}
	if err := c.print(human, out); err != nil {
		return err
	}
	return out.Err()
}

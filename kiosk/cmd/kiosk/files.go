package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"enrollkiosk/kiosk/station"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/courier"
)

func runQueueList(ctx context.Context, c *command) error {
	from := c.flags.String("from", "", "what was delivered on this `day` (2006-01-02) or later, and nothing else")
	to := c.flags.String("to", "", "what was delivered on this `day` or before, and nothing else")
	if _, err := c.flagsDone(); err != nil {
		return err
	}
	period, err := period(*from, *to)
	if err != nil {
		return err
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	var list station.QueueList
	if err := station.Ask(ctx, config, wire.Query{Kind: station.QueryList, Argument: period}, &list); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(deliveryText(list.Delivery))
	for _, e := range list.Records {
		fmt.Fprintf(&b, "%s  %-11s  %7d bytes  %s  %s %s%s\n", e.ID, e.State, e.Size, e.Put.Local().Format("2006-01-02 15:04:05"), e.Code, e.Reason, decided(e))
	}
	if len(list.Records) == 0 {
		b.WriteString("The queue is empty.\n")
	}
	return c.print(strings.TrimSuffix(b.String(), "\n"), list)
}

// decided is what the authority has decided about a record; "" for nothing yet.
func decided(e station.QueueEntry) string {
	if e.Decision == nil {
		return ""
	}
	return e.Decision.String()
}

// period is the one of the days from to to, both included; "" for neither.
func period(from, to string) (string, error) {
	if from == "" && to == "" {
		return "", nil
	}
	var times [2]time.Time
	for i, day := range []string{from, to} {
		if day == "" {
			continue
		}
		t, err := time.ParseInLocation(time.DateOnly, day, time.Local)
		if err != nil {
			return "", usageError{"a day is year, month and day, as in 2026-11-28"}
		}
		times[i] = t.AddDate(0, 0, i)
	}
	return station.Period(times[0], times[1]), nil
}

// deliveryText heads the list: what waits, and what of the line.
func deliveryText(d station.Delivery) string {
	var b strings.Builder
	fmt.Fprintf(&b, "waiting    %d", d.Waiting)
	if d.Waiting > 0 {
		fmt.Fprintf(&b, ", the oldest for %s", time.Duration(d.OldestAge)*time.Second)
	}
	fmt.Fprintf(&b, "\nset aside  %d\nregistry   ", d.Quarantined)
	switch {
	case d.Line == "":
		b.WriteString("no agent runs: nothing is delivered")
	case d.Code == "" && d.Line == courier.LineUp:
		b.WriteString("answers")
	case d.Code == "":
		b.WriteString("not tried yet")
	case d.Line == courier.LineStopped:
		fmt.Fprintf(&b, "STOPPED until somebody acts. %s: %s", d.Code, d.Fault)
	default:
		fmt.Fprintf(&b, "not reached. %s: %s", d.Code, d.Fault)
	}
	if !d.NextTry.IsZero() {
		fmt.Fprintf(&b, "\nnext try   %s", d.NextTry.Local().Format("15:04:05"))
	}
	if !d.Delivered.IsZero() {
		fmt.Fprintf(&b, "\nlast sent  %s", d.Delivered.Local().Format("2006-01-02 15:04:05"))
	}
	return b.String() + "\n"
}

func runQueueShow(ctx context.Context, c *command) error {
	export := c.flags.String("record", "", "write the record to `file`, for record verify")
	exportReceipt := c.flags.String("receipt", "", "write the receipt to `file`, for receipt verify")
	args, err := c.flagsDone("ID")
	if err != nil {
		return err
	}
	if id, err := hex.DecodeString(args[0]); err != nil || len(id) != 32 {
		return usageError{"ID takes 64 hexadecimal digits; kiosk queue list shows them"}
	}
	config, err := c.load()
	if err != nil {
		return err
	}
	var r station.QueueRecord
	if err := station.Ask(ctx, config, wire.Query{Kind: station.QueryShow, Argument: args[0]}, &r); err != nil {
		return err
	}
	if *export != "" {
		if len(r.Submission) == 0 {
			return fmt.Errorf("%w: the record was delivered and erased here; its receipt is left", errRefused)
		}
		s, err := record.ParseSubmission(r.Submission)
		if err != nil {
			return err
		}
		if err := os.WriteFile(*export, s.Record().Bytes(), 0o644); err != nil {
			return err
		}
	}
	if *exportReceipt != "" {
		if r.Receipt == "" {
			return fmt.Errorf("%w: no receipt yet; the agent fetches it when the registry is reached", errRefused)
		}
		if err := os.WriteFile(*exportReceipt, []byte(r.Receipt), 0o644); err != nil {
			return err
		}
	}
	human := fmt.Sprintf("record   %s\nstate    %s\nsize     %d bytes, SHA-256 %s\nput      %s", r.ID, r.State, r.Size, r.Digest,
		r.Put.Local().Format("2006-01-02 15:04:05"))
	if r.Reason != "" {
		human += fmt.Sprintf("\nreason   %s %s", r.Code, r.Reason)
	}
	if d := r.Decision; d != nil {
		human += fmt.Sprintf("\ndecided  %s, %s", d.Time.Local().Format("2006-01-02 15:04:05"), d)
	}
	if r.Receipt != "" {
		human += "\nreceipt\n" + r.Receipt
	}
	return c.print(human, r)
}

// maxFile bounds a file that a person hands to us.
const maxFile = 4 << 20

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, usageError{err.Error()}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: more than %d MiB", name, maxFile>>20)
	}
	return b, err
}

func runRecordVerify(_ context.Context, c *command) error {
	args, err := c.flagsDone("FILE")
	if err != nil {
		return err
	}
	b, err := readFile(args[0])
	if err != nil {
		return err
	}
	r, err := record.Parse(b)
	if err != nil {
		return err
	}
	p, id := r.Payload(), r.ID()
	type signer struct {
		Role string `json:"role"`
		Key  string `json:"sha256"`
		By   string `json:"by"`
	}
	out := struct {
		ID       string   `json:"id"`
		Purpose  string   `json:"purpose"`
		Kiosk    string   `json:"kiosk"`
		Sequence uint64   `json:"sequence"`
		Audience string   `json:"audience"`
		DID      string   `json:"did,omitempty"`
		Signers  []signer `json:"signers"`
	}{hex.EncodeToString(id[:]), string(p.Context.Purpose), p.Context.KioskID, p.Context.Sequence, p.Context.Audience, p.Holder.DID, nil}
	human := fmt.Sprintf("record   %s\npurpose  %s for %s\nkiosk    %s, number %d\nholder   %s", out.ID, out.Purpose, out.Audience,
		out.Kiosk, out.Sequence, out.DID)
	for _, s := range p.Signers {
		out.Signers = append(out.Signers, signer{string(s.Role), hex.EncodeToString(s.SHA256[:]), string(s.By)})
		human += fmt.Sprintf("\nsigned   %-8s %s %x", s.Role, s.By, s.SHA256[:8])
	}
	human += "\nForm and all signatures are in order. Who the signers are is not checked here."
	return c.print(human, out)
}

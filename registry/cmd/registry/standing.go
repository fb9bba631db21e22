package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/command"
)

// show prints what is known of a registered kiosk, or of one that waits: with --dir
// what its registration says, with --config what has become of it too.
func show(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks show", usage)
	where := registerFlags(f)
	asJSON := f.Bool("json", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *where.dir == "" {
		var k registry.KioskReport
		if err := told(ask(ctx, *where.config, http.MethodGet, "/kiosks/"+url.PathEscape(rest[0]), nil, &k), registry.ErrUnknownKiosk); err != nil {
			return err
		}
		if *asJSON {
			return command.PrintJSON(k)
		}
		showKiosk(k.Kiosk, k.Waiting)
		if !k.Waiting {
			showChain(k)
		}
		return nil
	}
	at, err := where.open(ctx)
	if err != nil {
		return err
	}
	defer at.Close()
	k, err := at.Kiosks.Find(ctx, rest[0])
	waiting := false
	if errors.Is(err, registry.ErrUnknownKiosk) {
		given, listed := at.Kiosks.Provisions(ctx)
		if listed != nil {
			return listed
		}
		for _, p := range given {
			if p.ID == rest[0] && p.Waiting != nil {
				k, waiting, err = *p.Waiting, true, nil
			}
		}
	}
	if err != nil {
		return err
	}
	if *asJSON {
		return command.PrintJSON(k)
	}
	showKiosk(k, waiting)
	return nil
}

// told turns a "not found" of the console back into what it was, and marks every
// other no.
func told(err, notFound error) error {
	var no *registry.Refused
	switch {
	case !errors.As(err, &no) || no.Status >= http.StatusInternalServerError:
		return err
	case no.Status == http.StatusNotFound:
		return notFound
	}
	return command.Refuse(err)
}

func showKiosk(k registry.Kiosk, waiting bool) {
	what := standing(k)
	if waiting {
		what = "waits for approval"
	}
	fmt.Printf("id        %s\nstanding  %s\nsince     %s\nTPM       %s %s, class %s\nEK        %s\ncounter   %d when it was registered\n", k.ID, what,
		k.Registered.Format(time.DateTime), k.Manufacturer, k.Model, k.Class, k.Fingerprint(), k.Counter)
	for _, n := range k.Restarts {
		fmt.Printf("again     at %d: it was provisioned anew\n", n)
	}
	for i, v := range k.BootPCRs {
		fmt.Printf("PCR %d     %x\n", i, v)
	}
}

func showChain(k registry.KioskReport) {
	c := k.Chain
	at := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return t.Format(time.DateTime)
	}
	fmt.Printf("contact   %s\nrecords   %d taken on, %d rejected, the highest number %d, the last one came %s\n", at(k.LastContact), c.Accepted, c.Rejected, c.Highest, at(c.LastRecord))
	for _, g := range c.Gaps {
		fmt.Printf("GAP       %d to %d, since %s\n", g.From, g.To, g.Since.Format(time.DateTime))
	}
	for _, f := range k.Forks {
		fmt.Printf("FORK      %s  %s  number %d  record %s  contradicts %s at %d\n", f.Time.Format(time.DateTime), f.Code, f.Number, f.Record, f.Held, f.HeldAt)
	}
	for _, o := range c.Clock {
		fmt.Printf("CLOCK     number %d  %s by %v  it said %s\n", o.Number, o.Kind, time.Duration(o.Seconds)*time.Second, o.Wall.Format(time.DateTime))
	}
	for _, id := range c.Suspects {
		fmt.Printf("SUSPECT   %s\n", id)
	}
	for _, a := range k.Activity {
		fmt.Printf("ACTIVITY  %s  %s  officer %x  count %d\n", a.Day, a.Kind, a.Officer[:8], a.Count)
	}
	for _, a := range k.Alarms {
		fmt.Printf("ALARM     %s\n", a)
	}
}

func cancellationsList(ctx context.Context, args []string) error {
	f := command.Flags("registry cancellations list", usage)
	file := f.String("config", "registry.toml", "")
	all, asJSON := f.Bool("all", false, ""), f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	path := "/cancellations"
	if *all {
		path += "?all=1"
	}
	var list []registry.Cancellation
	if err := ask(ctx, *file, http.MethodGet, path, nil, &list); err != nil {
		return err
	}
	if *asJSON {
		return command.PrintJSON(list)
	}
	for _, c := range list {
		fmt.Printf("%s  %s  %s\n", c.DID, c.Received.Format(time.DateTime), cancelState(c))
	}
	return nil
}

func cancelState(c registry.Cancellation) string {
	switch {
	case c.State == registry.CancelSuspended:
		return "suspended, revokes on " + c.Due.Format(time.DateTime)
	case c.Resolution == nil:
		return "revoked on " + c.Ended.Format(time.DateTime) + ": nobody lifted it in time"
	}
	return string(c.State) + " on " + c.Ended.Format(time.DateTime) + " by " + c.Resolution.By
}

func cancellation(f *flag.FlagSet, args []string) (did string, err error) {
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return "", err
	}
	return rest[0], nil
}

func showCancellation(c registry.Cancellation) {
	fmt.Printf("did       %s\nrecord    %s\nreceived  %s\nstate     %s\n", c.DID, c.Record, c.Received.Format(time.DateTime), cancelState(c))
	if r := c.Resolution; r != nil {
		fmt.Printf("reason    %s\n", r.Reason)
	}
}

func cancellationsShow(ctx context.Context, args []string) error {
	f := command.Flags("registry cancellations show", usage)
	file, asJSON := f.String("config", "registry.toml", ""), f.Bool("json", false, "")
	did, err := cancellation(f, args)
	if err != nil {
		return err
	}
	var c registry.Cancellation
	if err := told(ask(ctx, *file, http.MethodGet, "/cancellations/"+url.PathEscape(did), nil, &c), command.Refuse(registry.ErrNoCancellation)); err != nil {
		return err
	}
	if *asJSON {
		return command.PrintJSON(c)
	}
	showCancellation(c)
	return nil
}

// cancellationsResolve lifts a suspension, or has it revoke at once.
func cancellationsResolve(ctx context.Context, what string, args []string) error {
	f := command.Flags("registry cancellations "+what, usage)
	file, by, reason := f.String("config", "registry.toml", ""), f.String("by", "", ""), f.String("reason", "", "")
	did, err := cancellation(f, args)
	if err != nil {
		return err
	}
	if *by == "" || *reason == "" {
		return command.Misuse("--by and --reason are needed (see registry -h)")
	}
	var c registry.Cancellation
	if err := told(ask(ctx, *file, http.MethodPost, "/cancellations/"+url.PathEscape(did)+"/"+what, registry.Resolution{By: *by, Reason: *reason}, &c),
		command.Refuse(registry.ErrNoCancellation)); err != nil {
		return err
	}
	showCancellation(c)
	return nil
}

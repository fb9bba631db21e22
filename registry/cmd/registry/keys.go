package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/command"
)

const nextPolicy = "Have the authority sign a policy with the new public.json, and start the registry anew with it: from then on the new one is used.\n"

func rotateKeys(args []string) error {
	f := command.Flags("registry keys rotate", usage)
	file := f.String("config", "registry.toml", "")
	var hosts words
	f.Var(&hosts, "host", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	p, err := c.SignedPolicy()
	if err != nil {
		return err
	}
	if rest[0] != "tls" && len(hosts) > 0 {
		return command.Misuse("--host goes with tls")
	}
	switch dir := c.Registry.Dir; rest[0] {
	case "verdict":
		if _, err := registry.RotateVerdict(dir); err != nil {
			return err
		}
		fmt.Print("made a verdict key. " + nextPolicy)
	case "tls-root":
		if _, err := registry.RotateTLSRoot(dir, time.Now()); err != nil {
			return err
		}
		fmt.Printf("made a TLS root. "+nextPolicy+"Certificates are under it %d days after that policy was signed, when every kiosk that may still enroll knows it.\n",
			p.Policy().OfflineDays)
	case "tls":
		if err := registry.RotateTLS(dir, p, hosts, time.Now()); err != nil {
			return err
		}
		fmt.Print("made a TLS key and certificate. Start the registry anew: from then on they are used. Provisioning codes that were given out before end.\n")
	default:
		return command.Misuse("keys rotate verdict, tls or tls-root (see registry -h)")
	}
	return nil
}

func retire(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks retire", usage)
	file, by := f.String("config", "registry.toml", ""), f.String("by", "", "")
	sequence, missing := f.Uint64("sequence", 0, ""), f.Uint64("missing", 0, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *by == "" || *sequence == 0 {
		return command.Misuse("--sequence and --by are needed: the kiosk's last number, and who decides (see registry -h)")
	}
	want := registry.Retirement{Sequence: *sequence, Missing: *missing, By: *by}
	if err := ask(ctx, *file, http.MethodPost, "/kiosks/"+url.PathEscape(rest[0])+"/retire", want, &want); err != nil {
		var no *registry.Refused
		if errors.As(err, &no) && no.Status < http.StatusInternalServerError {
			return command.Refuse(err)
		}
		return err
	}
	fmt.Printf("%s is retired after number %d; %d records are given up\n", rest[0], want.Sequence, want.Missing)
	return nil
}

package main

import (
	"fmt"
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

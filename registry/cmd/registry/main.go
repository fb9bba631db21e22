// Command registry takes enrollment records on and logs them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
)

const usage = `registry: takes enrollment records on and logs them.

  registry init DIR --origin NAME [--host HOST]...    make keys; DIR/public.json is for the authority's policy
  registry serve --config FILE                        run until SIGTERM
  registry kiosks sign REQUEST.json --config FILE --id ID [--out FILE]
                                                      verify a new kiosk's keys, register it, issue its certificates
  registry kiosks list --config FILE [--json]
  registry kiosks revoke ID --config FILE
  registry activity list --config FILE [--json]       documents opened and enrollments, by kiosk, day and officer, with alarms

Instead of --config FILE, the kiosks and activity commands take --dir DIR; endorsements of TPMs are then not judged.

FILE is TOML; paths are relative to it:

  [registry]
  dir        = "registry"            # made by registry init
  listen     = "127.0.0.1:8443"
  policy     = "policy.jws"          # made by vault policy sign; handed to kiosks as it is
  root       = "<64 hex digits>"     # printed by vault init
  production = false                 # true refuses what rests on roots of class test
  checkpoint = "1s"                  # least time between two checkpoints of the log
  [vault]
  url    = "https://127.0.0.1:8444"
  public = "vault/public.json"

Exit codes: 0 done, 1 failed, 2 usage or configuration, 4 refused by a check, 130 interrupted.
`

func main() { command.Main("registry", run) }

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return command.Misuse("say what to do (see registry -h)")
	}
	switch args[0] {
	case "init":
		return initialise(args[1:])
	case "serve":
		return serve(ctx, args[1:])
	case "kiosks":
		if len(args) > 1 {
			switch args[1] {
			case "sign":
				return sign(args[2:])
			case "list":
				return list(args[2:])
			case "revoke":
				return revoke(args[2:])
			}
		}
		return command.Misuse("kiosks sign, list or revoke (see registry -h)")
	case "activity":
		if len(args) > 1 && args[1] == "list" {
			return activity(args[2:])
		}
		return command.Misuse("activity list (see registry -h)")
	case "-h", "-help", "--help", "help":
		fmt.Print(usage)
		return nil
	}
	return command.Misuse("there is no command %q (see registry -h)", args[0])
}

// words collects a flag that may be given several times.
type words []string

func (w *words) String() string     { return strings.Join(*w, ",") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

func initialise(args []string) error {
	f := command.Flags("registry init", usage)
	origin := f.String("origin", "", "")
	var hosts words
	f.Var(&hosts, "host", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *origin == "" {
		return command.Misuse("--origin is missing: the log's name, such as registry.example/log")
	}
	keys, err := registry.Init(rest[0], *origin, hosts, time.Now())
	if errors.Is(err, registry.ErrOrigin) {
		return command.Misuse("--origin %q: %w", *origin, err)
	}
	if err != nil {
		return err
	}
	fmt.Printf("made %s\nlog key %s\n", rest[0], keys.LogKey)
	return nil
}

func serve(ctx context.Context, args []string) error {
	f := command.Flags("registry serve", usage)
	file := f.String("config", "registry.toml", "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	o, err := c.Options()
	if err != nil {
		return err
	}
	o.Log = command.Logger()
	r, err := registry.Open(ctx, o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Registry.Listen)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	fmt.Printf("ready https://%s\n", l.Addr())
	return errors.Join(r.Serve(ctx, l), r.Close())
}

// register finds the register of kiosks, and the TPM roots if a policy says which.
type register struct {
	config, dir *string
}

func (r register) open() (dir string, tpmRoots []policy.Root, err error) {
	if *r.dir != "" {
		return *r.dir, nil, nil
	}
	c, err := registry.Load(*r.config)
	if err != nil {
		return "", nil, err
	}
	p, err := c.SignedPolicy()
	if err != nil {
		return "", nil, err
	}
	return c.Registry.Dir, p.Policy().TPMRoots, nil
}

func sign(args []string) error {
	f := command.Flags("registry kiosks sign", usage)
	where := register{f.String("config", "registry.toml", ""), f.String("dir", "", "")}
	id, out := f.String("id", "", ""), f.String("out", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	dir, roots, err := where.open()
	if err != nil {
		return err
	}
	q, err := readRequest(rest[0])
	if err != nil {
		return err
	}
	if q.KioskID != *id {
		return command.Refuse(fmt.Errorf("the request is for %s, --id says %q: they must agree", q.KioskID, *id))
	}
	kiosk, err := registry.KiosksIn(dir).Sign(dir, q, roots, time.Now())
	if errors.Is(err, registry.ErrRequest) || errors.Is(err, registry.ErrOtherKiosk) {
		return command.Refuse(err)
	}
	if err != nil {
		return err
	}
	b, err := json.Marshal(kiosk.Certificates)
	if err != nil {
		return err
	}
	if *out == "" {
		fmt.Printf("%s\n", b)
		return nil
	}
	if err := keyfile.Replace(*out, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write certificates: %w", err)
	}
	fmt.Printf("registered %s, TPM of class %s\ncertificates in %s\n", kiosk.ID, kiosk.Class, *out)
	return nil
}

func readRequest(file string) (api.KioskRequest, error) {
	f, err := os.Open(file)
	if err != nil {
		return api.KioskRequest{}, err
	}
	defer f.Close()
	q, err := registry.ParseKioskRequest(f)
	if errors.Is(err, registry.ErrRequest) {
		err = command.Refuse(err)
	}
	return q, err
}

func list(args []string) error {
	f := command.Flags("registry kiosks list", usage)
	where := register{f.String("config", "registry.toml", ""), f.String("dir", "", "")}
	asJSON := f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	dir, _, err := where.open()
	if err != nil {
		return err
	}
	kiosks, err := registry.KiosksIn(dir).List()
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(kiosks)
	}
	for _, k := range kiosks {
		standing := "in good standing"
		if k.Revoked != nil {
			standing = "revoked " + k.Revoked.Format(time.DateOnly)
		}
		fmt.Printf("%s  TPM of class %s  since %s  %s\n", k.ID, k.Class, k.Registered.Format(time.DateOnly), standing)
	}
	return nil
}

func revoke(args []string) error {
	f := command.Flags("registry kiosks revoke", usage)
	where := register{f.String("config", "registry.toml", ""), f.String("dir", "", "")}
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	dir, _, err := where.open()
	if err != nil {
		return err
	}
	if err := registry.KiosksIn(dir).Revoke(rest[0], time.Now()); err != nil {
		return err
	}
	fmt.Printf("%s is revoked: the registry takes nothing more from it\n", rest[0])
	return nil
}

func activity(args []string) error {
	f := command.Flags("registry activity list", usage)
	where := register{f.String("config", "registry.toml", ""), f.String("dir", "", "")}
	asJSON := f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	dir, _, err := where.open()
	if err != nil {
		return err
	}
	kiosks, err := registry.ActivitiesIn(dir).List()
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(kiosks)
	}
	for _, k := range kiosks {
		fmt.Printf("%s  reported %s\n", k.Kiosk, k.Reported.Format(time.RFC3339))
		for _, e := range k.Entries {
			fmt.Printf("  %s  officer %x  %d documents opened, %d enrolled\n", e.Day, e.Officer[:8], e.Reads, e.Enrollments)
		}
		for _, a := range k.Alarms {
			fmt.Printf("  ALARM %s  %s  %s  officer %x  count %d\n", a.Time.Format(time.RFC3339), a.Kind, a.Day, a.Officer[:8], a.Count)
		}
	}
	return nil
}

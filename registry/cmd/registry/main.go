// Command registry takes enrollment records on and logs them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/command"
)

const usage = `registry: takes enrollment records on and logs them.

  registry init DIR --origin NAME [--host HOST]...    make keys; DIR/public.json is for the authority's policy
  registry issuer init DIR --url https://HOST         make the key that signs credentials; DIR/public.json names it for the authority's policy
  registry serve --config FILE [--store postgres://...]
                                                      run until SIGTERM
  registry status --config FILE [--json]              log, policy and what does not work
  registry backup DIR --config FILE [--keys DIR] [--no-store]
                                                      copy everything but the private keys to a new DIR, those to another; --no-store
                                                      leaves out a database that was backed up before by its own means
  registry restore DIR --keys DIR --config FILE [--log DIR|URL] --seen CHECKPOINT...|--nobody-saw-more
                                                      put a registry back where FILE says; --log is the newest copy of the log, --seen a
                                                      checkpoint that others have and that the log must continue
  registry check --config FILE [--json]               compare store and log, record by record
  registry log copy DIR|URL DIR --vkey KEY... [--root PEM]
                                                      copy a log, or what is new of it, and verify it
  registry keys rotate verdict|tls|tls-root|kiosk-ca --config FILE [--host HOST]...
                                                      make the next key; old ones stay for what they signed
  registry keys rotate log --config FILE [--now]      make the log's next key, which signs beside the old one from the next policy on; --now for a
                                                      stolen one, while no registry runs: it ends at once
  registry keys retire log --config FILE [--now]      have the old one end at the newest checkpoint; --now does not wait for kiosks that are offline
  registry kiosks code --config FILE --id ID [--valid 24h]
                                                      print the code that a new kiosk is provisioned with
  registry kiosks list --config FILE [--json]         kiosks, and those that wait for approval
  registry kiosks show ID --config FILE [--json]      its chain of records too: gaps, forks, odd clocks, last contact, alarms
  registry kiosks approve ID --ek FINGERPRINT --config FILE
                                                      register it, once the fingerprint is the one that the kiosk shows
  registry kiosks reject ID --config FILE
  registry kiosks retire ID --farewell FILE|--sequence N [--missing N] --by NAME --config FILE
                                                      end it after its last number, which kiosk retire has signed; refused while records are missing, unless they are
                                                      given up by their count
  registry kiosks revoke ID [--since TIME] --config FILE
                                                      take nothing more from it; what it made since TIME is shown as suspect
  registry activity list --config FILE [--json]       documents opened and enrollments, by kiosk, day and officer, with alarms
  registry import DIR --config FILE [--wait 30s] [--json]
                                                      take on what kiosks have exported to a drive, and write receipts to it
  registry exchange new DIR                           make the key that kiosks export to from the next policy on
  registry cancellations list --config FILE [--all] [--json]
                                                      identities that a cancel code has suspended; with --all also what became of others
  registry cancellations show DID --config FILE [--json]
  registry cancellations lift DID --by NAME --reason TEXT --config FILE
                                                      the appeal was right: the identity is as before, the code is spent
  registry cancellations confirm DID --by NAME --reason TEXT --config FILE
                                                      revoke it now
  registry audit URL|DIR --policy FILE --root HASH [--state DIR] [--receipts DIR] [--workers 4] [--json]
                                                      verify every leaf of a public log, against the last audit's too; receipts are held against it
  registry audit URL|DIR --log-key KEY... [--witness KEY]... [--quorum N] [--tls-root FILE] ...
                                                      the same without a policy
  registry witness init DIR --name NAME               make a witness's key; it is for the authority's policy
  registry witness watch DIR KEY [--only]             have it watch the log that has this verifier key, or give a log that it watches a new one; --only for
                                                      a stolen one: what is signed with the keys before counts no more
  registry witness serve DIR [--listen 127.0.0.1:8480] [--certificate FILE --key FILE]
                                                      cosign the checkpoints of logs that grow, until SIGTERM

Of a log that has changed its key, KEY is given several times, the present one first, an earlier one as "KEY SIZE ROOT"; registry status prints them.
Instead of --config FILE, the kiosks commands but code, and activity, take --dir DIR. All work while the registry serves.

FILE is TOML; paths are relative to it:

  [registry]
  dir        = "registry"            # made by registry init
  listen     = "127.0.0.1:8443"
  policy     = "policy.jws"          # made by vault policy sign; handed to kiosks as it is
  root       = "<64 hex digits>"     # printed by vault init
  production = false                 # true refuses what rests on roots of class test
  metrics    = "127.0.0.1:9464"      # where Prometheus may ask; without it nowhere
  connections = 512                  # open at once, and of them from one address
  connections_per_address = 384
  checkpoint = "1s"                  # least time between two checkpoints of the log
  store      = "postgres://registry@db.example/registry?sslmode=verify-full"
                                     # a database that several registries may share; without it all is in dir
  roles      = ["log", "vault"]      # that this process may have, one process at a time has each; without it both
  cancel     = "168h"                # how long a cancel code suspends before it revokes
  [vault]
  url    = "https://127.0.0.1:8444"
  public = "vault/public.json"
  [issuer]
  listen   = "0.0.0.0:443"           # where citizens collect credentials; without it nobody can
  interval = "1h"                    # between two status lists
  [[witnesses]]                      # of the policy, as many as its quorum at least
  name = "witness.example/w1"
  url  = "https://witness.example"
  root = "witness-root.pem"          # of its TLS certificate; without it the system's

Exit codes: 0 done, 1 failed, 2 usage or configuration, 4 refused by a check, 5 not reachable, 130 interrupted.
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
	case "issuer":
		if len(args) > 1 && args[1] == "init" {
			return initIssuer(args[2:])
		}
		return command.Misuse("issuer init (see registry -h)")
	case "status":
		return status(ctx, args[1:])
	case "backup":
		return backUp(ctx, args[1:])
	case "restore":
		return restore(ctx, args[1:])
	case "check":
		return check(ctx, args[1:])
	case "keys":
		if len(args) > 1 && args[1] == "rotate" {
			return rotateKeys(args[2:])
		}
		if len(args) > 1 && args[1] == "retire" {
			return retireKey(ctx, args[2:])
		}
		return command.Misuse("keys rotate or retire (see registry -h)")
	case "log":
		if len(args) > 1 && args[1] == "copy" {
			return logCopy(ctx, args[2:])
		}
		return command.Misuse("log copy (see registry -h)")
	case "kiosks":
		if len(args) > 1 {
			switch args[1] {
			case "code":
				return code(ctx, args[2:])
			case "list":
				return list(ctx, args[2:])
			case "show":
				return show(ctx, args[2:])
			case "approve":
				return approve(ctx, args[2:])
			case "reject":
				return reject(ctx, args[2:])
			case "revoke":
				return revoke(ctx, args[2:])
			case "retire":
				return retire(ctx, args[2:])
			}
		}
		return command.Misuse("kiosks code, list, show, approve, reject, revoke or retire (see registry -h)")
	case "activity":
		if len(args) > 1 && args[1] == "list" {
			return activity(ctx, args[2:])
		}
		return command.Misuse("activity list (see registry -h)")
	case "import":
		return importDrive(ctx, args[1:])
	case "exchange":
		if len(args) > 1 && args[1] == "new" {
			return newExchange(args[2:])
		}
		return command.Misuse("exchange new (see registry -h)")
	case "cancellations":
		if len(args) > 1 {
			switch args[1] {
			case "list":
				return cancellationsList(ctx, args[2:])
			case "show":
				return cancellationsShow(ctx, args[2:])
			case "lift", "confirm":
				return cancellationsResolve(ctx, args[1], args[2:])
			}
		}
		return command.Misuse("cancellations list, show, lift or confirm (see registry -h)")
	case "audit":
		return runAudit(ctx, args[1:])
	case "witness":
		return runWitness(ctx, args[1:])
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

// issue serves citizens until ctx ends; what it returns waits for that.
func issue(ctx context.Context, address string, r *registry.Registry) (wait func() error, err error) {
	if !r.Issues() {
		return nil, registry.ErrIssuer
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- r.ServeIssuer(ctx, l) }()
	fmt.Printf("issuer https://%s\n", l.Addr())
	return func() error { return <-ended }, nil
}

// initIssuer makes the key of credentials.
func initIssuer(args []string) error {
	f := command.Flags("registry issuer init", usage)
	id := f.String("url", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *id == "" {
		return command.Misuse("--url is missing: the address that citizens reach, such as https://id.example")
	}
	if _, err := registry.InitIssuer(rest[0], *id, time.Now()); err != nil {
		return err
	}
	fmt.Print("made the key of credentials. " + nextPolicy)
	return nil
}

func serve(ctx context.Context, args []string) error {
	f := command.Flags("registry serve", usage)
	file, store := f.String("config", "registry.toml", ""), f.String("store", "", "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	if *store != "" {
		c.Registry.Store = *store
		if err := c.CheckStore(); err != nil {
			return command.Misuse("--store: %w", err)
		}
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
	end := func() error { return nil }
	if c.Registry.Metrics != "" {
		if end, err = command.Beside(ctx, c.Registry.Metrics, r.ServeMetrics); err != nil {
			return errors.Join(err, l.Close(), r.Close())
		}
	}
	issuing := func() error { return nil }
	if c.Issuer.Listen != "" {
		if issuing, err = issue(ctx, c.Issuer.Listen, r); err != nil {
			return errors.Join(err, l.Close(), end(), r.Close())
		}
	}
	fmt.Printf("ready https://%s\n", l.Addr())
	return errors.Join(r.Serve(ctx, l), issuing(), end(), r.Close())
}

func status(ctx context.Context, args []string) error {
	f := command.Flags("registry status", usage)
	file := f.String("config", "registry.toml", "")
	asJSON := f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	var s registry.Status
	if err := ask(ctx, *file, http.MethodGet, "/status", nil, &s); err != nil {
		return err
	}
	if *asJSON {
		return command.PrintJSON(s)
	}
	fmt.Printf("origin   %s\npolicy   version %d\nlog      %d leaves\n", s.Origin, s.Policy, s.LogSize)
	for _, key := range s.LogKeys {
		fmt.Printf("log key  %s\n", key)
	}
	for _, k := range s.Ending {
		fmt.Printf("ENDING   %s: its certificates end on %s and it has not renewed them; registry kiosks code\n", k.Kiosk, k.End.Format(time.DateOnly))
	}
	for _, role := range s.Leads {
		fmt.Printf("role     %s\n", role)
	}
	for _, what := range s.Failing {
		fmt.Printf("FAILING  %s: see the registry's own log\n", what)
	}
	return nil
}

// ask puts one question to the registry that a configuration describes, whether
// it serves or not.
func ask(ctx context.Context, config, method, path string, in, out any) (err error) {
	c, err := registry.Load(config)
	if err != nil {
		return err
	}
	console, err := registry.OpenConsole(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, console.Close()) }()
	return console.Do(ctx, method, path, in, out)
}

// register is where the register of kiosks is: behind a configuration, or in a
// directory.
type register struct{ config, dir *string }

func registerFlags(f *flag.FlagSet) register {
	return register{f.String("config", "registry.toml", ""), f.String("dir", "", "")}
}

func (r register) open(ctx context.Context) (registry.Register, error) {
	if *r.dir != "" {
		return registry.RegisterIn(*r.dir), nil
	}
	c, err := registry.Load(*r.config)
	if err != nil {
		return registry.Register{}, err
	}
	return registry.OpenRegister(ctx, c)
}

// refused marks what a person at the register is told no for.
func refused(err error) error {
	for _, no := range []error{registry.ErrNotWaiting, registry.ErrFingerprint, registry.ErrRevoked} {
		if errors.Is(err, no) {
			return command.Refuse(err)
		}
	}
	return err
}

func code(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks code", usage)
	file, id, valid := f.String("config", "registry.toml", ""), f.String("id", "", ""), f.Duration("valid", 24*time.Hour, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	if *valid <= 0 || *valid > maxValid {
		return command.Misuse("--valid must be more than 0 and at most %v", maxValid)
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	// The code says whom the kiosk will believe: that must be who signed the policy.
	signed, err := c.SignedPolicy()
	if err != nil {
		return err
	}
	at, err := registry.OpenRegister(ctx, c)
	if err != nil {
		return err
	}
	defer at.Close()
	made, err := at.Kiosks.NewCode(ctx, *id, signed.Root(), *valid, time.Now())
	if errors.Is(err, registry.ErrKioskID) {
		return command.Misuse("--id %q: %w", *id, err)
	}
	if err != nil {
		return refused(err)
	}
	fmt.Printf("%s\n", made.Text())
	fmt.Fprintf(os.Stderr, "for %s, until %s; on the kiosk: kiosk provision --code -\n", *id, time.Now().Add(*valid).Format(time.DateTime))
	return nil
}

// maxValid is how long a code may lie about.
const maxValid = 30 * 24 * time.Hour

func list(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks list", usage)
	where := registerFlags(f)
	asJSON := f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	at, err := where.open(ctx)
	if err != nil {
		return err
	}
	defer at.Close()
	registered, err := at.Kiosks.List(ctx)
	if err != nil {
		return err
	}
	given, err := at.Kiosks.Provisions(ctx)
	if err != nil {
		return err
	}
	waiting := []registry.Kiosk{}
	for _, p := range given {
		if p.Waiting != nil {
			waiting = append(waiting, *p.Waiting)
		}
	}
	if *asJSON {
		return command.PrintJSON(map[string][]registry.Kiosk{"kiosks": registered, "waiting": waiting})
	}
	for _, k := range registered {
		fmt.Printf("%s  TPM of class %s  since %s  %s\n", k.ID, k.Class, k.Registered.Format(time.DateOnly), standing(k))
	}
	for _, k := range waiting {
		fmt.Printf("%s  TPM of class %s  waits for approval  EK %s\n", k.ID, k.Class, k.Fingerprint())
	}
	for _, p := range given {
		if p.Wrong > 0 {
			fmt.Printf("%s  a wrong code was tried %d times since %s\n", p.ID, p.Wrong, p.Made.Format(time.DateTime))
		}
	}
	return nil
}

func standing(k registry.Kiosk) string {
	if k.Retired != nil {
		return "retired " + k.Retired.At.Format(time.DateOnly)
	}
	if k.Revoked != nil {
		return "revoked " + k.Revoked.Format(time.DateOnly)
	}
	return "in good standing"
}

func approve(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks approve", usage)
	where := registerFlags(f)
	ek := f.String("ek", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *ek == "" {
		return command.Misuse("--ek is missing: the fingerprint that the kiosk itself shows")
	}
	at, err := where.open(ctx)
	if err != nil {
		return err
	}
	defer at.Close()
	k, err := at.Kiosks.Approve(ctx, rest[0], *ek, time.Now())
	if err != nil {
		return refused(err)
	}
	fmt.Printf("%s is registered, TPM of class %s\n", k.ID, k.Class)
	return nil
}

func reject(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks reject", usage)
	where := registerFlags(f)
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	at, err := where.open(ctx)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := at.Kiosks.Reject(ctx, rest[0]); err != nil {
		return refused(err)
	}
	fmt.Printf("%s is sent away: its code is of no use any more\n", rest[0])
	return nil
}

func revoke(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks revoke", usage)
	where, since := registerFlags(f), f.String("since", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	at := time.Now()
	if *since != "" {
		if at, err = parseTime(*since); err != nil || at.After(time.Now()) {
			return command.Misuse("--since %q is no time that has passed, such as 2026-11-28 or 2026-11-28T09:30:00Z", *since)
		}
	}
	register, err := where.open(ctx)
	if err != nil {
		return err
	}
	defer register.Close()
	if err := register.Kiosks.Revoke(ctx, rest[0], at); err != nil {
		return err
	}
	fmt.Printf("%s is revoked: the registry takes nothing more from it\n", rest[0])
	return nil
}

// parseTime reads a day, UTC, or an instant.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, s)
}

func activity(ctx context.Context, args []string) error {
	f := command.Flags("registry activity list", usage)
	of := registerFlags(f)
	asJSON := f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	at, err := of.open(ctx)
	if err != nil {
		return err
	}
	defer at.Close()
	kiosks, err := at.Activities.List(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		return command.PrintJSON(kiosks)
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

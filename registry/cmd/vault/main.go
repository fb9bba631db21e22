// Command vault opens sealed identities for the identity authority and signs
// its policies.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/vault"
)

const usage = `vault: opens sealed identities for the identity authority and signs its policies.

  vault init DIR [--host HOST]...                     make keys; prints the hash that kiosks pin
  vault policy sign --dir DIR --in POLICY.toml --out FILE
                                                      sign a policy with DIR's root key
  vault policy show FILE [--root HEX] [--json]        say what a signed policy decides; with --root only if that root signed it
  vault root rotate --dir DIR [--to PROPOSAL --root HASH]
                                                      have DIR's root key followed by a new one, or by the one that made PROPOSAL
                                                      and has this hash; the old one has no use after it: destroy it
  vault root propose --policy FILE --key KEYFILE --out PROPOSAL
                                                      make the next root key on another machine, after the one that signed a policy
  vault officers add --dir DIR --number N [--in FILE.json]
                                                      keep keyed hashes of an officer's own document, so that the officer cannot
                                                      enroll himself; read from standard input without --in
  vault officers list --dir DIR [--json]
  vault officers remove --dir DIR --number N
  vault reviews list --config FILE [--all] [--json]   what a person must look at; with --all also what was decided
  vault reviews show ID --config FILE [--json]        ID is a record's
  vault reviews resolve ID --decision active|refused --by NAME --reason TEXT --config FILE
                                                      decide, once; a record that becomes active takes the document over
  vault backup DIR --config FILE [--keys DIR]         copy everything but the private keys to a new DIR, those to another
  vault restore DIR --keys DIR --config FILE          put a vault back where FILE says; it answers nothing until the registry
                                                      has shown it what it has judged since
  vault keys rotate identity|verdict|tls --dir DIR [--host HOST]...
                                                      make the next key; old ones stay for what they sealed and signed
  vault serve --config FILE                           run until SIGTERM

DIR/authority-root.key signs policies and is not needed to serve: keep it offline. After a rotation it is DIR/authority-root-2.key, and so on.

FILE.json is {"issuer": "UTO", "document": "L898902C3", "surname": "ERIKSSON", "given_names": "ANNA MARIA", "birth": "1974-08-12"}, as in the
machine readable zone; "kind" names another kind of document than "emrtd", whose names stand as on its chip. N is the number in the officer's
certificate. Add the next document, and another name, beside the first.

FILE is TOML, as is POLICY.toml; paths are relative to them:

  [vault]
  dir        = "vault"               # made by vault init
  listen     = "127.0.0.1:8444"
  policy     = "policy.jws"
  root       = "<64 hex digits>"     # printed by vault init
  production = false                 # true refuses what rests on a root of class test
  metrics    = "127.0.0.1:9465"      # where Prometheus may ask; without it nowhere
  [registry]
  public = "registry/public.json"    # the registry's key is the only one that may ask

  version      = 1                   # POLICY.toml: one more each time
  valid_days   = 365
  offline_days = 30
  languages    = ["en", "zh"]
  files        = [0x0102]            # sealed beside what the vault needs: 0x0102 is the face of an eMRTD, 0x4035 of a Belgian card
  minimum_piv_firmware = "5.4.3"
  revoked_tokens = []                # serial numbers
  revoked_officers = []              # SHA-256 of officers' certificates in DER, hexadecimal
  revoked_attestations = []          # likewise of attestation certificates: tokens' own (F9) and those above
  crls = ["csca.crl"]
  officer_crls = ["officers.crl"]    # complete CRLs of the officer_ca
  piv_makers = ["yubico"]            # token makers whose authorities this program knows; others: [[piv_roots]]
  piv_intermediates = []             # between piv_roots and tokens' own certificates, each after its issuer
  [registry]
  public = "registry/public.json"
  class  = "production"              # or "test": what rests on it is simulated
  [consents]
  dir = "texts"                      # NAME.LANGUAGE.txt
  required = ["enrollment"]
  versions = { enrollment = 1 }      # 1 where none is given
  [[anchors]]                        # CSCA certificates, PEM or DER, one in a file
  file  = "csca.der"
  class = "production"
  # likewise [[piv_roots]], [[tpm_roots]] (of endorsement certificates), [[officer_ca]]
  [[officer_roles]]                  # one for each unit; who has none is no officer here
  unit  = "Citizen Services"         # OU of the certificates; left out: those without
  roles = ["officer", "supervisor", "desk"]
  quota = 40                         # enrollments that one officer approves on one day (UTC); left out: no limit
  [token]                            # rules for citizens' keys; these are the defaults
  algorithms = ["p-256"]             # of the key in 9A, the preferred one first; also p-384, ed25519, rsa-2048
  pin     = "once"                   # or "always"
  touch   = "always"                 # or "cached", "never"
  key_agreement_touch = "cached"     # of the key in 9D
  retired = 0                        # how many retired slots get a key
  custody = false                    # true: keys may live in the kiosk's TPM
  [limits]
  reads_without_enrollment = 5       # documents that one officer opens on one day without an enrollment: beyond is an alarm
  enrollments_per_day = 0            # of one kiosk; 0: no limit
  [minors]                           # left out: nobody's age is asked
  guardian_below = 14                # years; who is younger needs a guardian
  guardian_from = 18                 # years; who is younger is no guardian
  zone = "+08:00"                    # in which birthdays begin; left out: UTC
  proofs = ["birth-certificate", "family-register", "court-order", "other"]   # of guardianship; left out: all
  [[master_lists]]                   # states' signed lists of CSCA certificates: each becomes an anchor;
  file  = "DE_ML.ml"                 # those of no use are left out, with a warning
  class = "production"
  pin   = "<64 hex digits>"          # SHA-256 of the CSCA certificate that vouches for the list
  [[documents]]                      # what is accepted beside eMRTDs that prove everything
  kind = "belgian-eid"               # or "prc-resident", "emrtd"; at most one rule for each
  may_lack = ["no-chip-proof"]       # and "no-issuer-signature", "no-age": each such enrollment takes a second officer
  [[documents.roots]]                # of Belgian cards alone: eMRTDs stand under the anchors
  file  = "belgium-root.der"
  class = "production"
  [[documents]]
  kind = "prc-resident"              # nobody signs what these cards say
  may_lack = ["no-chip-proof", "no-issuer-signature"]
  class = "production"               # in place of roots

Exit codes: 0 done, 1 failed, 2 usage or configuration, 4 refused by a check, 130 interrupted.
`

func main() { command.Main("vault", run) }

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return command.Misuse("say what to do (see vault -h)")
	}
	switch args[0] {
	case "init":
		return initialise(args[1:])
	case "policy":
		if len(args) > 1 {
			switch args[1] {
			case "sign":
				return sign(ctx, args[2:])
			case "show":
				return show(args[2:])
			}
		}
		return command.Misuse("policy sign or show (see vault -h)")
	case "backup":
		return backUp(ctx, args[1:])
	case "restore":
		return restore(ctx, args[1:])
	case "root":
		if len(args) > 1 {
			switch args[1] {
			case "rotate":
				return rotateRoot(ctx, args[2:])
			case "propose":
				return proposeRoot(ctx, args[2:])
			}
		}
		return command.Misuse("root rotate or propose (see vault -h)")
	case "keys":
		if len(args) > 1 && args[1] == "rotate" {
			return rotateKeys(args[2:])
		}
		return command.Misuse("keys rotate (see vault -h)")
	case "officers":
		if len(args) > 1 {
			return officers(args[1], args[2:])
		}
		return command.Misuse("officers add, list or remove (see vault -h)")
	case "reviews":
		if len(args) > 1 {
			switch args[1] {
			case "list":
				return reviewsList(ctx, args[2:])
			case "show":
				return reviewsShow(ctx, args[2:])
			case "resolve":
				return reviewsResolve(ctx, args[2:])
			}
		}
		return command.Misuse("reviews list, show or resolve (see vault -h)")
	case "serve":
		return serve(ctx, args[1:])
	case "-h", "-help", "--help", "help":
		fmt.Print(usage)
		return nil
	}
	return command.Misuse("there is no command %q (see vault -h)", args[0])
}

// words collects a flag that may be given several times.
type words []string

func (w *words) String() string     { return strings.Join(*w, ",") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

func initialise(args []string) error {
	f := command.Flags("vault init", usage)
	var hosts words
	f.Var(&hosts, "host", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	keys, err := vault.Init(rest[0], hosts, time.Now())
	if err != nil {
		return err
	}
	fmt.Printf("made %s\nroot %s\n", rest[0], hex.EncodeToString(keys.RootHash[:]))
	return nil
}

func sign(ctx context.Context, args []string) error {
	f := command.Flags("vault policy sign", usage)
	dir, in, out := f.String("dir", "", ""), f.String("in", "", ""), f.String("out", "", "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	if *dir == "" || *in == "" || *out == "" {
		return command.Misuse("--dir, --in and --out are needed (see vault -h)")
	}
	warn := func(l vault.LeftOut) { fmt.Fprintf(os.Stderr, "vault: warning: %s\n", l) }
	b, err := vault.SignPolicy(ctx, *dir, *in, time.Now(), warn)
	if err != nil {
		return err
	}
	if err := keyfile.Replace(*out, b, 0o644); err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	fmt.Printf("signed %s\n", *out)
	return nil
}

func show(args []string) error {
	f := command.Flags("vault policy show", usage)
	root, asJSON := f.String("root", "", ""), f.Bool("json", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(rest[0])
	if err != nil {
		return err
	}
	by, err := policy.SignedBy(b)
	if err != nil {
		return command.Refuse(err)
	}
	if *root != "" {
		pinned, err := hex.DecodeString(*root)
		if err != nil || len(pinned) != len(by) {
			return command.Misuse("--root takes 64 hexadecimal digits: the SHA-256 of the authority's root key")
		}
		by = [32]byte(pinned)
	}
	s, err := policy.Parse(b, by)
	if err != nil {
		return command.Refuse(err)
	}
	if *asJSON {
		var out bytes.Buffer
		if err := json.Indent(&out, s.Payload(), "", "  "); err != nil {
			return err
		}
		fmt.Println(&out)
		return nil
	}
	fmt.Printf("signed by root %x\n", s.Root())
	if roots := s.Roots(); len(roots) > 1 {
		for i, hash := range roots {
			fmt.Printf("root %d is %x\n", i+1, hash)
		}
	}
	return vault.ShowPolicy(os.Stdout, s.Policy(), time.Now())
}

func serve(ctx context.Context, args []string) error {
	f := command.Flags("vault serve", usage)
	file := f.String("config", "vault.toml", "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	c, err := vault.Load(*file)
	if err != nil {
		return err
	}
	o, err := c.Options()
	if err != nil {
		return err
	}
	o.Log = command.Logger()
	v, err := vault.Open(ctx, o)
	if err != nil {
		return err
	}
	end := func() error { return nil }
	if c.Vault.Metrics != "" {
		if end, err = command.Beside(ctx, c.Vault.Metrics, v.ServeMetrics); err != nil {
			return errors.Join(err, v.Close())
		}
	}
	l, err := net.Listen("tcp", c.Vault.Listen)
	if err != nil {
		return errors.Join(err, end(), v.Close())
	}
	fmt.Printf("ready https://%s\n", l.Addr())
	return errors.Join(v.Serve(ctx, l), end(), v.Close())
}

func officers(what string, args []string) error {
	f := command.Flags("vault officers "+what, usage)
	dir, number, in, asJSON := f.String("dir", "", ""), f.String("number", "", ""), f.String("in", "", ""), f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	if *dir == "" || *number == "" && what != "list" {
		return command.Misuse("--dir is needed, and --number to add or remove (see vault -h)")
	}
	known, err := vault.OfficersIn(*dir)
	if err != nil {
		return err
	}
	defer known.Close()
	switch what {
	case "add":
		return addOfficer(known, *number, *in)
	case "list":
		return listOfficers(known, *asJSON)
	case "remove":
		if err := known.Remove(*number); err != nil {
			return err
		}
		fmt.Printf("removed %s\n", *number)
		return nil
	}
	return command.Misuse("officers add, list or remove (see vault -h)")
}

func addOfficer(known vault.Officers, number, in string) error {
	from := os.Stdin
	if in != "" {
		file, err := os.Open(in)
		if err != nil {
			return err
		}
		defer file.Close()
		from = file
	}
	d, err := vault.ParseOfficerDocument(from)
	if err == nil {
		err = known.Add(number, d, time.Now())
	}
	if errors.Is(err, vault.ErrOfficerDocument) {
		return command.Misuse("%w", err)
	}
	if err != nil {
		return err
	}
	fmt.Printf("added a document of %s\n", number)
	return nil
}

func listOfficers(known vault.Officers, asJSON bool) error {
	list, err := known.List()
	if err != nil {
		return err
	}
	if asJSON {
		return command.PrintJSON(list)
	}
	for _, o := range list {
		fmt.Printf("%s  documents: %d, the last added %s\n", o.Number, len(o.Documents), o.Documents[len(o.Documents)-1].Added.Format(time.DateOnly))
	}
	return nil
}

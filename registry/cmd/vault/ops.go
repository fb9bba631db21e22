package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"enrollkiosk/registry/internal/backup"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/vault"
)

// unfit marks what says no to a backup.
func unfit(err error) error {
	for _, no := range []error{backup.ErrDamaged, backup.ErrSigner, backup.ErrKeys, vault.ErrPolicy} {
		if errors.Is(err, no) {
			return command.Refuse(err)
		}
	}
	return err
}

func backUp(ctx context.Context, args []string) error {
	f := command.Flags("vault backup", usage)
	file, keys := f.String("config", "vault.toml", ""), f.String("keys", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
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
	snapshot := func(ctx context.Context, w io.Writer) error { return ask(ctx, *file, http.MethodGet, "/store", nil, w) }
	m, err := vault.Backup(ctx, c.Vault.Dir, o.Policy, rest[0], *keys, snapshot, time.Now())
	if err != nil {
		return unfit(err)
	}
	fmt.Printf("made %s: %d files, verified\n", rest[0], len(m.Files))
	if *keys == "" {
		fmt.Printf("%d private keys are not in it: say --keys DIR to copy them, and keep them in a safe\n", len(m.Keys))
	} else {
		fmt.Printf("made %s: %d private keys; they open every identity: keep them in a safe, and nowhere else\n", *keys, len(m.Keys))
	}
	return nil
}

func restore(ctx context.Context, args []string) error {
	f := command.Flags("vault restore", usage)
	file, keys := f.String("config", "vault.toml", ""), f.String("keys", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *keys == "" {
		return command.Misuse("--keys is missing: the directory of the private keys that belong to the backup")
	}
	c, err := vault.Load(*file)
	if err != nil {
		return err
	}
	o, err := c.Options()
	if err != nil {
		return err
	}
	if err := vault.Restore(ctx, rest[0], *keys, c.Vault.Dir, o.Policy); err != nil {
		return unfit(err)
	}
	fmt.Printf("put back %s\n", c.Vault.Dir)
	return nil
}

func rotateKeys(args []string) error {
	f := command.Flags("vault keys rotate", usage)
	dir := f.String("dir", "", "")
	var hosts words
	f.Var(&hosts, "host", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *dir == "" {
		return command.Misuse("--dir is needed (see vault -h)")
	}
	if rest[0] != "tls" && len(hosts) > 0 {
		return command.Misuse("--host goes with tls")
	}
	const next = "Sign a policy, give it to the registry, and start the vault anew with it: from then on the new one is used.\n"
	switch rest[0] {
	case "identity":
		keys, err := vault.RotateIdentity(*dir)
		if err != nil {
			return err
		}
		fmt.Printf("made identity key %s. "+next+"Back up the keys before that: what kiosks seal to a key that is lost nobody can open.\n", keys.Authority.ID)
	case "verdict":
		if _, err := vault.RotateVerdict(*dir); err != nil {
			return err
		}
		fmt.Print("made a verdict key. " + next)
	case "tls":
		if err := vault.RotateTLS(*dir, hosts, time.Now()); err != nil {
			return err
		}
		fmt.Print("made a TLS key and certificate. Start the vault anew: from then on they are used.\n")
	default:
		return command.Misuse("keys rotate identity, verdict or tls (see vault -h)")
	}
	return nil
}

func rotateRoot(ctx context.Context, args []string) error {
	f := command.Flags("vault root rotate", usage)
	dir, to, root := f.String("dir", "", ""), f.String("to", "", ""), f.String("root", "", "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	if *dir == "" || (*to == "") != (*root == "") {
		return command.Misuse("--dir is needed; with --to also --root, the hash that vault root propose has printed (see vault -h)")
	}
	var proposal []byte
	if *to != "" {
		b, err := os.ReadFile(*to)
		if err != nil {
			return err
		}
		proposal = bytes.TrimSpace(b)
		if err := proposes(proposal, *root); err != nil {
			return command.Refuse(err)
		}
	}
	number, hash, err := vault.RotateRoot(ctx, *dir, proposal, time.Now())
	if errors.Is(err, policy.ErrSuccession) {
		return command.Refuse(err)
	}
	if err != nil {
		return err
	}
	fmt.Printf("made root %d\nroot %x\nSign a policy of the next version: kiosks, registry and vault that pin any root before this one take it as it is. "+
		"Then destroy the key before this one: whoever has it could have another root follow it.\n", number, hash)
	return nil
}

// proposes says whether a proposal is by the root of a hash: that it is for the present
// root anybody can say.
func proposes(proposal []byte, root string) error {
	s, err := policy.ParseProposal(proposal)
	if err != nil {
		return err
	}
	to, err := s.To()
	if err == nil && !strings.EqualFold(hex.EncodeToString(to[:]), root) {
		err = fmt.Errorf("%w: it is by root %x", policy.ErrSuccession, to)
	}
	return err
}

func proposeRoot(ctx context.Context, args []string) error {
	f := command.Flags("vault root propose", usage)
	from, key, out := f.String("policy", "", ""), f.String("key", "", ""), f.String("out", "", "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	if *from == "" || *key == "" || *out == "" {
		return command.Misuse("--policy, --key and --out are needed (see vault -h)")
	}
	b, err := os.ReadFile(*from)
	if err != nil {
		return err
	}
	proposal, hash, err := vault.ProposeRoot(ctx, b, *key, time.Now())
	if errors.Is(err, policy.ErrSignature) || errors.Is(err, policy.ErrForm) {
		return command.Refuse(err)
	}
	if err != nil {
		return err
	}
	if err := keyfile.Replace(*out, append(proposal, '\n'), 0o644); err != nil {
		return fmt.Errorf("write proposal: %w", err)
	}
	fmt.Printf("made %s\nroot %x\nCarry both to where the present root's key is: vault root rotate --to %s --root %x\n", *out, hash, *out, hash)
	return nil
}

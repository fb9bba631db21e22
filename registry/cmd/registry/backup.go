package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/backup"
	"enrollkiosk/registry/internal/command"
)

// unfit marks what says no to a backup or a log.
func unfit(err error) error {
	for _, no := range []error{backup.ErrDamaged, backup.ErrSigner, backup.ErrKeys, registry.ErrLogCut, registry.ErrLogFork, registry.ErrLogDamaged,
		registry.ErrDamaged, registry.ErrPolicy} {
		if errors.Is(err, no) {
			return command.Refuse(err)
		}
	}
	return err
}

func backUp(ctx context.Context, args []string) error {
	f := command.Flags("registry backup", usage)
	file, keys, noStore := f.String("config", "registry.toml", ""), f.String("keys", "", ""), f.Bool("no-store", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	var snapshot func(context.Context, io.Writer) error
	if !*noStore {
		console, err := registry.OpenConsole(ctx, c)
		if err != nil {
			return err
		}
		defer console.Close()
		snapshot = func(ctx context.Context, w io.Writer) error { return console.Do(ctx, http.MethodGet, "/store", nil, w) }
	}
	p, err := c.SignedPolicy()
	if err != nil {
		return err
	}
	m, err := registry.Backup(ctx, c.Registry.Dir, p, rest[0], *keys, snapshot, time.Now())
	if err != nil {
		return unfit(err)
	}
	fmt.Printf("made %s: %d files, verified\n", rest[0], len(m.Files))
	if *keys == "" {
		fmt.Printf("%d private keys are not in it: say --keys DIR to copy them, and keep them elsewhere\n", len(m.Keys))
	} else {
		fmt.Printf("made %s: %d private keys; keep them elsewhere\n", *keys, len(m.Keys))
	}
	return nil
}

func restore(ctx context.Context, args []string) error {
	f := command.Flags("registry restore", usage)
	file, keys, log := f.String("config", "registry.toml", ""), f.String("keys", "", ""), f.String("log", "", "")
	var seen words
	f.Var(&seen, "seen", "")
	nobody := f.Bool("nobody-saw-more", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *keys == "" {
		return command.Misuse("--keys is missing: the directory of the private keys that belong to the backup")
	}
	if len(seen) == 0 && !*nobody {
		return command.Misuse("--seen is missing: a checkpoint that kiosks, witnesses or auditors have, or --nobody-saw-more (see docs/runbook.md)")
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	o := registry.RestoreOptions{From: rest[0], Keys: *keys, Dir: c.Registry.Dir}
	if o.Policy, err = c.SignedPolicy(); err != nil {
		return err
	}
	for _, name := range seen {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		o.Seen = append(o.Seen, b)
	}
	if *log != "" {
		if o.Log, err = source(*log, ""); err != nil {
			return err
		}
	}
	report, err := registry.Restore(ctx, o)
	if err != nil {
		return unfit(err)
	}
	if c.Registry.Store != "" {
		fmt.Printf("put back %s but for the database: put that back from its dump, then say registry check\n", c.Registry.Dir)
		return nil
	}
	fmt.Printf("put back %s\n%s\n", c.Registry.Dir, report)
	return nil
}

// source is a log in a directory or behind a URL.
func source(from, root string) (registry.LogSource, error) {
	if !strings.Contains(from, "://") {
		if info, err := os.Stat(from); err != nil || !info.IsDir() {
			return nil, errors.Join(err, fmt.Errorf("%s is no directory", from))
		}
		return registry.LogDir(from), nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13}
	if root != "" {
		pem, err := os.ReadFile(root)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, command.Misuse("%s holds no certificate in PEM", root)
		}
	}
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: t, Proxy: http.ProxyFromEnvironment}}
	return registry.LogURL(strings.TrimSuffix(from, "/")+api.PathLog, client), nil
}

func logCopy(ctx context.Context, args []string) error {
	f := command.Flags("registry log copy", usage)
	root := f.String("root", "", "")
	var keys words
	f.Var(&keys, "vkey", "")
	rest, err := command.Parse(f, args, 2)
	if err != nil {
		return err
	}
	if keys == nil {
		return command.Misuse("--vkey is missing: the log's key, as registry init and vault policy show print it")
	}
	log, err := checkpoint.ParseKeys(keys...)
	if err != nil {
		return command.Misuse("%w", err)
	}
	from, err := source(rest[0], *root)
	if err != nil {
		return err
	}
	head, err := registry.CopyLog(ctx, from, filepath.Clean(rest[1]), log)
	if err != nil {
		return unfit(err)
	}
	fmt.Printf("%s holds %d leaves, verified\n", rest[1], head.Size())
	return nil
}

func check(ctx context.Context, args []string) error {
	f := command.Flags("registry check", usage)
	file, asJSON := f.String("config", "registry.toml", ""), f.Bool("json", false, "")
	if _, err := command.Parse(f, args, 0); err != nil {
		return err
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	console, err := registry.OpenConsole(ctx, c)
	if err != nil {
		return err
	}
	defer console.Close()
	var report registry.Report
	if err := console.Do(ctx, http.MethodGet, "/check", nil, &report); err != nil {
		return err
	}
	if *asJSON {
		err = command.PrintJSON(report)
	} else {
		fmt.Println(report)
	}
	return errors.Join(err, unfit(report.Err()))
}

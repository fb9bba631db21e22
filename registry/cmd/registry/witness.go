package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/witness"
)

// runWitness is the witness of somebody else's log.
func runWitness(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "init":
			return witnessInit(args[1:])
		case "watch":
			return witnessWatch(args[1:])
		case "serve":
			return witnessServe(ctx, args[1:])
		}
	}
	return command.Misuse("witness init, watch or serve (see registry -h)")
}

func witnessInit(args []string) error {
	f := command.Flags("registry witness init", usage)
	name := f.String("name", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	key, err := witness.Init(rest[0], *name)
	if errors.Is(err, witness.ErrName) {
		return command.Misuse("--name %q: %w", *name, err)
	}
	if err != nil {
		return err
	}
	fmt.Printf("made %s\nwitness key %s\n", rest[0], key)
	return nil
}

func witnessWatch(args []string) error {
	f := command.Flags("registry witness watch", usage)
	only := f.Bool("only", false, "")
	rest, err := command.Parse(f, args, 2)
	if err != nil {
		return err
	}
	err = witness.AddLog(rest[0], rest[1], *only)
	switch {
	case errors.Is(err, checkpoint.ErrKey):
		return command.Misuse("%w", err)
	case errors.Is(err, fs.ErrExist):
		return command.Refuse(fmt.Errorf("%s is watched already, with this key", checkpoint.Name(rest[1])))
	case errors.Is(err, witness.ErrOld), errors.Is(err, witness.ErrState):
		return command.Refuse(err)
	case err != nil:
		return err
	}
	fmt.Printf("%s is watched from the next start on\n", checkpoint.Name(rest[1]))
	return nil
}

func witnessServe(ctx context.Context, args []string) error {
	f := command.Flags("registry witness serve", usage)
	address := f.String("listen", "127.0.0.1:8480", "")
	certificate, key := f.String("certificate", "", ""), f.String("key", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	var config *tls.Config
	scheme := "http"
	if (*certificate == "") != (*key == "") {
		return command.Misuse("--certificate and --key: one without the other")
	}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			return command.Misuse("%w", err)
		}
		config, scheme = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}, "https"
	}
	w, err := witness.Open(rest[0], command.Logger())
	if errors.Is(err, witness.ErrState) {
		return command.Refuse(err)
	}
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *address)
	if err != nil {
		return errors.Join(err, w.Close())
	}
	fmt.Printf("ready %s://%s, watches %s\n", scheme, l.Addr(), strings.Join(w.Logs(), ", "))
	return errors.Join(w.Serve(ctx, l, config), w.Close())
}

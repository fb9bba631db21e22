package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/audit"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
)

// runAudit verifies a public log from outside, with nothing but what is public.
func runAudit(ctx context.Context, args []string) error {
	f := command.Flags("registry audit", usage)
	file, root := f.String("policy", "", ""), f.String("root", "", "")
	quorum, tlsRoot := f.Int("quorum", 0, ""), f.String("tls-root", "", "")
	var keys, witnesses words
	f.Var(&keys, "log-key", "")
	f.Var(&witnesses, "witness", "")
	state, receipts := f.String("state", "audit", ""), f.String("receipts", "", "")
	workers, asJSON := f.Int("workers", 4, ""), f.Bool("json", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	o := audit.Options{Dir: *state, Receipts: *receipts, Workers: *workers}
	var roots []*x509.Certificate
	switch {
	case (*file == "") == (keys == nil):
		return command.Misuse("--policy and --root, or --log-key: what the log is held against")
	case keys != nil:
		if o.Log, err = checkpoint.ParseKeys(keys...); err == nil {
			o.Log.Witnesses, o.Log.Quorum = witnesses, *quorum
			err = o.Log.Check()
		}
		if err != nil {
			return command.Misuse("%w", err)
		}
	case len(witnesses) > 0 || *quorum > 0:
		return command.Misuse("--witness and --quorum go with --log-key: the policy has its own")
	default:
		p, err := readPolicy(*file, *root)
		if err != nil {
			return err
		}
		o.Log = p.Log()
		for _, r := range p.RegistryTLS {
			c, err := x509.ParseCertificate(r.Certificate)
			if err != nil {
				return err
			}
			roots = append(roots, c)
		}
	}
	if *tlsRoot != "" {
		c, err := keyfile.ReadCertificate(*tlsRoot)
		if err != nil {
			return err
		}
		roots = append(roots, c)
	}
	files, done, err := logFiles(rest[0], roots)
	if err != nil {
		return err
	}
	defer done()
	o.Files = files
	if terminal(os.Stderr) {
		o.Progress = func(verified, all uint64) { fmt.Fprintf(os.Stderr, "\r%d of %d leaves ", verified, all) }
		defer fmt.Fprintln(os.Stderr)
	}
	r, err := audit.Run(ctx, o)
	if err != nil {
		return amiss(err)
	}
	if *asJSON {
		return command.PrintJSON(r)
	}
	fmt.Printf("log       %s\nleaves    %d, all verified, %d of them before\nroot      %s\n", r.Origin, r.Size, r.Since, r.Root)
	for _, w := range r.Witnesses {
		fmt.Printf("witness   %s at %s\n", w.Witness, w.Time.Format(time.RFC3339))
	}
	if *receipts != "" {
		fmt.Printf("receipts  %d, all in this log\n", r.Receipts)
	}
	return nil
}

func readPolicy(file, root string) (policy.Policy, error) {
	digits, err := hex.DecodeString(root)
	if err != nil || len(digits) != 32 {
		return policy.Policy{}, command.Misuse("--root must be 64 hexadecimal digits: the SHA-256 of the authority's root key")
	}
	f, err := os.Open(file)
	if err != nil {
		return policy.Policy{}, command.Misuse("%w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, policy.MaxSize+1))
	if err != nil {
		return policy.Policy{}, err
	}
	s, err := policy.Parse(b, [32]byte(digits))
	return s.Policy(), err
}

// logFiles are those of a registry, of any other log below a URL, or of a
// directory.
func logFiles(where string, roots []*x509.Certificate) (checkpoint.Files, func(), error) {
	if !strings.Contains(where, "://") {
		d, err := audit.OpenDir(where)
		if err != nil {
			return nil, nil, command.Misuse("%w", err)
		}
		return d, func() { d.Close() }, nil
	}
	if parts := strings.SplitN(where, "/", 4); len(parts) < 4 || parts[3] == "" {
		where = strings.TrimSuffix(where, "/") + api.PathLog
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16
	if roots != nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
		for _, c := range roots {
			transport.TLSClientConfig.RootCAs.AddCert(c)
		}
	}
	w, err := audit.HTTP(where, transport)
	if err != nil {
		return nil, nil, command.Misuse("%w", err)
	}
	return w, transport.CloseIdleConnections, nil
}

// amiss gives what an audit found its exit code.
func amiss(err error) error {
	var leaf *audit.WrongLeaf
	for _, no := range []error{checkpoint.ErrForm, checkpoint.ErrSignature, checkpoint.ErrWitnesses, checkpoint.ErrTiles, checkpoint.ErrSplit, checkpoint.ErrBehind,
		checkpoint.ErrKept, audit.ErrMark, audit.ErrReceipt, receipt.ErrForm} {
		if errors.Is(err, no) {
			return command.Refuse(err)
		}
	}
	switch {
	case errors.As(err, &leaf):
		return command.Refuse(err)
	case errors.Is(err, audit.ErrUnreachable):
		return &command.Error{Code: command.Unreachable, Err: err}
	}
	return err
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/receipt"
)

const nextPolicy = "Have the authority sign a policy with the new public.json, and start the registry anew with it: from then on the new one is used.\n"

func rotateKeys(args []string) error {
	f := command.Flags("registry keys rotate", usage)
	file := f.String("config", "registry.toml", "")
	var hosts words
	f.Var(&hosts, "host", "")
	now := f.Bool("now", false, "")
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
	if rest[0] != "log" && *now {
		return command.Misuse("--now goes with log")
	}
	switch dir := c.Registry.Dir; rest[0] {
	case "log":
		pub, err := registry.RotateLog(dir, p, *now)
		if err != nil {
			return unfitKey(err)
		}
		fmt.Printf("made a key of the log: %s\n", pub.LogKey)
		if *now {
			fmt.Printf("The one before has ended at %d leaves. The registry starts again when the authority has signed a policy with the new public.json.\n", pub.EarlierLogs[0].Size)
			return nil
		}
		fmt.Printf(nextPolicy[:len(nextPolicy)-1]+" beside the old. %d days after that policy was signed say registry keys retire log.\n", p.Policy().OfflineDays)
	case "verdict":
		if _, err := registry.RotateVerdict(dir); err != nil {
			return err
		}
		fmt.Print("made a verdict key. " + nextPolicy)
	case "kiosk-ca":
		if _, err := registry.RotateKioskCA(dir, time.Now()); err != nil {
			return err
		}
		fmt.Print("made an authority over kiosks. " + nextPolicy + "Kiosks get certificates under it when they renew theirs.\n")
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
		return command.Misuse("keys rotate verdict, tls, tls-root, kiosk-ca or log (see registry -h)")
	}
	return nil
}

// signedWait is how long a checkpoint may take that both keys of the log have signed.
const signedWait = time.Minute

func retireKey(ctx context.Context, args []string) error {
	f := command.Flags("registry keys retire", usage)
	file, now := f.String("config", "registry.toml", ""), f.Bool("now", false, "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if rest[0] != "log" {
		return command.Misuse("keys retire log (see registry -h)")
	}
	c, err := registry.Load(*file)
	if err != nil {
		return err
	}
	p, err := c.SignedPolicy()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, signedWait)
	defer cancel()
	pub, err := registry.RetireLog(ctx, c.Registry.Dir, p, *now, time.Now())
	if err != nil {
		return unfitKey(err)
	}
	old := pub.EarlierLogs[0]
	fmt.Printf("the log's key before has ended at %d leaves: %s\nHave the authority sign a policy with the new public.json, and start the registry anew with it: from then on it signs no more.\n", old.Size, old.Key)
	return nil
}

// unfitKey marks what says no to a rotation of the log's key.
func unfitKey(err error) error {
	for _, no := range []error{registry.ErrOverlap, registry.ErrNoOverlap, registry.ErrEarly, registry.ErrBothKeys, registry.ErrLogKeyLost, registry.ErrServes, registry.ErrPolicy} {
		if errors.Is(err, no) {
			return command.Refuse(err)
		}
	}
	return err
}

func retire(ctx context.Context, args []string) error {
	f := command.Flags("registry kiosks retire", usage)
	file, by := f.String("config", "registry.toml", ""), f.String("by", "", "")
	sequence, missing, farewell := f.Uint64("sequence", 0, ""), f.Uint64("missing", 0, ""), f.String("farewell", "", "")
	rest, err := command.Parse(f, args, 1)
	if err != nil {
		return err
	}
	if *by == "" || (*sequence == 0) == (*farewell == "") {
		return command.Misuse("--by and either --farewell or --sequence are needed: who decides, and the kiosk's last number, by its own word if it can say it (see registry -h)")
	}
	want := registry.Retirement{Sequence: *sequence, Missing: *missing, By: *by}
	if *farewell != "" {
		b, err := readFarewell(*farewell)
		if err != nil {
			return err
		}
		want.Farewell = strings.TrimSpace(string(b))
	}
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

// readFarewell reads what kiosk retire wrote.
func readFarewell(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, receipt.MaxSize+2))
	if err == nil && len(b) > receipt.MaxSize+1 {
		err = fmt.Errorf("%s: %w", file, receipt.ErrForm)
	}
	return b, err
}

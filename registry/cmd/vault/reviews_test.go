package main

import (
	"bufio"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/lds"
)

// sealed reads a card as a kiosk does.
func sealed(t *testing.T, card *idcard.Chip) func(record.Context, crypto.PublicKey) record.Identity {
	return func(c record.Context, holder crypto.PublicKey) record.Identity {
		t.Helper()
		chip, err := icao.Open(t.Context(), card.Direct(), icao.CAN(secret.FromString(card.CAN())), icao.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer chip.Close()
		if _, err := chip.ReadAll(t.Context(), []lds.File{lds.DG1, lds.DG14, lds.DG15, lds.EFSOD}, nil); err != nil {
			t.Fatal(err)
		}
		challenge, err := c.ChipChallenge(holder)
		if err == nil {
			_, err = chip.AuthenticateActive(t.Context(), [8]byte(challenge[:8]))
		}
		if err != nil {
			t.Fatal(err)
		}
		return registrytest.Identity(chip.Document())
	}
}

// A person looks at the reviews and decides, while the vault serves and while it
// does not; what was decided stays so.
func TestReviews(t *testing.T) {
	state, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	card, err := state.Personalise(idcard.SpecimenPerson(), idcard.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := registrytest.New(t, state.CSCA())
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "vault.toml", fmt.Sprintf("[vault]\ndir = \"vault\"\nlisten = \"127.0.0.1:0\"\npolicy = \"policy.jws\"\nroot = %q\n[registry]\npublic = \"registry/public.json\"\n",
		hex.EncodeToString(w.Root[:])))
	k := w.Kiosk(t, "KIOSK-0001")
	var ids []string
	v, err := vault.Open(t.Context(), w.VaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s := k.Make(t, registrytest.Spec{Identity: sealed(t, card)})
		if _, err := v.Judge(t.Context(), s.Bytes()); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, api.ID(s.ID()).String())
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	ends(t, command.Usage, "reviews list, show or resolve", "reviews")
	ends(t, command.Usage, "no record id", "reviews", "show", "KIOSK", "--config", file)
	ends(t, command.Usage, "--by and --reason", "reviews", "resolve", ids[1], "--decision", "active", "--config", file)
	ends(t, command.Usage, "--decision active or refused", "reviews", "resolve", ids[1], "--decision", "rejected", "--by", "a", "--reason", "b", "--config", file)
	ends(t, command.Refused, "there is no review", "reviews", "show", ids[0], "--config", file)
	ends(t, command.Done, "open, refused so far", "reviews", "show", ids[1], "--config", file)

	c := program(t, "serve", "--config", file)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	ends(t, command.Done, ids[2], "reviews", "list", "--config", file)
	if info, err := os.Stat(filepath.Join(w.VaultDir(), "console.sock")); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("console: %v, %v", info, err)
	}
	ends(t, command.Done, "decided  active on ", "reviews", "resolve", ids[1], "--decision", "active", "--by", "review desk 7", "--reason", "old token lost, papers compared", "--config", file)
	ends(t, command.Refused, "somebody has decided already: active, by review desk 7", "reviews", "resolve", ids[1], "--decision", "refused", "--by", "another", "--reason", "x", "--config", file)
	ends(t, command.Refused, "look at the review again", "reviews", "resolve", ids[2], "--decision", "active", "--by", "another", "--reason", "x", "--config", file)
	ends(t, command.Done, "decided  refused on ", "reviews", "resolve", ids[2], "--decision", "refused", "--by", "another", "--reason", "the second is right", "--config", file)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	ends(t, command.Done, "reason   old token lost, papers compared", "reviews", "show", ids[1], "--config", file)
	b, err := program(t, "reviews", "list", "--all", "--json", "--config", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []vault.Review
	if err := json.Unmarshal(b, &list); err != nil || len(list) != 2 || list[0].Resolution == nil || list[0].Resolution.Decision != receipt.Active && list[1].Resolution.Decision != receipt.Active {
		t.Errorf("%v\n%s", err, b)
	}
	if b, err = program(t, "reviews", "list", "--config", file).Output(); err != nil || strings.TrimSpace(string(b)) != "" {
		t.Errorf("still open: %s, %v", b, err)
	}
}

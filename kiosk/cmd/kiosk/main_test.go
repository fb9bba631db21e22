package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/idcard"
)

// These tests run the program itself, as main would, in a mount namespace of
// their own: production programs know no other PC/SC service than the one in
// /run/pcscd, which is this test's there.
const (
	asProgram = "KIOSK_TEST_RUN"
	inside    = "KIOSK_TEST_INSIDE"
	service   = "/run/pcscd/pcscd.comm"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	if os.Getenv(inside) == "" {
		fmt.Fprintln(os.Stderr, enter())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter starts this test anew in its namespace and returns only with an error.
func enter() error {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return errors.New("unshare is missing: install the Debian package util-linux")
	}
	flags := "-m"
	if os.Geteuid() != 0 {
		flags = "-Urm"
	}
	args := append([]string{"unshare", flags, "sh", "-ec", `mount -t tmpfs tmpfs /run; mkdir /run/pcscd; exec "$0" "$@"`}, os.Args...)
	return syscall.Exec(unshare, args, append(os.Environ(), inside+"=1"))
}

// program is a run of bin/kiosk with a configuration.
func program(t *testing.T, config string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	if config != "" {
		args = append(args, "--config", config)
	}
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "PCSCLITE_CSOCK_NAME=/nowhere",
		"GORACE=atexit_sleep_ms=0") // with the race detector each run would last a second longer
	return cmd
}

// result is how a command ended.
type result struct {
	out, err string
	code     int
}

func kioskRun(t *testing.T, config string, args ...string) result {
	t.Helper()
	cmd := program(t, config, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// wants runs a command and holds it to its code and to words that it says on
// standard error.
func wants(t *testing.T, code int, says string, config string, args ...string) result {
	t.Helper()
	r := kioskRun(t, config, args...)
	if r.code != code || !strings.Contains(r.err, says) {
		t.Errorf("kiosk %s: exit code %d, want %d, and %q in:\n%s%s", strings.Join(args, " "), r.code, code, says, r.out, r.err)
	}
	return r
}

// authority is an identity authority that signs a policy.
type authority struct{ *ecdsa.PrivateKey }

func (a authority) Public() crypto.PublicKey { return a.PrivateKey.Public() }
func (a authority) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return a.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

// setting is a kiosk's configuration, with a policy that trusts an issuer of ID
// cards.
type setting struct {
	dir, config, state string
	issuer             *idcard.Authority
}

func newSetting(t *testing.T, tpm string) setting {
	t.Helper()
	return newSettingWith(t, tpm, func(*policy.Policy, record.AuthorityPrivateKey) {})
}

// newSettingWith lets a test add to the policy.
func newSettingWith(t *testing.T, tpm string, add func(*policy.Policy, record.AuthorityPrivateKey)) setting {
	t.Helper()
	dir, err := os.MkdirTemp("", "k") // short: a socket will be in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := setting{dir: dir, config: filepath.Join(dir, "kiosk.toml"), state: filepath.Join(dir, "state")}
	const origin = "registry.example/log"
	_, vkey, err := note.GenerateKey(rand.Reader, origin)
	must(err)
	s.issuer, err = idcard.NewAuthority(idcard.ECDSA)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	root, err := policy.RootHash(key.Public())
	must(err)
	seal, err := record.GenerateAuthorityKey()
	must(err)
	now := time.Now().UTC().Truncate(time.Second)
	decided := policy.Policy{Version: 1, Issued: now, Expires: now.Add(time.Hour), LogOrigin: origin, LogKey: vkey,
		Authority: seal.Public(), Languages: []string{"en"}, OfflineDays: 1,
		Anchors: []policy.Root{{Certificate: s.issuer.CSCA(), Class: record.Test}}}
	add(&decided, seal)
	p, err := policy.Sign(t.Context(), decided, authority{key})
	must(err)
	must(os.WriteFile(filepath.Join(dir, "policy.jws"), p, 0o600))
	must(os.WriteFile(s.config, fmt.Appendf(nil, `[kiosk]
id = "KIOSK-0001"
state = "state"
languages = ["en", "zh"]
[readers]
document = "ID Card"
token = "YubiKey"
officer = "Officer"
[tpm]
path = %q
[registry]
url = "https://127.0.0.1:1"
[trust]
root = %q
policy = "policy.jws"
`, tpm, hex.EncodeToString(root[:])), 0o600))
	return s
}

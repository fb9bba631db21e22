package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/simulators/postgres"
)

// asMain makes the test binary the program.
const asMain = "REGISTRY_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), asMain+"=1")
	return c
}

// ends runs the program and wants an exit code and a text in what it says.
func ends(t *testing.T, code int, says string, args ...string) string {
	t.Helper()
	b, err := program(t, args...).CombinedOutput()
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code || !strings.Contains(string(b), says) {
		t.Errorf("registry %s: %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, says, b)
	}
	return string(b)
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What kiosks reported can be read while the registry serves, and without it.
func TestActivityList(t *testing.T) {
	dir := t.TempDir()
	ends(t, command.Done, "", "activity", "list", "--dir", dir)
	ends(t, command.Usage, "activity list", "activity")
	if err := os.Mkdir(filepath.Join(dir, "activity"), 0o700); err != nil {
		t.Fatal(err)
	}
	officer := strings.Repeat("ab", 32)
	write(t, dir, "activity/KIOSK-0001.json", fmt.Sprintf(`{"kiosk": "KIOSK-0001", "counter": 9, "reported": "2026-11-28T09:30:00Z",
		"entries": [{"day": "2026-11-28", "officer": %q, "reads": 7, "enrollments": 2}],
		"alarms": [{"kind": "reads-without-enrollment", "day": "2026-11-28", "officer": %[1]q, "count": 5, "time": "2026-11-28T09:31:00Z"}]}`, officer))
	for _, says := range []string{"KIOSK-0001  reported 2026-11-28T09:30:00Z", "officer abababababababab  7 documents opened, 2 enrolled",
		"ALARM 2026-11-28T09:31:00Z  reads-without-enrollment  2026-11-28  officer abababababababab  count 5"} {
		ends(t, command.Done, says, "activity", "list", "--dir", dir)
	}
	ends(t, command.Done, `"officer": "`+officer+`"`, "activity", "list", "--dir", dir, "--json")
	write(t, dir, "activity/KIOSK-0002.json", `{"kiosk": "KIOSK-0003"}`)
	ends(t, command.Failed, "KIOSK-0002.json is damaged", "activity", "list", "--dir", dir)
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	ends(t, command.Usage, "registry -h")
	ends(t, command.Usage, "registry -h", "fly")
	ends(t, command.Usage, "registry -h", "kiosks")
	ends(t, command.Usage, "registry -h", "kiosks", "fly")
	ends(t, command.Usage, "--origin", "init", filepath.Join(dir, "r"))
	ends(t, command.Usage, "arguments", "init", "--origin", "a.example/log")
	ends(t, command.Usage, "flag provided but not defined", "serve", "--fly")
	ends(t, command.Done, "Exit codes", "-h")
	ends(t, command.Usage, "Exit codes", "serve", "-h")
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "r")
	ends(t, command.Usage, "visible ASCII", "init", dir, "--origin", "with blank")
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half made: %v", err)
	}
	ends(t, command.Done, "log key a.example/log+", "init", dir, "--origin", "a.example/log", "--host", "registry.example", "--host", "192.0.2.1")
	before, err := os.ReadFile(filepath.Join(dir, "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	ends(t, command.Refused, "keys already", "init", dir, "--origin", "b.example/log")
	if after, _ := os.ReadFile(filepath.Join(dir, "log.key")); !bytes.Equal(before, after) {
		t.Error("keys were replaced")
	}
	secrets, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil || len(secrets) < 5 {
		t.Fatal(secrets, err)
	}
	for _, name := range secrets {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if out, err := exec.Command("openssl", "verify", "-CAfile", filepath.Join(dir, "tls-root.crt"), filepath.Join(dir, "server.crt")).CombinedOutput(); err != nil {
		t.Errorf("openssl: %s", out)
	}
}

func config(w *registrytest.World, extra string) string {
	return fmt.Sprintf("[registry]\ndir = \"registry\"\nlisten = \"127.0.0.1:0\"\npolicy = \"policy.jws\"\nroot = %q\ncheckpoint = \"200ms\"\n%s\n"+
		"[vault]\nurl = \"https://127.0.0.1:1\"\npublic = \"vault/public.json\"\n", hex.EncodeToString(w.Root[:]), extra)
}

func TestConfiguration(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	good := config(w, "")
	for name, c := range map[string]struct {
		text, says string
		code       int
	}{
		"unknown key":       {config(w, "lisen = \"x\""), `registry.toml:7: unknown key "registry.lisen"`, command.Usage},
		"not TOML":          {"[registry\n", "registry.toml:1:", command.Usage},
		"empty":             {"", "registry.dir", command.Usage},
		"no root":           {strings.Replace(good, "root = \"", "root = \"zz", 1), "registry.root", command.Usage},
		"too often":         {strings.Replace(good, "200ms", "1ms", 1), "registry.checkpoint", command.Usage},
		"wrong type":        {config(w, "production = \"yes\""), "registry.toml:7", command.Usage},
		"no policy":         {strings.Replace(good, "policy.jws", "none.jws", 1), "none.jws", command.Failed},
		"another authority": {strings.Replace(good, "root = \""+hex.EncodeToString(w.Root[:1]), "root = \""+hex.EncodeToString([]byte{w.Root[0] ^ 1}), 1), "policy-signature", command.Refused},
		"plain http":        {strings.Replace(good, "https://", "http://", 1), "https", command.Failed},
		"no directory":      {strings.Replace(good, `dir = "registry"`, `dir = "nowhere"`, 1), "nowhere", command.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			ends(t, c.code, c.says, "serve", "--config", write(t, w.Dir, "registry.toml", c.text))
		})
	}
	ends(t, command.Usage, "missing.toml", "serve", "--config", filepath.Join(w.Dir, "missing.toml"))
}

// It serves, keeps others out of its directory, lets kiosks be listed and
// revoked meanwhile, and ends in order.
func TestServe(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "registry.toml", config(w, ""))
	w.Kiosk(t, "KIOSK-0001")
	c := program(t, "serve", "--config", file)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	c.Stderr = &logged
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready https://127.0.0.1:") {
		t.Fatalf("%q, %v: %s", line, err, logged.String())
	}
	ends(t, command.Failed, "another registry serves this directory", "serve", "--config", file)
	ends(t, command.Done, "KIOSK-0001  TPM of class test", "kiosks", "list", "--config", file)
	ends(t, command.Done, "is revoked", "kiosks", "revoke", "KIOSK-0001", "--config", file)
	ends(t, command.Done, "revoked "+time.Now().UTC().Format(time.DateOnly), "kiosks", "list", "--dir", w.RegistryDir())
	ends(t, command.Done, `"revoked": "`, "kiosks", "list", "--json", "--dir", w.RegistryDir())
	ends(t, command.Failed, "no kiosk of this id", "kiosks", "revoke", "KIOSK-0002", "--config", file)
	if info, err := os.Stat(filepath.Join(w.RegistryDir(), "console.sock")); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("console: %v, %v", info, err)
	}
	ends(t, command.Done, "log      0 leaves", "status", "--config", file)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, logged.String())
	}
	ends(t, command.Done, `"failing": []`, "status", "--config", file, "--json")
}

// A registry that was killed leaves its socket behind: commands open the store
// themselves then, and the next one serves.
func TestConsoleOfAKilledRegistry(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "registry.toml", config(w, ""))
	for range 2 {
		c := program(t, "serve", "--config", file)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		ends(t, command.Done, "policy   version 1", "status", "--config", file)
		c.Process.Kill()
		c.Wait()
		if _, err := os.Stat(filepath.Join(w.RegistryDir(), "console.sock")); err != nil {
			t.Fatalf("nothing was left behind: %v", err)
		}
		ends(t, command.Done, "policy   version 1", "status", "--config", file)
	}
}

// A code is printed, once per kiosk and for as long as asked; nobody is approved
// who does not wait.
func TestKiosksCommands(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	file := write(t, w.Dir, "registry.toml", config(w, ""))
	out, err := program(t, "kiosks", "code", "--config", file, "--id", "KIOSK-0001").Output()
	if err != nil {
		t.Fatal(err)
	}
	code, err := api.ParseCode(string(out))
	if err != nil || code.Root != [16]byte(w.Root[:]) {
		t.Fatalf("%q: %v", out, err)
	}
	kept, err := os.ReadFile(filepath.Join(w.RegistryDir(), "provisions", "KIOSK-0001.json"))
	if err != nil || bytes.Contains(kept, []byte(base64.StdEncoding.EncodeToString(code.Secret.Reveal()))) {
		t.Errorf("the secret is kept, or nothing: %v\n%s", err, kept)
	}
	ends(t, command.Usage, "--id", "kiosks", "code", "--config", file)
	ends(t, command.Usage, "--id", "kiosks", "code", "--config", file, "--id", "../x")
	ends(t, command.Usage, "--valid", "kiosks", "code", "--config", file, "--id", "KIOSK-0001", "--valid", "10000h")
	ends(t, command.Refused, "waits for approval", "kiosks", "approve", "KIOSK-0001", "--ek", "00", "--config", file)
	ends(t, command.Usage, "--ek is missing", "kiosks", "approve", "KIOSK-0001", "--config", file)
	ends(t, command.Refused, "waits for approval", "kiosks", "reject", "KIOSK-0001", "--config", file)
	ends(t, command.Failed, "no kiosk of this id", "kiosks", "show", "KIOSK-0001", "--config", file)
	w.Kiosk(t, "KIOSK-0002")
	ends(t, command.Done, "in good standing", "kiosks", "show", "KIOSK-0002", "--dir", w.RegistryDir())
	ends(t, command.Done, `"class": "test"`, "kiosks", "show", "KIOSK-0002", "--json", "--dir", w.RegistryDir())
	ends(t, command.Done, "is revoked", "kiosks", "revoke", "KIOSK-0002", "--dir", w.RegistryDir())
	ends(t, command.Refused, "was revoked", "kiosks", "code", "--config", file, "--id", "KIOSK-0002")
}

// Two registries serve on one database, each in a directory of its own; people's
// commands work on the database, whichever configuration they name.
func TestServeOnDatabase(t *testing.T) {
	cluster, err := postgres.New(t.Context(), "fsync=off")
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	if err := cluster.Create(t.Context(), "registry", ""); err != nil {
		t.Fatal(err)
	}
	address := cluster.URL("registry")
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	one := write(t, w.Dir, "one.toml", config(w, fmt.Sprintf("store = %q", address)))
	two := write(t, w.Dir, "two.toml", strings.Replace(config(w, "roles = []"), `dir = "registry"`, fmt.Sprintf("dir = %q", w.Replica(t)), 1))
	ends(t, command.Usage, "--store", "serve", "--config", two, "--store", "postgres://db.example/registry")
	ends(t, command.Usage, "registry.store", "serve", "--config", write(t, w.Dir, "bad.toml", config(w, `store = "mysql://x"`)))
	ends(t, command.Usage, `registry.roles has "king"`, "serve", "--config", write(t, w.Dir, "bad.toml", config(w, `roles = ["king"]`)))

	for i, args := range [][]string{{"serve", "--config", one}, {"serve", "--config", two, "--store", address}} {
		c := program(t, args...)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var logged bytes.Buffer
		c.Stderr = &logged
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "ready https://127.0.0.1:") {
			t.Fatalf("registry %d: %q, %v: %s", i, line, err, logged.String())
		}
		defer func() {
			if err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
				t.Errorf("registry %d, after SIGTERM: %v\n%s", i, err, logged.String())
			}
		}()
	}
	ends(t, command.Failed, "another registry serves this directory", "serve", "--config", one)
	ends(t, command.Done, "", "kiosks", "code", "--config", one, "--id", "KIOSK-0001")
	ends(t, command.Refused, "waits for approval", "kiosks", "approve", "KIOSK-0001", "--ek", "00", "--config", one)
	if _, err := cluster.Query(t.Context(), "registry", `INSERT INTO kiosks VALUES ('KIOSK-0002', '{"id": "KIOSK-0002", "class": "test", "registered": "2026-11-28T09:30:00Z"}')`); err != nil {
		t.Fatal(err)
	}
	ends(t, command.Done, "KIOSK-0002  TPM of class test", "kiosks", "list", "--config", one)
	ends(t, command.Done, "is revoked", "kiosks", "revoke", "KIOSK-0002", "--config", one)
	ends(t, command.Done, `"revoked": "`, "kiosks", "show", "KIOSK-0002", "--json", "--config", one)
	ends(t, command.Done, "", "activity", "list", "--config", one)
	if n, err := cluster.Query(t.Context(), "registry", `SELECT (SELECT count(*) FROM provisions), (SELECT count(*) FROM kiosks WHERE kiosk ? 'revoked')`); err != nil || n != "1|1" {
		t.Errorf("in the database: %s, %v", n, err)
	}
}

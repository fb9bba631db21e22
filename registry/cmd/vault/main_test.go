package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// asMain makes the test binary the program.
const asMain = "VAULT_TEST_MAIN"

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
func ends(t *testing.T, code int, says string, args ...string) {
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
		t.Errorf("vault %s: %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, says, b)
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestInitAndUsage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	ends(t, command.Usage, "vault -h")
	ends(t, command.Usage, "vault -h", "policy")
	ends(t, command.Usage, "arguments", "init")
	ends(t, command.Done, "root ", "init", dir)
	ends(t, command.Refused, "keys already", "init", dir)
	secrets, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil || len(secrets) < 5 {
		t.Fatal(secrets, err)
	}
	for _, name := range secrets {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// A policy is signed from its description; every mistake in that is named and
// nothing is written.
func TestPolicySign(t *testing.T) {
	w := registrytest.New(t)
	good, err := os.ReadFile(filepath.Join(w.Dir, "policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(w.Dir, "out.jws")
	sign := func(in string) []string {
		return []string{"policy", "sign", "--dir", w.VaultDir(), "--in", in, "--out", out}
	}
	change := func(old, new string) string {
		t.Helper()
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("the description has no %q", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, c := range map[string]struct{ text, says string }{
		"unknown key":       {change("valid_days", "valid_day"), `unknown key "valid_day"`},
		"no file":           {change("officers.der", "none.der"), "none.der"},
		"no certificate":    {change("officers.der", "enrollment.en.txt"), "root"},
		"no class":          {change("class = \"test\"\n[consents]", "[consents]"), "root"},
		"unknown class":     {change("class = \"test\"\n[consents]", "class = \"nice\"\n[consents]"), "root"},
		"unknown text":      {change(`required = ["enrollment"]`, `required = ["other"]`), "other"},
		"language missing":  {change(`languages = ["en"]`, `languages = ["en", "zh"]`), "zh"},
		"no registry":       {change(`public = "registry/public.json"`, `public = "vault/public.json"`), "registry.public"},
		"firmware":          {change("5.2.3", "new"), "minimum_piv_firmware"},
		"officer's hash":    {change("revoked_tokens", "revoked_officers = [\"4711\"]\nrevoked_tokens"), "revoked_officers"},
		"revoked F9":        {change("revoked_tokens", "revoked_attestations = [\"4711\"]\nrevoked_tokens"), "revoked_attestations"},
		"no such CRL":       {change("revoked_tokens", "officer_crls = [\"none.crl\"]\nrevoked_tokens"), "officer_crls"},
		"no CRL":            {change("revoked_tokens", "officer_crls = [\"officers.der\"]\nrevoked_tokens"), "officers' CRL 1"},
		"no intermediate":   {change("revoked_tokens", "piv_intermediates = [\"officers.der\"]\nrevoked_tokens"), "piv intermediate"},
		"nobody's role":     {change("[[officer_roles]]\nroles = [\"officer\", \"supervisor\"]\n", ""), "officer_roles is missing"},
		"unknown role":      {change(`"supervisor"]`, `"chief"]`), `unknown role "chief"`},
		"unit twice":        {change("[[officer_roles]]", "[[officer_roles]]\nroles = [\"desk\"]\n[[officer_roles]]"), "given twice"},
		"unknown rule":      {change("[[officer_roles]]", "[[officer_roles]]\nquotas = 3"), `unknown key "officer_roles.quotas"`},
		"unknown algorithm": {change("[[officer_roles]]", "[token]\nalgorithms = [\"rsa-1024\"]\n[[officer_roles]]"), `unknown algorithm "rsa-1024"`},
		"unknown touch":     {change("[[officer_roles]]", "[token]\ntouch = \"often\"\n[[officer_roles]]"), `unknown touch policy "often"`},
		"negative limit":    {change("[[officer_roles]]", "[limits]\nenrollments_per_day = -1\n[[officer_roles]]"), "negative"},
		"never valid":       {change("valid_days = 365", "valid_days = 0"), "valid_days"},
		"version":           {change("version = 1", "version = 0"), "version"},
		"a text's bad name": {change(`dir = "."`, `dir = "registry"`), "NAME.LANGUAGE.txt"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := program(t, sign(write(t, w.Dir, "bad.toml", c.text))...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != command.Usage && exit.ExitCode() != command.Refused || !strings.Contains(string(b), c.says) {
				t.Errorf("%v: %s", err, b)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("written all the same: %v", err)
			}
		})
	}
	ends(t, command.Done, "signed", sign(filepath.Join(w.Dir, "policy.toml"))...)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.Parse(b, w.Root)
	if err != nil {
		t.Fatal(err)
	}
	p := s.Policy()
	if p.OfflineDays != 30 || p.MinimumPIVFirmware != (policy.Firmware{Major: 5, Minor: 2, Patch: 3}) || len(p.Consents) != 1 || !p.Consents[0].Required || len(p.OfficerCA) != 1 {
		t.Errorf("%+v", p)
	}
	if keys, err := vault.ReadPublic(w.VaultDir()); err != nil || p.Authority.ID != keys.Authority.ID {
		t.Errorf("authority %s, %v", p.Authority.ID, err)
	}
}

// What a policy decides is shown, and who signed it; with the root's hash only
// what that root signed.
func TestPolicyShow(t *testing.T) {
	w := registrytest.New(t)
	old := w.Officers.CRL(t, time.Now(), w.Officer)
	w.Set(t, "officer_crls = [\"officers.crl\"]\n", map[string][]byte{"officers.crl": old})
	w.Accept(t, "[[officer_roles]]\nunit = \"Front\"\nroles = [\"officer\"]\nquota = 40\n[limits]\nreads_without_enrollment = 5\n", nil)
	first := w.Policy.Policy().LogKey
	if _, err := registry.RotateLog(filepath.Join(w.Dir, "registry"), w.Policy, true); err != nil {
		t.Fatal(err)
	}
	second := w.Sign(t, 2, time.Now())
	if _, err := registry.RotateLog(filepath.Join(w.Dir, "registry"), second, false); err != nil {
		t.Fatal(err)
	}
	w.Policy = w.Sign(t, 1, time.Now().Add(-time.Hour))
	file := write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	root := hex.EncodeToString(w.Root[:])
	for _, says := range []string{w.Policy.Policy().LogKey, second.Policy().LogKey + " and signs beside it", first + " until 0 leaves, root 47DEQpj8HBSa", "signed by root " + root, "version          1, in force", `unit "Front": [officer], 40 enrollments a day`,
		"1 certificates", "more than 5 documents", "[p-256], pin once, touch always", "enrollment version 1, required"} {
		ends(t, command.Done, says, "policy", "show", file)
	}
	ends(t, command.Done, root, "policy", "show", file, "--root", root)
	ends(t, command.Refused, "policy-signature", "policy", "show", file, "--root", strings.Repeat("0", 64))
	ends(t, command.Usage, "64 hexadecimal digits", "policy", "show", file, "--root", "12")
	altered := bytes.Clone(w.Policy.Bytes())
	altered[len(altered)/2] ^= 1
	ends(t, command.Refused, "policy-signature", "policy", "show", write(t, w.Dir, "altered.jws", string(altered)))
	out, err := program(t, "policy", "show", file, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Officers []struct {
			Unit  string
			Quota int
		} `json:"officer_roles"`
	}
	if err := json.Unmarshal(out, &shown); err != nil || len(shown.Officers) != 2 || shown.Officers[1].Unit != "Front" || shown.Officers[1].Quota != 40 {
		t.Errorf("%v: %s", err, out)
	}
}

// Officers' documents are kept as hashes, from a file or standard input.
func TestOfficers(t *testing.T) {
	w := registrytest.New(t)
	const anna = `{"issuer": "UTO", "document": "D23145890", "surname": "ERIKSSON", "given_names": "ANNA MARIA", "birth": "1974-08-12"}`
	in := write(t, w.Dir, "anna.json", anna)
	dir := w.VaultDir()
	ends(t, command.Done, "", "officers", "list", "--dir", dir)
	ends(t, command.Done, "added a document of 4711", "officers", "add", "--dir", dir, "--number", "4711", "--in", in)
	c := program(t, "officers", "add", "--dir", dir, "--number", "4712")
	c.Stdin = strings.NewReader(anna)
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "4712") || strings.Contains(string(out), "ERIKSSON") {
		t.Errorf("%v: %s", err, out)
	}
	ends(t, command.Done, "4711  documents: 1", "officers", "list", "--dir", dir)
	ends(t, command.Done, `"number": "4712"`, "officers", "list", "--dir", dir, "--json")
	ends(t, command.Done, "removed 4711", "officers", "remove", "--dir", dir, "--number", "4711")
	ends(t, command.Failed, "no document is kept", "officers", "remove", "--dir", dir, "--number", "4711")
	ends(t, command.Usage, "birth is not YYYY-MM-DD", "officers", "add", "--dir", dir, "--number", "1", "--in", write(t, w.Dir, "bad.json", strings.Replace(anna, "1974-", "74-", 1)))
	ends(t, command.Usage, "1 to 64 bytes", "officers", "add", "--dir", dir, "--number", strings.Repeat("1", 65), "--in", in)
	ends(t, command.Usage, "--number", "officers", "add", "--dir", dir, "--in", in)
	ends(t, command.Usage, "officers add, list or remove", "officers")
	ends(t, command.Usage, "officers add, list or remove", "officers", "shoot", "--dir", dir, "--number", "1")
}

// Certificates of a master list that are of no use are named, and the policy is
// signed without them; usage tells how to describe lists and documents.
func TestPolicySignWithMasterList(t *testing.T) {
	state, err := idcard.NewAuthority(idcard.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	list, err := state.MasterList([][]byte{state.CSCA(), state.Signer()}, idcard.MasterListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := registrytest.New(t)
	write(t, w.Dir, "ut.ml", string(list))
	text, err := os.ReadFile(filepath.Join(w.Dir, "policy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(w.Dir, "out.jws")
	sign := func(pin [32]byte) []string {
		in := write(t, w.Dir, "list.toml", fmt.Sprintf("%s[[master_lists]]\nfile = \"ut.ml\"\nclass = \"test\"\npin = \"%x\"\n", text, pin))
		return []string{"policy", "sign", "--dir", w.VaultDir(), "--in", in, "--out", out}
	}
	ends(t, command.Usage, "ut.ml", sign([32]byte{})...)
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("written all the same: %v", err)
	}
	c := program(t, sign(sha256.Sum256(state.CSCA()))...)
	var warned bytes.Buffer
	c.Stderr = &warned
	if said, err := c.Output(); err != nil || !strings.HasPrefix(string(said), "signed ") || strings.Contains(string(said), "warning") {
		t.Errorf("%v: %s", err, said)
	}
	if s := warned.String(); !strings.Contains(s, "vault: warning: ") || !strings.Contains(s, "ut.ml") || !strings.Contains(s, fmt.Sprintf("%x", sha256.Sum256(state.Signer()))) || strings.Count(s, "\n") != 1 {
		t.Errorf("warned: %s", s)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := policy.Parse(b, w.Root); err != nil || len(s.Policy().Anchors) != 1 {
		t.Errorf("%d anchors, %v", len(s.Policy().Anchors), err)
	}
	ends(t, command.Usage, "[[master_lists]]", "policy", "sign", "-h")
	ends(t, command.Usage, "[[documents.roots]]", "policy", "sign", "-h")
}

func TestServe(t *testing.T) {
	w := registrytest.New(t)
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	config := fmt.Sprintf("[vault]\ndir = \"vault\"\nlisten = \"127.0.0.1:0\"\npolicy = \"policy.jws\"\nroot = %q\n[registry]\npublic = \"registry/public.json\"\n",
		hex.EncodeToString(w.Root[:]))
	file := write(t, w.Dir, "vault.toml", config)
	ends(t, command.Usage, `bad.toml:3: unknown key "vault.lisen"`, "serve", "--config", write(t, w.Dir, "bad.toml", strings.Replace(config, "listen", "lisen", 1)))
	ends(t, command.Usage, "vault.dir", "serve", "--config", write(t, w.Dir, "bad.toml", ""))
	ends(t, command.Refused, "policy-signature", "serve", "--config", write(t, w.Dir, "bad.toml", strings.Replace(config, `root = "`+hex.EncodeToString(w.Root[:1]), `root = "`+hex.EncodeToString([]byte{w.Root[0] ^ 1}), 1)))
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
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready https://127.0.0.1:") {
		t.Fatalf("%q, %v: %s", line, err, logged.String())
	}
	ends(t, command.Failed, "in use", "serve", "--config", file)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, logged.String())
	}
}

// The root key is followed by one that another machine has made, which its hash names;
// policies are then by that one, also for whoever pins the first.
func TestRootRotation(t *testing.T) {
	w := registrytest.New(t)
	dir, signed := w.VaultDir(), write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	for _, args := range [][]string{{"root"}, {"root", "rotate"}, {"root", "rotate", "--dir", dir, "--to", "x"}, {"root", "rotate", "--dir", dir, "--root", "x"}, {"root", "propose", "--policy", signed}, {"root", "burn"}} {
		ends(t, command.Usage, "vault -h", args...)
	}
	proposal, key := filepath.Join(w.Dir, "proposal.jws"), filepath.Join(w.Dir, "next.key")
	ends(t, command.Refused, "policy-", "root", "propose", "--policy", write(t, w.Dir, "x", "x"), "--key", key, "--out", proposal)
	b, err := program(t, "root", "propose", "--policy", signed, "--key", key, "--out", proposal).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	hash := regexp.MustCompile("(?m)^root ([0-9a-f]{64})$").FindSubmatch(b)
	if hash == nil {
		t.Fatalf("no hash: %s", b)
	}
	ends(t, command.Refused, "it is by root", "root", "rotate", "--dir", dir, "--to", proposal, "--root", strings.Repeat("0", 64))
	ends(t, command.Refused, "root-succession", "root", "rotate", "--dir", dir, "--to", signed, "--root", string(hash[1]))
	ends(t, command.Done, "made root 2\nroot "+string(hash[1]), "root", "rotate", "--dir", dir, "--to", proposal, "--root", strings.ToUpper(string(hash[1])))
	sign := []string{"policy", "sign", "--dir", dir, "--in", filepath.Join(w.Dir, "policy.toml"), "--out", signed}
	ends(t, command.Failed, "bring it", sign...)
	if err := os.Rename(key, filepath.Join(dir, "authority-root-2.key")); err != nil {
		t.Fatal(err)
	}
	ends(t, command.Done, "signed", sign...)
	ends(t, command.Done, "signed by root "+string(hash[1])+"\nroot 1 is "+hex.EncodeToString(w.Root[:])+"\nroot 2 is "+string(hash[1]), "policy", "show", signed)
	for _, pinned := range []string{hex.EncodeToString(w.Root[:]), string(hash[1])} {
		ends(t, command.Done, "root 2 is", "policy", "show", signed, "--root", pinned)
	}
	ends(t, command.Refused, "policy-signature", "policy", "show", signed, "--root", strings.Repeat("0", 64))
}

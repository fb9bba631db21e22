package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/simulators/tpm"
)

// commandsOf are the commands that stand in a page, in their order.
func commandsOf(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		out = append(out, block[1])
	}
	if len(out) < 3 {
		t.Fatalf("%s has %d blocks of commands", page, len(out))
	}
	return strings.Join(out, "\n")
}

// bash runs a script in a directory; the first command that fails ends it.
func bash(t *testing.T, dir, script string, env ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// Whatever it started ends with it.
	script = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + script
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-xc", script)
	c.Dir, c.Env, c.WaitDelay = dir, append(os.Environ(), env...), 10*time.Second
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// free is an address that nobody listens on just now.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// docs/runbook.md does what it says, from the first command to the last, with the
// programs as they are built and a kiosk on a TPM of its own.
func TestRunbook(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "enrollkiosk/registry/cmd/registry", "enrollkiosk/registry/cmd/vault", "enrollkiosk/kiosk/cmd/kiosk").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	script := commandsOf(t, "runbook.md")
	addresses := map[string]string{"127.0.0.1:18443": free(t), "127.0.0.1:18444": free(t), "127.0.0.1:19464": free(t), "127.0.0.1:19465": free(t)}
	for written, address := range addresses {
		script = strings.ReplaceAll(script, written, address)
	}
	dir := t.TempDir()
	chip, err := tpm.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Stop() })
	// The one thing that the page cannot know is who made the TPM.
	var roots string
	for i, der := range chip.Roots() {
		name := fmt.Sprintf("tpm-root-%d.der", i)
		write(t, dir, name, string(der))
		roots += fmt.Sprintf("[[tpm_roots]]\nfile = %q\nclass = \"test\"\n", name)
	}
	script = strings.Replace(script, "required = [\"enrollment\"]\n", "required = [\"enrollment\"]\n"+roots, 1)
	write(t, dir, "kiosk.toml", fmt.Sprintf("[kiosk]\nid = \"KIOSK-0001\"\nstate = \"kiosk\"\nlanguages = [\"en\"]\n[readers]\ndocument = \"D\"\ntoken = \"T\"\nofficer = \"O\"\n"+
		"[tpm]\npath = %q\n[registry]\nurl = \"https://%s\"\n", chip.Path(), addresses["127.0.0.1:18443"]))
	bash(t, dir, script, "PATH="+bin+":"+os.Getenv("PATH"))
}

// docs/curl.md works against a registry.
func TestCurl(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r, err := registry.Open(t.Context(), w.RegistryOptions("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx, l) }()
	k := w.Kiosk(t, "KIOSK-0001")
	s := k.Make(t, registrytest.Spec{})
	batch, err := json.Marshal(api.Batch{Items: []api.Item{{ID: s.ID(), Submission: s.Bytes()}}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(k.TLS.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	env := []string{"REGISTRY=https://" + l.Addr().String(), "ROOT=" + filepath.Join(w.RegistryDir(), "tls-root.crt"), "ID=" + api.ID(s.ID()).String(),
		"CERT=" + write(t, dir, "kiosk.crt", block("CERTIFICATE", k.TLS.Certificate[0])), "KEY=" + write(t, dir, "kiosk.key", block("PRIVATE KEY", key)),
		"BATCH=" + write(t, dir, "batch.json", string(batch))}
	script := commandsOf(t, "curl.md")
	contract, err := os.ReadFile("../../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	public, _, _ := strings.Cut(string(contract), "tags: [vault]")
	for _, m := range regexp.MustCompile(`(?m)^  (/[a-z0-9/-]+)`).FindAllStringSubmatch(public, -1) {
		if path := strings.TrimSuffix(m[1], "/"); path != api.PathOpen && !strings.Contains(script, "$REGISTRY"+path) {
			t.Errorf("docs/curl.md lacks %s", path)
		}
	}
	// The receipt takes as long as a checkpoint.
	script = strings.Replace(script, `size=$(`, `for i in $(seq 100); do curl -fsS --cacert "$ROOT" --cert "$CERT" --key "$KEY" "$REGISTRY/v1/records/$ID" | grep -q receipt && break; sleep 0.2; done
size=$(`, 1)
	bash(t, dir, script, env...)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/postgres"
	"enrollkiosk/simulators/tpm"
)

// blocksOf are the blocks of commands of a kind in a page, in their order.
func blocksOf(t *testing.T, page, kind string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		out = append(out, block[1])
	}
	return out
}

// commandsOf are the commands that stand in a page, in their order.
func commandsOf(t *testing.T, page string) string {
	t.Helper()
	out := blocksOf(t, page, "sh")
	if len(out) < 3 {
		t.Fatalf("%s has %d blocks of commands", page, len(out))
	}
	return strings.Join(out, "\n")
}

// bash runs a script in a directory; the first command that fails ends it.
func bash(t *testing.T, dir, script string, env ...string) {
	t.Helper()
	if err := runBash(t.Context(), dir, script, env...); err != nil {
		t.Fatal(err)
	}
}

func runBash(ctx context.Context, dir, script string, env ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	// Whatever it started ends with it.
	script = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + script
	c := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-xc", script)
	c.Dir, c.Env, c.WaitDelay = dir, append(os.Environ(), env...), 10*time.Second
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
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

// pageKiosk is a kiosk that sends records to the registry of a page.
type pageKiosk struct {
	*testing.T
	*registrytest.Kiosk
	client *http.Client
	url    string
}

// taken sends records until they have their receipts, which it returns.
func (k pageKiosk) taken(subs ...record.Submission) map[[32]byte]receipt.Final {
	k.Helper()
	var b api.Batch
	for _, s := range subs {
		b.Items = append(b.Items, api.Item{ID: s.ID(), Submission: s.Bytes()})
	}
	body, err := json.Marshal(b)
	if err != nil {
		k.Fatal(err)
	}
	out := map[[32]byte]receipt.Final{}
	for late := time.Now().Add(2 * time.Minute); len(out) < len(subs); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(late) {
			k.Fatal("no receipts")
		}
		if a, err := k.client.Post(k.url+api.PathRecords, api.MediaJSON, bytes.NewReader(body)); err == nil {
			a.Body.Close()
		}
		for _, s := range subs {
			a, err := k.client.Get(k.url + api.PathRecords + "/" + api.ID(s.ID()).String())
			if err != nil {
				continue
			}
			status, err := api.Decode[api.RecordStatus](a.Body)
			a.Body.Close()
			if err != nil || status.Receipt == "" {
				continue
			}
			if out[s.ID()], err = receipt.Verify([]byte(status.Receipt), k.World.Policy.Policy().Log(), s.ID()); err != nil {
				k.Fatal(err)
			}
		}
	}
	return out
}

// postgresSettings are those of the page.
func postgresSettings(t *testing.T) (out []string) {
	t.Helper()
	for line := range strings.Lines(strings.Join(blocksOf(t, "runbook.md", "postgresql.conf"), "")) {
		line, _, _ = strings.Cut(line, "#")
		name, value, found := strings.Cut(line, "=")
		if !found {
			t.Fatalf("not a setting: %q", line)
		}
		out = append(out, strings.TrimSpace(name)+"="+strings.TrimSpace(value))
	}
	if len(out) == 0 {
		t.Fatal("the page has no settings")
	}
	return out
}

// What docs/runbook.md says of PostgreSQL, with a database that is destroyed: what was
// in the dump is there with its place in the log, kiosks send the rest again, nothing
// is twice, and the log goes on.
func TestRunbookOnPostgreSQL(t *testing.T) {
	t.Parallel()
	c, err := postgres.New(t.Context(), append(postgresSettings(t), "shared_buffers=128MB", "fsync=off", "full_page_writes=off")...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Create(t.Context(), "registry", ""); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "enrollkiosk/registry/cmd/registry").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	w := registrytest.New(t)
	address := free(t)
	k := pageKiosk{T: t, Kiosk: w.Kiosk(t, "KIOSK-0001"), url: "https://" + address}
	transport := &http.Transport{TLSClientConfig: w.TLS(t, k.TLS)}
	t.Cleanup(transport.CloseIdleConnections)
	k.client = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	write(t, w.Dir, "registry.toml", fmt.Sprintf("[registry]\ndir = \"registry\"\nlisten = %q\npolicy = \"policy.jws\"\nroot = \"%x\"\ncheckpoint = \"200ms\"\nstore = %q\n"+
		"[vault]\nurl = \"https://127.0.0.1:1\"\npublic = \"vault/public.json\"\n", address, w.Root, c.URL("registry")))
	enlisted, err := os.ReadFile(filepath.Join(w.RegistryDir(), "kiosks", k.ID+".json"))
	if err != nil {
		t.Fatal(err)
	}

	// The page's blocks, with what happens in between.
	blocks := blocksOf(t, "runbook.md", "sh postgresql")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	until := func(mark string) string {
		return fmt.Sprintf("touch at-%s\nuntil [ -e after-%[1]s ]; do sleep 0.1; done\n", mark)
	}
	script := strings.Join([]string{
		"mkdir backups safe\nregistry serve --config registry.toml & registry=$!\n" +
			"ready() { curl -fsS --retry 100 --retry-delay 1 --retry-all-errors --cacert registry/tls-root.crt https://" + address + "/readyz; }\nready\n" + until("start"),
		strings.Replace(blocks[0], "registry log copy", until("dump")+"registry log copy", 1),
		"cp mirror/checkpoint seen-by-a-kiosk\n" + until("backup"),
		blocks[1],
		until("restore") + "registry check --json --config registry.toml > check.json\nkill $registry; wait $registry\n",
	}, "\n")
	for written, here := range map[string]string{"postgres://registry@db.example/registry?sslmode=verify-full": c.URL("registry"),
		"postgres://registry@db.example/postgres?sslmode=verify-full": c.URL("postgres"), "127.0.0.1:18443": address} {
		if !strings.Contains(script, written) {
			t.Errorf("the page does not name %s", written)
		}
		script = strings.ReplaceAll(script, written, here)
	}
	between := func(mark string, do func()) {
		for late := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(w.Dir, "at-"+mark)); err == nil {
				break
			} else if time.Now().After(late) || t.Failed() {
				t.Errorf("the page does not come to %s", mark)
				return
			}
		}
		do()
		write(t, w.Dir, "after-"+mark, "")
	}
	records := func(n int) (subs []record.Submission) {
		for range n {
			subs = append(subs, k.Make(t, registrytest.Spec{}))
		}
		return subs
	}
	early, late, last := records(5), records(4), records(2)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := runBash(t.Context(), w.Dir, script, "PATH="+bin+":"+c.Programs()+":"+os.Getenv("PATH")); err != nil {
			t.Error(err)
		}
	}()
	var first, second map[[32]byte]receipt.Final
	between("start", func() {
		if _, err := c.Query(t.Context(), "registry", "INSERT INTO kiosks VALUES ('"+k.ID+"', $kiosk$"+string(enlisted)+"$kiosk$)"); err != nil {
			t.Fatal(err)
		}
		first = k.taken(early...)
	})
	between("dump", func() { second = k.taken(late...) })
	between("backup", func() {
		if err := c.Drop(t.Context(), "registry"); err != nil {
			t.Error(err)
		}
	})
	between("restore", func() {
		if n, err := c.Query(t.Context(), "registry", "SELECT count(*) FROM records"); err != nil || n != fmt.Sprint(len(early)) {
			t.Errorf("records: %s, %v", n, err)
		}
		again := k.taken(append(slices.Clone(early), late...)...)
		for id, before := range again {
			was, known := first[id]
			if !known {
				was = second[id]
			}
			if before.Index() != was.Index() {
				t.Errorf("a record that stood at %d in the log stands at %d", was.Index(), before.Index())
			}
		}
		for _, f := range k.taken(last...) {
			if f.Index() < uint64(len(early)+len(late)) {
				t.Errorf("a new record stands at %d in the log", f.Index())
			}
		}
	})
	<-ended
	if t.Failed() {
		return
	}
	b, err := os.ReadFile(filepath.Join(w.Dir, "check.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report registry.Report
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	if n := uint64(len(early) + len(late) + len(last)); report.Records != n || report.Receipts != n || report.LogSize != n || report.Unknown != 0 || len(report.Damaged) > 0 {
		t.Errorf("%v", report)
	}
}

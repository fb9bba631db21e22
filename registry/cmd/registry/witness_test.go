package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"enrollkiosk/registry/checkpoint/logtest"
	"enrollkiosk/registry/internal/command"
	"enrollkiosk/registry/internal/registrytest"
)

// serves starts a program that says where it is ready, and ends it in order.
func serves(t *testing.T, args ...string) (address string, stop func()) {
	t.Helper()
	c := program(t, args...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready http") {
		t.Fatalf("%q, %v", line, err)
	}
	address = strings.TrimSuffix(strings.Fields(line)[1], ",")
	return address, func() {
		t.Helper()
		c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil {
			t.Errorf("%s after SIGTERM: %v", args[0], err)
		}
	}
}

// after is what stands behind a word in what a command says.
func after(t *testing.T, says, word string) string {
	t.Helper()
	_, rest, found := strings.Cut(says, word)
	if !found {
		t.Fatalf("no %q in %s", word, says)
	}
	return strings.Fields(rest)[0]
}

// A registry, its witness and an auditor, each a process of its own.
func TestWitnessAndAudit(t *testing.T) {
	w := registrytest.New(t)
	own := filepath.Join(w.Dir, "witness")
	key := after(t, ends(t, command.Done, "witness key", "witness", "init", own, "--name", "witness.example/w1"), "witness key ")
	ends(t, command.Refused, "keys already", "witness", "init", own, "--name", "another.example")
	logKey := w.Policy.Policy().LogKey
	ends(t, command.Done, "is watched from the next start on", "witness", "watch", own, logKey)
	ends(t, command.Refused, "is watched already", "witness", "watch", own, logKey)
	ends(t, command.Usage, "checkpoint-key", "witness", "watch", own, "nonsense")
	ends(t, command.Usage, "--name", "witness", "init", filepath.Join(w.Dir, "other"))
	ends(t, command.Usage, "witness init, watch or serve", "witness")

	w.Set(t, fmt.Sprintf("witness_quorum = 1\nwitnesses = [%q]\n", key), nil)
	policy := write(t, w.Dir, "policy.jws", string(w.Policy.Bytes()))
	watcher, stopWitness := serves(t, "witness", "serve", own, "--listen", "127.0.0.1:0")
	ends(t, command.Failed, "another process is this witness", "witness", "serve", own, "--listen", "127.0.0.1:0")
	file := write(t, w.Dir, "registry.toml", config(w, "")+fmt.Sprintf("[[witnesses]]\nname = \"witness.example/w1\"\nurl = %q\n", watcher))
	registry, stopRegistry := serves(t, "serve", "--config", file)

	byPolicy := []string{"audit", registry, "--policy", policy, "--root", hex.EncodeToString(w.Root[:]), "--state", filepath.Join(w.Dir, "audit")}
	var says string
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		b, err := program(t, byPolicy...).CombinedOutput()
		if says = string(b); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, says)
		}
	}
	if !strings.Contains(says, "leaves    0, all verified") || !strings.Contains(says, "witness   witness.example/w1 at ") {
		t.Error(says)
	}
	ends(t, command.Done, `"size": 0`, append(byPolicy, "--json")...)
	// Against the key alone, in a directory too.
	tlsRoot := filepath.Join(w.RegistryDir(), "tls-root.crt")
	ends(t, command.Done, "all verified", "audit", registry, "--log-key", logKey, "--tls-root", tlsRoot, "--witness", key, "--quorum", "1", "--state", filepath.Join(w.Dir, "audit2"))
	ends(t, command.Unreachable, "does not answer", "audit", registry, "--log-key", logKey, "--state", filepath.Join(w.Dir, "audit3")) // nobody vouches for its TLS
	stopRegistry()
	stopWitness()
	ends(t, command.Unreachable, "does not answer", byPolicy...)
	ends(t, command.Done, "all verified", "audit", filepath.Join(w.RegistryDir(), "log"), "--log-key", logKey, "--state", filepath.Join(w.Dir, "audit2"))
	ends(t, command.Usage, "name and url are needed", "serve", "--config", write(t, w.Dir, "registry2.toml", config(w, "")+"[[witnesses]]\nname = \"witness.example/w2\"\n"))
	ends(t, command.Failed, "and only 0 have an address here", "serve", "--config", write(t, w.Dir, "registry2.toml", config(w, "")))
}

// What an audit finds has a sentence and an exit code.
func TestAuditCommand(t *testing.T) {
	l := logtest.New(logtest.NewKey(t, 1))
	l.Fill(600, "a")
	l.Publish(t, 600)
	dir, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	put := func(name string, b []byte) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	get := func(name string) []byte {
		t.Helper()
		b, err := l.Read(t.Context(), name, 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, name := range []string{"checkpoint", "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"} {
		put(name, get(name))
	}
	key := l.Key.Log.Key
	good := []string{"audit", dir, "--log-key", key, "--state", state}
	bundle := get("tile/entries/001")
	bundle[34*10+8] ^= 1
	put("tile/entries/001", bundle)
	ends(t, command.Refused, "leaf 266", good...)
	put("tile/entries/001", get("tile/entries/001"))
	ends(t, command.Done, "leaves    600, all verified, 0 of them before", good...)
	ends(t, command.Done, "leaves    600, all verified, 600 of them before", good...)
	ends(t, command.Refused, "too few witnesses", append(good, "--witness", l.Key.Log.Witnesses[0], "--quorum", "1")...)
	put("checkpoint", l.Signed(t, 500))
	ends(t, command.Refused, "an older tree than before", good...)
	other := l.Fork(3)
	other.Fill(597, "b")
	put("checkpoint", other.Signed(t, 600))
	ends(t, command.Refused, "contradict each other", good...)
	if files, err := filepath.Glob(filepath.Join(state, "evidence", "*")); err != nil || len(files) != 2 {
		t.Errorf("evidence %v, %v", files, err)
	}
	receipts := t.TempDir()
	write(t, receipts, "x", "hello")
	put("checkpoint", l.Signed(t, 600))
	ends(t, command.Refused, "receipt-form", append(good, "--receipts", receipts)...)
	ends(t, command.Usage, "--policy and --root, or --log-key", "audit", dir)
	ends(t, command.Usage, "checkpoint-key", "audit", dir, "--log-key", "nonsense")
	ends(t, command.Usage, "64 hexadecimal", "audit", dir, "--policy", "x", "--root", "y")
	ends(t, command.Usage, "no address of a log", "audit", "ftp://127.0.0.1/log", "--log-key", key)
	ends(t, command.Usage, "nowhere", "audit", filepath.Join(dir, "nowhere"), "--log-key", key)
}

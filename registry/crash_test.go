package registry_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/api/layout"
	tiles "github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	f_log "github.com/transparency-dev/formats/log"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// childDir is the environment variable that makes the test binary a registry.
const childDir = "REGISTRY_TEST_CHILD"

// childOptions is what a parent writes for its child.
type childOptions struct {
	Dir, Database, VaultURL, Root string
	Policy, VaultRoot             []byte
	Cut                           registry.Cut // kills it
	OutboxApart                   bool
}

// child serves the registry in a directory until it is killed.
func child(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "child.json"))
	fail(err)
	var c childOptions
	fail(json.Unmarshal(b, &c))
	o := registry.Options{Dir: c.Dir, Database: c.Database, Vault: registry.VaultLink{URL: c.VaultURL, Root: c.VaultRoot}, Log: slog.New(slog.DiscardHandler)}
	_, err = hex.Decode(o.Root[:], []byte(c.Root))
	fail(err)
	o.Policy, err = policy.Parse(c.Policy, o.Root)
	fail(err)
	r, err := registry.Open(context.Background(), o)
	fail(err)
	if c.Cut != (registry.Cut{}) {
		fail(registry.CutStore(r, c.Cut, c.OutboxApart))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fail(err)
	fmt.Printf("ready %s\n", l.Addr())
	fail(r.Serve(context.Background(), l))
}

// spawn starts a child and waits until it listens.
func spawn(t *testing.T, w *registrytest.World) (url string, kill func()) {
	t.Helper()
	return spawnWith(t, w.RegistryOptions(noVault))
}

func spawnWith(t *testing.T, o registry.Options) (url string, kill func()) {
	t.Helper()
	url, kill, _ = spawnCut(t, o, registry.Cut{}, false)
	return url, kill
}

// spawnCut starts a child that is killed at an arrow; ended is closed then.
func spawnCut(t *testing.T, o registry.Options, cut registry.Cut, outboxApart bool) (url string, kill func(), ended <-chan struct{}) {
	t.Helper()
	b, err := json.Marshal(childOptions{o.Dir, o.Database, o.Vault.URL, hex.EncodeToString(o.Root[:]), o.Policy.Bytes(), o.Vault.Root, cut, outboxApart})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "child.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+o.Dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, lines)
		cmd.Wait()
	}()
	kill = func() {
		cmd.Process.Kill()
		<-gone
	}
	t.Cleanup(kill)
	if err != nil {
		kill()
		t.Fatalf("child: %v: %s", err, stderr.String())
	}
	return "https://" + strings.TrimPrefix(strings.TrimSpace(line), "ready "), kill, gone
}

// leaves reads the whole log from its files, as anyone may, under its checkpoint.
func leaves(t *testing.T, w *registrytest.World) map[[32]byte]int {
	t.Helper()
	dir := filepath.Join(w.RegistryDir(), "log")
	raw, err := os.ReadFile(filepath.Join(dir, layout.CheckpointPath))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(w.Policy.Policy().LogKey)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, _, _, err := f_log.ParseCheckpoint(raw, registrytest.Origin, verifier)
	if err != nil {
		t.Fatal(err)
	}
	found := map[[32]byte]int{}
	for i := uint64(0); i*layout.EntryBundleWidth < checkpoint.Size; i++ {
		bundle, err := tiles.GetEntryBundle(t.Context(), func(_ context.Context, i uint64, p uint8) ([]byte, error) {
			return os.ReadFile(filepath.Join(dir, layout.EntriesPath(i, p)))
		}, i, checkpoint.Size)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range bundle.Entries {
			found[[32]byte(e)]++
		}
	}
	return found
}

func leafOf(s record.Submission) [32]byte {
	return receipt.Leaf(s.Record().Payload().Blind, s.ID())
}

// Killed at any moment, over and over, while kiosks send and send again: every
// record that was taken on is in the log exactly once, with a receipt that
// verifies.
func TestKilledAnywhereExactlyOnce(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	var all []record.Submission
	for round := range 8 {
		url, kill := spawn(t, w)
		c := connect(t, w, url, k.TLS)
		end := time.Now().Add(time.Duration(rand.IntN(400)) * time.Millisecond)
		for range 6 {
			all = append(all, k.Make(t, registrytest.Spec{}))
		}
		stop := time.AfterFunc(time.Until(end), kill)
		for _, s := range all {
			q, err := http.NewRequest(http.MethodPost, url+api.PathRecords, bytes.NewReader(batch(item(s))))
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Content-Type", api.MediaJSON)
			a, err := c.http.Do(q)
			if err != nil {
				break // it was killed
			}
			a.Body.Close()
			if a.StatusCode != http.StatusOK {
				t.Fatalf("round %d: status %d", round, a.StatusCode)
			}
		}
		time.Sleep(time.Until(end))
		stop.Stop()
		kill()
	}
	url, kill := spawn(t, w)
	c := connect(t, w, url, k.TLS)
	for _, s := range all {
		c.send(s)
	}
	for _, s := range all {
		got := c.until(s.ID(), "receipt", hasReceipt)
		if _, err := receipt.Verify([]byte(got.Receipt), w.Policy.Policy().Log(), s.ID()); err != nil {
			t.Error(err)
		}
	}
	kill()
	found := leaves(t, w)
	for i, s := range all {
		if n := found[leafOf(s)]; n != 1 {
			t.Errorf("record %d is in the log %d times", i, n)
		}
	}
	if len(found) != len(all) {
		t.Errorf("%d leaves for %d records", len(found), len(all))
	}
}

// The worst moment made certain: the leaf is in the log, and what the store
// should have kept of that is lost. With and without a restart after it.
func TestLostBetweenLogAndStore(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			w := registrytest.New(t)
			r, err := registry.Open(t.Context(), w.RegistryOptions(noVault))
			if err != nil {
				t.Fatal(err)
			}
			lost := registry.LoseReceipts(r, 2)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Serve(ctx, l) }()
			stop := func() {
				cancel()
				if err := errors.Join(<-ended, r.Close()); err != nil {
					t.Error(err)
				}
			}
			k := w.Kiosk(t, "KIOSK-0001")
			c := connect(t, w, "https://"+l.Addr().String(), k.TLS)
			var all []record.Submission
			for range 3 {
				all = append(all, k.Make(t, registrytest.Spec{}))
				c.send(all[len(all)-1])
			}
			select {
			case <-lost:
			case <-time.After(10 * time.Second):
				t.Fatal("nothing was logged")
			}
			if restart {
				stop()
				again := serve(t, w.RegistryOptions(noVault))
				c = connect(t, w, again.URL, k.TLS)
				stop = again.stop
			}
			for _, s := range all {
				c.until(s.ID(), "receipt", hasReceipt)
			}
			stop()
			found := leaves(t, w)
			for _, s := range all {
				if n := found[leafOf(s)]; n != 1 {
					t.Errorf("a record is in the log %d times", n)
				}
			}
		})
	}
}

// A log that was put back to an older copy is not appended to: it would
// contradict its own checkpoints.
func TestOlderLogIsNotAppendedTo(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	logDir := filepath.Join(w.RegistryDir(), "log")
	run := func(f func(c client)) {
		r := serve(t, w.RegistryOptions(noVault))
		f(connect(t, w, r.URL, k.TLS))
		r.stop()
	}
	one, two, three := k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{}), k.Make(t, registrytest.Spec{})
	logged := func(s record.Submission) func(client) {
		return func(c client) {
			c.send(s)
			c.until(s.ID(), "receipt", hasReceipt)
		}
	}
	run(logged(one))
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(logDir)); err != nil {
		t.Fatal(err)
	}
	run(logged(two))
	if err := os.RemoveAll(logDir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(logDir, os.DirFS(older)); err != nil {
		t.Fatal(err)
	}
	run(func(c client) {
		c.send(three)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if status, _ := c.do(http.MethodGet, api.PathReady, "", nil); status == http.StatusServiceUnavailable {
				break
			} else if time.Now().After(deadline) {
				t.Fatal("it goes on as if nothing had happened")
			}
		}
		if status, err := c.record(three.ID()); err != nil || status.Receipt != "" {
			t.Errorf("%+v, %v", status, err)
		}
	})
	if n := len(leaves(t, w)); n != 1 {
		t.Errorf("%d leaves", n)
	}
}

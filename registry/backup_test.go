package registry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	tiles "github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/backup"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// A registry is backed up while kiosks send, is lost, and is put back with the
// newest copy of its log, which anybody can have made: what was in the backup is
// there with the same receipts, what kiosks still have they send again, nothing
// is there twice, and the log goes on from the last checkpoint that was
// published.
func TestBackupUnderLoadAndRestore(t *testing.T) {
	w := registrytest.New(t)
	o := w.RegistryOptions(noVault)
	r := serve(t, o)
	log := w.Policy.Policy().Log()

	// Three kiosks send all the time.
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	var mu sync.Mutex
	var sent []record.Submission
	kiosks, links := map[string]*registrytest.Kiosk{}, map[string]client{}
	for _, id := range []string{"KIOSK-0001", "KIOSK-0002", "KIOSK-0003"} {
		k := w.Kiosk(t, id)
		kiosks[id] = k
		c := connect(t, w, r.URL, k.TLS)
		links[id] = c
		sending.Go(func() {
			for ctx.Err() == nil {
				s := k.Make(t, registrytest.Spec{})
				c.send(s)
				mu.Lock()
				sent = append(sent, s)
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(sent) }
	wait := func(n int) {
		for deadline := time.Now().Add(60 * time.Second); count() < n; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nothing is taken on")
			}
		}
	}
	wait(300) // more than a bundle of the log
	before := count()
	to, keys := filepath.Join(w.Dir, "backup"), filepath.Join(w.Dir, "keys")
	if _, err := registry.Backup(t.Context(), w.RegistryDir(), w.Policy, to, keys, registry.Snapshot(r.Registry), time.Now()); err != nil {
		t.Fatal(err)
	}
	wait(before + 100)
	stop()
	sending.Wait()
	old := map[api.ID]string{}
	for _, s := range sent {
		old[s.ID()] = links[s.Record().Payload().Context.KioskID].until(s.ID(), "receipt", hasReceipt).Receipt
	}
	// Anybody may copy the public log: here over the network, later than the backup.
	mirror := filepath.Join(w.Dir, "mirror")
	public := registry.LogURL(r.URL+api.PathLog, connect(t, w, r.URL).http)
	last, err := registry.CopyLog(t.Context(), public, mirror, log)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := os.RemoveAll(w.RegistryDir()); err != nil {
		t.Fatal(err)
	}

	restore := registry.RestoreOptions{From: to, Keys: keys, Dir: w.RegistryDir(), Policy: w.Policy, Seen: [][]byte{last.Bytes()}}
	// The backup's own log is older than what others have seen: to go on with it
	// would be a fork.
	if _, err := registry.Restore(t.Context(), restore); !errors.Is(err, registry.ErrLogCut) {
		t.Fatalf("an older log: %v", err)
	}
	if _, err := os.Stat(w.RegistryDir()); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("half put back")
	}
	restore.Log = registry.LogDir(mirror)
	report, err := registry.Restore(t.Context(), restore)
	if err != nil {
		t.Fatal(err)
	}
	if report.Records < uint64(before) || report.LogSize != last.Size() || report.Unknown == 0 {
		t.Errorf("%d had been taken on before: %v", before, report)
	}
	if _, err := registry.Restore(t.Context(), restore); !errors.Is(err, keyfile.ErrExists) {
		t.Errorf("over a registry that is there: %v", err)
	}

	r = serve(t, o)
	for id, k := range kiosks {
		links[id] = connect(t, w, r.URL, k.TLS)
	}
	for _, s := range sent[:before] {
		got := links[s.Record().Payload().Context.KioskID].until(s.ID(), "receipt", hasReceipt)
		if final, err := receipt.Verify([]byte(got.Receipt), log, s.ID()); err != nil {
			t.Errorf("receipt: %v", err)
		} else if first, err := receipt.Verify([]byte(old[s.ID()]), log, s.ID()); err != nil || first.Index() != final.Index() {
			t.Errorf("a record that stood at %d in the log now stands at %d, %v", first.Index(), final.Index(), err)
		}
	}
	// Kiosks that have the rest still send it again, and some of the others too.
	for _, s := range sent[before-50:] {
		c := links[s.Record().Payload().Context.KioskID]
		if v := c.send(s); v.Status == api.Rejected || v.Status == api.Retry {
			t.Fatalf("%+v", v)
		}
		got := c.until(s.ID(), "receipt", hasReceipt)
		final, err := receipt.Verify([]byte(got.Receipt), log, s.ID())
		first, e := receipt.Verify([]byte(old[s.ID()]), log, s.ID())
		if err != nil || e != nil || first.Index() != final.Index() {
			t.Fatalf("in the log twice: at %d and %d, %v", first.Index(), final.Index(), errors.Join(err, e))
		}
	}
	// A new one makes the log grow from where it was.
	k := kiosks["KIOSK-0001"]
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	c.send(s)
	final, err := receipt.Verify([]byte(c.until(s.ID(), "receipt", hasReceipt).Receipt), log, s.ID())
	if err != nil || final.Index() != last.Size() {
		t.Errorf("after it was put back: index %d after %d leaves, %v", final.Index(), last.Size(), err)
	}
	after, err := registry.Examine(r.Registry)
	if err != nil || after.Err() != nil || after.Unknown != 0 || after.Records != uint64(len(sent)+1) || after.LogSize != after.Records {
		t.Errorf("%d records were sent: %v, %v", len(sent)+1, after, err)
	}
	now := final.Checkpoint()
	files := tiles.FileFetcher{Root: filepath.Join(w.RegistryDir(), "log")}
	builder, err := tiles.NewProofBuilder(t.Context(), now.Size(), files.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	before1, after1 := last.Root(), now.Root()
	path, err := builder.ConsistencyProof(t.Context(), last.Size(), now.Size())
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, last.Size(), now.Size(), path, before1[:], after1[:]); err != nil {
		t.Errorf("the log contradicts the checkpoint from before: %v", err)
	}
}

// small makes a registry with n records that all have receipts.
func small(t *testing.T, n int) (*registrytest.World, *running) {
	t.Helper()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	for range n {
		s := k.Make(t, registrytest.Spec{})
		c.send(s)
		c.until(s.ID(), "receipt", hasReceipt)
	}
	return w, r
}

// Every byte of a backup counts: none can be changed, no file be taken away or
// added, without the backup being refused.
func TestBackupDamaged(t *testing.T) {
	w, r := small(t, 3)
	to, keys := filepath.Join(w.Dir, "backup"), filepath.Join(w.Dir, "keys")
	if _, err := registry.Backup(t.Context(), w.RegistryDir(), w.Policy, to, keys, registry.Snapshot(r.Registry), time.Now()); err != nil {
		t.Fatal(err)
	}
	r.stop()
	private, err := filepath.Glob(filepath.Join(to, "*.key"))
	if err != nil || len(private) > 0 {
		t.Errorf("private keys in the backup: %v %v", private, err)
	}
	goal := filepath.Join(w.Dir, "again")
	restore := registry.RestoreOptions{From: to, Keys: keys, Dir: goal, Policy: w.Policy}
	refused := func(what string) {
		t.Helper()
		if _, err := registry.Restore(t.Context(), restore); err == nil {
			t.Errorf("%s: not noticed", what)
			os.RemoveAll(goal)
		}
	}
	for _, name := range []string{"manifest.jws", "registry.db", "public.json", "server.crt", "kiosks/KIOSK-0001.json", "log/checkpoint", "log/tile/entries/000.p/3"} {
		file := filepath.Join(to, name)
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(good)/12)
		for i := 0; i < len(good); i += step {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			refused(name)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		refused(name + " removed")
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	extra := filepath.Join(to, "kiosks", "KIOSK-0666.json")
	if err := os.WriteFile(extra, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("a kiosk more")
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	restore.Keys = filepath.Join(t.TempDir(), "other")
	if err := os.CopyFS(restore.Keys, os.DirFS(keys)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(restore.Keys, "log.key"), []byte("PRIVATE+KEY+x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.Restore(t.Context(), restore); !errors.Is(err, backup.ErrKeys) {
		t.Errorf("with another log's key: %v", err)
	}
	restore.Keys = t.TempDir()
	if _, err := registry.Restore(t.Context(), restore); !errors.Is(err, backup.ErrKeys) {
		t.Errorf("without keys: %v", err)
	}
	restore.Keys = keys
	other := restore
	other.Policy = registrytest.New(t).Policy
	if _, err := registry.Restore(t.Context(), other); !errors.Is(err, backup.ErrSigner) {
		t.Errorf("under another authority: %v", err)
	}
	if report, err := registry.Restore(t.Context(), restore); err != nil || report.Records != 3 || report.Receipts != 3 || report.Unknown != 0 {
		t.Errorf("the good one: %v %v", report, err)
	}
}

// A copy of the log is what its checkpoint says, or none.
func TestCopyLog(t *testing.T) {
	w, r := small(t, 5)
	log := w.Policy.Policy().Log()
	source := registry.LogDir(filepath.Join(w.RegistryDir(), "log"))
	mirror := filepath.Join(t.TempDir(), "mirror")
	first, err := registry.CopyLog(t.Context(), source, mirror, log)
	if err != nil || first.Size() != 5 {
		t.Fatal(first.Size(), err)
	}
	k := w.Kiosk(t, "KIOSK-0002")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	c.send(s)
	c.until(s.ID(), "receipt", hasReceipt)
	if again, err := registry.CopyLog(t.Context(), source, mirror, log, first); err != nil || again.Size() != 6 {
		t.Errorf("the next copy: %d %v", again.Size(), err)
	}
	// The mirror knows more than the source: the source was put back.
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(mirror)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(older, "checkpoint"), first.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := registry.CopyLog(t.Context(), registry.LogDir(older), mirror, log); !errors.Is(err, registry.ErrLogCut) {
		t.Errorf("an older log over a newer: %v", err)
	}
	// Another log under the same key.
	private, err := os.ReadFile(filepath.Join(w.RegistryDir(), "log.key"))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(private)))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n3\n%s\n", registrytest.Origin, base64.StdEncoding.EncodeToString(make([]byte, 32)))}, signer)
	if err != nil {
		t.Fatal(err)
	}
	forked, err := log.Open(signed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := registry.CopyLog(t.Context(), source, t.TempDir(), log, forked); !errors.Is(err, registry.ErrLogFork) {
		t.Errorf("a log that contradicts what was seen: %v", err)
	}
	swapped := func(ctx context.Context, path string) ([]byte, error) {
		b, err := source(ctx, path)
		if path != "checkpoint" && err == nil {
			b = bytes.Clone(b)
			b[7] ^= 1
		}
		return b, err
	}
	if _, err := registry.CopyLog(t.Context(), swapped, t.TempDir(), log); !errors.Is(err, registry.ErrLogDamaged) {
		t.Errorf("another entry: %v", err)
	}
	if _, err := registry.CopyLog(t.Context(), source, t.TempDir(), registrytest.New(t).Policy.Policy().Log()); err == nil {
		t.Error("another log's key is taken")
	}
	huge := registry.LogURL("https://registry.invalid", &http.Client{Transport: answers(bytes.Repeat([]byte("a"), 1<<20))})
	if _, err := registry.CopyLog(t.Context(), huge, t.TempDir(), log); err == nil {
		t.Error("a server may answer without end")
	}
}

type answers []byte

func (a answers) RoundTrip(q *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(a)), Request: q}, nil
}

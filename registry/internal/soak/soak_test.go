// Package soak lets many kiosks send to registries that are restarted at random,
// for long: the production program on a database of its own.
//
//	go test ./registry/internal/soak -records 100000 -timeout 3h
package soak

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/api/layout"
	tiles "github.com/transparency-dev/tessera/client"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/postgres"
)

var (
	records = flag.Int("records", 1000, "how many in all")
	kiosks  = flag.Int("kiosks", 50, "how many send")
)

// patience is for one step of a loaded machine.
const patience = 5 * time.Minute

// soak is two registries: one lives throughout, the other is restarted.
type soak struct {
	*testing.T
	world   *registrytest.World
	cluster *postgres.Cluster
	program string
	proven  checkpoint.Log

	mu  sync.Mutex
	at  [2]string
	run [2]*exec.Cmd

	taken, receipted atomic.Int64
	leaves           sync.Map // of what was taken on: leaf -> true
}

const database = "registry"

// Nothing is lost, nothing is doubled, and a registry's memory does not grow.
func TestSoak(t *testing.T) {
	s := begin(t)
	ctx, stop := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() { s.restart(ctx) })
	var memory []int
	background.Go(func() { memory = s.watch(ctx) })
	var sending sync.WaitGroup
	each := *records / *kiosks
	for i := range *kiosks {
		k := s.world.Kiosk(t, fmt.Sprintf("KIOSK-%04d", i+1))
		s.enlist(k)
		sending.Go(func() { s.kiosk(k, each) })
	}
	sending.Wait()
	stop()
	background.Wait()
	total := int64(each * *kiosks)
	if s.taken.Load() != total || s.receipted.Load() != total {
		t.Errorf("%d records, %d taken on, %d with receipts", total, s.taken.Load(), s.receipted.Load())
	}
	counts, err := s.cluster.Query(t.Context(), database, `SELECT count(*), (SELECT count(*) FROM receipts), (SELECT count(*) FROM unlogged), (SELECT count(*) FROM holders) FROM records`)
	if want := fmt.Sprintf("%d|%d|0|%d", total, total, total); err != nil || counts != want {
		t.Errorf("records, receipts, without one, holders: %s, %v, want %s", counts, err, want)
	}
	s.log(total)
	s.flat(memory)
}

func begin(t *testing.T) *soak {
	t.Helper()
	s := &soak{T: t, world: registrytest.New(t), program: filepath.Join(t.TempDir(), "registry")}
	s.proven = s.world.Policy.Policy().Log()
	if out, err := exec.Command("go", "build", "-o", s.program, "enrollkiosk/registry/cmd/registry").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	var err error
	if s.cluster, err = postgres.New(t.Context(), "fsync=off"); err != nil { // processes are killed, the machine is not
		t.Fatal(err)
	}
	t.Cleanup(func() { s.cluster.Close() })
	if err := s.cluster.Create(t.Context(), database, ""); err != nil {
		t.Fatal(err)
	}
	for i := range s.run {
		s.directory(i)
		s.start(i)
		t.Cleanup(func() { s.run[i].Process.Kill(); s.run[i].Wait() })
	}
	return s
}

// directory makes a registry's, and its configuration.
func (s *soak) directory(i int) {
	s.Helper()
	root := s.world.Root
	text := fmt.Sprintf("[registry]\ndir = %q\nlisten = \"127.0.0.1:0\"\npolicy = \"policy.jws\"\nroot = %q\ncheckpoint = \"200ms\"\nstore = %q\n"+
		"[vault]\nurl = \"https://127.0.0.1:1\"\npublic = \"vault/public.json\"\n", s.world.Replica(s.T), hex.EncodeToString(root[:]), s.cluster.URL(database))
	if err := errors.Join(os.WriteFile(filepath.Join(s.world.Dir, fmt.Sprintf("registry%d.toml", i)), []byte(text), 0o600),
		os.WriteFile(filepath.Join(s.world.Dir, "policy.jws"), s.world.Policy.Bytes(), 0o600)); err != nil {
		s.Fatal(err)
	}
}

// start starts a registry and waits until it listens.
func (s *soak) start(i int) {
	s.Helper()
	cmd := exec.Command(s.program, "serve", "--config", filepath.Join(s.world.Dir, fmt.Sprintf("registry%d.toml", i)))
	var said bytes.Buffer
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(s.world.Dir, fmt.Sprintf("registry%d.log", i)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	line, err := bufio.NewReader(io.TeeReader(out, &said)).ReadString('\n')
	if err != nil {
		b, _ := os.ReadFile(log.Name())
		s.Fatalf("registry: %v: %s\n%s", err, said.String(), b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at[i], s.run[i] = strings.TrimPrefix(strings.TrimSpace(line), "ready "), cmd
}

// restart ends the second registry, in order or by a kill, and starts it again.
func (s *soak) restart(ctx context.Context) {
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			s.Logf("restarted %d times", n)
			return
		case <-time.After(time.Duration(500+rand.IntN(3500)) * time.Millisecond):
		}
		signal := []os.Signal{syscall.SIGTERM, syscall.SIGKILL}[rand.IntN(2)]
		if err := s.run[1].Process.Signal(signal); err != nil {
			s.Errorf("it has ended by itself: %v", err)
		}
		s.run[1].Wait()
		s.start(1)
	}
}

// enlist registers a kiosk, as if a person had approved it.
func (s *soak) enlist(k *registrytest.Kiosk) {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.world.RegistryDir(), "kiosks", k.ID+".json"))
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.cluster.Query(s.Context(), database, fmt.Sprintf(`INSERT INTO kiosks (id, kiosk) VALUES ('%s', '%s')`, k.ID, b)); err != nil {
		s.Fatal(err)
	}
}

// kiosk sends records in batches to either registry until they are taken on, some
// of them again, and fetches their receipts.
func (s *soak) kiosk(k *registrytest.Kiosk, n int) {
	transport := &http.Transport{TLSClientConfig: s.world.TLS(s.T, k.TLS)}
	defer transport.CloseIdleConnections()
	link := &http.Client{Transport: transport, Timeout: time.Minute}
	var waiting [][32]byte // for receipts
	for n > 0 {
		var items []api.Item
		for range min(n, 1+rand.IntN(20)) {
			sub := k.Make(s.T, registrytest.Spec{})
			items = append(items, api.Item{ID: sub.ID(), Submission: sub.Bytes()})
			s.leaves.Store(receipt.Leaf(sub.Record().Payload().Blind, sub.ID()), true)
		}
		n -= len(items)
		s.deliver(link, items)
		if rand.IntN(10) == 0 {
			s.deliver(link, items) // its answer was lost
		}
		s.taken.Add(int64(len(items)))
		for _, item := range items {
			waiting = append(waiting, item.ID)
		}
		waiting = s.collect(link, waiting, false)
	}
	s.collect(link, waiting, true)
}

func (s *soak) any() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[rand.IntN(len(s.at))]
}

func (s *soak) deliver(link *http.Client, items []api.Item) {
	body, err := json.Marshal(api.Batch{Items: items})
	if err != nil {
		s.Error(err)
		return
	}
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond) {
		a, err := link.Post(s.any()+api.PathRecords, api.MediaJSON, bytes.NewReader(body))
		if err != nil {
			continue
		}
		result, err := api.Decode[api.BatchResult](a.Body)
		a.Body.Close()
		if err != nil || a.StatusCode != http.StatusOK {
			continue
		}
		again := false
		for _, v := range result.Verdicts {
			if v.Status == api.Rejected {
				s.Errorf("a good record is rejected: %s", v.Code)
			}
			again = again || v.Status == api.Retry
		}
		if !again {
			return
		}
	}
	s.Error("no registry takes records on")
}

// collect fetches receipts, once each or until all are there, and returns what
// still has none.
func (s *soak) collect(link *http.Client, waiting [][32]byte, all bool) [][32]byte {
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(100 * time.Millisecond) {
		waiting = slices.DeleteFunc(waiting, func(id [32]byte) bool {
			a, err := link.Get(s.any() + api.PathRecords + "/" + api.ID(id).String())
			if err != nil {
				return false
			}
			defer a.Body.Close()
			if a.StatusCode == http.StatusNotFound {
				s.Error("a record that was taken on is lost")
				return true
			}
			status, err := api.Decode[api.RecordStatus](a.Body)
			if err != nil || a.StatusCode != http.StatusOK || status.Receipt == "" {
				return false
			}
			if _, err := receipt.Verify([]byte(status.Receipt), s.proven, id); err != nil {
				s.Error(err)
			}
			s.receipted.Add(1)
			return true
		})
		if !all || len(waiting) == 0 {
			return waiting
		}
	}
	s.Errorf("%d records have no receipt", len(waiting))
	return nil
}

// log reads the whole log: each record's leaf is in it once.
func (s *soak) log(total int64) {
	s.Helper()
	read := func(name string) ([]byte, error) {
		return os.ReadFile(filepath.Join(s.world.RegistryDir(), "log", name))
	}
	checkpoint, err := read(layout.CheckpointPath)
	if err != nil {
		s.Fatal(err)
	}
	size, err := strconv.ParseInt(strings.Split(string(checkpoint), "\n")[1], 10, 64)
	if err != nil || size != total {
		s.Errorf("%d leaves for %d records, %v", size, total, err)
	}
	for i := uint64(0); i*layout.EntryBundleWidth < uint64(size); i++ {
		bundle, err := tiles.GetEntryBundle(s.Context(), func(_ context.Context, i uint64, p uint8) ([]byte, error) { return read(layout.EntriesPath(i, p)) }, i, uint64(size))
		if err != nil {
			s.Fatal(err)
		}
		for _, leaf := range bundle.Entries {
			if _, first := s.leaves.LoadAndDelete([32]byte(leaf)); !first {
				s.Error("a leaf is in the log twice, or of no record")
			}
		}
	}
	s.leaves.Range(func(any, any) bool { s.Error("a record is not in the log"); return true })
}

// watch samples what the first registry holds in memory, in kB, with how many
// records were taken on.
func (s *soak) watch(ctx context.Context) (memory []int) {
	memory = make([]int, 10) // the most in each tenth of the run
	for {
		select {
		case <-ctx.Done():
			return memory
		case <-time.After(100 * time.Millisecond):
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.run[0].Process.Pid))
		if err != nil {
			s.Error(err)
			return memory
		}
		_, line, _ := strings.Cut(string(b), "RssAnon:")
		var kB int
		fmt.Sscan(line, &kB)
		tenth := min(9, int(s.taken.Load())*10 / *records)
		memory[tenth] = max(memory[tenth], kB)
	}
}

// flat compares the end of the run with what was reached after its warm-up.
func (s *soak) flat(memory []int) {
	s.Helper()
	s.Logf("memory of a registry, kB, by tenths of %d records: %v", *records, memory)
	warm, end := slices.Max(memory[2:5]), slices.Max(memory[8:])
	if *records >= 10000 && end > warm*13/10 {
		s.Errorf("memory grew from %d to %d kB", warm, end)
	}
}

package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/witness"
)

// watcher is a witness as a service, that can be stopped and started at its place.
type watcher struct {
	dir, name, key, address string
	stop                    func()
}

func newWatcher(t *testing.T, w *registrytest.World, name string) *watcher {
	t.Helper()
	out := &watcher{dir: filepath.Join(t.TempDir(), "witness"), name: name, stop: func() {}}
	var err error
	if out.key, err = witness.Init(out.dir, name); err != nil {
		t.Fatal(err)
	}
	if err := witness.AddLog(out.dir, w.Policy.Policy().LogKey, false); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out.address = l.Addr().String()
	l.Close()
	return out
}

func (w *watcher) start(t *testing.T) {
	t.Helper()
	opened, err := witness.Open(w.dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- opened.Serve(ctx, l, nil) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, opened.Close()); err != nil {
			t.Errorf("witness: %v", err)
		}
	})
	t.Cleanup(w.stop)
}

// watchedWorld is a World whose policy asks for two of three witnesses.
func watchedWorld(t *testing.T) (*registrytest.World, []*watcher, registry.Options) {
	t.Helper()
	w := registrytest.New(t, specimenState(t).CSCA())
	watchers, links := watch(t, w)
	o := w.RegistryOptions(noVault)
	o.Witnesses = links
	return w, watchers, o
}

// watch puts three witnesses, of whom two are enough, into a World's policy.
func watch(t *testing.T, w *registrytest.World) (watchers []*watcher, links []registry.WitnessLink) {
	t.Helper()
	var keys []string
	for i := range 3 {
		watchers = append(watchers, newWatcher(t, w, fmt.Sprintf("witness.example/w%d", i+1)))
		keys = append(keys, fmt.Sprintf("%q", watchers[i].key))
	}
	w.Set(t, fmt.Sprintf("witness_quorum = 2\nwitnesses = [%s]\n", strings.Join(keys, ", ")), nil)
	for _, x := range watchers {
		links = append(links, registry.WitnessLink{Name: x.name, URL: "http://" + x.address})
	}
	return watchers, links
}

// Witnesses that are away keep no record from being taken on: its receipt waits,
// through restarts, until two of them are there, and then stands on both.
func TestWitnessesAway(t *testing.T) {
	w, watchers, o := watchedWorld(t)
	var said lines
	o.Log = said.logger()
	r := serve(t, o) // a new log, and nobody there
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	ready := func(text string) bool {
		status, b := c.do(http.MethodGet, api.PathReady, "", nil)
		return status == http.StatusOK && strings.Contains(string(b), text)
	}
	eventually := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not %s: %s", what, said.String())
			}
		}
	}
	first := k.Make(t, registrytest.Spec{})
	if v := c.send(first); v.Status != api.Pending {
		t.Fatalf("%+v", v)
	}
	eventually("known which are away", func() bool {
		return ready("away: witness.example/w1, witness.example/w2, witness.example/w3") && strings.Contains(said.String(), "witness=witness.example/w2")
	})
	watchers[0].start(t) // one is no quorum
	eventually("known which are away", func() bool { return ready("away: witness.example/w2, witness.example/w3") })
	second := k.Make(t, registrytest.Spec{})
	c.send(second)
	if s, err := c.record(first.ID()); err != nil || hasReceipt(s) {
		t.Errorf("a receipt before the quorum: %+v, %v", s, err)
	}
	if status, b := c.do(http.MethodGet, api.PathCheckpoint, "", nil); status == http.StatusOK {
		if _, err := w.Policy.Policy().Log().Open(b); err == nil {
			t.Error("a checkpoint stands on one witness")
		}
	}
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 8*time.Second { // a second, on a machine with time
		t.Errorf("stopping took %v: it waits for witnesses", took)
	}
	r = serve(t, o)
	c = connect(t, w, r.URL, k.TLS)

	watchers[2].start(t)
	p := w.Policy.Policy()
	for _, s := range []interface{ ID() [32]byte }{first, second} {
		done := c.until(s.ID(), "receipt", hasReceipt)
		f, err := receipt.Verify([]byte(done.Receipt), p.Log(), s.ID())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(f.Checkpoint().Cosigned()); n != 2 || len(done.Receipt) > 2300 {
			t.Errorf("%d cosignatures, %d bytes", n, len(done.Receipt))
		}
	}
	eventually("ready", func() bool { return ready("ready") && !ready("witness") })

	// One that comes later is told where it is, and takes another's place.
	watchers[1].start(t)
	watchers[0].stop()
	third := k.Make(t, registrytest.Spec{})
	c.send(third)
	done := c.until(third.ID(), "receipt", hasReceipt)
	f, err := receipt.Verify([]byte(done.Receipt), p.Log(), third.ID())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Checkpoint().Cosigned() {
		if s.Witness == watchers[0].name {
			t.Error("cosigned by one that is stopped")
		}
	}
}

// A log that was begun without witnesses gets them by a new policy: its newest
// checkpoint is cosigned although nothing is added.
func TestWitnessesComeLater(t *testing.T) {
	w := registrytest.New(t, specimenState(t).CSCA())
	o := w.RegistryOptions(noVault)
	r := serve(t, o)
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	s := k.Make(t, registrytest.Spec{})
	c.send(s)
	done := c.until(s.ID(), "receipt", hasReceipt)
	r.stop()

	watchers, links := watch(t, w)
	for _, x := range watchers {
		x.start(t)
	}
	o.Witnesses, o.Policy = links, w.Sign(t, 2, time.Now().Add(-time.Hour))
	r = serve(t, o)
	c = connect(t, w, r.URL, k.TLS)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, b := c.do(http.MethodGet, api.PathCheckpoint, "", nil)
		if status == http.StatusOK {
			if _, err := o.Policy.Policy().Log().Open(b); err == nil {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d %s", status, b)
		}
	}
	// The receipt is what it was, and is good where the policy says that it is from before.
	again, err := c.record(s.ID())
	if err != nil || again.Receipt != done.Receipt {
		t.Errorf("another receipt: %v", err)
	}
	of := o.Policy.Policy().Log()
	if _, err := receipt.Verify([]byte(done.Receipt), of, s.ID()); !errors.Is(err, receipt.ErrWitnesses) {
		t.Errorf("%v", err)
	}
	of.From = 2
	if _, err := receipt.Verify([]byte(done.Receipt), of, s.ID()); err != nil {
		t.Errorf("from before: %v", err)
	}
}

// The policy and the configuration have to fit.
func TestWitnessLinks(t *testing.T) {
	_, _, o := watchedWorld(t)
	for name, change := range map[string]func([]registry.WitnessLink) []registry.WitnessLink{
		"fewer than the quorum": func(l []registry.WitnessLink) []registry.WitnessLink { return l[:1] },
		"a stranger": func(l []registry.WitnessLink) []registry.WitnessLink {
			return append(l, registry.WitnessLink{Name: "other.example", URL: "http://127.0.0.1:1"})
		},
		"one twice": func(l []registry.WitnessLink) []registry.WitnessLink { return append(l[:2:2], l[1]) },
	} {
		bad := o
		bad.Witnesses = change(o.Witnesses)
		if _, err := registry.Open(t.Context(), bad); !errors.Is(err, registry.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := o
	bad.Witnesses = append(o.Witnesses[:2:2], registry.WitnessLink{Name: o.Witnesses[2].Name, URL: "ftp://127.0.0.1"})
	if _, err := registry.Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "log", "checkpoint")); err == nil {
		t.Error("a log was begun")
	}
}

package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/postgres"
)

// onDatabase are options of one more registry of the World on a database.
func onDatabase(t testing.TB, w *registrytest.World, address string) registry.Options {
	t.Helper()
	o := w.RegistryOptions(noVault)
	o.Dir, o.Database = w.Replica(t), address
	return o
}

// enlist copies kiosks of the World's files into a database's register.
func enlist(t testing.TB, w *registrytest.World, address string, kiosks ...*registrytest.Kiosk) {
	t.Helper()
	s, err := registry.OpenStore(t.Context(), registry.Options{Database: address}, registrytest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, k := range kiosks {
		kiosk, err := registry.KiosksIn(w.RegistryDir()).Find(t.Context(), k.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := registry.ChangeKiosk(t.Context(), s, k.ID, func(kept **registry.Kiosk, _ **registry.Provision) error {
			*kept = &kiosk
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func (c client) ready() string {
	c.t.Helper()
	status, b := c.do(http.MethodGet, api.PathReady, "", nil)
	return fmt.Sprintf("%d %s", status, b)
}

func (c client) untilReady(says string) {
	c.t.Helper()
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if last = c.ready(); strings.Contains(last, says) {
			return
		}
	}
	c.t.Fatalf("not %q but %q", says, last)
}

// Registries on one database are one registry: what one takes on the others know;
// one of them logs, and when it ends another does.
func TestReplicas(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	address, _ := database(t)
	k := w.Kiosk(t, "KIOSK-0001")
	enlist(t, w, address, k)
	first := serve(t, onDatabase(t, w, address))
	one := connect(t, w, first.URL, k.TLS)
	one.untilReady("\nlog: here\nvault: here\n")
	second := serve(t, onDatabase(t, w, address))
	o := onDatabase(t, w, address)
	o.Roles = []registry.Role{}
	third := serve(t, o)
	two, three := connect(t, w, second.URL, k.TLS), connect(t, w, third.URL, k.TLS)
	two.untilReady("200 ready\nlog: another's\nvault: another's\n")
	three.untilReady("200 ready\nlog: never here\nvault: never here\n")

	// One record, sent to all at once and again, is one.
	s := k.Make(t, registrytest.Spec{})
	var sending sync.WaitGroup
	for _, c := range []client{one, two, three, three, two, one} {
		sending.Go(func() { c.send(s) })
	}
	sending.Wait()
	done := one.until(s.ID(), "receipt", hasReceipt)
	for _, c := range []client{two, three} {
		if again, err := c.record(s.ID()); err != nil || again != done {
			t.Errorf("another registry says %+v, %v", again, err)
		}
		if v := c.send(s); v.Status != api.Accepted {
			t.Errorf("repeat: %+v", v)
		}
	}
	// A refusal is the first one's, wherever it is asked for.
	fork := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})
	if a, b := two.rejected(w, item(fork), api.CodeFork), three.rejected(w, item(fork), api.CodeFork); a != b {
		t.Errorf("two verdicts: %+v, %+v", a, b)
	}
	// Whoever has the log's directory serves it.
	if status, b := two.do(http.MethodGet, api.PathCheckpoint, "", nil); status != http.StatusOK {
		t.Errorf("checkpoint: %d %s", status, b)
	}
	three.problem(http.MethodGet, api.PathCheckpoint, "", nil, http.StatusServiceUnavailable, api.CodeUnavailable)

	first.stop()
	two.untilReady("log: here\nvault: here\n")
	later := k.Make(t, registrytest.Spec{})
	three.send(later)
	got := three.until(later.ID(), "receipt", hasReceipt)
	if final, err := receipt.Verify([]byte(got.Receipt), w.Policy.Policy().Log(), later.ID()); err != nil || final.Index() != 1 {
		t.Errorf("index %d, %v", final.Index(), err)
	}
	if found := leaves(t, w); found[leafOf(s)] != 1 || found[leafOf(later)] != 1 || len(found) != 2 {
		t.Errorf("%d leaves", len(found))
	}
}

// A kiosk may be provisioned by one registry and another, and be approved at a
// third: nothing of it is in one of them alone.
func TestProvisionAcrossReplicas(t *testing.T) {
	t.Parallel()
	a := machine(t, kioskID, false)
	w := registrytest.New(t)
	w.Accept(t, "[[tpm_roots]]\nfile = \"tpm.der\"\nclass = \"test\"\n", map[string][]byte{"tpm.der": a.chip.Roots()[0]})
	address, _ := database(t)
	one, two := serve(t, onDatabase(t, w, address)), serve(t, onDatabase(t, w, address))
	first, second := connect(t, w, one.URL), connect(t, w, two.URL)
	kiosks := registry.KiosksOf(one.Registry)
	code := newCode(t, w, kiosks, kioskID)
	challenge, problem, _ := first.begin(a.asks(kioskID, code))
	if problem != "" {
		t.Fatal(problem)
	}
	proof := a.answers(challenge)
	if s, problem, check := second.prove(proof); problem != "" || s.Status != api.Waiting {
		t.Fatalf("%+v, %s %s", s, problem, check)
	}
	if _, problem, _ := first.prove(proof); problem != api.CodeProvisionSession {
		t.Errorf("the challenge is answered again elsewhere: %q", problem)
	}
	given, err := kiosks.Provisions(t.Context())
	if err != nil || len(given) != 1 || given[0].Waiting == nil {
		t.Fatalf("%+v, %v", given, err)
	}
	k, err := registry.KiosksOf(two.Registry).Approve(t.Context(), kioskID, given[0].Waiting.Fingerprint(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, problem, _ := first.waits(challenge.Session)
	if problem != "" || s.Status != api.Approved || len(s.Certificates.TLS) != 1 || !bytes.Equal(s.Certificates.TLS[0], k.Certificates.TLS[0]) {
		t.Errorf("%+v, %s", s, problem)
	}
}

// fleet is registries, each a process of its own, on a database that can be
// killed like them, and what kiosks know of it.
type fleet struct {
	*testing.T
	world    *registrytest.World
	cluster  *postgres.Cluster
	address  string
	kiosk    *registrytest.Kiosk
	mu       sync.Mutex // of what follows
	at       []string   // addresses
	kill     []func()
	acked    map[[32]byte]bool
	receipts map[[32]byte]string
}

const fleetDatabase = "registry"

func newFleet(t *testing.T, n int, settings ...string) *fleet {
	t.Helper()
	c, err := postgres.New(t.Context(), settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Create(t.Context(), fleetDatabase, ""); err != nil {
		t.Fatal(err)
	}
	w := registrytest.New(t)
	f := &fleet{T: t, world: w, cluster: c, address: c.URL(fleetDatabase), kiosk: w.Kiosk(t, "KIOSK-0001"), at: make([]string, n), kill: make([]func(), n),
		acked: map[[32]byte]bool{}, receipts: map[[32]byte]string{}}
	enlist(t, w, f.address, f.kiosk)
	if _, err := c.Query(t.Context(), fleetDatabase, "CHECKPOINT"); err != nil { // up to here even a forgetful one remembers
		t.Fatal(err)
	}
	for i := range n {
		f.spawn(i, onDatabase(t, w, f.address))
	}
	return f
}

func (f *fleet) spawn(i int, o registry.Options) {
	url, kill := spawnWith(f.T, o)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at[i], f.kill[i] = url, func() { kill(); f.spawn(i, o) }
}

// any is a client of one of the registries.
func (f *fleet) any(link *http.Client) client {
	f.mu.Lock()
	defer f.mu.Unlock()
	return client{f.T, f.at[rand.IntN(len(f.at))], link}
}

// send sends records to any registry and says whether all were taken on.
func (f *fleet) send(link *http.Client, subs []record.Submission) bool {
	var items []api.Item
	for _, s := range subs {
		items = append(items, item(s))
	}
	a, err := link.Post(f.any(link).url+api.PathRecords, api.MediaJSON, bytes.NewReader(batch(items...)))
	if err != nil {
		return false
	}
	defer a.Body.Close()
	result, err := api.Decode[api.BatchResult](a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := true
	for _, v := range result.Verdicts {
		switch v.Status {
		case api.Pending, api.Accepted:
			f.acked[v.ID] = true
		case api.Retry:
			all = false
		default:
			f.Errorf("a good record is %s %s", v.Status, v.Code)
		}
	}
	return all
}

// look asks any registry for a record. A receipt must be the one that was there
// before.
func (f *fleet) look(link *http.Client, id [32]byte) (status int) {
	a, err := link.Get(f.any(link).url + api.PathRecords + "/" + api.ID(id).String())
	if err != nil {
		return 0
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return a.StatusCode
	}
	s, err := api.Decode[api.RecordStatus](a.Body)
	if err != nil || s.Receipt == "" {
		return a.StatusCode
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if before := f.receipts[id]; before != "" && before != s.Receipt {
		f.Errorf("another receipt than before:\n%s\n%s", before, s.Receipt)
	}
	f.receipts[id] = s.Receipt
	return a.StatusCode
}

// missing counts records that were taken on and that the registry does not know.
// Nobody sends meanwhile.
func (f *fleet) missing(link *http.Client) (n int) {
	for id := range f.acked {
		status := 0
		for late := time.Now().Add(2 * time.Minute); status != http.StatusOK && status != http.StatusNotFound; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(late) {
				f.Fatalf("no registry answers: %d", status)
			}
			status = f.look(link, id)
		}
		if status == http.StatusNotFound {
			n++
		}
	}
	return n
}

func (f *fleet) link() *http.Client {
	transport := &http.Transport{TLSClientConfig: f.world.TLS(f.T, f.kiosk.TLS)}
	f.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// Registries and their database are killed at random while kiosks send: what was
// taken on is there, once, and in the log once; a receipt that was seen stays.
func TestKilledWithDatabase(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	const couriers, rounds, batchSize = 3, 9, 5
	ctx, stop := context.WithCancel(t.Context())
	var all []record.Submission
	work := make(chan []record.Submission, 1000)
	for range 60 {
		var subs []record.Submission
		for range batchSize {
			subs = append(subs, f.kiosk.Make(t, registrytest.Spec{}))
		}
		all = append(all, subs...)
		work <- subs
	}
	var sending sync.WaitGroup
	for range couriers {
		link := f.link()
		sending.Go(func() {
			for ctx.Err() == nil {
				select {
				case subs := <-work:
					if !f.send(link, subs) {
						work <- subs
					}
					f.look(link, subs[rand.IntN(len(subs))].ID())
					// As many batches as there is time for.
					time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	for round := range rounds {
		time.Sleep(time.Duration(rand.IntN(600)) * time.Millisecond)
		switch round % 3 {
		case 0:
			f.mu.Lock()
			kill := f.kill[rand.IntN(len(f.kill))]
			f.mu.Unlock()
			kill()
		case 1:
			if err := f.cluster.KillBackend(t.Context(), fleetDatabase); err != nil {
				t.Log(err) // it was killed by the one before
			}
		case 2:
			if err := errors.Join(f.cluster.Kill(), f.cluster.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	sending.Wait()
	close(work)
	link := f.link()
	if n := f.missing(link); n > 0 {
		t.Errorf("%d of %d records that were taken on are lost", n, len(f.acked))
	}
	for subs := range work {
		for late := time.Now().Add(2 * time.Minute); !f.send(link, subs); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal("the registry does not come back")
			}
		}
	}
	for _, s := range all {
		for late := time.Now().Add(2 * time.Minute); f.receipts[s.ID()] == ""; time.Sleep(10 * time.Millisecond) {
			if f.look(link, s.ID()); time.Now().After(late) {
				t.Fatal("no receipt")
			}
		}
		if _, err := receipt.Verify([]byte(f.receipts[s.ID()]), f.world.Policy.Policy().Log(), s.ID()); err != nil {
			t.Error(err)
		}
	}
	found := leaves(t, f.world)
	for i, s := range all {
		if n := found[leafOf(s)]; n != 1 {
			t.Errorf("record %d is in the log %d times", i, n)
		}
	}
	if len(found) != len(all) {
		t.Errorf("%d leaves for %d records", len(found), len(all))
	}
	if n, err := f.cluster.Query(t.Context(), fleetDatabase, `SELECT count(*) || ' ' || count(DISTINCT sequence) FROM records`); err != nil || n != fmt.Sprintf("%d %[1]d", len(all)) {
		t.Errorf("records: %s, %v", n, err)
	}
}

// The negative control: a database that confirms what it has not written loses
// records when it is killed, and that is seen.
func TestForgetfulDatabaseIsFound(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, "synchronous_commit=off", "wal_writer_delay=10s", "wal_writer_flush_after=1GB")
	link := f.link()
	for range 5 { // what the database writes of itself every ten seconds may come in between
		var subs []record.Submission
		for range 20 {
			subs = append(subs, f.kiosk.Make(t, registrytest.Spec{}))
		}
		for late := time.Now().Add(2 * time.Minute); !f.send(link, subs); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal("they are not taken on")
			}
		}
		if err := errors.Join(f.cluster.Kill(), f.cluster.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		if f.missing(link) > 0 {
			return
		}
	}
	t.Error("nothing is lost: the test above could not fail")
}

package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/simulators/postgres"
)

// cluster is one PostgreSQL for all tests; they have databases of their own.
var cluster = sync.OnceValues(func() (*postgres.Cluster, error) {
	c, err := postgres.New(context.Background(), "fsync=off", "full_page_writes=off", "max_connections=200")
	if err == nil {
		started.Store(c)
	}
	return c, err
})

var started atomic.Pointer[postgres.Cluster]

var databases atomic.Int64

// database makes an empty one and returns its address and name.
func database(t testing.TB) (address, name string) {
	t.Helper()
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	name = fmt.Sprintf("registry%d", databases.Add(1))
	if err := c.Create(t.Context(), name, ""); err != nil {
		t.Fatal(err)
	}
	return c.URL(name), name
}

// shop is a store under test.
type shop struct {
	*testing.T
	registry.Store
	world *registrytest.World
	kiosk *registrytest.Kiosk
}

func (s shop) make(spec registrytest.Spec) record.Submission {
	s.Helper()
	return s.kiosk.Make(s.T, spec)
}

// revoke is a holder's own revocation: no kiosk signs it.
func (s shop) revoke(holder registrytest.Device) record.Submission {
	s.Helper()
	return s.make(registrytest.Spec{Purpose: record.Revoke, Holder: &holder, Context: func(c *record.Context) { c.KioskID, c.Sequence = "", 0 }})
}

func (s shop) entry(sub record.Submission) registry.Entry {
	return registry.NewEntry(sub, s.kiosk.ID, 1)
}

// add adds one record each and wants what they are refused for.
func (s shop) add(want error, subs ...record.Submission) {
	s.Helper()
	for _, sub := range subs {
		out, err := s.Add(s.Context(), []registry.Entry{s.entry(sub)})
		if err != nil {
			s.Fatal(err)
		}
		if got := out[0].Refused(); !errors.Is(got, want) || want == nil && got != nil {
			s.Errorf("refused for %v, want %v", got, want)
		}
	}
}

func (s shop) status(sub record.Submission) (decision registry.Decision, receipt []byte, held bool) {
	s.Helper()
	id := sub.ID()
	known, err := s.Status(s.Context(), s.kiosk.ID, id)
	if err != nil {
		s.Fatal(err)
	}
	got, held := known[id]
	return got.Decision(), got.Receipt(), held
}

func (s shop) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func is[T any](s shop, what string, got, want T) {
	s.Helper()
	if !reflect.DeepEqual(got, want) {
		s.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// conformance is what every store does, by method.
var conformance = map[string]func(s shop){
	"Add":                 testAdd,
	"Status":              testStatus,
	"Held":                testHeld,
	"Reject":              testReject,
	"Brought":             testBrought,
	"KeepPolicy":          testPolicies,
	"Policies":            testPolicies,
	"Gaps":                testGaps,
	"Unlogged":            testLogged,
	"Scanned":             testLogged,
	"Logged":              testLogged,
	"Unopened":            testUnopened,
	"Submission":          testSubmission,
	"Decided":             testDecided,
	"Kiosk":               testRegister,
	"Kiosks":              testRegister,
	"Provision":           testRegister,
	"Provisions":          testRegister,
	"ChangeKiosk":         testChangeKiosk,
	"Activities":          testActivity,
	"ChangeActivity":      testActivity,
	"AddSession":          testSessions,
	"ChangeSession":       testSessions,
	"Lead":                testLead,
	"Links":               testLinks,
	"Forks":               testReject,
	"Heard":               testHeard,
	"LastHeard":           testHeard,
	"Cancel":              testCancel,
	"Cancellations":       testCancel,
	"Cancellation":        testCancel,
	"ResolveCancellation": testCancel,
	"RevokeDue":           testRevokeDue,
	"Judged":              testJudged,
	"Outcomes":            testRedecided,
	"Redecided":           testRedecided,
	"Inventory":           testInventory,
	"Backlog":             testBacklog,
	"Issuer":              testIssuerStore,
	"Close":               func(shop) {}, // every test ends with it
}

// Both stores do the same, method by method; a method without a test fails here.
func TestStores(t *testing.T) {
	t.Parallel()
	methods := reflect.TypeFor[registry.Store]()
	for i := range methods.NumMethod() {
		if name := methods.Method(i).Name; conformance[name] == nil {
			t.Errorf("no test of %s", name)
		}
	}
	if n := methods.NumMethod(); len(conformance) != n {
		t.Errorf("%d tests for %d methods", len(conformance), n)
	}
	w := registrytest.New(t)
	for _, kind := range []string{"embedded", "postgres"} {
		for _, method := range slices.Sorted(maps.Keys(conformance)) {
			k := w.Kiosk(t, "KIOSK-"+kind+"-"+method)
			t.Run(kind+"/"+method, func(t *testing.T) {
				t.Parallel()
				o := registry.Options{Dir: t.TempDir()}
				// The register's directory is Init's to make.
				if kind == "embedded" {
					mkdir(t, o.Dir+"/kiosks")
				} else {
					o.Database, _ = database(t)
				}
				s, err := registry.OpenStore(t.Context(), o, registrytest.Origin)
				if err != nil {
					t.Fatal(err)
				}
				conformance[method](shop{t, s, w, k})
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func testAdd(s shop) {
	holder, other := registrytest.NewDevice(s), registrytest.NewDevice(s)
	one := s.make(registrytest.Spec{Holder: &holder})
	fork := s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})
	two := s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 2 }})
	sameKey := s.make(registrytest.Spec{Holder: &holder})
	unknown := s.revoke(other)
	revoke := s.revoke(holder)
	again := s.revoke(holder)
	late := s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 99 }})
	subs := []record.Submission{one, fork, two, one, sameKey, unknown, revoke, again, late}
	var entries []registry.Entry
	for _, sub := range subs {
		entries = append(entries, s.entry(sub))
	}
	out, err := s.Add(s.Context(), entries)
	s.must(err)
	for i, want := range []error{nil, registry.ErrFork, nil, nil, registry.ErrKeyTaken, registry.ErrHolder, nil, registry.ErrHolder, nil} {
		if got := out[i].Refused(); !errors.Is(got, want) || want == nil && got != nil {
			s.Errorf("entry %d refused for %v, want %v", i, got, want)
		}
	}
	var approved []uint64
	var gaps []bool
	for _, a := range out {
		approved, gaps = append(approved, a.Approved()), append(gaps, a.Gap())
	}
	is(s, "approved", approved, []uint64{1, 0, 2, 0, 0, 0, 0, 0, 3})
	is(s, "gaps", gaps, []bool{false, false, false, false, false, false, false, false, true})
	// One by one the same is refused, and nothing that was refused was kept.
	s.add(registry.ErrFork, fork)
	s.add(registry.ErrKeyTaken, sameKey)
	s.add(registry.ErrHolder, unknown, again)
	s.add(nil, one, two, revoke, late)
	for i, sub := range subs {
		_, _, held := s.status(sub)
		is(s, fmt.Sprint("held ", i), held, out[i].Refused() == nil)
	}
	waiting, err := s.Unlogged(s.Context(), 100)
	s.must(err)
	is(s, "unlogged", len(waiting), 4)
	testAddTogether(s)
}

// Many add at once: all the same in any order, and what excludes one another. One
// after the other, for a lock of one would hide that another is missing.
func testAddTogether(s shop) {
	const n = 12
	together := func(entries func(i int) []registry.Entry, taken func(registry.Added)) {
		s.Helper()
		var mu sync.Mutex
		var working sync.WaitGroup
		begin := make(chan struct{})
		for i := range n {
			mine := entries(i)
			working.Go(func() {
				<-begin
				out, err := s.Add(s.Context(), mine)
				if err != nil {
					s.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, a := range out {
					taken(a)
				}
			})
		}
		close(begin)
		working.Wait()
	}
	counted, others := 0, 0
	for range n / 2 {
		shared := []registry.Entry{registry.NewEntry(s.make(registrytest.Spec{}), s.kiosk.ID, 2), registry.NewEntry(s.make(registrytest.Spec{}), s.kiosk.ID, 2)}
		together(func(i int) []registry.Entry {
			mine := slices.Clone(shared)
			if i%2 == 1 {
				slices.Reverse(mine)
			}
			return mine
		}, func(a registry.Added) {
			if a.Refused() != nil {
				s.Error(a.Refused())
			}
			if a.Approved() > 0 {
				counted++
			}
		})
	}
	is(s, "enrollments that were new", counted, n)
	last := s.make(registrytest.Spec{})
	out, err := s.Add(s.Context(), []registry.Entry{registry.NewEntry(last, s.kiosk.ID, 2)})
	s.must(err)
	is(s, "enrollments of the officer", out[0].Approved(), n+1)

	first := func(a registry.Added) {
		if a.Refused() == nil {
			others++
		}
	}
	at := s.kiosk.Sequence + 1000
	together(func(int) []registry.Entry {
		return []registry.Entry{s.entry(s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = at }}))}
	}, first)
	is(s, "records with one sequence number", others, 1)
	holder, others2 := registrytest.NewDevice(s), others
	s.add(nil, s.make(registrytest.Spec{Holder: &holder}))
	together(func(int) []registry.Entry { return []registry.Entry{s.entry(s.revoke(holder))} }, first)
	is(s, "revocations of one did", others-others2, 1)
	key := registrytest.NewDevice(s)
	together(func(i int) []registry.Entry { // of many kiosks: one's are decided one after the other
		at := func(c *record.Context) { c.KioskID, c.Sequence = fmt.Sprintf("KIOSK-%d", i), 1 }
		return []registry.Entry{s.entry(s.make(registrytest.Spec{Holder: &key, Context: at}))}
	}, first)
	is(s, "records with one key", others-others2, 2)
	waiting, err := s.Unlogged(s.Context(), 1000)
	s.must(err)
	is(s, "unlogged", len(waiting), 4+n+1+1+2+1)
}

func testStatus(s shop) {
	sub, unknown := s.make(registrytest.Spec{}), s.make(registrytest.Spec{})
	s.add(nil, sub)
	d, r, held := s.status(sub)
	is(s, "held", held, true)
	is(s, "decision", d, registry.Decision{})
	is(s, "receipt", r, nil)
	_, _, held = s.status(unknown)
	is(s, "held", held, false)
	known, err := s.Status(s.Context(), "KIOSK-0404", sub.ID())
	s.must(err)
	is(s, "known to another kiosk", len(known), 0)
	known, err = s.Status(s.Context(), s.kiosk.ID)
	s.must(err)
	is(s, "nothing asked", len(known), 0)
	// What nobody in particular sent, anybody may ask for.
	open := s.make(registrytest.Spec{})
	_, err = s.Add(s.Context(), []registry.Entry{registry.NewEntry(open, "", 1)})
	s.must(err)
	known, err = s.Status(s.Context(), "KIOSK-0404", open.ID(), sub.ID())
	s.must(err)
	is(s, "known to another kiosk", len(known), 1)
}

// What is held is the same for whoever asks, and for the kiosk that sent it. A
// rejected record is not held.
func testHeld(s shop) {
	sub, unknown, bad := s.make(registrytest.Spec{}), s.make(registrytest.Spec{}), s.make(registrytest.Spec{})
	s.add(nil, sub)
	_, err := s.Reject(s.Context(), s.kiosk.ID, registry.Rejections(map[[32]byte]registry.Decision{bad.ID(): {Status: api.Rejected, Code: api.CodeTime, Verdict: "v"}}, bad))
	s.must(err)
	for _, id := range [][32]byte{unknown.ID(), bad.ID()} {
		_, err := s.Held(s.Context(), id)
		is(s, "not held", errors.Is(err, registry.ErrNotHeld), true)
	}
	same := func() (d registry.Decision, receipt []byte) {
		got, err := s.Held(s.Context(), sub.ID())
		s.must(err)
		known, err := s.Status(s.Context(), s.kiosk.ID, sub.ID())
		s.must(err)
		is(s, "held", got, known[sub.ID()])
		return got.Decision(), got.Receipt()
	}
	same()
	s.must(s.Lead(s.Context(), registry.RoleLog, func(ctx context.Context, term uint64) error {
		return s.Logged(ctx, term, map[[32]byte][]byte{sub.ID(): []byte("receipt")}, 1)
	}))
	active := registry.Decision{Status: api.Active, Verdict: "verdict"}
	s.must(s.Decided(s.Context(), sub.ID(), active, nil))
	d, receipt := same()
	is(s, "receipt", string(receipt), "receipt")
	is(s, "decision", d, active)
}

func testReject(s shop) {
	held, bad := s.make(registrytest.Spec{}), s.make(registrytest.Spec{})
	s.add(nil, held)
	first := registry.Decision{Status: api.Rejected, Code: api.CodeFork, Verdict: "first"}
	second := registry.Decision{Status: api.Rejected, Code: api.CodeTime, Verdict: "second"}
	for _, d := range []registry.Decision{first, second} {
		kept, err := s.Reject(s.Context(), s.kiosk.ID, registry.Rejections(map[[32]byte]registry.Decision{bad.ID(): d, held.ID(): d}, bad, held))
		s.must(err)
		is(s, "in force", kept, map[[32]byte]registry.Decision{bad.ID(): first, held.ID(): first})
	}
	d, _, known := s.status(bad)
	is(s, "known", known, true)
	is(s, "rejection", d, first)
	d, _, _ = s.status(held)
	is(s, "decision on a record that is held", d, registry.Decision{})
	other, err := s.Status(s.Context(), "KIOSK-0404", bad.ID())
	s.must(err)
	is(s, "known to another kiosk", len(other), 0)
	// It keeps its number: it cannot come by another way, and nothing else under it.
	s.add(registry.ErrFork, bad, s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 2 }}))
	next := s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 3 }})
	out, err := s.Add(s.Context(), []registry.Entry{s.entry(next)})
	s.must(err)
	is(s, "a gap where a record was rejected", out[0].Gap(), false)
	n, err := s.Gaps(s.Context(), s.kiosk.ID, 0)
	s.must(err)
	is(s, "gaps", n, 0)
	// What comes under a number that another record has is a fork besides.
	twin := s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 3 }})
	_, err = s.Reject(s.Context(), s.kiosk.ID, registry.Rejections(map[[32]byte]registry.Decision{twin.ID(): second}, twin))
	s.must(err)
	forks, err := s.Forks(s.Context(), s.kiosk.ID, 10)
	s.must(err)
	is(s, "forks", len(forks), 1)
	is(s, "offered, held", [2]api.ID{forks[0].Record, forks[0].Held}, [2]api.ID{twin.ID(), next.ID()})
}

func testBrought(s shop) {
	old, next := registrytest.NewDevice(s), registrytest.NewDevice(s)
	brings, replaces := s.make(registrytest.Spec{Holder: &old}), s.make(registrytest.Spec{Purpose: record.Replace, Old: &old, Holder: &next})
	did := func(d registrytest.Device) string { return did(s, d) }
	_, err := s.Brought(s.Context(), did(old))
	is(s, "before", err, registry.ErrHolder)
	s.add(registry.ErrHolder, replaces)
	s.add(nil, brings)
	id, err := s.Brought(s.Context(), did(old))
	s.must(err)
	is(s, "brought by", id, brings.ID())
	s.add(nil, replaces)
	_, err = s.Brought(s.Context(), did(old))
	is(s, "replaced", err, registry.ErrHolder)
	id, err = s.Brought(s.Context(), did(next))
	s.must(err)
	is(s, "brought by", id, replaces.ID())
}

func testPolicies(s shop) {
	since := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	for i := range 2 {
		later := since.AddDate(0, 0, i) // the first time stays
		s.must(s.KeepPolicy(s.Context(), [32]byte{2}, []byte("two"), later))
		s.must(s.KeepPolicy(s.Context(), [32]byte{1}, []byte("one"), later.Add(time.Hour)))
	}
	got, err := s.Policies(s.Context())
	s.must(err)
	is(s, "policies", got, []registry.KeptPolicy{registry.NewKeptPolicy([]byte("one"), since.Add(time.Hour)), registry.NewKeptPolicy([]byte("two"), since)})
}

func testGaps(s shop) {
	gaps := func(first uint64) uint64 {
		n, err := s.Gaps(s.Context(), s.kiosk.ID, first)
		s.must(err)
		return n
	}
	is(s, "before any record", gaps(0), 0)
	for _, n := range []uint64{5, 6, 9} {
		s.add(nil, s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = n }}))
	}
	is(s, "from the first", gaps(0), 6)
	is(s, "from the counter", gaps(4), 2)
	is(s, "above all", gaps(9), 0)
}

func testLogged(s shop) {
	var subs []record.Submission
	for range 3 {
		subs = append(subs, s.make(registrytest.Spec{}))
	}
	s.add(nil, subs...)
	waiting, err := s.Unlogged(s.Context(), 2)
	s.must(err)
	is(s, "limit", len(waiting), 2)
	waiting, err = s.Unlogged(s.Context(), 10)
	s.must(err)
	is(s, "waiting", len(waiting), 3)
	for _, l := range waiting {
		i := slices.IndexFunc(subs, func(sub record.Submission) bool { return sub.ID() == l.ID() })
		is(s, "blind", l.Blind(), subs[i].Record().Payload().Blind)
	}
	n, err := s.Scanned(s.Context())
	s.must(err)
	is(s, "scanned", n, 0)
	s.must(s.Lead(s.Context(), registry.RoleLog, func(ctx context.Context, term uint64) error {
		s.must(s.Logged(ctx, term, map[[32]byte][]byte{subs[0].ID(): []byte("first"), subs[1].ID(): []byte("one")}, 7))
		s.must(s.Logged(ctx, term, map[[32]byte][]byte{subs[0].ID(): []byte("second")}, 8))
		return nil
	}))
	for i, want := range [][]byte{[]byte("first"), []byte("one"), nil} {
		_, r, _ := s.status(subs[i])
		is(s, "receipt", r, want)
	}
	waiting, err = s.Unlogged(s.Context(), 10)
	s.must(err)
	is(s, "waiting", len(waiting), 1)
	n, err = s.Scanned(s.Context())
	s.must(err)
	is(s, "scanned", n, 8)
}

func testInventory(s shop) {
	want := map[[32]byte][]byte{}
	for range 5 {
		sub := s.make(registrytest.Spec{})
		s.add(nil, sub)
		want[sub.ID()] = sub.Record().Bytes()
	}
	proved := slices.Collect(maps.Keys(want))[0]
	s.must(s.Lead(s.Context(), registry.RoleLog, func(ctx context.Context, term uint64) error {
		return s.Logged(ctx, term, map[[32]byte][]byte{proved: []byte("proof")}, 1)
	}))
	got := map[[32]byte][]byte{}
	for after := [32]byte{}; ; {
		batch, err := s.Inventory(s.Context(), after, 2)
		s.must(err)
		for _, one := range batch {
			if bytes.Compare(one.ID(), after[:]) <= 0 {
				s.Errorf("%x after %x", one.ID(), after)
			}
			after = [32]byte(one.ID())
			got[after] = one.Record()
			is(s, "proof", string(one.Receipt()) == "proof", after == proved)
			is(s, "no proof", one.Receipt() == nil, after != proved)
		}
		if len(batch) < 2 {
			break
		}
	}
	is(s, "inventory", got, want)
}

func testBacklog(s shop) {
	unlogged, unopened, err := registry.Depths(s)
	s.must(err)
	is(s, "nothing", [2]registry.Depth{unlogged, unopened}, [2]registry.Depth{})
	begin := time.Now()
	one, two := s.make(registrytest.Spec{}), s.make(registrytest.Spec{})
	s.add(nil, one, two)
	s.must(s.Lead(s.Context(), registry.RoleLog, func(ctx context.Context, term uint64) error {
		return s.Logged(ctx, term, map[[32]byte][]byte{one.ID(): []byte("proof")}, 1)
	}))
	unlogged, unopened, err = registry.Depths(s)
	s.must(err)
	is(s, "for the log", unlogged.Count, 1)
	is(s, "for the vault", unopened.Count, 2)
	for _, d := range []registry.Depth{unlogged, unopened} {
		if d.Oldest.Before(begin.Add(-time.Second)) || d.Oldest.After(time.Now().Add(time.Second)) {
			s.Errorf("waits since %v, made at %v", d.Oldest, begin)
		}
	}
}

func testUnopened(s shop) {
	var want [][32]byte
	for range 5 {
		sub := s.make(registrytest.Spec{})
		s.add(nil, sub)
		want = append(want, sub.ID())
	}
	s.add(nil, s.make(registrytest.Spec{Purpose: record.Void}))
	var got [][32]byte
	for after := [32]byte{}; ; {
		some, err := s.Unopened(s.Context(), after, 2)
		s.must(err)
		if len(some) == 0 {
			break
		}
		got = append(got, some...)
		after = some[len(some)-1]
	}
	for _, ids := range [][][32]byte{want, got} {
		slices.SortFunc(ids, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	}
	is(s, "unopened", got, want)
}

func testSubmission(s shop) {
	for _, spec := range []registrytest.Spec{{}, {Purpose: record.Void}} {
		sub := s.make(spec)
		_, err := s.Submission(s.Context(), sub.ID())
		is(s, "before", err, registry.ErrNotHeld)
		s.add(nil, sub)
		got, err := s.Submission(s.Context(), sub.ID())
		s.must(err)
		is(s, "submission", got, sub.Bytes())
	}
}

func testDecided(s shop) {
	old, next := registrytest.NewDevice(s), registrytest.NewDevice(s)
	brings, replaces := s.make(registrytest.Spec{Holder: &old}), s.make(registrytest.Spec{Purpose: record.Replace, Old: &old, Holder: &next})
	s.add(nil, brings, replaces)
	active := registry.Decision{Status: api.Active, Verdict: "active"}
	refused := registry.Decision{Status: api.Refused, Code: api.CodeDocument, Verdict: "refused"}
	s.must(s.Decided(s.Context(), brings.ID(), active, nil))
	p := replaces.Record().Payload()
	s.must(s.Decided(s.Context(), replaces.ID(), refused, &p))
	s.must(s.Decided(s.Context(), replaces.ID(), active, nil))
	bp := brings.Record().Payload()
	s.must(s.Decided(s.Context(), brings.ID(), refused, &bp))
	d, _, _ := s.status(brings)
	is(s, "decision", d, active)
	d, _, _ = s.status(replaces)
	is(s, "decision", d, refused)
	some, err := s.Unopened(s.Context(), [32]byte{}, 10)
	s.must(err)
	is(s, "unopened", len(some), 0)
	// The old one has its standing back, the new one has none.
	id, err := s.Brought(s.Context(), bp.Holder.DID)
	s.must(err)
	is(s, "brought by", id, brings.ID())
	_, err = s.Brought(s.Context(), p.Holder.DID)
	is(s, "refused one's did", err, registry.ErrHolder)
}

func testLinks(s shop) {
	var subs []record.Submission
	for _, n := range []uint64{1, 2, 4, 5} {
		subs = append(subs, s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = n }}))
	}
	s.add(nil, subs...)
	got, err := s.Links(s.Context(), s.kiosk.ID, 1, 2)
	s.must(err)
	is(s, "links", len(got), 2)
	for i, sub := range subs[1:3] {
		p := sub.Record().Payload()
		is(s, "number", got[i].Number(), p.Context.Sequence)
		is(s, "record", got[i].Record, api.ID(sub.ID()))
		is(s, "previous", got[i].Previous, api.ID(p.Previous))
		is(s, "wall", got[i].Wall.Equal(p.Times.Wall), true)
		is(s, "monotonic", got[i].Monotonic, p.Times.Monotonic)
	}
	for _, other := range []string{"KIOSK-0404", s.kiosk.ID + "x", s.kiosk.ID[:4]} {
		got, err = s.Links(s.Context(), other, 0, 10)
		s.must(err)
		is(s, "another kiosk's", len(got), 0)
	}
	testChain(s)
}

// What contradicts a chain is refused, whichever comes first.
func testChain(s shop) {
	at := func(n uint64, previous api.ID) record.Submission {
		return s.make(registrytest.Spec{Context: func(c *record.Context) { c.Sequence = n }, Payload: func(p *record.Payload) {
			if previous != (api.ID{1}) {
				p.Previous = previous
			}
		}})
	}
	own := api.ID{1}
	ten := at(10, own)
	s.add(nil, ten)
	s.add(registry.ErrChain, at(11, api.ID{}), at(11, api.ID{9})) // it begins anew; it follows another record
	s.add(registry.ErrChain, at(20, ten.ID()))                    // it follows one that is not before it
	s.add(registry.ErrChain, at(9, own))                          // it is not what the next one follows
	twelve := at(12, api.ID{12})
	s.add(nil, twelve)
	s.add(registry.ErrChain, at(11, ten.ID()))
	s.add(registry.ErrFork, at(12, own), at(10, own))
}

func testHeard(s shop) {
	at, err := s.LastHeard(s.Context(), s.kiosk.ID)
	s.must(err)
	is(s, "never", at.IsZero(), true)
	for _, minute := range []int{1, 2} {
		want := time.Date(2026, 11, 28, 9, minute, 0, 0, time.UTC)
		s.must(s.Heard(s.Context(), s.kiosk.ID, want))
		at, err = s.LastHeard(s.Context(), s.kiosk.ID)
		s.must(err)
		is(s, "heard", at, want)
	}
}

// code gives a record a cancel code of its own.
func code(n byte) func(*record.Payload) {
	return func(p *record.Payload) { p.CancelSHA = record.CancelHash([]byte{n}) }
}

func (s shop) cancel(n byte, at time.Time) (registry.Cancellation, bool) {
	s.Helper()
	c, done, err := s.Cancel(s.Context(), record.CancelHash([]byte{n}), at, at.AddDate(0, 0, 7))
	s.must(err)
	return c, done
}

func did(s shop, d registrytest.Device) string {
	s.Helper()
	text, err := record.DIDKey(d.Public())
	s.must(err)
	return text
}

func testCancel(s shop) {
	at := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	holder, other, next := registrytest.NewDevice(s), registrytest.NewDevice(s), registrytest.NewDevice(s)
	brings := s.make(registrytest.Spec{Holder: &holder, Payload: code(1)})
	s.add(nil, brings, s.make(registrytest.Spec{Holder: &other, Payload: code(2)}))
	_, done := s.cancel(99, at)
	is(s, "an unknown code", done, false)
	_, err := s.Cancellation(s.Context(), did(s, holder))
	is(s, "before", err, registry.ErrNoCancellation)
	c, done := s.cancel(1, at)
	is(s, "done", done, true)
	want := registry.Cancellation{DID: did(s, holder), Record: brings.ID(), State: registry.CancelSuspended, Received: at, Due: at.AddDate(0, 0, 7)}
	is(s, "cancellation", c, want)
	_, done = s.cancel(1, at.Add(time.Hour))
	is(s, "again", done, false)
	c, err = s.Cancellation(s.Context(), did(s, holder))
	s.must(err)
	is(s, "kept", c, want)
	s.cancel(2, at.Add(time.Minute))
	list, err := s.Cancellations(s.Context(), false)
	s.must(err)
	is(s, "open ones", len(list), 2)
	is(s, "the oldest", list[0], want)
	// Nothing goes on with the key.
	_, err = s.Brought(s.Context(), did(s, holder))
	is(s, "brought", err, registry.ErrSuspended)
	s.add(registry.ErrSuspended, s.make(registrytest.Spec{Purpose: record.Update, Holder: &holder}), s.make(registrytest.Spec{Purpose: record.Replace, Old: &holder, Holder: &next}))

	// Lifted, it is as it was, and the code is spent.
	lifted := registry.Resolution{By: "desk 7", Reason: "found the paper again", Time: at.Add(2 * time.Hour)}
	_, err = s.ResolveCancellation(s.Context(), "did:key:zUnknown", registry.CancelLifted, lifted)
	is(s, "of another did", err, registry.ErrNoCancellation)
	c, err = s.ResolveCancellation(s.Context(), did(s, holder), registry.CancelLifted, lifted)
	s.must(err)
	want.State, want.Resolution, want.Ended = registry.CancelLifted, &lifted, lifted.Time
	is(s, "lifted", c, want)
	if _, err = s.ResolveCancellation(s.Context(), did(s, holder), registry.CancelRevoked, lifted); !errors.Is(err, registry.ErrCancelResolved) {
		s.Errorf("decided again: %v", err)
	}
	s.add(nil, s.make(registrytest.Spec{Purpose: record.Update, Holder: &holder, Payload: code(3)}))
	_, done = s.cancel(1, at)
	is(s, "a spent code", done, false)
	_, done = s.cancel(3, at)
	is(s, "the next code", done, true)

	// Confirmed, it has ended: but a second officer brings the person a new key.
	_, err = s.ResolveCancellation(s.Context(), did(s, other), registry.CancelRevoked, lifted)
	s.must(err)
	_, err = s.Brought(s.Context(), did(s, other))
	is(s, "revoked", err, registry.ErrHolder)
	_, done = s.cancel(2, at)
	is(s, "after the end", done, false)
	s.add(registry.ErrHolder, s.make(registrytest.Spec{Purpose: record.Replace, Old: &other, Holder: &next}), s.revoke(other))
	lost := registrytest.Lost(did(s, other))
	s.add(nil, s.make(registrytest.Spec{Purpose: record.Replace, Holder: &next, Roles: lost.Roles, Payload: lost.Payload}))
	_, err = s.Brought(s.Context(), did(s, next))
	s.must(err)
	s.add(registry.ErrHolder, s.make(registrytest.Spec{Purpose: record.Replace, Roles: lost.Roles, Payload: lost.Payload})) // once
	list, err = s.Cancellations(s.Context(), false)
	s.must(err)
	is(s, "open ones", len(list), 1)
	list, err = s.Cancellations(s.Context(), true)
	s.must(err)
	is(s, "all", len(list), 2)
}

func testRevokeDue(s shop) {
	at := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	var dids []string
	for i := range 3 {
		holder := registrytest.NewDevice(s)
		s.add(nil, s.make(registrytest.Spec{Holder: &holder, Payload: code(byte(i))}))
		dids = append(dids, did(s, holder))
		s.cancel(byte(i), at.AddDate(0, 0, i))
	}
	due := func(now time.Time, limit int) (out []string) {
		list, err := s.RevokeDue(s.Context(), now, limit)
		s.must(err)
		for _, c := range list {
			is(s, "state", c.State, registry.CancelRevoked)
			is(s, "nobody's decision", c.Resolution, nil)
			out = append(out, c.DID)
		}
		return out
	}
	is(s, "a moment before", due(at.AddDate(0, 0, 7).Add(-time.Second), 10), nil)
	is(s, "on time", due(at.AddDate(0, 0, 7), 10), dids[:1])
	is(s, "once", due(at.AddDate(0, 0, 7), 10), nil)
	_, err := s.ResolveCancellation(s.Context(), dids[1], registry.CancelLifted, registry.Resolution{By: "a", Reason: "b", Time: at})
	s.must(err)
	is(s, "none that was lifted", due(at.AddDate(1, 0, 0), 10), dids[2:])
	_, err = s.Brought(s.Context(), dids[0])
	is(s, "revoked", err, registry.ErrHolder)
	_, err = s.Brought(s.Context(), dids[1])
	s.must(err)
}

// A verdict is replaced by the one that names it, and DIDs follow.
func testRedecided(s shop) {
	old, next := registrytest.NewDevice(s), registrytest.NewDevice(s)
	brings, replaces := s.make(registrytest.Spec{Holder: &old}), s.make(registrytest.Spec{Purpose: record.Replace, Old: &old, Holder: &next})
	s.add(nil, brings, replaces)
	n, err := s.Outcomes(s.Context())
	s.must(err)
	is(s, "outcomes", n, 0)
	s.must(s.Decided(s.Context(), brings.ID(), registry.Decision{Status: api.Active, Verdict: "brings 1"}, nil))
	p := replaces.Record().Payload()
	s.must(s.Decided(s.Context(), replaces.ID(), registry.Decision{Status: api.Refused, Code: api.CodeReview, Verdict: "replaces 1"}, &p))
	apply := func(n uint64, sub record.Submission, supersedes string, d registry.Decision, want bool) {
		s.Helper()
		applied, err := s.Redecided(s.Context(), registry.NewOutcome(n, sub.ID(), supersedes, d))
		s.must(err)
		is(s, "applied", applied, want)
		seen, err := s.Outcomes(s.Context())
		s.must(err)
		is(s, "seen", seen, n)
	}
	active := registry.Decision{Status: api.Active, Verdict: "replaces 2"}
	apply(1, replaces, "another", active, false)
	apply(2, replaces, "replaces 1", active, true)
	apply(2, replaces, "replaces 1", active, false) // once
	apply(3, s.make(registrytest.Spec{}), "x", active, false)
	d, _, _ := s.status(replaces)
	is(s, "decision", d, active)
	_, err = s.Brought(s.Context(), did(s, old))
	is(s, "the replaced one", err, registry.ErrHolder)
	id, err := s.Brought(s.Context(), did(s, next))
	s.must(err)
	is(s, "brought by", id, replaces.ID())
	// And back: what it replaced stays ended, for that was another decision.
	refused := registry.Decision{Status: api.Refused, Code: api.CodeReview, Verdict: "replaces 3"}
	apply(4, replaces, "replaces 2", refused, true)
	for _, d := range []registrytest.Device{old, next} {
		_, err = s.Brought(s.Context(), did(s, d))
		is(s, "ended", err, registry.ErrHolder)
	}
}

// whole fills what a kiosk of the register can have.
func whole(id string) registry.Kiosk {
	at := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	return registry.Kiosk{ID: id, RecordKey: []byte{1}, TLSKey: []byte{2}, EndorsementKey: []byte{3}, Endorsement: api.Endorsement{Certificate: []byte{4}, Public: []byte{5}},
		AttestationKey: []byte{6}, StorageKeyName: []byte{7}, BootPCRs: [][]byte{{8}, {9}}, Class: "test", Manufacturer: "id:49424D00", Model: "swtpm <&>\u2028",
		Counter: 1<<53 - 1, Registered: at, Revoked: &at, Certificates: api.KioskCertificates{Version: 1, KioskID: id, Record: [][]byte{{10}}}}
}

func testRegister(s shop) {
	_, err := s.Kiosk(s.Context(), "KIOSK-0001")
	is(s, "no kiosk", errors.Is(err, registry.ErrUnknownKiosk), true)
	_, err = s.Provision(s.Context(), "KIOSK-0001")
	is(s, "no code", errors.Is(err, registry.ErrUnknownKiosk), true)
	var kiosks []registry.Kiosk
	var provisions []registry.Provision
	for _, id := range []string{"a", "B", "KIOSK-0001", "KIOSK_0001", "KIOSK.0001"} {
		k := whole(id)
		p := registry.Provision{ID: id, Secret: []byte{1}, Made: k.Registered, Expires: k.Registered, Wrong: 3, EndorsementKey: []byte{2}, Waiting: &k, Since: k.Registered, Rejected: true}
		s.must(registry.ChangeKiosk(s.Context(), s.Store, id, func(kept **registry.Kiosk, code **registry.Provision) error {
			is(s, "before", *kept == nil && *code == nil, true)
			*kept, *code = &k, &p
			return nil
		}))
		got, err := s.Kiosk(s.Context(), id)
		s.must(err)
		is(s, "kiosk", got, k)
		given, err := s.Provision(s.Context(), id)
		s.must(err)
		is(s, "code", given, p)
		kiosks, provisions = append(kiosks, k), append(provisions, p)
	}
	slices.SortFunc(kiosks, func(a, b registry.Kiosk) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(provisions, func(a, b registry.Provision) int { return strings.Compare(a.ID, b.ID) })
	list, err := s.Kiosks(s.Context())
	s.must(err)
	is(s, "kiosks", list, kiosks)
	given, err := s.Provisions(s.Context())
	s.must(err)
	is(s, "codes", given, provisions)
}

func testChangeKiosk(s shop) {
	count := func() error {
		return registry.ChangeKiosk(s.Context(), s.Store, "KIOSK-0001", func(_ **registry.Kiosk, p **registry.Provision) error {
			if *p == nil {
				*p = &registry.Provision{ID: "KIOSK-0001"}
			}
			(*p).Wrong++
			return nil
		})
	}
	const n = 16
	var working sync.WaitGroup
	for range n {
		working.Go(func() {
			if err := count(); err != nil {
				s.Error(err)
			}
		})
	}
	working.Wait()
	no := errors.New("no")
	err := registry.ChangeKiosk(s.Context(), s.Store, "KIOSK-0001", func(k **registry.Kiosk, p **registry.Provision) error {
		(*p).Wrong, *k = 1000, &registry.Kiosk{ID: "KIOSK-0001"}
		return no
	})
	is(s, "its error", errors.Is(err, no), true)
	p, err := s.Provision(s.Context(), "KIOSK-0001")
	s.must(err)
	is(s, "changes", p.Wrong, n)
	_, err = s.Kiosk(s.Context(), "KIOSK-0001")
	is(s, "no kiosk", errors.Is(err, registry.ErrUnknownKiosk), true)
}

func testActivity(s shop) {
	entry := func(day string, officer byte, reads, enrollments uint64) receipt.ActivityEntry {
		return receipt.ActivityEntry{Day: receipt.Day(day), Officer: receipt.Officer{officer}, Reads: reads, Enrollments: enrollments}
	}
	at := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	here := registry.KioskActivity{Kiosk: "here", Counter: 9, Reported: at,
		Entries: []receipt.ActivityEntry{entry("2026-11-27", 1, 5, 3), entry("2026-11-28", 1, 1, 1), entry("2026-11-28", 2, 1<<53-1, 0)},
		Alarms:  []registry.Alarm{{Kind: registry.UnusedReads, Day: "2026-11-28", Officer: receipt.Officer{2}, Count: 1<<53 - 1, Time: at}}}
	s.must(s.ChangeActivity(s.Context(), "here", here.Entries, func(k *registry.KioskActivity, others []registry.Tally) {
		is(s, "before", *k, registry.KioskActivity{Kiosk: "here"})
		is(s, "others", others, make([]registry.Tally, 3))
		*k = here
	}))
	asked := []receipt.ActivityEntry{entry("2026-11-27", 1, 0, 0), entry("2026-11-27", 9, 0, 0), entry("2026-11-28", 1, 0, 0), entry("2026-11-28", 2, 0, 0)}
	there := registry.KioskActivity{Kiosk: "there", Entries: []receipt.ActivityEntry{entry("2026-11-27", 1, 7, 0)},
		Alarms: []registry.Alarm{{Kind: registry.OverQuota, Day: "2026-11-28", Officer: receipt.Officer{1}, Count: 1, Time: at}}}
	s.must(s.ChangeActivity(s.Context(), "there", asked, func(k *registry.KioskActivity, others []registry.Tally) {
		var got [][3]uint64
		for _, t := range others {
			got = append(got, t.Counts())
		}
		is(s, "others", got, [][3]uint64{{5, 3, 1}, {}, {1, 1, 1}, {1<<53 - 1, 0, 1}})
		*k = there
	}))
	list, err := s.Activities(s.Context())
	s.must(err)
	is(s, "activities", list, []registry.KioskActivity{here, there})
	// Entries change, come and go.
	here.Entries = []receipt.ActivityEntry{entry("2026-11-28", 1, 2, 1), entry("2026-11-28", 2, 1<<53-1, 0), entry("2026-11-29", 3, 4, 4)}
	s.must(s.ChangeActivity(s.Context(), "here", here.Entries, func(k *registry.KioskActivity, _ []registry.Tally) { *k = here }))
	list, err = s.Activities(s.Context())
	s.must(err)
	is(s, "activities", list, []registry.KioskActivity{here, there})
	s.must(s.ChangeActivity(s.Context(), "third", []receipt.ActivityEntry{entry("2026-11-28", 1, 1, 0)}, func(k *registry.KioskActivity, others []registry.Tally) {
		is(s, "others", others[0].Counts(), [3]uint64{2, 1, 1})
		k.Reported = at
	}))
	const n = 16
	var working sync.WaitGroup
	for range n {
		working.Go(func() {
			if err := s.ChangeActivity(s.Context(), "third", here.Entries, func(k *registry.KioskActivity, _ []registry.Tally) { k.Counter++ }); err != nil {
				s.Error(err)
			}
		})
	}
	working.Wait()
	list, err = s.Activities(s.Context())
	s.must(err)
	is(s, "counted together", list[2].Counter, n)
}

func testSessions(s shop) {
	now := time.Date(2026, 11, 28, 9, 30, 0, 0, time.UTC)
	session := func(n byte, kiosk string, ends time.Time) registry.Session {
		return registry.Session{ID: api.ID{n}, Secret: []byte{n}, Nonce: []byte{2}, Ends: ends, Code: []byte{3}, Kiosk: whole(kiosk), RecordCSR: []byte{4}, TLSCSR: []byte{5}}
	}
	over := func(n byte, at time.Time) {
		s.Helper()
		_, err := s.ChangeSession(s.Context(), api.ID{n}, at, func(*registry.Session) error { return nil })
		is(s, "over", err, registry.ErrSessionOver)
	}
	over(1, now)
	s.must(s.AddSession(s.Context(), session(1, "a", now.Add(time.Minute)), now))
	over(1, now.Add(time.Minute))
	s.must(s.AddSession(s.Context(), session(1, "a", now.Add(time.Minute)), now.Add(time.Minute)))
	got, err := s.ChangeSession(s.Context(), api.ID{1}, now, func(x *registry.Session) error {
		is(s, "session", *x, session(1, "a", now.Add(time.Minute)))
		x.Proved, x.Ends = true, now.Add(time.Hour)
		return nil
	})
	s.must(err)
	is(s, "changed", got.Proved, true)
	no := errors.New("no")
	_, err = s.ChangeSession(s.Context(), api.ID{1}, now.Add(time.Minute), func(x *registry.Session) error { x.Proved = false; return no })
	is(s, "its error", errors.Is(err, no), true)
	// A challenge is answered once, by whoever comes first. More than one, for the
	// first round connects.
	for _, n := range []byte{201, 202, 1} {
		if n != 1 {
			s.must(s.AddSession(s.Context(), session(n, "c", now.Add(time.Minute)), now))
		}
		var once atomic.Int64
		var working sync.WaitGroup
		for range 8 {
			working.Go(func() {
				won := false
				if _, err := s.ChangeSession(s.Context(), api.ID{n}, now, func(x *registry.Session) error {
					won = x.Secret != nil
					time.Sleep(20 * time.Millisecond) // whoever is let in beside sees the same
					x.Secret = nil
					return nil
				}); err != nil {
					s.Error(err)
				}
				if won {
					once.Add(1)
				}
			})
		}
		working.Wait()
		is(s, "answers", once.Load(), 1)
	}
	got, err = s.ChangeSession(s.Context(), api.ID{1}, now, func(*registry.Session) error { return nil })
	s.must(err)
	is(s, "kept", got.Proved && got.Secret == nil && got.Ends.Equal(now.Add(time.Hour)), true)
	// A few of each kiosk: the oldest goes.
	for n := byte(2); n <= 8; n++ {
		s.must(s.AddSession(s.Context(), session(n, "a", now.Add(time.Minute)), now))
		s.must(s.AddSession(s.Context(), session(100+n, "b", now.Add(time.Minute)), now))
	}
	_, err = s.ChangeSession(s.Context(), api.ID{1}, now, func(*registry.Session) error { return nil })
	s.must(err)
	s.must(s.AddSession(s.Context(), session(9, "a", now.Add(time.Minute)), now))
	over(1, now)
	_, err = s.ChangeSession(s.Context(), api.ID{102}, now, func(*registry.Session) error { return nil })
	s.must(err)
}

// Verdicts are listed as their records came, whatever the order of ids or verdicts.
func testJudged(s shop) {
	var subs []record.Submission
	for range 5 {
		subs = append(subs, s.make(registrytest.Spec{}))
		s.add(nil, subs[len(subs)-1])
	}
	together := []registry.Entry{}
	for range 5 {
		subs = append(subs, s.make(registrytest.Spec{}))
		together = append(together, s.entry(subs[len(subs)-1]))
	}
	_, err := s.Add(s.Context(), together)
	s.must(err)
	const undecided = 3
	for _, i := range []int{9, 0, 8, 1, 7, 2, 6, 5, 4} {
		s.must(s.Decided(s.Context(), subs[i].ID(), registry.Decision{Status: api.Active, Verdict: fmt.Sprint("verdict ", i)}, nil))
	}
	var got, want []string
	for after := uint64(0); ; {
		some, err := s.Judged(s.Context(), after, 2)
		s.must(err)
		if len(some) == 0 {
			break
		}
		for _, j := range some {
			after = j.Number()
			got = append(got, fmt.Sprintf("%x %s", j.ID(), j.Verdict()))
		}
	}
	for i, sub := range subs {
		if i != undecided {
			want = append(want, fmt.Sprintf("%x verdict %d", sub.ID(), i))
		}
	}
	is(s, "judged", got, want)
}

func testLead(s shop) {
	no := errors.New("no")
	var terms []uint64
	for range 2 {
		err := s.Lead(s.Context(), registry.RoleLog, func(_ context.Context, term uint64) error {
			terms = append(terms, term)
			// Another role is another's.
			s.must(s.Lead(s.Context(), registry.RoleVault, func(context.Context, uint64) error { return nil }))
			return no
		})
		is(s, "its error", errors.Is(err, no), true)
	}
	is(s, "runs", len(terms), 2)
	ctx, cancel := context.WithCancel(s.Context())
	_ = s.Lead(ctx, registry.RoleLog, func(ctx context.Context, _ uint64) error {
		cancel()
		<-ctx.Done()
		return nil
	})
}

// Two registries on one database: one has a role. When its link breaks it is
// told, the other gets the role, and what the first still wants to keep is refused.
func TestOneHolderOfARole(t *testing.T) {
	t.Parallel()
	address, name := database(t)
	open := func() registry.Store {
		s, err := registry.OpenStore(t.Context(), registry.Options{Database: address}, registrytest.Origin)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	first, second := open(), open()
	w := registrytest.New(t)
	k := w.Kiosk(t, "KIOSK-0001")
	sub := k.Make(t, registrytest.Spec{})
	if _, err := first.Add(t.Context(), []registry.Entry{registry.NewEntry(sub, k.ID, 1)}); err != nil {
		t.Fatal(err)
	}
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	err = first.Lead(t.Context(), registry.RoleLog, func(ctx context.Context, term uint64) error {
		if err := second.Lead(t.Context(), registry.RoleLog, func(context.Context, uint64) error {
			t.Error("two have the role")
			return nil
		}); err != nil {
			t.Error(err)
		}
		if err := first.Logged(ctx, term, nil, 3); err != nil {
			t.Error(err)
		}
		if _, err := c.Query(t.Context(), name, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
			t.Error(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
			t.Error("it does not know that it has lost the role")
		}
		var had bool
		if err := second.Lead(t.Context(), registry.RoleLog, func(ctx context.Context, next uint64) error {
			had = next > term
			return second.Logged(ctx, next, map[[32]byte][]byte{sub.ID(): []byte("second's")}, 4)
		}); err != nil || !had {
			t.Errorf("the other does not get the role: %v", err)
		}
		return first.Logged(t.Context(), term, map[[32]byte][]byte{sub.ID(): []byte("first's")}, 2)
	})
	if !errors.Is(err, registry.ErrDeposed) {
		t.Errorf("the first keeps receipts without the role: %v", err)
	}
	if n, err := second.Scanned(t.Context()); err != nil || n != 4 {
		t.Errorf("scanned %d, %v", n, err)
	}
	if known, err := second.Status(t.Context(), k.ID, sub.ID()); err != nil || string(known[sub.ID()].Receipt()) != "second's" {
		t.Errorf("%+v, %v", known, err)
	}
}

// A database that is not this registry's, or from a newer one, is left alone; one
// that is behind is brought up to date, by one of those who try.
func TestMigrations(t *testing.T) {
	t.Parallel()
	address, name := database(t)
	o := registry.Options{Database: address}
	var opening sync.WaitGroup
	for range 4 {
		opening.Go(func() {
			s, err := registry.OpenStore(t.Context(), o, registrytest.Origin)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	opening.Wait()
	if _, err := registry.OpenStore(t.Context(), o, "other.example/log"); !errors.Is(err, registry.ErrDatabaseOther) {
		t.Errorf("another registry's: %v", err)
	}
	o.Production = true
	if _, err := registry.OpenStore(t.Context(), o, registrytest.Origin); !errors.Is(err, registry.ErrDatabaseForgets) {
		t.Errorf("a database without fsync in production: %v", err)
	}
	o.Production = false
	s, err := registry.OpenStore(t.Context(), o, registrytest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files := fstest.MapFS{}
	applied, err := mustCluster(t).Query(t.Context(), name, `SELECT count(*) FROM migrations`)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	fmt.Sscan(applied, &n)
	for i := range n {
		files[fmt.Sprintf("%04d.sql", i+1)] = &fstest.MapFile{}
	}
	next := fmt.Sprintf("%04d.sql", n+1)
	files[next] = &fstest.MapFile{Data: []byte("CREATE TABLE news (n int); INSERT INTO news VALUES (1); SELECT 1/0")}
	if err := registry.Migrate(t.Context(), s, files); err == nil || !strings.Contains(err.Error(), next) {
		t.Errorf("a migration that fails: %v", err)
	}
	if out, err := mustCluster(t).Query(t.Context(), name, `SELECT to_regclass('news')`); err != nil || out != "" {
		t.Errorf("half a migration is there: %q, %v", out, err)
	}
	files[next] = &fstest.MapFile{Data: []byte("CREATE TABLE news (n int); INSERT INTO news VALUES (1)")}
	for range 2 {
		if err := registry.Migrate(t.Context(), s, files); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := mustCluster(t).Query(t.Context(), name, `SELECT count(*) FROM news`); err != nil || out != "1" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := registry.OpenStore(t.Context(), o, registrytest.Origin); !errors.Is(err, registry.ErrDatabaseNewer) {
		t.Errorf("a newer registry's: %v", err)
	}
}

// A migration may take longer than anything else does, and who comes meanwhile waits
// for it.
func TestLongMigration(t *testing.T) {
	t.Parallel()
	address, name := database(t)
	s, err := registry.OpenStore(t.Context(), registry.Options{Database: address}, registrytest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files := fstest.MapFS{}
	for i := range 99 {
		files[fmt.Sprintf("%04d.sql", i+1)] = &fstest.MapFile{}
	}
	files["0099.sql"] = &fstest.MapFile{Data: fmt.Appendf(nil, "CREATE TABLE long (n int); SELECT pg_sleep(%f)", (registry.DatabaseWait + time.Second).Seconds())}
	var migrating sync.WaitGroup
	for range 2 {
		migrating.Go(func() {
			if err := registry.Migrate(t.Context(), s, files); err != nil {
				t.Error(err)
			}
		})
	}
	migrating.Wait()
	if out, err := mustCluster(t).Query(t.Context(), name, `SELECT count(*) FROM long`); err != nil || out != "0" {
		t.Errorf("%q, %v", out, err)
	}
}

func mustCluster(t testing.TB) *postgres.Cluster {
	t.Helper()
	c, err := cluster()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What crosses a network is encrypted to a server that proves its name; passwords
// stand in files.
func TestDatabaseAddress(t *testing.T) {
	t.Parallel()
	socket := "postgres:///registry?host=" + url.QueryEscape("/run/postgresql")
	for address, good := range map[string]bool{
		"postgres://registry@db.example/registry?sslmode=verify-full":                  true,
		"postgresql://registry@db.example:5433/registry?sslmode=verify-full":           true,
		"postgres://registry@127.0.0.1/registry":                                       true,
		"postgres://registry@[::1]/registry?sslmode=disable":                           true,
		"postgres://registry@localhost/registry":                                       true,
		socket:                                                                         true,
		"postgres://registry@db.example/registry":                                      false,
		"postgres://registry@db.example/registry?sslmode=require":                      false,
		"postgres://registry@db.example/registry?sslmode=verify-ca":                    false,
		"postgres://registry@127.0.0.1,db.example/registry":                            false,
		"postgres://registry:secret@db.example/registry?sslmode=verify-full":           false,
		"postgres://registry@db.example/registry?sslmode=verify-full&password=secret":  false,
		"postgres://registry@db.example/registry?sslmode=verify-full&pool_max_conns=x": false,
		"mysql://registry@db.example/registry":                                         false,
		"host=db.example dbname=registry":                                              false,
		"":                                                                             false,
	} {
		err := registry.CheckDatabaseAddress(address)
		if (err == nil) != good || !good && !errors.Is(err, registry.ErrDatabaseAddress) {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the password is told: %v", address, err)
		}
	}
}

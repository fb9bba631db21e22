package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/registry/vault"
	"enrollkiosk/simulators/idcard"
)

// officers revoke without the holder.
var officers = registrytest.By(record.Officer, record.Supervisor, record.Kiosk)

func didOf(t testing.TB, d registrytest.Device) string {
	t.Helper()
	did, err := record.DIDKey(d.Public())
	if err != nil {
		t.Fatal(err)
	}
	return did
}

// Every row of the design's table of purposes and signers, with what comes before
// and after it, works here, and nothing else does.
func TestEveryPurpose(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, acceptsResident, nil)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	alone := func(c *record.Context) { c.KioskID, c.Sequence = "", 0 }
	var d [8]registrytest.Device
	for i := range d {
		d[i] = registrytest.NewDevice(t)
	}
	lost := func(old, next int) registrytest.Spec {
		s := registrytest.Lost(didOf(t, d[old]))
		s.Holder = &d[next]
		return s
	}
	all := registrytest.By(record.OldHolder, record.Holder, record.Officer, record.Supervisor, record.Kiosk)
	for _, step := range []struct {
		name string
		spec registrytest.Spec
		code string
	}{
		{"enroll", registrytest.Spec{Holder: &d[0]}, ""},
		{"enroll with a second officer", registrytest.Spec{Holder: &d[1], Exceptions: unsigned}, ""},
		{"replace with the old key", registrytest.Spec{Purpose: record.Replace, Holder: &d[2], Old: &d[0]}, ""},
		{"the old key again", registrytest.Spec{Purpose: record.Replace, Holder: &d[7], Old: &d[0]}, api.CodeHolder},
		{"replace, token lost", lost(2, 3), ""},
		{"replace, all five sign", registrytest.Spec{Purpose: record.Replace, Holder: &d[4], Old: &d[3], Exceptions: unsigned, Roles: all}, ""},
		{"replace what was replaced, token lost", lost(3, 7), api.CodeHolder},
		{"update", registrytest.Spec{Purpose: record.Update, Holder: &d[4]}, ""},
		{"revoke by two officers", registrytest.Spec{Purpose: record.Revoke, Holder: &d[4], Roles: officers}, ""},
		{"update what was revoked", registrytest.Spec{Purpose: record.Update, Holder: &d[4]}, api.CodeHolder},
		{"replace what was revoked with its key", registrytest.Spec{Purpose: record.Replace, Holder: &d[7], Old: &d[4]}, api.CodeHolder},
		{"replace what was revoked, two officers", lost(4, 5), ""},
		{"revoke by the holder", registrytest.Spec{Purpose: record.Revoke, Holder: &d[5], Context: alone}, ""},
		{"revoke again", registrytest.Spec{Purpose: record.Revoke, Holder: &d[5], Context: alone}, api.CodeHolder},
		{"revoke by two officers again", registrytest.Spec{Purpose: record.Revoke, Holder: &d[5], Roles: officers}, api.CodeHolder},
		{"back after one's own revocation", lost(5, 6), ""},
		{"void", registrytest.Spec{Purpose: record.Void}, ""},
	} {
		s := k.Make(t, step.spec)
		if step.code != "" {
			c.rejected(w, item(s), step.code)
		} else if v := c.send(s); v.Status != api.Pending {
			t.Errorf("%s: %+v", step.name, v)
		}
	}
	// One officer with two cards is not two.
	twice := w.Officers.Officer(t, "4711", nil)
	c.rejected(w, item(k.Make(t, registrytest.Spec{Purpose: record.Revoke, Holder: &d[6], Roles: officers, Supervisor: &twice})), api.CodeOfficer)
}

// A rejected record keeps its number: what comes under it later is a fork, and the
// chain goes on from it without a gap.
func TestRejectedRecordsKeepTheirNumbers(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	bad := k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) { p.Purposes[0].ID = "other" }})
	good := k.Make(t, registrytest.Spec{})
	// In one batch, the bad one last: still nothing is missing before the good one.
	if v := c.post(item(good), item(bad)); v[0].Status == v[1].Status {
		t.Errorf("%+v", v)
	}
	first := c.rejected(w, item(bad), api.CodePolicy)
	better := k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})
	k.Sequence--
	c.rejected(w, item(better), api.CodeFork)
	// The same payload signed anew is the same record.
	if again := c.rejected(w, api.Item{ID: bad.ID(), Submission: better.Bytes()}, api.CodePolicy); again != first {
		t.Errorf("under the same id: %+v", again)
	}
	// What nothing proves to be the kiosk's takes no number.
	broken := k.Make(t, registrytest.Spec{})
	b := broken.Bytes()
	b[len(b)-20] ^= 1
	if v := c.post(api.Item{ID: api.ID{1}, Submission: b})[0]; v.Status != api.Rejected {
		t.Errorf("%+v", v)
	}
	if v := c.send(broken); v.Status != api.Pending {
		t.Errorf("the unbroken one: %+v", v)
	}
	report, err := r.Report(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if ch := report.Chain; ch.Accepted != 2 || ch.Rejected != 1 || ch.Missing != 0 || ch.Highest != 3 || len(report.Forks) != 1 {
		t.Errorf("%+v, forks %+v", ch, report.Forks)
	}
}

// A disk that was put back sends what contradicts what is here, in one way or the
// other: each has a code of its own, is kept, and shows both ids.
func TestForksAreRejectedAndShown(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	var made []record.Submission
	for range 4 {
		s := k.Make(t, registrytest.Spec{})
		made = append(made, s)
		if v := c.send(s); v.Status != api.Pending {
			t.Fatalf("%+v", v)
		}
	}
	at := func(n uint64, previous [32]byte) record.Submission {
		return k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = n }, Payload: func(p *record.Payload) { p.Previous = previous }})
	}
	sameNumber := at(3, made[1].ID())
	farther := at(9, made[1].ID()) // even where nothing is known of the number before
	oldDisk := at(5, made[1].ID()) // the counter went on, the disk did not
	goesOn := at(6, oldDisk.ID())
	noDisk := at(7, [32]byte{})
	c.rejected(w, item(sameNumber), api.CodeFork)
	for _, s := range []record.Submission{farther, oldDisk, goesOn, noDisk} {
		c.rejected(w, item(s), api.CodeChain)
	}
	c.rejected(w, item(at(5, made[3].ID())), api.CodeFork) // the number is the rejected one's
	report, err := r.Report(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := map[api.ID]registry.Fork{
		sameNumber.ID(): {Number: 3, Held: made[2].ID(), HeldAt: 3, Code: api.CodeFork},
		oldDisk.ID():    {Number: 5, Held: made[3].ID(), HeldAt: 4, Code: api.CodeChain},
		goesOn.ID():     {Number: 6, Held: oldDisk.ID(), HeldAt: 5, Code: api.CodeChain},
		noDisk.ID():     {Number: 7, Held: goesOn.ID(), HeldAt: 6, Code: api.CodeChain},
		farther.ID():    {Number: 9, Held: made[1].ID(), HeldAt: 2, Code: api.CodeChain},
	}
	for _, f := range report.Forks {
		if wanted, ok := want[f.Record]; ok && (f.Number != wanted.Number || f.Held != wanted.Held || f.HeldAt != wanted.HeldAt || f.Code != wanted.Code || f.Time.IsZero()) {
			t.Errorf("%+v, want %+v", f, wanted)
		}
		delete(want, f.Record)
	}
	if len(want) > 0 || len(report.Alarms) == 0 || !strings.Contains(report.Alarms[0], "contradict") {
		t.Errorf("not shown: %v; %v", want, report.Alarms)
	}
}

// A kiosk that was provisioned anew on an empty disk begins where its counter is;
// one that was not cannot say so.
func TestKioskBeginsAnew(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	for range 2 {
		c.send(k.Make(t, registrytest.Spec{}))
	}
	begin := k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) { p.Previous = [32]byte{} }})
	k.Restart(t, 2)
	if v := c.send(begin); v.Status != api.Pending {
		t.Errorf("%+v", v)
	}
	if v := c.send(k.Make(t, registrytest.Spec{})); v.Status != api.Pending {
		t.Errorf("the one after: %+v", v)
	}
	c.rejected(w, item(k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) { p.Previous = [32]byte{} }})), api.CodeChain)
}

// Gaps and clocks are shown and refuse nothing. A late record closes its gap.
func TestGapsAndClocksAreShown(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	start := time.Now().UTC().Truncate(time.Second).Add(-50 * time.Minute)
	odd := func(wall time.Duration, monotonic time.Duration, boot byte) record.Submission {
		return k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) {
			p.Times = record.Times{Wall: start.Add(wall), Monotonic: uint64(monotonic / time.Millisecond), Boot: [16]byte{boot}, Registry: start.Add(-time.Minute)}
		}})
	}
	var subs []record.Submission
	for _, at := range []struct {
		wall, monotonic time.Duration
		boot            byte
	}{
		{0, time.Hour, 1},
		{time.Minute, time.Hour + time.Minute, 1},
		{30 * time.Minute, time.Hour + 2*time.Minute, 1}, // set ahead
		{29 * time.Minute, time.Hour + 3*time.Minute, 1}, // set back
		{30 * time.Minute, time.Hour, 1},                 // an earlier state of the machine
		{31 * time.Minute, time.Minute, 2},               // another boot
		{32 * time.Minute, time.Hour + 5*time.Minute, 1}, // the first one again
		{5 * time.Hour, time.Minute, 3},                  // three hours ahead of the registry
		{5*time.Hour + time.Minute, 2 * time.Minute, 3},  // rejected below, and still the kiosk's
	} {
		subs = append(subs, odd(at.wall, at.monotonic, at.boot))
	}
	for _, i := range []int{0, 3, 4, 5, 6, 7} {
		if v := c.send(subs[i]); v.Status != api.Pending {
			t.Errorf("record %d: %+v", i, v)
		}
	}
	before, err := r.Report(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if g := before.Chain.Gaps; before.Chain.Missing != 2 || len(g) != 1 || g[0].From != 2 || g[0].To != 3 || g[0].Since.IsZero() {
		t.Errorf("gaps %+v of %d", g, before.Chain.Missing)
	}
	if !slices.ContainsFunc(before.Alarms, func(a string) bool { return strings.Contains(a, "2 numbers below 8") }) {
		t.Errorf("alarms %q", before.Alarms)
	}
	for _, i := range []int{2, 1} {
		if v := c.send(subs[i]); v.Status != api.Pending {
			t.Errorf("late record %d: %+v", i, v)
		}
	}
	after, err := r.Report(t.Context(), k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if ch := after.Chain; ch.Missing != 0 || len(ch.Gaps) != 0 || ch.Accepted != 8 || ch.Highest != 8 {
		t.Errorf("after the late ones: %+v", ch)
	}
	var kinds []string
	for _, o := range after.Chain.Clock {
		kinds = append(kinds, fmt.Sprintf("%d %s", o.Number, o.Kind))
	}
	want := []string{"3 clock-stepped", "4 clock-back", "5 boot-back", "7 boot-again", "8 clock-ahead"}
	if !slices.Equal(kinds, want) || after.Chain.Odd != uint64(len(want)) {
		t.Errorf("%q, want %q", kinds, want)
	}
	if after.LastContact.IsZero() || time.Since(after.LastContact) > time.Hour {
		t.Errorf("last contact %v", after.LastContact)
	}
}

// A policy that was long replaced, or that had expired, is no policy to work under.
func TestStalePolicy(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	var ahead atomic.Int64 // how far this registry's clock is
	o := w.RegistryOptions(noVault)
	o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	serve(t, o).stop() // has the first policy
	first := w.Policy
	w.Policy = w.Sign(t, 2, time.Now().Add(-time.Minute))
	o = w.RegistryOptions(noVault)
	o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	r := serve(t, o)
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	at := func(days int) record.Submission {
		ahead.Store(int64(days) * 24 * int64(time.Hour))
		return k.Make(t, registrytest.Spec{Context: func(c *record.Context) { c.PolicyDigest = first.Digest() }, Payload: func(p *record.Payload) {
			p.Times.Wall = p.Times.Wall.AddDate(0, 0, days)
			p.Times.Registry = p.Times.Wall.Add(-time.Minute)
		}})
	}
	if v := c.send(at(29)); v.Status != api.Pending {
		t.Errorf("within what a kiosk may be offline: %+v", v)
	}
	c.rejected(w, item(at(31)), api.CodePolicyStale)
	current := k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) {
		p.Times.Wall = p.Times.Wall.AddDate(0, 0, 31)
		p.Times.Registry = p.Times.Wall.Add(-time.Minute)
	}})
	if v := c.send(current); v.Status != api.Pending {
		t.Errorf("under the one in force: %+v", v)
	}
	ahead.Store(int64(366 * 24 * time.Hour))
	c.rejected(w, item(k.Make(t, registrytest.Spec{Payload: func(p *record.Payload) {
		p.Times.Wall = p.Times.Wall.AddDate(0, 0, 366)
		p.Times.Registry = p.Times.Wall.Add(-time.Minute)
	}})), api.CodePolicyStale)
}

// cancel gives a code at a registry, as anybody can, and returns status and body.
func cancel(t testing.TB, c client, code string) (int, []byte) {
	t.Helper()
	b, err := json.Marshal(api.Cancellation{Code: code})
	if err != nil {
		t.Fatal(err)
	}
	return c.do(http.MethodPost, api.PathCancellations, api.MediaJSON, b)
}

// withCode has a record carry a cancel code.
func withCode(code [16]byte) func(*record.Payload) {
	return func(p *record.Payload) { p.CancelSHA = record.CancelHash(code[:]) }
}

// The way of a cancel code: given by anybody, it suspends at once; nobody lifts it, and
// it revokes when it is due, also by a registry that was down; two officers bring the
// citizen a new key. Of a code that is nobody's the answer says the same.
func TestCancelCode(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	var ahead atomic.Int64
	options := func() registry.Options {
		o := w.RegistryOptions(noVault)
		o.CancelDelay = 48 * time.Hour
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		return o
	}
	r := serve(t, options())
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	holder, next := registrytest.NewDevice(t), registrytest.NewDevice(t)
	code := [16]byte{1, 2, 3}
	s := k.Make(t, registrytest.Spec{Holder: &holder, Payload: withCode(code)})
	c.send(s)
	standing := func(c client) (receipt.Verdict, bool) {
		t.Helper()
		st := c.until(s.ID(), "receipt", hasReceipt)
		if st.Standing == "" {
			return receipt.Verdict{}, false
		}
		keys := w.Policy.Policy().VerdictKeys
		if _, err := receipt.VerifyVerdict([]byte(st.Standing), nil, keys.Vault, s.ID()); err == nil {
			t.Error("the vault stands for it")
		}
		v, err := receipt.VerifyVerdict([]byte(st.Standing), keys.Registry, nil, s.ID())
		if err != nil || v.Claims().DID != didOf(t, holder) || st.Status == api.Rejected {
			t.Fatalf("%+v: %v", st, err)
		}
		return v.Claims(), true
	}
	if v, odd := standing(c); odd {
		t.Fatalf("before: %+v", v)
	}
	// Anybody: no certificate.
	public := connect(t, w, r.URL)
	type answer struct {
		status int
		body   string
		took   time.Duration
	}
	ask := func(typed string) answer {
		began := time.Now()
		status, b := cancel(t, public, typed)
		var received api.Cancelled
		if err := json.Unmarshal(b, &received); err == nil {
			b = bytes.ReplaceAll(b, []byte(received.Received.Format(time.RFC3339)), []byte("TIME"))
		}
		return answer{status, string(b), time.Since(began)}
	}
	unknown := ask(record.FormatCancelCode([16]byte{9}))
	known := ask(strings.ToLower(record.FormatCancelCode(code)))
	again := ask(record.FormatCancelCode(code))
	for _, a := range []answer{unknown, known, again} {
		if a.status != http.StatusAccepted || a.body != unknown.body || !strings.Contains(a.body, "TIME") || a.took < time.Second {
			t.Errorf("%+v, of an unknown one %+v", a, unknown)
		}
	}
	public.problem(http.MethodPost, api.PathCancellations, api.MediaJSON, []byte(`{"code":"`+record.FormatCancelCode(code)[1:]+`"}`), http.StatusBadRequest, api.CodeCancelCode)
	if v, _ := standing(c); v.Status != receipt.Suspended || v.Code != api.CodeCancelled {
		t.Errorf("%+v", v)
	}
	c.rejected(w, item(k.Make(t, registrytest.Spec{Purpose: record.Update, Holder: &holder})), api.CodeSuspended)
	c.rejected(w, item(k.Make(t, registrytest.Spec{Purpose: record.Replace, Holder: &next, Old: &holder})), api.CodeSuspended)

	// The registry is down when it is due.
	r.stop()
	ahead.Store(int64(47 * time.Hour))
	early := serve(t, options())
	time.Sleep(50 * time.Millisecond)
	if v, _ := standing(connect(t, w, early.URL, k.TLS)); v.Status != receipt.Suspended {
		t.Errorf("before it is due: %+v", v)
	}
	early.stop()
	ahead.Store(int64(49 * time.Hour))
	r = serve(t, options())
	c = connect(t, w, r.URL, k.TLS)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		v, _ := standing(c)
		if v.Status == receipt.Revoked && v.Code == api.CodeCancelled {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("when it is due: %+v", v)
		}
	}
	spec := registrytest.Lost(didOf(t, holder))
	spec.Holder = &next
	if v := c.send(k.Make(t, spec)); v.Status != api.Pending {
		t.Errorf("a new key: %+v", v)
	}
	if v, _ := standing(c); v.Code != api.CodeReplaced {
		t.Errorf("%+v", v)
	}
}

// Who sends codes without end is told to wait, whoever else may still send. The
// limiter does not grow.
func TestCancelCodesAreLimited(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	r := serve(t, w.RegistryOptions(noVault))
	public := connect(t, w, r.URL)
	mistyped := []byte(`{"code":"ABCD"}`)
	for i := range 5 {
		if status, b := public.do(http.MethodPost, api.PathCancellations, api.MediaJSON, mistyped); status != http.StatusBadRequest {
			t.Fatalf("code %d: %d %s", i, status, b)
		}
	}
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+api.PathCancellations, bytes.NewReader(mistyped))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", api.MediaJSON)
	a, err := public.http.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	io.Copy(io.Discard, a.Body)
	if a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", a.StatusCode, a.Header.Get("Retry-After"))
	}

	l, now := registry.NewLimiter(), time.Now()
	for range 5 {
		if wait := l.Take("192.0.2.1:1000", now); wait != 0 {
			t.Fatalf("wait %v", wait)
		}
	}
	if wait := l.Take("192.0.2.1:2000", now); wait <= 0 || wait > 20*time.Second {
		t.Errorf("another port of the same: %v", wait)
	}
	if wait := l.Take("192.0.2.1:2000", now.Add(20*time.Second)); wait != 0 {
		t.Errorf("later: %v", wait)
	}
	now = now.Add(time.Minute)
	if l.Take("[2001:db8::1]:1", now); l.Take("[2001:db8::2%eth0]:1", now) != 0 {
		t.Error("a second one of a network")
	}
	for range 3 {
		l.Take("[2001:db8::ffff:1]:1", now)
	}
	if l.Take("[2001:db8::5]:9", now) == 0 {
		t.Error("a network of IPv6 has as many as it has addresses")
	}
	// Many addresses together find the limit of all.
	served := 0
	for i := range 10_000 {
		if l.Take(fmt.Sprintf("198.51.%d.%d:1", i/250, i%250), now) == 0 {
			served++
		}
	}
	if served > 100 || served < 50 {
		t.Errorf("%d of 10000 at once", served)
	}
	if wait := l.Take("203.0.113.7:1", now.Add(10*time.Minute)); wait != 0 {
		t.Errorf("when all is over: %v", wait)
	}
}

// A person at the vault decides: the registry takes the outcome in the place of the
// refusal, and both enrollments follow.
func TestReviewReachesTheRegistry(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t, specimenState(t).CSCA())
	v, err := vault.Open(t.Context(), w.VaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	address, _ := runVault(t, v, "127.0.0.1:0")
	r := serve(t, w.RegistryOptions(address))
	k := w.Kiosk(t, "KIOSK-0001")
	c := connect(t, w, r.URL, k.TLS)
	identity := identityOf(t, idcard.SpecimenPerson())
	one, two := registrytest.NewDevice(t), registrytest.NewDevice(t)
	first, second := k.Make(t, registrytest.Spec{Holder: &one, Identity: identity}), k.Make(t, registrytest.Spec{Holder: &two, Identity: identity})
	c.send(first)
	c.until(first.ID(), "verdict", isDecided)
	c.send(second)
	before := c.until(second.ID(), "verdict", isDecided)
	if before.Status != api.Refused || before.Code != api.CodeReview {
		t.Fatalf("%+v", before)
	}
	if _, err := v.Resolve(t.Context(), second.ID(), vault.Resolution{Decision: receipt.Active, By: "desk", Reason: "the first token was lost"}); err != nil {
		t.Fatal(err)
	}
	c.send(k.Make(t, registrytest.Spec{})) // whatever comes, wakes the role
	after := c.until(second.ID(), "outcome", func(s api.RecordStatus) bool { return s.Verdict != before.Verdict })
	if after.Status != api.Active || after.Code != "" {
		t.Errorf("%+v", after)
	}
	ended := c.until(first.ID(), "outcome", func(s api.RecordStatus) bool { return s.Status == api.Refused })
	if ended.Code != api.CodeReview {
		t.Errorf("%+v", ended)
	}
	if st := c.until(second.ID(), "receipt", hasReceipt); st.Verdict != after.Verdict || st.Standing != "" {
		t.Errorf("%+v", st)
	}
	// DIDs follow: the second goes on, the first does not.
	if v := c.send(k.Make(t, registrytest.Spec{Purpose: record.Update, Holder: &two})); v.Status != api.Pending {
		t.Errorf("%+v", v)
	}
	c.rejected(w, item(k.Make(t, registrytest.Spec{Purpose: record.Update, Holder: &one})), api.CodeHolder)
}

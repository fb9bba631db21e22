package registry_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
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

// broken are the rules that a database does not keep. They hold after every
// transaction: none is kept in a second one.
func (f *arrowsTest) broken() (out []string) {
	f.Helper()
	for rule, sql := range map[string]string{
		"a record has a place in the outbox or a receipt": `SELECT count(*) FROM records WHERE
			(SELECT count(*) FROM unlogged u WHERE u.arrival = records.arrival) + (SELECT count(*) FROM receipts p WHERE p.arrival = records.arrival) <> 1`,
		"a record waits for the vault or has its verdict": `SELECT count(*) FROM records WHERE
			(SELECT count(*) FROM unopened u WHERE u.arrival = records.arrival) + (SELECT count(*) FROM verdicts v WHERE v.arrival = records.arrival) <> 1`,
		"a record has its number and attestation": `SELECT count(*) FROM records r WHERE NOT EXISTS (SELECT FROM links l WHERE l.record = r.id AND l.kiosk = r.kiosk
			AND l.sequence = r.sequence) OR NOT EXISTS (SELECT FROM attestations a WHERE a.arrival = r.arrival)`,
		"a record's DID is known": `SELECT count(*) FROM records r WHERE NOT EXISTS (SELECT FROM holders h WHERE h.did = sha256(convert_to(r.did, 'UTF8')))`,
		"what hangs on a record has it": `SELECT count(*) FROM (SELECT arrival FROM unlogged UNION ALL SELECT arrival FROM unopened UNION ALL SELECT arrival FROM receipts
			UNION ALL SELECT arrival FROM verdicts UNION ALL SELECT arrival FROM attestations UNION ALL SELECT arrival FROM codes) AS all_of_them
			WHERE arrival NOT IN (SELECT arrival FROM records)`,
		"the DID of a refused record has ended": `SELECT count(*) FROM verdicts v JOIN records r USING (arrival) JOIN holders h ON h.did = sha256(convert_to(r.did, 'UTF8'))
			WHERE v.status = 'refused' AND h.record = r.id AND h.ended_by IS NULL`,
		"a fork is kept with its rejection":           `SELECT abs((SELECT count(*) FROM rejections) - (SELECT count(*) FROM forks))`,
		"a cancelled DID is suspended, and only such": `SELECT abs((SELECT count(*) FROM cancellations) - (SELECT count(*) FROM holders WHERE cancelled = 'suspended'))`,
	} {
		if n := f.query(sql); n != "0" {
			out = append(out, fmt.Sprintf("%s: %s times not", rule, n))
		}
	}
	return out
}

// arrow is one of the ways on of a record.
type arrow struct {
	name  string
	sql   string                             // a statement of its transaction
	grows string                             // this number, if the transaction is committed
	begin func(f *arrowsTest) (again func()) // makes work for it; again is what a client repeats
}

var arrows = []arrow{
	{"taken on", "INSERT INTO unlogged", "SELECT count(*) FROM records", (*arrowsTest).enroll},
	{"logged", "INSERT INTO receipts", "SELECT count(*) FROM receipts", (*arrowsTest).enroll},
	{"judged", "INSERT INTO verdicts", "SELECT count(*) FROM verdicts", (*arrowsTest).enroll},
	{"rejected", "INSERT INTO rejections", "SELECT count(*) FROM rejections", (*arrowsTest).fork},
	{"judged anew", "UPDATE verdicts", "SELECT outcomes FROM registry", (*arrowsTest).resolve},
	{"cancelled", "INSERT INTO cancellations", "SELECT count(*) FROM cancellations", (*arrowsTest).cancel},
}

// The registry is killed at every arrow: before its transaction writes, before it
// commits, and when the database has committed and nobody knows yet. The database
// keeps its rules each time, and in the end everything was done once.
func TestKilledAtEveryArrow(t *testing.T) {
	t.Parallel()
	f := newArrows(t)
	for _, a := range arrows {
		for _, m := range registry.Moments {
			again := a.begin(f)
			before := f.query(a.grows)
			f.spawn(registry.Cut{SQL: a.sql, Moment: m}, false)
			f.untilDead(a.name+", killed "+string(m), again)
			if after := f.query(a.grows); (after != before) != (m == registry.AfterCommit) {
				t.Errorf("%s, killed %s: %s, %s before", a.name, m, after, before)
			}
			for _, rule := range f.broken() {
				t.Errorf("%s, killed %s: %s", a.name, m, rule)
			}
		}
	}
	f.spawn(registry.Cut{}, false)
	for id := range f.acked {
		if _, err := f.c.record(id); err != nil {
			t.Errorf("a record that was taken on is lost: %v", err)
		}
	}
	for range 2 {
		f.sendAll(slices.Concat(f.all, f.forks))
	}
	for _, s := range f.all {
		got := f.c.until(s.ID(), "verdict and receipt", func(r api.RecordStatus) bool { return isDecided(r) && hasReceipt(r) })
		if _, err := receipt.Verify([]byte(got.Receipt), f.w.Policy.Policy().Log(), s.ID()); err != nil {
			t.Error(err)
		}
	}
	for _, code := range f.codes {
		if status, b := cancel(t, f.c, code); status != http.StatusAccepted {
			t.Errorf("%d %s", status, b)
		}
	}
	for _, rule := range f.broken() {
		t.Errorf("in the end: %s", rule)
	}
	for sql, want := range map[string]int{"SELECT count(*) FROM records": len(f.all), "SELECT count(*) FROM rejections": len(f.forks),
		"SELECT count(*) FROM cancellations": len(f.codes), "SELECT outcomes FROM registry": 2 * len(registry.Moments)} {
		if n := f.query(sql); n != fmt.Sprint(want) {
			t.Errorf("%s: %s, want %d", sql, n, want)
		}
	}
	found := leaves(t, f.w)
	for i, s := range f.all {
		if n := found[leafOf(s)]; n != 1 {
			t.Errorf("record %d is in the log %d times", i, n)
		}
	}
	if len(found) != len(f.all) {
		t.Errorf("%d leaves for %d records", len(found), len(f.all))
	}
}

// The negative control: a store that writes a record's place in the outbox in a second
// transaction is found by the same cuts and the same rules.
func TestOutboxApartIsFound(t *testing.T) {
	t.Parallel()
	f := newArrows(t)
	again := f.enroll()
	f.spawn(registry.Cut{SQL: arrows[0].sql, Moment: registry.AfterCommit}, true)
	f.untilDead("taken on", again)
	if len(f.broken()) == 0 {
		t.Error("the database is as it should be: the test above could not fail")
	}
}

type arrowsTest struct {
	*testing.T
	w        *registrytest.World
	k        *registrytest.Kiosk
	v        *vault.Vault
	o        registry.Options
	db       string
	c        client
	ended    <-chan struct{}
	kill     func()
	people   int
	all      []record.Submission
	forks    []record.Submission
	codes    []string
	acked    map[[32]byte]bool
	verdicts map[[32]byte]string // rejections that were seen
}

func newArrows(t *testing.T) *arrowsTest {
	t.Helper()
	w := registrytest.New(t, specimenState(t).CSCA())
	v, err := vault.Open(t.Context(), w.VaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	at, _ := runVault(t, v, "127.0.0.1:0")
	f := &arrowsTest{T: t, w: w, k: w.Kiosk(t, "KIOSK-0001"), v: v, o: w.RegistryOptions(at), kill: func() {}, acked: map[[32]byte]bool{}, verdicts: map[[32]byte]string{}}
	f.o.Database, f.db = database(t)
	enlist(t, w, f.o.Database, f.k)
	return f
}

func (f *arrowsTest) query(sql string) string {
	f.Helper()
	c, err := cluster()
	if err != nil {
		f.Fatal(err)
	}
	out, err := c.Query(f.Context(), f.db, sql)
	if err != nil {
		f.Fatal(err)
	}
	return out
}

// spawn starts a registry, in place of the one before, that is killed at a cut.
func (f *arrowsTest) spawn(cut registry.Cut, outboxApart bool) {
	f.Helper()
	f.kill()
	var url string
	url, f.kill, f.ended = spawnCut(f.T, f.o, cut, outboxApart)
	f.c = connect(f.T, f.w, url, f.k.TLS)
}

// dead says whether the registry is.
func (f *arrowsTest) dead() bool {
	select {
	case <-f.ended:
		return true
	default:
		return false
	}
}

// untilDead repeats what a client does until the registry is dead.
func (f *arrowsTest) untilDead(what string, do func()) {
	f.Helper()
	for late := time.Now().Add(time.Minute); !f.dead(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			f.Fatalf("%s: it lives", what)
		}
		do()
	}
}

// send sends records; what comes of it is noted. A registry that is killed does not
// answer.
func (f *arrowsTest) send(subs ...record.Submission) {
	f.Helper()
	var items []api.Item
	for _, s := range subs {
		items = append(items, item(s))
	}
	a, err := f.c.http.Post(f.c.url+api.PathRecords, api.MediaJSON, bytes.NewReader(batch(items...)))
	if err != nil {
		return
	}
	defer a.Body.Close()
	result, err := api.Decode[api.BatchResult](a.Body)
	if err != nil {
		return
	}
	for _, v := range result.Verdicts {
		switch v.Status {
		case api.Pending, api.Accepted:
			f.acked[v.ID] = true
		case api.Rejected:
			if before := f.verdicts[v.ID]; before != "" && before != v.Verdict {
				f.Errorf("another rejection than before")
			}
			f.verdicts[v.ID] = v.Verdict
		}
	}
}

// sendAll sends records to a registry that is not cut until each is taken on or rejected.
func (f *arrowsTest) sendAll(subs []record.Submission) {
	f.Helper()
	for some := range slices.Chunk(subs, 16) {
		open := func(s record.Submission) bool { return !f.acked[s.ID()] && f.verdicts[s.ID()] == "" }
		f.send(some...)
		for late := time.Now().Add(time.Minute); slices.ContainsFunc(some, open); time.Sleep(50 * time.Millisecond) {
			if f.send(some...); time.Now().After(late) {
				f.Fatal("records are not taken on")
			}
		}
	}
}

func (f *arrowsTest) make(n int, spec func() registrytest.Spec) []record.Submission {
	f.Helper()
	var subs []record.Submission
	for range n {
		subs = append(subs, f.k.Make(f.T, spec()))
	}
	f.all = append(f.all, subs...)
	return subs
}

func (f *arrowsTest) enroll() func() {
	subs := f.make(3, func() registrytest.Spec { return registrytest.Spec{} })
	return func() { f.send(subs...) }
}

// fork contradicts what the registry holds, once it has been sent again what it did
// not live to take on.
func (f *arrowsTest) fork() func() {
	f.Helper()
	f.spawn(registry.Cut{}, false)
	f.sendAll(f.all)
	s := f.k.Make(f.T, registrytest.Spec{Context: func(c *record.Context) { c.Sequence = 1 }})
	f.forks = append(f.forks, s)
	return func() { f.send(s) }
}

// person is somebody new.
func (f *arrowsTest) person() idcard.Person {
	p := idcard.SpecimenPerson()
	f.people++
	p.Number, p.GivenNames = fmt.Sprintf("L8989%04d", f.people), strings.Repeat("A", f.people)
	return p
}

// settled enrolls with a registry that is not cut, and waits for the verdict.
func (f *arrowsTest) settled(spec registrytest.Spec, want api.Status) record.Submission {
	f.Helper()
	s := f.make(1, func() registrytest.Spec { return spec })[0]
	f.send(s)
	if got := f.c.until(s.ID(), "verdict", isDecided); got.Status != want {
		f.Fatalf("%+v", got)
	}
	return s
}

// resolve has a person decide about somebody who was enrolled twice.
func (f *arrowsTest) resolve() func() {
	f.Helper()
	f.spawn(registry.Cut{}, false)
	identity := identityOf(f.T, f.person())
	f.settled(registrytest.Spec{Identity: identity}, api.Active)
	second := f.settled(registrytest.Spec{Identity: identity}, api.Refused)
	f.kill()
	if _, err := f.v.Resolve(f.Context(), second.ID(), vault.Resolution{Decision: receipt.Active, By: "desk", Reason: "the first token was lost"}); err != nil {
		f.Fatal(err)
	}
	return func() {}
}

func (f *arrowsTest) cancel() func() {
	f.Helper()
	f.spawn(registry.Cut{}, false)
	var code [16]byte
	rand.Read(code[:])
	f.settled(registrytest.Spec{Identity: identityOf(f.T, f.person()), Payload: withCode(code)}, api.Active)
	f.codes = append(f.codes, record.FormatCancelCode(code))
	body, err := json.Marshal(api.Cancellation{Code: record.FormatCancelCode(code)})
	if err != nil {
		f.Fatal(err)
	}
	return func() {
		if a, err := f.c.http.Post(f.c.url+api.PathCancellations, api.MediaJSON, bytes.NewReader(body)); err == nil {
			a.Body.Close()
		}
	}
}

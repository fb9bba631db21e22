package registry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/registrytest"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// reporter is a kiosk that reports.
type reporter struct {
	client
	kiosk *registrytest.Kiosk
	dir   string
}

func report(t *testing.T, w *registrytest.World, url, id string) reporter {
	t.Helper()
	k := w.Kiosk(t, id)
	return reporter{connect(t, w, url, k.TLS), k, w.RegistryDir()}
}

// days makes a report of one officer's days, counting from a day ago.
func (r reporter) days(counter uint64, entries ...receipt.ActivityEntry) receipt.Activity {
	now := time.Now().UTC().Truncate(time.Second)
	return receipt.Activity{Kiosk: r.kiosk.ID, Audience: registrytest.Origin, Time: now, Counter: counter,
		From: receipt.DayOf(now.AddDate(0, 0, -20)), Entries: entries}
}

func (r reporter) sign(a receipt.Activity, by record.Signer) []byte {
	r.t.Helper()
	b, err := receipt.SignActivity(context.Background(), a, by)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r reporter) send(b []byte) {
	r.t.Helper()
	if status, answer := r.do(http.MethodPost, api.PathActivity, api.MediaJOSE, b); status != http.StatusOK {
		r.t.Errorf("report: %d %s", status, answer)
	}
}

// kept is what the registry has of this kiosk, as another process reads it.
func (r reporter) kept() registry.KioskActivity {
	r.t.Helper()
	list, err := registry.ActivitiesIn(r.dir).List(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, k := range list {
		if k.Kiosk == r.kiosk.ID {
			return k
		}
	}
	return registry.KioskActivity{}
}

func (r reporter) alarms(want ...string) {
	r.t.Helper()
	var got []string
	for _, a := range r.kept().Alarms {
		got = append(got, fmt.Sprintf("%s %d", a.Kind, a.Count))
	}
	if !reflect.DeepEqual(got, want) {
		r.t.Errorf("alarms %q, want %q", got, want)
	}
}

func ago(days int) receipt.Day { return receipt.DayOf(time.Now().UTC().AddDate(0, 0, -days)) }

// Counts are kept as they grow, by day and officer. Sending again changes
// nothing; counts that fall, in whatever way, change nothing and raise an alarm.
func TestActivityNeverFalls(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, "[limits]\nreads_without_enrollment = 100\n", nil)
	served := serve(t, w.RegistryOptions(noVault))
	r := report(t, w, served.URL, "KIOSK-0001")
	one, two := receipt.Officer{1}, receipt.Officer{2}
	first := r.sign(r.days(7, receipt.ActivityEntry{Day: ago(2), Officer: one, Reads: 4, Enrollments: 3}), r.kiosk.Record)
	full := r.days(12, receipt.ActivityEntry{Day: ago(2), Officer: one, Reads: 4, Enrollments: 3}, receipt.ActivityEntry{Day: ago(2), Officer: two, Reads: 2},
		receipt.ActivityEntry{Day: ago(1), Officer: one, Reads: 2, Enrollments: 1})
	r.send(first)
	r.send(r.sign(full, r.kiosk.Record))
	r.send(r.sign(full, r.kiosk.Record))
	want := r.kept()
	if want.Counter != 12 || !reflect.DeepEqual(want.Entries, full.Entries) {
		t.Errorf("kept %+v", want)
	}
	r.alarms()
	full.From = ago(1) // old days need not be reported for ever
	full.Entries = full.Entries[2:]
	r.send(r.sign(full, r.kiosk.Record))
	r.alarms()
	for name, change := range map[string]func(*receipt.Activity){
		"the counter falls":  func(a *receipt.Activity) { a.Counter = 11 },
		"a count falls":      func(a *receipt.Activity) { a.Entries[0].Reads = 1 },
		"an officer is gone": func(a *receipt.Activity) { a.Entries = a.Entries[1:] },
		"all is gone":        func(a *receipt.Activity) { a.Entries, a.Counter = nil, 0 },
	} {
		other := report(t, w, served.URL, "KIOSK-"+strings.ReplaceAll(name, " ", "-"))
		a := other.days(12, want.Entries...)
		other.send(other.sign(a, other.kiosk.Record))
		a.Entries = append([]receipt.ActivityEntry(nil), a.Entries...)
		change(&a)
		other.send(other.sign(a, other.kiosk.Record))
		got := other.kept()
		if got.Counter != 12 || !reflect.DeepEqual(got.Entries, want.Entries) {
			t.Errorf("%s: kept %+v", name, got)
		}
		if len(got.Alarms) != 1 || got.Alarms[0].Kind != registry.CountsFell {
			t.Errorf("%s: alarms %+v", name, got.Alarms)
		}
	}
	r.send(first) // replayed: nothing but an alarm
	if got := r.kept(); got.Counter != 12 || !reflect.DeepEqual(got.Entries, want.Entries) {
		t.Errorf("after a replay: %+v", got)
	}
	r.alarms("counts-fell 5")
	served.stop()
	serve(t, w.RegistryOptions(noVault))
	r.alarms("counts-fell 5")
}

// Documents that are opened and not enrolled are alarmed of beyond the policy's
// limit, over all kiosks; one may be under way today.
func TestReadsWithoutEnrollment(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, "[limits]\nreads_without_enrollment = 5\n", nil)
	served := serve(t, w.RegistryOptions(noVault))
	here, there := report(t, w, served.URL, "KIOSK-0001"), report(t, w, served.URL, "KIOSK-0002")
	send := func(r reporter, counter uint64, days int, reads, enrollments uint64) {
		r.send(r.sign(r.days(counter, receipt.ActivityEntry{Day: ago(days), Officer: receipt.Officer{1}, Reads: reads, Enrollments: enrollments}), r.kiosk.Record))
	}
	send(here, 15, 3, 10, 5)
	here.alarms()
	send(there, 1, 3, 1, 0) // the sixth
	there.alarms("reads-without-enrollment 6")
	send(there, 1, 3, 1, 0) // said once
	there.alarms("reads-without-enrollment 6")
	today := report(t, w, served.URL, "KIOSK-0003")
	send(today, 6, 0, 6, 0)
	today.alarms()
	send(today, 7, 0, 7, 0)
	today.alarms("reads-without-enrollment 6")
	quiet := report(t, w, served.URL, "KIOSK-0004")
	send(quiet, 9, 9, 2, 7) // begun the day before
	quiet.alarms()
}

// A report counts by the record key of the kiosk whose TLS certificate brings it.
func TestForgedReports(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	served := serve(t, w.RegistryOptions(noVault))
	r, other := report(t, w, served.URL, "KIOSK-0001"), report(t, w, served.URL, "KIOSK-0002")
	honest := r.days(3, receipt.ActivityEntry{Day: ago(1), Officer: receipt.Officer{1}, Reads: 2, Enrollments: 1})
	good := r.sign(honest, r.kiosk.Record)
	change := func(f func(*receipt.Activity)) receipt.Activity {
		a := honest
		f(&a)
		return a
	}
	altered := bytes.Clone(good)
	altered[len(altered)-3] ^= 1
	for name, b := range map[string][]byte{
		"another kiosk's":   other.sign(other.days(3), other.kiosk.Record),
		"by another kiosk":  r.sign(honest, other.kiosk.Record),
		"by anybody":        r.sign(honest, registrytest.NewDevice(t)),
		"in another's name": r.sign(change(func(a *receipt.Activity) { a.Kiosk = "KIOSK-0002" }), r.kiosk.Record),
		"for another log":   r.sign(change(func(a *receipt.Activity) { a.Audience = "other.example/log" }), r.kiosk.Record),
		"from the future":   r.sign(change(func(a *receipt.Activity) { a.Time = a.Time.AddDate(0, 0, 2) }), r.kiosk.Record),
		"altered":           altered,
		"cut short":         good[:len(good)-1],
		"nothing":           nil,
		"a receipt instead": []byte("{}"),
	} {
		t.Run(name, func(t *testing.T) {
			client{t, r.url, r.http}.problem(http.MethodPost, api.PathActivity, api.MediaJOSE, b, http.StatusBadRequest, api.CodeBadRequest)
		})
	}
	r.problem(http.MethodPost, api.PathActivity, api.MediaJSON, good, http.StatusUnsupportedMediaType, api.CodeMedia)
	r.problem(http.MethodGet, api.PathActivity, "", nil, http.StatusMethodNotAllowed, api.CodeMethod)
	r.problem(http.MethodPost, api.PathActivity, api.MediaJOSE, make([]byte, receipt.MaxActivity+1), http.StatusRequestEntityTooLarge, api.CodeTooLarge)
	connect(t, w, served.URL).problem(http.MethodPost, api.PathActivity, api.MediaJOSE, good, http.StatusForbidden, api.CodeNoKiosk)
	if k := r.kept(); k.Kiosk != "" {
		t.Errorf("kept %+v", k)
	}
	r.send(good)
	if k := r.kept(); k.Counter != 3 || len(k.Entries) != 1 {
		t.Errorf("the honest one: %+v", k)
	}
}

// An enrollment above an officer's quota is taken on and told of: the citizen
// does not pay for it. Repeats and other officers do not count.
func TestOverQuota(t *testing.T) {
	t.Parallel()
	w := registrytest.New(t)
	w.Accept(t, "[[officer_roles]]\nunit = \"front\"\nroles = [\"officer\"]\nquota = 2\n", nil)
	served := serve(t, w.RegistryOptions(noVault))
	r := report(t, w, served.URL, "KIOSK-0001")
	busy, idle := w.Officers.Officer(t, "1", unit("front")), w.Officers.Officer(t, "2", unit("front"))
	at := time.Now().UTC().Add(-time.Minute).Truncate(time.Second)
	made := func(o registrytest.Officer) record.Submission {
		return r.kiosk.Make(t, registrytest.Spec{Officer: &o, Payload: func(p *record.Payload) { p.Times.Wall, p.Times.Registry = at, at }})
	}
	one := made(busy)
	for _, s := range []record.Submission{one, one, made(busy), made(idle)} {
		if v := r.client.send(s); v.Status == api.Rejected {
			t.Errorf("%+v", v)
		}
	}
	r.alarms()
	for n := range 2 {
		if v := r.client.send(made(busy)); v.Status != api.Pending {
			t.Errorf("%+v", v)
		}
		r.alarms(fmt.Sprintf("over-quota %d", 3+n))
	}
	a := r.kept().Alarms[0]
	if a.Day != receipt.DayOf(at) || a.Officer != sha256.Sum256(busy.Chain[0]) {
		t.Errorf("%+v", a)
	}
}

package registry

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"enrollkiosk/registry/api"
	"enrollkiosk/registry/internal/keyfile"
	"enrollkiosk/registry/internal/reply"
	"enrollkiosk/registry/receipt"
)

// KioskActivity is what a kiosk has reported of its officers, and what people
// should look at.
type KioskActivity struct {
	Kiosk    string                  `json:"kiosk"`
	Counter  uint64                  `json:"counter"`  // the highest that it reported
	Reported time.Time               `json:"reported"` // when, by its own clock
	Entries  []receipt.ActivityEntry `json:"entries"`  // the highest counts that it reported, by day and officer
	Alarms   []Alarm                 `json:"alarms"`
}

// Alarm is something for a person to look into. Nothing was refused for it.
type Alarm struct {
	Kind    AlarmKind       `json:"kind"`
	Day     receipt.Day     `json:"day"`
	Officer receipt.Officer `json:"officer"` // zero where it is about the kiosk
	Count   uint64          `json:"count"`
	Time    time.Time       `json:"time"`
}

// AlarmKind says what an Alarm is about.
type AlarmKind string

const (
	// OverQuota: an officer approved Count enrollments on the day, more than the
	// policy's quota.
	OverQuota AlarmKind = "over-quota"
	// UnusedReads: an officer opened Count documents on the day without an enrollment,
	// over all kiosks, more than the policy's limit.
	UnusedReads AlarmKind = "reads-without-enrollment"
	// CountsFell: the kiosk reported less than before, by Count at least. Its disk was
	// put back to an older day, or its counts were removed.
	CountsFell AlarmKind = "counts-fell"
)

// keepActivity is how long the registry remembers an officer's day.
const keepActivity = 400 * 24 * time.Hour

// Activities are what kiosks reported: one file for each, so that they can be read
// while the registry serves.
type Activities struct{ dir string }

// ActivitiesIn are those in a registry's directory.
func ActivitiesIn(dir string) Activities { return Activities{filepath.Join(dir, dirActivity)} }

// List is what every kiosk reported, by id.
func (a Activities) List() ([]KioskActivity, error) {
	entries, err := os.ReadDir(a.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list activity: %w", err)
	}
	var out []KioskActivity
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !api.ValidKioskID(id) {
			continue
		}
		var k KioskActivity
		if err := read(filepath.Join(a.dir, e.Name()), id, &k); err != nil {
			return nil, fmt.Errorf("activity: %w", err)
		}
		if k.Kiosk != id {
			return nil, fmt.Errorf("activity: %s is damaged: it speaks of another kiosk", e.Name())
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b KioskActivity) int { return strings.Compare(a.Kiosk, b.Kiosk) })
	return out, nil
}

// activities are Activities of a registry that serves: it alone writes them.
type activities struct {
	dir    string
	log    *slog.Logger
	mu     sync.Mutex
	kiosks map[string]KioskActivity
}

func openActivities(dir string, log *slog.Logger) (*activities, error) {
	files := ActivitiesIn(dir)
	if err := os.Mkdir(files.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("activity: %w", err)
	}
	list, err := files.List()
	if err != nil {
		return nil, err
	}
	a := &activities{dir: files.dir, log: log, kiosks: map[string]KioskActivity{}}
	for _, k := range list {
		a.kiosks[k.Kiosk] = k
	}
	return a, nil
}

// take merges a verified report. Counts never fall: a report that says less than
// one before, late, sent again or made up, changes none and raises an alarm.
// limit is that of the policy.
func (a *activities) take(r receipt.Activity, limit uint64, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.kiosks[r.Kiosk]
	next := KioskActivity{Kiosk: r.Kiosk, Counter: max(old.Counter, r.Counter), Reported: r.Time, Alarms: slices.Clone(old.Alarms)}
	var fell uint64
	less := func(before, after uint64) {
		if after < before {
			fell = max(fell, before-after)
		}
	}
	less(old.Counter, r.Counter)
	next.Entries = slices.Clone(r.Entries)
	for _, e := range old.Entries {
		i, found := slices.BinarySearchFunc(next.Entries, e, receipt.ActivityEntry.Compare)
		switch {
		case found:
			less(e.Reads, next.Entries[i].Reads)
			less(e.Enrollments, next.Entries[i].Enrollments)
			next.Entries[i].Reads = max(e.Reads, next.Entries[i].Reads)
			next.Entries[i].Enrollments = max(e.Enrollments, next.Entries[i].Enrollments)
		case e.Day >= r.From:
			less(e.Reads+e.Enrollments, 0)
			fallthrough
		default:
			next.Entries = slices.Insert(next.Entries, i, e)
		}
	}
	oldest := receipt.DayOf(now.Add(-keepActivity))
	next.Entries = slices.DeleteFunc(next.Entries, func(e receipt.ActivityEntry) bool { return e.Day < oldest })
	if fell > 0 {
		a.note(&next, Alarm{Kind: CountsFell, Day: receipt.DayOf(now), Count: fell, Time: now})
	}
	for _, e := range r.Entries {
		if unused := a.unused(next, e, receipt.DayOf(r.Time)); unused > limit {
			a.note(&next, Alarm{UnusedReads, e.Day, e.Officer, unused, now})
		}
	}
	return a.keep(next)
}

// unused is how many documents an officer opened on a day without an enrollment,
// at all kiosks. On the day that has not ended yet one may be under way at each.
func (a *activities) unused(of KioskActivity, e receipt.ActivityEntry, today receipt.Day) uint64 {
	var reads, enrollments, underWay uint64
	add := func(k KioskActivity) {
		if i, found := slices.BinarySearchFunc(k.Entries, e, receipt.ActivityEntry.Compare); found {
			reads += k.Entries[i].Reads
			enrollments += k.Entries[i].Enrollments
			if e.Day >= today {
				underWay++
			}
		}
	}
	add(of)
	for id, k := range a.kiosks {
		if id != of.Kiosk {
			add(k)
		}
	}
	return reads - min(reads, enrollments+underWay)
}

// alarm keeps an alarm about a kiosk.
func (a *activities) alarm(kiosk string, alarm Alarm) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.kiosks[kiosk]
	k.Kiosk, k.Alarms = kiosk, slices.Clone(k.Alarms)
	a.note(&k, alarm)
	return a.keep(k)
}

// note says an alarm once for each day, officer and kind, and again when it grows.
func (a *activities) note(k *KioskActivity, alarm Alarm) {
	i := slices.IndexFunc(k.Alarms, func(o Alarm) bool {
		return o.Kind == alarm.Kind && o.Day == alarm.Day && o.Officer == alarm.Officer
	})
	switch {
	case i < 0:
		k.Alarms = append(k.Alarms, alarm)
	case k.Alarms[i].Count >= alarm.Count:
		return
	default:
		k.Alarms[i] = alarm
	}
	a.log.Warn("alarm", "kind", alarm.Kind, "kiosk", k.Kiosk, "day", alarm.Day, "officer", api.ID(alarm.Officer), "count", alarm.Count)
}

// keep makes a kiosk's activity durable; the lock is held.
func (a *activities) keep(k KioskActivity) error {
	b, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if err := keyfile.Replace(filepath.Join(a.dir, k.Kiosk+".json"), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep activity: %w", err)
	}
	a.kiosks[k.Kiosk] = k
	return nil
}

// reportAhead is how far ahead of this registry a kiosk's clock may be.
const reportAhead = 24 * time.Hour

func (r *Registry) postActivity(w http.ResponseWriter, q *http.Request) {
	sender, ok := r.sender(q)
	if !ok {
		reply.Problem(w, http.StatusForbidden, api.CodeNoKiosk, "only a registered kiosk may report", 0)
		return
	}
	if !api.IsMedia(q.Header.Get("Content-Type"), api.MediaJOSE) {
		reply.Problem(w, http.StatusUnsupportedMediaType, api.CodeMedia, "send "+api.MediaJOSE, 0)
		return
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, q.Body, receipt.MaxActivity+1))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), len(b) > receipt.MaxActivity:
		reply.Problem(w, http.StatusRequestEntityTooLarge, api.CodeTooLarge, "the report is too large", 0)
		return
	case err != nil:
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body did not arrive", 0)
		return
	}
	own := func(key crypto.PublicKey) bool {
		spki, err := x509.MarshalPKIXPublicKey(key)
		return err == nil && sender.hasRecordKey(spki)
	}
	v, err := receipt.VerifyActivity(b, own, sender.ID, r.origin)
	if err == nil && v.Claims().Time.After(r.now().Add(reportAhead)) {
		err = errors.New("from the future")
	}
	if err != nil {
		r.opts.Log.Warn("report refused", "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is no report of this kiosk", 0)
		return
	}
	if err := r.activity.take(v.Claims(), r.opts.Policy.Policy().Limits.ReadsWithoutEnrollment, r.now()); err != nil {
		r.opts.Log.Error("report not kept", "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "send again", retryAfter)
		return
	}
	r.getTime(w, q)
}

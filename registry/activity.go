package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"enrollkiosk/registry/api"
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

// Activities are what kiosks reported. They can be read while the registry serves.
type Activities struct {
	list func(ctx context.Context) ([]KioskActivity, error)
}

// ActivitiesIn are those in the directory of a registry that has no database.
func ActivitiesIn(dir string) Activities {
	return Activities{func(context.Context) ([]KioskActivity, error) { return readActivities(dir) }}
}

// List is what every kiosk reported, by id.
func (a Activities) List(ctx context.Context) ([]KioskActivity, error) { return a.list(ctx) }

// activities takes reports and raises alarms.
type activities struct {
	store reports
	log   *slog.Logger
}

// take merges a verified report. Counts never fall: a report that says less than
// one before, late, sent again or made up, changes none and raises an alarm.
// limit is that of the policy.
func (a activities) take(ctx context.Context, r receipt.Activity, limit uint64, now time.Time) error {
	var raised []Alarm
	err := a.store.ChangeActivity(ctx, r.Kiosk, r.Entries, func(own *KioskActivity, others []tally) {
		raised = own.merge(r, others, limit, now)
	})
	return a.said(r.Kiosk, raised, err)
}

// alarm keeps an alarm about a kiosk.
func (a activities) alarm(ctx context.Context, kiosk string, alarm Alarm) error {
	var raised []Alarm
	err := a.store.ChangeActivity(ctx, kiosk, nil, func(own *KioskActivity, _ []tally) {
		raised = own.note(nil, alarm)
	})
	return a.said(kiosk, raised, err)
}

// said logs alarms that are kept.
func (a activities) said(kiosk string, raised []Alarm, err error) error {
	if err != nil {
		return err
	}
	for _, alarm := range raised {
		a.log.Warn("alarm", "kind", alarm.Kind, "kiosk", kiosk, "day", alarm.Day, "officer", api.ID(alarm.Officer), "count", alarm.Count)
	}
	return nil
}

// merge is take for one kiosk, with the other kiosks' counts for r's entries. It
// returns the alarms that are new.
func (k *KioskActivity) merge(r receipt.Activity, others []tally, limit uint64, now time.Time) (raised []Alarm) {
	var fell uint64
	less := func(before, after uint64) {
		if after < before {
			fell = max(fell, before-after)
		}
	}
	less(k.Counter, r.Counter)
	old := k.Entries
	k.Counter, k.Reported, k.Entries = max(k.Counter, r.Counter), r.Time, slices.Clone(r.Entries)
	for _, e := range old {
		i, found := slices.BinarySearchFunc(k.Entries, e, receipt.ActivityEntry.Compare)
		switch {
		case found:
			less(e.Reads, k.Entries[i].Reads)
			less(e.Enrollments, k.Entries[i].Enrollments)
			k.Entries[i].Reads = max(e.Reads, k.Entries[i].Reads)
			k.Entries[i].Enrollments = max(e.Enrollments, k.Entries[i].Enrollments)
		case e.Day >= r.From:
			less(e.Reads+e.Enrollments, 0)
			fallthrough
		default:
			k.Entries = slices.Insert(k.Entries, i, e)
		}
	}
	oldest := receipt.DayOf(now.Add(-keepActivity))
	k.Entries = slices.DeleteFunc(k.Entries, func(e receipt.ActivityEntry) bool { return e.Day < oldest })
	if fell > 0 {
		raised = k.note(raised, Alarm{Kind: CountsFell, Day: receipt.DayOf(now), Count: fell, Time: now})
	}
	for n, e := range r.Entries {
		sum := others[n]
		if i, found := slices.BinarySearchFunc(k.Entries, e, receipt.ActivityEntry.Compare); found {
			sum.add(k.Entries[i])
		}
		if unused := sum.unused(e.Day >= receipt.DayOf(r.Time)); unused > limit {
			raised = k.note(raised, Alarm{UnusedReads, e.Day, e.Officer, unused, now})
		}
	}
	return raised
}

func (t *tally) add(e receipt.ActivityEntry) {
	t.reads += e.Reads
	t.enrollments += e.Enrollments
	t.kiosks++
}

// unused is how many documents an officer opened on a day without an enrollment.
// On the day that has not ended yet one may be under way at each kiosk.
func (t tally) unused(today bool) uint64 {
	used := t.enrollments
	if today {
		used += t.kiosks
	}
	return t.reads - min(t.reads, used)
}

// note says an alarm once for each day, officer and kind, and again when it grows.
// What it says is added to raised.
func (k *KioskActivity) note(raised []Alarm, alarm Alarm) []Alarm {
	i := slices.IndexFunc(k.Alarms, func(o Alarm) bool {
		return o.Kind == alarm.Kind && o.Day == alarm.Day && o.Officer == alarm.Officer
	})
	switch {
	case i < 0:
		k.Alarms = append(k.Alarms, alarm)
	case k.Alarms[i].Count >= alarm.Count:
		return raised
	default:
		k.Alarms[i] = alarm
	}
	return append(raised, alarm)
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
	v, err := receipt.VerifyActivity(b, sender.signs, sender.ID, r.origin)
	if err == nil && v.Claims().Time.After(r.now().Add(reportAhead)) {
		err = errors.New("from the future")
	}
	if err != nil {
		r.opts.Log.Warn("report refused", "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusBadRequest, api.CodeBadRequest, "the body is no report of this kiosk", 0)
		return
	}
	if err := r.activity.take(q.Context(), v.Claims(), r.opts.Policy.Policy().Limits.ReadsWithoutEnrollment, r.now()); err != nil {
		r.opts.Log.Error("report not kept", "kiosk", sender.ID, "error", err)
		reply.Problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "send again", retryAfter)
		return
	}
	r.getTime(w, q)
}

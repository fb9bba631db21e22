package station

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"enrollkiosk/kiosk/durable"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
	"enrollkiosk/sync/queue"
)

// activityFile keeps what officers did at this kiosk, until it has been reported.
const activityFile = "activity.json"

// keepDays is how long a reported day is kept.
const keepDays = 30

// activity is kiosk.Activity on one file, which is written whole for each count. A
// file that was put back to an older day is found out by the registry: counts
// that it has seen never fall.
type activity struct {
	file string
	mu   sync.Mutex
	kept counts
	told bool // the registry has had a report since the start
}

// counts are what activityFile holds.
type counts struct {
	Counter  uint64                  `json:"counter"`  // everything ever counted
	Reported uint64                  `json:"reported"` // Counter of the last report that the registry took
	From     receipt.Day             `json:"from"`     // nothing before is kept any more
	Entries  []receipt.ActivityEntry `json:"entries"`
}

// openActivity reads the counts. A file that is not in order is an error: counts
// never begin anew over damage.
func openActivity(c Config, now time.Time) (*activity, error) {
	a := &activity{file: c.in(activityFile)}
	b, err := os.ReadFile(a.file)
	if errors.Is(err, os.ErrNotExist) {
		a.kept.From = receipt.DayOf(now)
		return a, nil
	}
	if err == nil {
		err = strictly(b, &a.kept)
	}
	if err != nil {
		return nil, fmt.Errorf("counts of officers' activity, %s: %w", a.file, err)
	}
	return a, nil
}

// Opened implements kiosk.Activity.
func (a *activity) Opened(officer [32]byte, at time.Time) error {
	return a.count(officer, at, func(e *receipt.ActivityEntry) { e.Reads++ })
}

// Enrolled implements kiosk.Activity.
func (a *activity) Enrolled(officer [32]byte, at time.Time) error {
	return a.count(officer, at, func(e *receipt.ActivityEntry) { e.Enrollments++ })
}

func (a *activity) count(officer [32]byte, at time.Time, add func(*receipt.ActivityEntry)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.kept
	next.Entries = slices.Clone(next.Entries)
	want := receipt.ActivityEntry{Day: receipt.DayOf(at), Officer: officer}
	i, found := slices.BinarySearchFunc(next.Entries, want, receipt.ActivityEntry.Compare)
	if !found {
		next.Entries = slices.Insert(next.Entries, i, want)
	}
	add(&next.Entries[i])
	next.Counter++
	next.From = min(next.From, want.Day) // a clock that was set back
	return a.keep(next)
}

// keep makes counts durable; the lock is held.
func (a *activity) keep(next counts) error {
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := durable.Replace(a.file, append(b, '\n')); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", queue.ErrFull, err)
		}
		return fmt.Errorf("keep counts: %w", err)
	}
	a.kept = next
	return nil
}

// Enrollments implements kiosk.Activity.
func (a *activity) Enrollments(officer [32]byte, at time.Time) (own, all uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	day := receipt.DayOf(at)
	for _, e := range a.kept.Entries {
		if e.Day != day {
			continue
		}
		all += e.Enrollments
		if e.Officer == receipt.Officer(officer) {
			own += e.Enrollments
		}
	}
	return own, all
}

// report sends what has not been reported, and once after each start all that is
// kept, so that the registry sees whether it is all. It is signed by the
// kiosk's record key. Old days that the registry has taken are forgotten.
func (a *activity) report(ctx context.Context, kiosk, audience string, now time.Time, key record.Signer, send func(context.Context, []byte) error) error {
	a.mu.Lock()
	s := receipt.Activity{Kiosk: kiosk, Audience: audience, Time: now.UTC().Truncate(time.Second), Counter: a.kept.Counter, From: a.kept.From,
		Entries: slices.Clone(a.kept.Entries)}
	nothing := a.told && a.kept.Counter == a.kept.Reported
	a.mu.Unlock()
	if nothing {
		return nil
	}
	b, err := receipt.SignActivity(ctx, s, key)
	if err != nil {
		return fmt.Errorf("sign activity: %w", err)
	}
	if err := send(ctx, b); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = true
	next := a.kept
	if next.Reported == s.Counter {
		return nil
	}
	next.Reported = s.Counter
	// Days that are over have been reported whole.
	if from := receipt.DayOf(now.AddDate(0, 0, -keepDays)); from > next.From {
		next.From = from
		next.Entries = slices.DeleteFunc(slices.Clone(next.Entries), func(e receipt.ActivityEntry) bool { return e.Day < from })
	}
	return a.keep(next)
}

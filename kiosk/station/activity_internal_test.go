package station

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

var (
	firstOfficer, secondOfficer = [32]byte{1}, [32]byte{2}
	monday                      = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
)

func activityIn(t *testing.T, dir string) *activity {
	t.Helper()
	a, err := openActivity(Config{Kiosk: KioskConfig{State: dir}}, monday)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func good(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A count is on the disk when it has been counted: nothing is closed here, as
// nothing is when the power fails. Days are those of UTC.
func TestCountsSurvive(t *testing.T) {
	dir := t.TempDir()
	a := activityIn(t, dir)
	good(t, a.Opened(firstOfficer, monday))
	good(t, a.Opened(firstOfficer, monday))
	good(t, a.Enrolled(firstOfficer, monday))
	good(t, a.Opened(secondOfficer, monday.In(time.FixedZone("", 20*3600)))) // still Monday
	good(t, a.Enrolled(secondOfficer, monday.AddDate(0, 0, 1)))
	b := activityIn(t, dir)
	for _, c := range []struct {
		officer  [32]byte
		at       time.Time
		own, all uint64
	}{{firstOfficer, monday, 1, 1}, {secondOfficer, monday, 0, 1}, {secondOfficer, monday.AddDate(0, 0, 1), 1, 1}, {firstOfficer, monday.AddDate(0, 0, 2), 0, 0}} {
		if own, all := b.Enrollments(c.officer, c.at); own != c.own || all != c.all {
			t.Errorf("%v: %d of %d", c.at, own, all)
		}
	}
	if b.kept.Counter != 5 || len(b.kept.Entries) != 3 || b.kept.Entries[0].Reads != 2 {
		t.Errorf("%+v", b.kept)
	}
}

// Damage is an error: counts never begin anew over it. Nor is anything counted
// that cannot be kept.
func TestCountsOverDamage(t *testing.T) {
	dir := t.TempDir()
	a := activityIn(t, dir)
	good(t, a.Opened(firstOfficer, monday))
	file := filepath.Join(dir, activityFile)
	whole, err := os.ReadFile(file)
	good(t, err)
	for _, damage := range []string{"", "{", strings.Replace(string(whole), "counter", "couNter1", 1), strings.Replace(string(whole), "01", "zz", 1)} {
		good(t, os.WriteFile(file, []byte(damage), 0o600))
		if _, err := openActivity(Config{Kiosk: KioskConfig{State: dir}}, monday); err == nil || !strings.Contains(err.Error(), activityFile) {
			t.Errorf("%q: %v", damage, err)
		}
	}
	gone := activityIn(t, filepath.Join(dir, "none"))
	if err := gone.Opened(firstOfficer, monday); err == nil || gone.kept.Counter != 0 {
		t.Errorf("counted without a disk: %v", err)
	}
}

// What is reported is signed and whole; it is sent until the registry has taken
// it, and not again. Old days go when they have been reported.
func TestReport(t *testing.T) {
	key := newAuthority(t)
	jwk, err := record.NewJWK(key.Public())
	good(t, err)
	dir := t.TempDir()
	a := activityIn(t, dir)
	var sent []receipt.Activity
	answer := errors.New("no line")
	send := func(_ context.Context, b []byte) error {
		v, err := receipt.VerifyActivity(b, record.AcceptAny(jwk), "KIOSK-0001", "registry.example/log")
		good(t, err)
		sent = append(sent, v.Claims())
		return answer
	}
	report := func(at time.Time) error {
		return a.report(t.Context(), "KIOSK-0001", "registry.example/log", at, key, send)
	}
	if err := report(monday); !errors.Is(err, answer) || len(sent) != 1 || sent[0].Counter != 0 {
		t.Errorf("at the start: %v, %+v", err, sent)
	}
	sent = nil
	good(t, a.Opened(firstOfficer, monday))
	if err := report(monday); !errors.Is(err, answer) {
		t.Errorf("without a line: %v", err)
	}
	a = activityIn(t, dir) // started again
	answer = nil
	good(t, report(monday))
	good(t, report(monday))
	if len(sent) != 2 || sent[1].Counter != 1 || len(sent[1].Entries) != 1 || sent[1].From != "2026-11-23" {
		t.Errorf("sent %+v", sent)
	}
	later := monday.AddDate(0, 0, keepDays+1)
	good(t, a.Opened(firstOfficer, later))
	good(t, report(later))
	if last := sent[len(sent)-1]; last.Counter != 2 || len(last.Entries) != 2 {
		t.Errorf("the old day is sent once more: %+v", last)
	}
	a = activityIn(t, dir)
	good(t, report(later)) // started again: nothing is new, and the registry sees that it is all there
	if last := sent[len(sent)-1]; last.Counter != 2 || len(last.Entries) != 1 {
		t.Errorf("after a start: %+v", last)
	}
	good(t, a.Enrolled(firstOfficer, later))
	good(t, report(later))
	if last := sent[len(sent)-1]; last.Counter != 3 || len(last.Entries) != 1 || last.From != receipt.DayOf(later.AddDate(0, 0, -keepDays)) {
		t.Errorf("and then forgotten: %+v", last)
	}
}

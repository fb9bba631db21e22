package stage_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/registry"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// reported waits until the registry has counts of this kiosk that are as wanted.
func reported(t *testing.T, s *stage.Stage, what string, wanted func(registry.KioskActivity) bool) registry.KioskActivity {
	t.Helper()
	var last []registry.KioskActivity
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		if last, err = registry.ActivitiesIn(filepath.Join(s.Dir, "registry")).List(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(last) == 1 && wanted(last[0]) {
			return last[0]
		}
	}
	t.Fatalf("no %s: %+v", what, last)
	return registry.KioskActivity{}
}

func sum(k registry.KioskActivity) (reads, enrollments uint64) {
	for _, e := range k.Entries {
		reads, enrollments = reads+e.Reads, enrollments+e.Enrollments
	}
	return reads, enrollments
}

// What officers do is counted before a document is opened, and reported; when
// the counts are put back, the registry finds it out.
func TestActivityIsReported(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Policy = "\n[limits]\nreads_without_enrollment = 10\n" })
	start(t, s)
	file := filepath.Join(s.Config.Kiosk.State, "activity.json")
	works(t, s)
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// A document that is opened, and no enrollment.
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	pace, _ := attempts(t, s)
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen != kiosk.ScreenCompare || p.over {
			return false, nil
		}
		p.over = true
		return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionDoubtPerson})
	}
	p.leaveQuietly()
	if pace.Load() == 0 {
		t.Fatal("no document was opened")
	}
	works(t, s)
	got := reported(t, s, "report", func(k registry.KioskActivity) bool {
		reads, enrollments := sum(k)
		return reads == 3 && enrollments == 2
	})
	if got.Counter != 5 || len(got.Alarms) != 0 || got.Entries[0].Officer == (receipt.Officer{}) {
		t.Errorf("%+v", got)
	}
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	fell := reported(t, s, "alarm", func(k registry.KioskActivity) bool { return len(k.Alarms) > 0 })
	if fell.Alarms[0].Kind != registry.CountsFell || !reflect.DeepEqual(fell.Entries, got.Entries) {
		t.Errorf("%+v", fell)
	}
	works(t, s)
}

// A document that cannot be counted is not opened.
func TestUncountedIsNotOpened(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	file := filepath.Join(s.Config.Kiosk.State, "activity.json")
	if err := os.MkdirAll(filepath.Join(file, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	pace, _ := attempts(t, s)
	p.leave(trouble(kiosk.CodeInternal))
	if pace.Load() != 0 {
		t.Error("the document was opened")
	}
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	works(t, s)
}

// What the policy allows on one day is used up: the next citizen is told before
// the card is touched.
func TestQuota(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Policy = "\n[limits]\nenrollments_per_day = 1\n" })
	start(t, s)
	works(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	pace, _ := attempts(t, s)
	p.leave(trouble(kiosk.CodeQuota))
	if pace.Load() != 0 {
		t.Error("the document was opened")
	}
	// Yesterday's do not count.
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.Config.Kiosk.State, "activity.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var counts map[string]any
	if err := json.Unmarshal(b, &counts); err != nil {
		t.Fatal(err)
	}
	yesterday := string(receipt.DayOf(time.Now().AddDate(0, 0, -1)))
	counts["from"] = yesterday
	counts["entries"].([]any)[0].(map[string]any)["day"] = yesterday
	if b, err = json.Marshal(counts); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	works(t, s)
}

package stage_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// The TPM loses its power before an enrollment, before the sequence number is
// reserved and before the kiosk signs. Each time it boots again and the same
// step succeeds.
func TestTPMGone(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	var began bool
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		switch {
		case st.Screen == kiosk.ScreenHome && !began, st.Screen == kiosk.ScreenRepeatPIN, st.Screen == kiosk.ScreenApprove:
			began = true
			s.TPM.Kill()
		}
		return false, nil
	}
	p.mend = func(int, told) kiosk.Action {
		if err := s.TPM.Restart(t.Context()); err != nil {
			t.Error(err)
		}
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(trouble(kiosk.CodeTPMMissing), trouble(kiosk.CodeTPMMissing), trouble(kiosk.CodeTPMMissing)))

	// Nobody comes to mend it: nothing is kept, the number gets its void record.
	p = arrive(t, s, idcard.Options{}, pivtoken.Options{})
	p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
		if st.Screen == kiosk.ScreenApprove {
			s.TPM.Kill()
		}
		return false, nil
	}
	p.leave(trouble(kiosk.CodeTPMMissing))
	if err := s.TPM.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	works(t, s)
	if n := len(entries(t, s)); n != 3 {
		t.Errorf("%d records, want two enrollments and a void one", n)
	}
	chained(t, s, 3)
}

// From the moment that the record is safe, the enrollment has happened: the TPM's
// end a moment later takes nothing back.
func TestTPMGoneWhenSaved(t *testing.T) {
	t.Parallel()
	var s *stage.Stage
	s = newStage(t, func(o *stage.Options) {
		o.Observe = func(e kiosk.Event) {
			if e.Step == kiosk.StepSave && s.TPM.PID() != 0 {
				s.TPM.Kill()
			}
		}
	})
	start(t, s)
	if r := arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet(); r.Provisional == "" {
		t.Error("no receipt")
	}
	if err := s.TPM.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	delivered(t, s)
}

// chained checks that every number so far has its record. A TPM's counter
// begins at 1.
func chained(t *testing.T, s *stage.Stage, records uint64) {
	t.Helper()
	b, err := s.Kiosk.Queue().Head(t.Context())
	var head struct{ Reserved, Recorded uint64 }
	if err == nil {
		err = json.Unmarshal(b, &head)
	}
	if err != nil || head.Reserved != head.Recorded || head.Recorded != 1+records {
		t.Errorf("chain at %+v after %d records; %v", head, records, err)
	}
}

// An older copy of the disk is found out at the start: nobody can sign on.
func TestDiskRolledBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	state := s.Config.Kiosk.State
	old, newest := filepath.Join(s.Dir, "old"), filepath.Join(s.Dir, "newest")
	start(t, s)
	works(t, s)
	off := func(f func() error) {
		t.Helper()
		if err := errors.Join(s.StopKiosk(), f(), s.StartKiosk(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	off(func() error { return os.CopyFS(old, os.DirFS(state)) })
	works(t, s)
	off(func() error { return errors.Join(os.Rename(state, newest), os.Rename(old, state)) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	states, err := s.Kiosk.Desk().States(ctx)
	if err != nil {
		t.Fatal(err)
	}
	tried := uint64(0)
	for st := range states {
		switch {
		case st.Screen == kiosk.ScreenSignOn:
			t.Fatal("an officer could sign on")
		case st.Screen != kiosk.ScreenTrouble || st.Number == tried:
			continue
		case st.Fault.Code != kiosk.CodeRolledBack || len(st.Actions) != 1:
			t.Fatalf("told %s, offered %v", st.Fault.Code, st.Actions)
		}
		if tried > 0 { // and trying again changes nothing
			break
		}
		tried = st.Number
		if err := s.Kiosk.Desk().Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionRetry}); err != nil {
			t.Fatal(err)
		}
	}
	if ctx.Err() != nil {
		t.Fatal("the older disk was not found out")
	}
	off(func() error { return errors.Join(os.RemoveAll(state), os.Rename(newest, state)) })
	works(t, s)
	chained(t, s, 3)
}

// A second agent finds the queue taken and ends; the first one goes on.
func TestSecondAgent(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	began := time.Now()
	second, err := station.Open(t.Context(), s.Config, station.Options{})
	if !errors.Is(err, queue.ErrLocked) {
		t.Errorf("a second agent: %v, want %v", err, queue.ErrLocked)
	}
	if second != nil {
		second.Close()
	}
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("it took %v to say so", d)
	}
	works(t, s)
}

// What a stage has started ends with it. This test runs alone.
func TestNothingKeepsRunning(t *testing.T) {
	goroutines, files := func() int { return runtime.NumGoroutine() }, func() int {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(open)
	}
	whole := func() {
		t.Run("stage", func(t *testing.T) {
			s := newStage(t, nil)
			start(t, s)
			works(t, s)
			p := arrive(t, s, idcard.Options{}, pivtoken.Options{Faults: pivtoken.ForeignRoot})
			p.leave(trouble(kiosk.CodeAttestation))
		})
	}
	whole() // what is made once and stays
	g, f := goroutines(), files()
	whole()
	eventually(t, 10*time.Second, func() error {
		if goroutines() > g+2 || files() > f+2 {
			stacks := make([]byte, 1<<20)
			return errors.New(string(stacks[:runtime.Stack(stacks, true)]))
		}
		return nil
	})
}

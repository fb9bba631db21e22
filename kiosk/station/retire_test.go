package station_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/sync/queue"
)

// retiring are the options of somebody who confirms, and keeps the farewell.
func retiring(abandon int, kept *[]byte) station.RetireOptions {
	return station.RetireOptions{Abandon: abandon, Confirm: func(station.Retired) error { return nil },
		Farewell: func(b []byte) error { *kept = b; return nil }}
}

// puts puts records that nobody sends into the queue.
func (s scene) puts(ids ...queue.ID) *queue.Queue {
	s.t.Helper()
	q, _, err := queue.Open(s.t.Context(), filepath.Join(s.Config.Kiosk.State, "queue"), queue.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, id := range ids {
		head, err := q.Head(s.t.Context())
		if err == nil {
			err = q.Put(s.t.Context(), queue.Item{ID: id, Data: []byte("a record"), Head: head})
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return q
}

// retires has the registry take a farewell, under the key that it has registered.
func (s scene) retires(farewell []byte, missing uint64) (registry.Retirement, error) {
	s.t.Helper()
	if err := s.StopRegistry(); err != nil {
		s.t.Fatal(err)
	}
	r, err := registry.Open(s.t.Context(), s.RegistryOptions())
	if err != nil {
		s.t.Fatal(err)
	}
	done, err := r.Retire(s.t.Context(), stage.KioskID, registry.Retirement{Farewell: string(farewell), Missing: missing, By: "A. Clerk"})
	if err := errors.Join(r.Close(), s.StartRegistry(s.t.Context())); err != nil {
		s.t.Fatal(err)
	}
	return done, err
}

// A kiosk is retired: not while its agent runs, not with records that nobody has
// given up by their number. Its farewell is its own and whole, the registry takes
// it, and the machine can become another kiosk.
func TestRetire(t *testing.T) {
	s := newScene(t)
	var kept []byte
	if _, err := station.Retire(t.Context(), s.Config, retiring(0, &kept)); !errors.Is(err, station.ErrNotProvisioned) {
		t.Errorf("no kiosk: %v", err)
	}
	code := s.code()
	_, root, err := policy.ParseShort(s.Policy.Bytes(), code.Root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.provision(code, s.approves); err != nil {
		t.Fatal(err)
	}

	// An agent runs, or starts and has no socket yet.
	k, err := station.Open(t.Context(), s.Config, station.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := station.Retire(t.Context(), s.Config, retiring(0, &kept)); !errors.Is(err, station.ErrAgentRuns) {
		t.Errorf("an agent starts: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(s.Config.Kiosk.Socket); err == nil {
			break
		}
	}
	if _, err := station.Retire(t.Context(), s.Config, retiring(0, &kept)); !errors.Is(err, station.ErrAgentRuns) {
		t.Errorf("an agent runs: %v", err)
	}
	stop()
	if err := errors.Join(<-ended, k.Close()); err != nil {
		t.Fatal(err)
	}

	// One record waits, one is set aside.
	q := s.puts(queue.ID{1}, queue.ID{2})
	if err := errors.Join(q.Quarantine(t.Context(), queue.ID{2}, queue.Reason{Code: "x"}), q.Close()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 3} {
		var left *station.UndeliveredError
		_, err := station.Retire(t.Context(), s.Config, retiring(n, &kept))
		if !errors.As(err, &left) || *left != (station.UndeliveredError{Waiting: 1, Quarantined: 1, Abandon: n}) {
			t.Errorf("%d given up: %v", n, err)
		}
	}
	erase := retiring(2, &kept)
	erase.Erase = true
	if _, err := station.Retire(t.Context(), s.Config, erase); !errors.Is(err, station.ErrEraseAbandoned) {
		t.Errorf("erase what nobody has: %v", err)
	}
	no := errors.New("no")
	declined := retiring(2, &kept)
	declined.Confirm = func(station.Retired) error { return no }
	if _, err := station.Retire(t.Context(), s.Config, declined); !errors.Is(err, no) {
		t.Errorf("declined: %v", err)
	}
	if kept != nil {
		t.Error("there is a farewell")
	}
	if err := s.works(); err != nil {
		t.Fatalf("after what was refused: %v", err)
	}

	done, err := station.Retire(t.Context(), s.Config, retiring(2, &kept))
	if err != nil {
		t.Fatal(err)
	}
	if done.KioskID != stage.KioskID || done.Abandoned != 2 || done.Farewell != string(kept) || len(done.Remains) > 0 {
		t.Errorf("%+v", done)
	}
	if err := s.works(); !errors.Is(err, station.ErrNotProvisioned) {
		t.Errorf("the agent: %v", err)
	}
	for _, secret := range []string{"certificates.json", "tpm", "custody", "exchange.key", "retirement.json", "authority-root", "queue"} {
		if _, err := os.Lstat(filepath.Join(s.Config.Kiosk.State, secret)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", secret, err)
		}
	}
	old, _, err := queue.Open(t.Context(), filepath.Join(done.Kept, "queue"), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := old.Data(t.Context(), queue.ID{1}); err != nil || string(b) != "a record" {
		t.Errorf("what was given up: %q, %v", b, err)
	}
	old.Close()
	if _, err := station.Retire(t.Context(), s.Config, retiring(2, &kept)); !errors.Is(err, station.ErrNotProvisioned) {
		t.Errorf("twice: %v", err)
	}

	// The registry: flipped, or another kiosk's, it is not taken.
	flipped := []byte(string(kept))
	flipped[len(flipped)/2] ^= 1
	if _, err := s.retires(flipped, 0); !errors.Is(err, registry.ErrFarewell) {
		t.Errorf("flipped: %v", err)
	}
	taken, err := s.retires(kept, 0)
	if err != nil || taken.Sequence != done.Sequence {
		t.Errorf("%+v, %v", taken, err)
	}

	// The machine is free for another kiosk.
	s.Config.Kiosk.ID = "KIOSK-0002"
	code, err = s.Kiosks().NewCode(t.Context(), "KIOSK-0002", root, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.provision(code, func(step station.ProvisionStep, fingerprint string) {
		if step == station.StepWait {
			if _, err := s.Kiosks().Approve(t.Context(), "KIOSK-0002", fingerprint, time.Now()); err != nil {
				t.Error(err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.works(); err != nil {
		t.Errorf("the next kiosk: %v", err)
	}
	// Its farewell is no other's, and with nothing left it may be erased.
	last := retiring(0, &kept)
	last.Erase = true
	next, err := station.Retire(t.Context(), s.Config, last)
	if err != nil || next.Sequence <= done.Sequence || next.Kept != "" {
		t.Errorf("%+v, %v", next, err)
	}
	if dirs, _ := filepath.Glob(filepath.Join(s.Config.Kiosk.State, "retired-*")); len(dirs) != 1 || !strings.HasSuffix(done.Kept, filepath.Base(dirs[0])) {
		t.Errorf("%v", dirs)
	}
	if _, err := s.retires(kept, 0); !errors.Is(err, registry.ErrFarewell) || !errors.Is(err, receipt.ErrSignature) {
		t.Errorf("another kiosk's: %v", err)
	}
}

// Cut off before the point of no return the kiosk is as it was; after it nothing
// starts, and running it again ends well with the same farewell.
func TestRetireCutOff(t *testing.T) {
	s := newScene(t)
	if _, err := s.provision(s.code(), s.approves); err != nil {
		t.Fatal(err)
	}
	var first, again []byte
	cut := retiring(0, &first)
	cut.Farewell = func(b []byte) error { first = b; return errors.New("the drive was pulled out") }
	if _, err := station.Retire(t.Context(), s.Config, cut); err == nil || first == nil {
		t.Fatalf("the farewell cannot be kept: %v", err)
	}
	if err := s.works(); err != nil {
		t.Errorf("nobody has its farewell: %v", err)
	}

	// The power goes when the certificates are gone and everything else is there.
	state := s.Config.Kiosk.State
	before := filepath.Join(s.Dir, "before")
	if err := os.CopyFS(before, os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	done, err := station.Retire(t.Context(), s.Config, retiring(0, &first))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(filepath.Join(done.Kept, "retirement.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range [][]string{
		{"certificates.json"},
		{"certificates.json", "tpm/record.tss2.pem"},
		{"certificates.json", "tpm", "custody"},
		{"certificates.json", "tpm", "queue"},
		{"certificates.json", "tpm", "queue", "policy.jws", "authority-root"},
	} {
		if err := errors.Join(os.RemoveAll(state), os.CopyFS(state, os.DirFS(before)), os.Chmod(state, 0o700)); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(filepath.Join(state, "retirement.json"), stored, 0o600)
		for _, name := range gone {
			err = errors.Join(err, os.RemoveAll(filepath.Join(state, name)))
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.works(); !errors.Is(err, station.ErrNotProvisioned) {
			t.Errorf("without %v: the agent: %v", gone, err)
		}
		if _, err := s.provision(s.code(), quiet); !errors.Is(err, station.ErrRetiring) {
			t.Errorf("without %v: provisioned: %v", gone, err)
		}
		if r, err := station.Retire(t.Context(), s.Config, retiring(0, &again)); err != nil || string(again) != string(first) || r.Farewell != string(first) {
			t.Errorf("without %v: %+v, %v", gone, r, err)
		}
		if left, _ := filepath.Glob(filepath.Join(state, "*")); len(left) != 1 {
			t.Errorf("without %v, afterwards: %v", gone, left)
		}
	}
}

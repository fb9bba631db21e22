package stage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry"
	"enrollkiosk/registry/api"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	sim "enrollkiosk/simulators/tpm"
	"enrollkiosk/sync/queue"
)

// report is what the registry, which it stops for the moment, knows of the kiosk.
func report(t *testing.T, s *stage.Stage) registry.KioskReport {
	t.Helper()
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(t.Context(), s.RegistryOptions())
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Report(t.Context(), stage.KioskID)
	if err := errors.Join(err, r.Close(), s.StartRegistry(t.Context())); err != nil {
		t.Fatal(err)
	}
	return out
}

// rejectedAs waits until the newest record is quarantined, for this code.
func rejectedAs(t *testing.T, s *stage.Stage, code string) queue.Entry {
	t.Helper()
	var last queue.Entry
	eventually(t, time.Minute, func() error {
		if last = newest(t, s); last.State != queue.Quarantined || last.Reason == nil || last.Reason.Code != code {
			return fmt.Errorf("the newest record is %s, %+v", last.State, last.Reason)
		}
		return nil
	})
	return last
}

// A disk that was copied to another machine does not start there: its keys belong
// to another TPM, which is said.
func TestDiskCopied(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	start(t, s)
	works(t, s)
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	dir := tempDir(t)
	if err := sim.Manufacture(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	other, err := sim.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Stop() })
	c := s.Config
	c.TPM.Path, c.Kiosk.State = other.Path(), duplicate(t, s.Config.Kiosk.State)
	k, err := station.Open(t.Context(), c, station.Options{})
	if !errors.Is(err, tpm.ErrOtherTPM) {
		t.Errorf("the copy: %v, want %v", err, tpm.ErrOtherTPM)
	}
	if k != nil {
		k.Close()
	}
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	works(t, s)
}

// duplicate copies a kiosk's state.
func duplicate(t *testing.T, state string) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "state")
	if err := errors.Join(os.CopyFS(dir, os.DirFS(state)), os.Chmod(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// An older disk image is put back, and somebody has the kiosk believe that it fits
// its TPM's counter: nothing on the machine notices. The registry does: the record
// contradicts the chain that it has. It is rejected, and so is all that follows;
// both ids are shown.
func TestOlderDiskMadeToFit(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Limits.Delivery = moment })
	start(t, s)
	works(t, s)
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	old := duplicate(t, s.Config.Kiosk.State)
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	works(t, s)
	held := newest(t, s).ID
	counter := counterOf(t, s)
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	s.Config.Kiosk.State = old
	patch(t, s, counter)
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Take(kiosk.DeviceOfficer)
	arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
	first := rejectedAs(t, s, api.CodeChain)
	arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
	second := rejectedAs(t, s, api.CodeChain)
	r := report(t, s)
	forks := map[api.ID]api.ID{}
	for _, f := range r.Forks {
		forks[f.Record] = f.Held
	}
	if want := map[api.ID]api.ID{api.ID(first.ID): api.ID(held), api.ID(second.ID): api.ID(first.ID)}; !maps.Equal(forks, want) || len(r.Alarms) == 0 {
		t.Errorf("shown %v, want %v; alarms %q", forks, want, r.Alarms)
	}
	if r.Chain.Accepted != 2 || r.Chain.Rejected != 2 || r.Chain.Missing != 0 {
		t.Errorf("%+v", r.Chain)
	}
}

// A machine whose TPM can be copied is copied whole, and both copies enroll: the
// one that comes second at the registry is told, and shown, as a fork.
func TestMachineCopiedWithItsTPM(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *stage.Options) { o.Limits.Delivery = moment })
	start(t, s)
	works(t, s)
	if err := errors.Join(s.StopKiosk(), s.TPM.Stop()); err != nil {
		t.Fatal(err)
	}
	state, chip := duplicate(t, s.Config.Kiosk.State), duplicate(t, filepath.Join(s.Dir, "tpm"))
	var err error
	if s.TPM, err = sim.Start(t.Context(), filepath.Join(s.Dir, "tpm")); err != nil {
		t.Fatal(err)
	}
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Take(kiosk.DeviceOfficer)
	works(t, s)
	held := newest(t, s).ID
	if err := errors.Join(s.StopKiosk(), s.TPM.Stop()); err != nil {
		t.Fatal(err)
	}
	if s.TPM, err = sim.Start(t.Context(), chip); err != nil {
		t.Fatal(err)
	}
	s.Config.TPM.Path, s.Config.Kiosk.State = s.TPM.Path(), state
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Take(kiosk.DeviceOfficer)
	arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
	twin := rejectedAs(t, s, api.CodeFork)
	if f := report(t, s).Forks; len(f) != 1 || f[0].Record != api.ID(twin.ID) || f[0].Held != api.ID(held) || f[0].Code != api.CodeFork {
		t.Errorf("shown %+v", f)
	}
}

// counterOf is where the kiosk's chain and its TPM's counter are.
func counterOf(t *testing.T, s *stage.Stage) uint64 {
	t.Helper()
	b, err := s.Kiosk.Queue().Head(t.Context())
	var head struct{ Reserved uint64 }
	if err == nil {
		err = json.Unmarshal(b, &head)
	}
	if err != nil {
		t.Fatal(err)
	}
	return head.Reserved
}

// patch has an older disk say that it is where the TPM's counter is.
func patch(t *testing.T, s *stage.Stage, counter uint64) {
	t.Helper()
	q, _, err := queue.Open(context.Background(), filepath.Join(s.Config.Kiosk.State, "queue"), queue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := q.Head(t.Context())
	head := map[string]any{}
	if err == nil {
		err = json.Unmarshal(b, &head)
	}
	if len(head) != 3 || !slices.Contains(slices.Collect(maps.Keys(head)), "reserved") {
		t.Fatalf("head %s, %v", b, err)
	}
	head["reserved"], head["recorded"] = counter, counter
	if b, err = json.Marshal(head); err == nil {
		err = q.SetHead(t.Context(), b)
	}
	if err := errors.Join(err, q.Close()); err != nil {
		t.Fatal(err)
	}
}

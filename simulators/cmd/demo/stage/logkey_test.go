package stage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry"
	"enrollkiosk/registry/checkpoint"
	"enrollkiosk/registry/parcel"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// The log changes its key while a kiosk has no network: what comes by drive in the
// overlap it proves under the policy that it has, what comes after it waits for the
// new policy, nothing is lost, and what it has seen of the log is the log still.
func TestLogKeyChangesWhileAway(t *testing.T) {
	t.Parallel()
	cable := newLine(t)
	s := newStage(t, func(o *stage.Options) {
		o.Registry = cable.listener.Addr().String()
		o.Limits.Delivery = 300 * time.Millisecond
	})
	dir := filepath.Join(s.Dir, "registry")
	// The kiosk was given the first policy only.
	s.Config.Trust.Policy = filepath.Join(s.Dir, "first.jws")
	if err := os.WriteFile(s.Config.Trust.Policy, s.Policy.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	cable.become(through(s.RegistryAddress(), 0))
	start(t, s)
	sees := func(want uint64) {
		t.Helper()
		eventually(t, 2*time.Minute, func() error {
			pub, err := registry.ReadPublic(dir)
			if err != nil {
				return err
			}
			c, err := checkpoint.ReadKept(filepath.Join(s.Config.Kiosk.State, "log"), pub.Log())
			if err == nil && c.Size() != want {
				err = fmt.Errorf("%d leaves are seen", c.Size())
			}
			return err
		})
	}
	arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
	sees(1)
	cable.become(hello("")) // pulled out

	drive, err := parcel.OpenDrive(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	travels := func() station.Collected {
		t.Helper()
		arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet()
		if out, err := station.Export(t.Context(), s.Config, drive.Dir(), func(int, int) {}); err != nil || out.Records != 1 {
			t.Fatalf("%+v, %v", out, err)
		}
		if in := importDrive(t, s, drive); in.Err() != nil {
			t.Fatalf("%+v", in)
		}
		got, err := station.ImportReceipts(t.Context(), s.Config, drive.Dir())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	proved := func(got station.Collected) bool {
		return got.Err() == nil && got.Unproved == "" && got.Count(station.OutcomeDelivered) == 1
	}
	// follows starts registry and vault with the next policy.
	follows := func(version string) {
		t.Helper()
		for _, step := range []func() error{
			s.StopRegistry, s.StopVault,
			func() error {
				return s.SignPolicy(t.Context(), func(text string) string { return strings.Replace(text, "version = 1\n", "version = "+version+"\n", 1) })
			},
			func() error { return s.StartVault(t.Context()) },
			func() error { return s.StartRegistry(t.Context()) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
	}

	if _, err := registry.RotateLog(dir, s.Policy, false); err != nil {
		t.Fatal(err)
	}
	follows("2")
	if got := travels(); !proved(got) {
		t.Errorf("in the overlap, with the old policy: %+v", got)
	}
	sees(2)
	if _, err := registry.RetireLog(t.Context(), dir, s.Policy, true, time.Now()); err != nil {
		t.Fatal(err)
	}
	follows("3")
	if got := travels(); got.Err() == nil || got.Count(station.OutcomeDelivered) != 0 || got.Waiting != 1 {
		t.Errorf("the new key's, with the old policy: %+v", got)
	}
	sees(2)
	cable.become(through(s.RegistryAddress(), 0))
	delivered(t, s)
	sees(3)

	// The next drive has a proof that goes back to where the old key ended, for an
	// agent that has just been started.
	cable.become(hello(""))
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := travels(); !proved(got) {
		t.Errorf("with the new policy: %+v", got)
	}
	sees(4)
	health(t, s, "quiet", func(h kiosk.Health) bool { return h.Queued == 0 && h.LogFault == "" })
}

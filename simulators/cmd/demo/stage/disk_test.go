package stage_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// A full disk is told before the citizen's card is touched; one that fills up
// later, at the step that needs it. With room again the same step succeeds.
func TestDiskFull(t *testing.T) {
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Fatal("unshare is missing: install the Debian package util-linux")
	}
	flags := "-m"
	if os.Getuid() != 0 {
		flags = "-Urm"
	}
	if !alone(t, "unshare", flags) {
		return
	}
	dir := tempDir(t)
	small := filepath.Join(dir, "kiosk")
	if out, err := exec.Command("sh", "-ec", `mkdir "$0"; mount -t tmpfs -o size=80m tmpfs "$0"`, small).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", small).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	s := newStageIn(t, dir, nil)
	start(t, s)
	filler := filepath.Join(s.Config.Kiosk.State, "filler")
	// fill leaves at most so many bytes free.
	fill := func(leave int64) {
		t.Helper()
		free, err := queue.Free(s.Config.Kiosk.State)
		if err == nil {
			err = os.WriteFile(filler, make([]byte, max(free-leave, 0)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	empty := func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}

	fill(queue.DefaultReserve - 1<<20)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	pace, _ := attempts(t, s)
	p.mend = func(int, told) kiosk.Action {
		if pace.Load() != 0 {
			t.Error("the citizen's card was read")
		}
		empty()
		return kiosk.ActionRetry
	}
	final(t, s, p.meet(trouble(kiosk.CodeDiskFull)))

	for _, screen := range []kiosk.Screen{kiosk.ScreenRepeatPIN, kiosk.ScreenApprove} {
		p = arrive(t, s, idcard.Options{}, pivtoken.Options{})
		p.odd = func(_ context.Context, st kiosk.State) (bool, error) {
			if st.Screen == screen {
				fill(0)
			}
			return false, nil
		}
		p.mend = func(int, told) kiosk.Action {
			empty()
			return kiosk.ActionRetry
		}
		final(t, s, p.meet(trouble(kiosk.CodeDiskFull)))
	}
	works(t, s)
	chained(t, s, 4)
}

package stage_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/queue"
)

// smallDisk names, for a child of this test program, the directory that lies on
// a small disk.
const smallDisk = "STAGE_SMALL_DISK"

// A full disk is told before the citizen's card is touched; one that fills up
// later, at the step that needs it. With room again the same step succeeds.
func TestDiskFull(t *testing.T) {
	if dir := os.Getenv(smallDisk); dir != "" {
		diskFull(t, dir)
		return
	}
	t.Parallel()
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Fatal("unshare is missing: install the Debian package util-linux")
	}
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	flags := "-m"
	if os.Getuid() != 0 {
		flags = "-Urm"
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", flags, "sh", "-ec",
		`mkdir "$0"; mount -t tmpfs -o size=80m tmpfs "$0"; exec "$1" -test.run='^TestDiskFull$' -test.v`, filepath.Join(dir, "kiosk"), os.Args[0])
	cmd.Env = append(os.Environ(), smallDisk+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func diskFull(t *testing.T, dir string) {
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

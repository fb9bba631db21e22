package station

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// sleptIn has this program say, in a time namespace (time_namespaces(7)), how long
// the machine has slept.
const sleptIn = "STATION_SAYS_SLEPT"

// How long the machine has slept is what its clock since boot counts and its
// monotonic clock does not, and nothing else: the kernel says it of a machine that
// has slept for eight hours, and of one that has been up for an hour longer.
func TestSlept(t *testing.T) {
	if os.Getenv(sleptIn) != "" {
		fmt.Printf("slept %d\n", slept())
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("a time namespace needs root")
	}
	say := func(sinceBoot, monotonic time.Duration) time.Duration {
		t.Helper()
		c := exec.Command("unshare", "--time", fmt.Sprintf("--boottime=%d", sinceBoot/time.Second), fmt.Sprintf("--monotonic=%d", monotonic/time.Second),
			os.Args[0], "-test.run=^TestSlept$", "-test.v")
		c.Env = append(os.Environ(), sleptIn+"=1")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("unshare (util-linux): %v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			var ns int64
			if _, err := fmt.Sscanf(line, "slept %d", &ns); err == nil {
				return time.Duration(ns)
			}
		}
		t.Fatalf("it does not say:\n%s", out)
		return 0
	}
	here := say(0, 0) // this machine may have slept
	if here < -time.Minute || slept() < here-time.Minute {
		t.Errorf("slept %v, here %v", here, slept())
	}
	for _, x := range []struct{ sinceBoot, monotonic, want time.Duration }{
		{8 * time.Hour, 0, 8 * time.Hour},
		{9 * time.Hour, time.Hour, 8 * time.Hour},
		{time.Hour, time.Hour, 0},
	} {
		if got := say(x.sinceBoot, x.monotonic) - here; (got - x.want).Abs() > time.Minute {
			t.Errorf("%v more since boot, %v of them awake: slept %v", x.sinceBoot, x.monotonic, got)
		}
	}
}

package station

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"enrollkiosk/kiosk"
)

// timeFile keeps the last time that the registry signed: the clock's lower
// bound also after a restart.
const timeFile = "registry-time"

// clock reads the time with what is known about it.
type clock struct {
	file     string
	mu       sync.Mutex
	registry time.Time // last time that the registry signed; zero when none
	boot     [16]byte
}

func openClock(c Config) (*clock, error) {
	out := &clock{file: c.in(timeFile)}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		if raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", "")); err == nil {
			copy(out.boot[:], raw)
		}
	}
	b, err := os.ReadFile(out.file)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		out.registry, err = time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	}
	if err != nil {
		return nil, fmt.Errorf("last time of the registry, %s: %w", out.file, err)
	}
	return out, nil
}

// now is kiosk.Config.Clock. Wall is in whole seconds, UTC.
func (c *clock) now() kiosk.Times {
	c.mu.Lock()
	defer c.mu.Unlock()
	monotonic, synchronised := system()
	return kiosk.Times{Wall: time.Now().UTC().Truncate(time.Second), Synchronised: synchronised,
		Monotonic: uint64(monotonic.Milliseconds()), Boot: c.boot, Registry: c.registry}
}

// heard takes a time that the registry signed, and keeps it durably when it is
// news.
func (c *clock) heard(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t = t.UTC().Truncate(time.Second)
	if !t.After(c.registry) {
		return nil
	}
	c.registry = t
	if err := replaceFile(c.file, []byte(t.Format(time.RFC3339)+"\n")); err != nil {
		return fmt.Errorf("keep the registry's time: %w", err)
	}
	return nil
}

// skew is how far this clock may be behind the registry's.
const skew = 5 * time.Minute

// ErrClock means that the clock cannot be right.
var ErrClock = errors.New("the clock is wrong")

// oldest is before any clock that is right.
var oldest = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// checkClock holds a reading against what is known: a record with a time that cannot
// be would be rejected by the registry, after the citizen has gone.
func checkClock(t kiosk.Times) error {
	switch {
	case t.Wall.Before(oldest):
		return fmt.Errorf("%w: it says %s", ErrClock, t.Wall.Format(time.DateOnly))
	case t.Registry.After(t.Wall.Add(skew)):
		return fmt.Errorf("%w: it says %s, the registry has said %s", ErrClock, t.Wall.Format(time.RFC3339), t.Registry.Format(time.RFC3339))
	}
	return nil
}

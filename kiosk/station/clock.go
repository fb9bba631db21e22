package station

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/durable"
)

// timeFile keeps the last time that the registry signed, and when since boot it
// was heard: what the clock is held against, also after a restart.
const timeFile = "registry-time"

// clock reads the time with what is known about it.
type clock struct {
	file     string
	mu       sync.Mutex
	registry time.Time // last time that the registry signed; zero when none
	booted   time.Time // this boot, by the registry's clock; zero when it was not heard since
	boot     [16]byte
}

// kept is what timeFile holds.
type kept struct {
	Registry time.Time `json:"registry"`
	Boot     string    `json:"boot"`
	Booted   time.Time `json:"booted,omitzero"`
}

// reading is the time with what the kiosk can hold it against.
type reading struct {
	kiosk.Times
	expected time.Time // what the registry's clock shows now, or a little less; zero when unknown
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
	var k kept
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil {
		return nil, fmt.Errorf("last time of the registry, %s: %w", out.file, err)
	}
	out.registry = k.Registry
	if out.boot != [16]byte{} && k.Boot == hex.EncodeToString(out.boot[:]) {
		out.booted = k.Booted
	}
	return out, nil
}

// now is kiosk.Config.Clock. Wall is in whole seconds, UTC.
func (c *clock) now() kiosk.Times { return c.read().Times }

func (c *clock) read() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	monotonic, synchronised := system()
	r := reading{Times: kiosk.Times{Wall: time.Now().UTC().Truncate(time.Second), Synchronised: synchronised,
		Monotonic: uint64(monotonic.Milliseconds()), Boot: c.boot, Registry: c.registry}}
	if !c.booted.IsZero() {
		r.expected = c.booted.Add(monotonic)
	}
	return r
}

// floored is the time by which the registry's certificate is judged: a clock that
// has stopped must not keep the kiosk from the time that would put it right.
func (c *clock) floored() time.Time {
	r := c.read()
	if r.Wall.Before(r.Registry) {
		return r.Registry
	}
	return r.Wall
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
	// A time that was long on its way would put the boot too early.
	monotonic, _ := system()
	if booted := t.Add(-monotonic); booted.After(c.booted) {
		c.booted = booted
	}
	b, err := json.Marshal(kept{c.registry, hex.EncodeToString(c.boot[:]), c.booted})
	if err != nil {
		return err
	}
	if err := durable.Replace(c.file, append(b, '\n')); err != nil {
		return fmt.Errorf("keep the registry's time: %w", err)
	}
	return nil
}

// How far this clock may be from the registry's. The registry refuses a record
// that is a day ahead of it; half a day leaves room for the sending.
const (
	behind = 5 * time.Minute
	ahead  = 12 * time.Hour
)

// oldest is before any clock that is right.
var oldest = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// checkClock holds a reading against what is known: a record with a time that
// cannot be would be rejected by the registry, after the citizen has gone. A
// clock that is ahead is found out once the registry was heard in this boot:
// before that, nothing tells days ahead from days without a line. Errors wrap
// kiosk.ErrClock.
func checkClock(r reading) error {
	wrong := func(format string, t time.Time) error {
		return fmt.Errorf("%w: it says %s, "+format, kiosk.ErrClock, r.Wall.Format(time.RFC3339), t.Format(time.RFC3339))
	}
	switch {
	case r.Wall.Before(oldest):
		return wrong("which is before %s", oldest)
	case r.Registry.After(r.Wall.Add(behind)):
		return wrong("the registry has said %s", r.Registry)
	case !r.expected.IsZero() && r.Wall.After(r.expected.Add(ahead)):
		return wrong("by the registry's it is %s", r.expected)
	}
	return nil
}

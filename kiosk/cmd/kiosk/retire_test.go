package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"enrollkiosk/hsm/tpm"
	"enrollkiosk/kiosk"
	"enrollkiosk/registry/api"
	sim "enrollkiosk/simulators/tpm"
	"enrollkiosk/sync/queue"
)

// A person types the kiosk's id, or it is on the command line; the farewell goes to a
// new file, and what waits must be given up by its number.
func TestRetireCommand(t *testing.T) {
	chip, err := sim.Start(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { chip.Stop() })
	s := newSetting(t, chip.Path())
	wants(t, exitUsage, "run `kiosk provision", s.config, "retire", "--yes", "KIOSK-0001")
	wants(t, exitUsage, "without a terminal", s.config, "retire")
	wants(t, exitUsage, `kiosk.id = "KIOSK-0001"`, s.config, "retire", "--yes", "KIOSK-0002")
	wants(t, exitUsage, "must not be negative", s.config, "retire", "--yes", "KIOSK-0001", "--abandon", "-1")

	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(s.state, 0o700))
	d, err := tpm.Open(t.Context(), tpm.Options{Path: chip.Path(), Dir: filepath.Join(s.state, "tpm")})
	must(err)
	must(d.Init(t.Context(), api.KioskBinding("KIOSK-0001")))
	q, _, err := queue.Open(t.Context(), filepath.Join(s.state, "queue"), queue.Options{})
	must(err)
	must(kiosk.Begin(t.Context(), d, q))
	head, err := q.Head(t.Context())
	must(err)
	must(q.Put(t.Context(), queue.Item{ID: queue.ID{1}, Data: []byte("a record"), Head: head}))
	must(q.Close())
	must(d.Close())
	must(os.WriteFile(filepath.Join(s.state, "certificates.json"), []byte("{}"), 0o600))

	file := filepath.Join(s.dir, "farewell.jws")
	wants(t, exitRefused, "--abandon 1", s.config, "retire", "--yes", "KIOSK-0001", "--farewell", file)
	wants(t, exitRefused, "1 together, not 2", s.config, "retire", "--yes", "KIOSK-0001", "--abandon", "2", "--farewell", file)
	wants(t, exitRefused, "holds something else", s.config, "retire", "--yes", "KIOSK-0001", "--abandon", "1", "--farewell", s.config)
	retire := func(code int, typed string) *seat {
		t.Helper()
		seat := sitBefore(t, program(t, s.config, "retire", "--abandon", "1", "--farewell", file))
		seat.sees("ends for good", "1 records are given up", "to confirm")
		seat.types(typed + "\n")
		if got := seat.leaves(); got != code {
			t.Errorf("exit code %d, want %d:\n%s", got, code, seat.transcript())
		}
		return seat
	}
	retire(exitRefused, "yes").sees("nothing was done")
	if _, err := os.Stat(file); err == nil {
		t.Error("there is a farewell")
	}
	retire(exitDone, "KIOSK-0001").sees("is retired", "registry kiosks retire KIOSK-0001 --farewell")
	if b, err := os.ReadFile(file); err != nil || strings.Count(string(b), ".") != 2 {
		t.Errorf("farewell %q, %v", b, err)
	}
	wants(t, exitUsage, "run `kiosk provision", s.config, "agent")
}

// A file is written again over this kiosk's farewell or a beginning of it, and over
// nothing else.
func TestWriteFarewell(t *testing.T) {
	file := filepath.Join(t.TempDir(), "farewell.jws")
	const mine = "head.second.sig\n"
	for _, there := range []string{"", "he", "head.", "head.first-and-longer.sig\n"} {
		if err := os.WriteFile(file, []byte(there), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writeFarewell(file, []byte(mine)); err != nil {
			t.Errorf("over %q: %v", there, err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != mine {
			t.Errorf("over %q: %q, %v", there, b, err)
		}
	}
	for _, there := range []string{"x", "heap.first.sig\n", "head\n"} {
		if err := os.WriteFile(file, []byte(there), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writeFarewell(file, []byte(mine)); !errors.Is(err, errRefused) {
			t.Errorf("over %q: %v", there, err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != there {
			t.Errorf("%q became %q, %v", there, b, err)
		}
	}
}

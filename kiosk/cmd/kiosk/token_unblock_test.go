package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/sync/queue"
)

// A citizen is enrolled, enters three wrong PINs, and comes to the service desk.
func TestTokenUnblockCommand(t *testing.T) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	dir, err := os.MkdirTemp("", "k") // short: a socket will be in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s, err := stage.New(t.Context(), listen(t), dir, stage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	config := filepath.Join(dir, "kiosk.toml")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.Script().Enroll(ctx); err != nil {
		t.Fatal(err)
	}
	records, err := s.Kiosk.Queue().List(ctx, 1, func(queue.Entry) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for stage := kiosk.DeliveryStage(""); stage != kiosk.Activated; time.Sleep(20 * time.Millisecond) {
		if stage, err = s.Kiosk.Verdict(ctx, records[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	s.Bring(kiosk.DeviceToken)
	s.Officer(0)
	wants(t, exitRefused, "stop it", config, "token", "unblock")
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	k, err := piv.Open(t.Context(), s.Reader(kiosk.DeviceToken).Name())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k.Insist()
		k.VerifyPIN(t.Context(), secret.FromString("999999"))
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	sits := func(args ...string) *seat {
		return sitBefore(t, program(t, config, append([]string{"token", "unblock"}, args...)...))
	}
	leaves := func(d *seat, code int) {
		t.Helper()
		if got := d.leaves(); got != code {
			t.Errorf("exit code %d, want %d:\n%s", got, code, d.transcript())
		}
		for _, secret := range []string{stage.OfficerPIN, "161803", "999999"} {
			if strings.Contains(d.transcript(), secret) {
				t.Errorf("the terminal shows %s", secret)
			}
		}
	}
	d := sits()
	d.sees("0 PIN tries left, 3 PUK tries left", "Officer's PIN")
	d.types("999999\n")
	leaves(d, exitRefused)

	d = sits("--json")
	d.sees("Officer's PIN")
	d.types(stage.OfficerPIN + "\n")
	d.sees("nobody else looks", "New PIN")
	d.types("123456\n")
	d.sees("harder to guess", "New PIN")
	s.Take(kiosk.DeviceToken) // while the citizen thinks
	d.types("161803\n")
	d.sees("The same again")
	d.types("161803\n")
	d.sees("Put token", "back")
	s.Bring(kiosk.DeviceToken)
	d.types("\n")
	d.sees(`"unblocked": true`)
	leaves(d, exitDone)

	if k, err = piv.Open(t.Context(), s.Reader(kiosk.DeviceToken).Name()); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.VerifyPIN(t.Context(), secret.FromString("161803")); err != nil {
		t.Errorf("the new PIN: %v", err)
	}
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	wants(t, exitUnreachable, "cannot be reached", config, "token", "unblock")
}

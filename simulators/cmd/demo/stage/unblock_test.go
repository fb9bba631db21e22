package stage_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// enrolledToken is a stage on which a citizen was enrolled with a token. The
// agent is stopped, registry and vault run.
func enrolledToken(t *testing.T, change func(*stage.Options)) *stage.Stage {
	t.Helper()
	s := newStage(t, change)
	start(t, s)
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	r := p.meet()
	final(t, s, r)
	active(t, s, newest(t, s).ID)
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	s.Bring(kiosk.DeviceToken)
	s.Officer(0)
	return s
}

func tokenReader(s *stage.Stage) string { return s.Reader(kiosk.DeviceToken).Name() }

// block enters wrong PINs until the token takes none.
func block(t *testing.T, s *stage.Stage) {
	t.Helper()
	k, err := piv.Open(t.Context(), tokenReader(s))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for range 3 {
		k.Insist()
		err = k.VerifyPIN(t.Context(), secret.FromString("999999"))
	}
	if !errors.Is(err, hsm.ErrPINBlocked) {
		t.Fatalf("not blocked: %v", err)
	}
}

// signs has the citizen's key in 9A sign under a PIN.
func signs(t *testing.T, s *stage.Stage, pin string) error {
	t.Helper()
	k, err := piv.Open(t.Context(), tokenReader(s))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	key, err := k.Key(t.Context(), piv.Authentication, secret.FromString(pin))
	if err != nil {
		return err
	}
	_, err = key.Sign(t.Context(), make([]byte, 32))
	return err
}

// released asks the authority for the token on the reader.
func released(t *testing.T, s *stage.Stage) *station.Release {
	t.Helper()
	d, err := station.OpenUnblockDesk(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	token, err := station.Look(t.Context(), tokenReader(s))
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Ask(t.Context(), token, s.Reader(kiosk.DeviceOfficer).Name(), secret.FromString(stage.OfficerPIN))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Wipe)
	return r
}

// pukTraced reports the PUK of each RESET RETRY COUNTER.
func pukTraced(s *stage.Stage) func() string {
	var last atomic.Value
	s.Reader(kiosk.DeviceToken).Trace(func(e pcscd.TraceEvent) {
		if c := e.Command; !e.Answered && len(c) >= 13 && c[1] == 0x2C {
			last.Store(string(c[5:13]))
		}
	})
	return func() string { s.Reader(kiosk.DeviceToken).Trace(nil); return last.Load().(string) }
}

func TestUnblock(t *testing.T) {
	t.Parallel()
	s := enrolledToken(t, nil)
	puks := map[string]bool{}
	for _, pin := range []string{"271828", "161803"} {
		block(t, s)
		puk := pukTraced(s)
		if err := released(t, s).Unblock(t.Context(), tokenReader(s), secret.FromString(pin), false); err != nil {
			t.Fatal(err)
		}
		puks[puk()] = true
		if err := signs(t, s, pin); err != nil {
			t.Errorf("the new PIN: %v", err)
		}
	}
	if len(puks) != 2 {
		t.Error("the same PUK unblocked the token twice")
	}
	k, err := piv.Open(context.Background(), tokenReader(s))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for puk := range puks {
		var wrong *piv.WrongPUK
		if err := k.Unblock(t.Context(), secret.FromString(puk), secret.FromString("314159")); !errors.As(err, &wrong) {
			t.Errorf("an old PUK still works: %v", err)
		}
	}
}

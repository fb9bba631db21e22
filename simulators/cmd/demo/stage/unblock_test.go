package stage_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/registry/api"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/sync/client"
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

// swept pulls the token at one command after another of what f does, until f ends
// without one: before the command, or after it with its answer lost.
func swept(t *testing.T, s *stage.Stage, late bool, f func() error) (pulls int) {
	t.Helper()
	for at := 1; ; at++ {
		var seen atomic.Int32
		var hit atomic.Bool
		s.Reader(kiosk.DeviceToken).Trace(func(e pcscd.TraceEvent) {
			if !e.Answered {
				seen.Add(1)
			}
			if int(seen.Load()) == at && e.Answered == late && hit.CompareAndSwap(false, true) {
				s.Take(kiosk.DeviceToken)
			}
		})
		err := f()
		s.Reader(kiosk.DeviceToken).Trace(nil)
		if !hit.Load() {
			if err != nil {
				t.Fatalf("left alone: %v", err)
			}
			return pulls
		}
		pulls++
		s.Bring(kiosk.DeviceToken)
		if err != nil && !errors.Is(err, hsm.ErrRemoved) {
			t.Fatalf("pulled at command %d: %v", at, err)
		}
	}
}

// A token that is pulled at any command is put back, and the command goes on.
func TestUnblockPulledBeforeEveryCommand(t *testing.T) { unblockPulled(t, false) }

func TestUnblockPulledAfterEveryCommand(t *testing.T) { unblockPulled(t, true) }

func unblockPulled(t *testing.T, late bool) {
	if !alone(t) {
		return
	}
	s := enrolledToken(t, nil)
	block(t, s)
	r := released(t, s)
	pulls := swept(t, s, late, func() error {
		return r.Unblock(t.Context(), tokenReader(s), secret.FromString("271828"), false)
	})
	t.Logf("%d pulls", pulls)
	if pulls < 10 {
		t.Error("hardly a command was cut short")
	}
	if err := signs(t, s, "271828"); err != nil {
		t.Errorf("the new PIN: %v", err)
	}
	block(t, s) // and what administers it is known: a new request works
	if err := released(t, s).Unblock(t.Context(), tokenReader(s), secret.FromString("161803"), false); err != nil {
		t.Error(err)
	}
}

// A power cut ends the command: what it knew is lost, and a new request unblocks
// the token, wherever the first one was cut short.
func TestUnblockAfterPowerCut(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, c := range []struct {
		name string
		ins  byte // the command before or after which the power goes
		p2   byte
	}{{"unblocking", 0x2C, 0x80}, {"PUK", 0x24, 0x81}, {"management key", 0xFF, 0xFF}} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, done %v", c.name, late), func(t *testing.T) {
				s := enrolledToken(t, nil)
				block(t, s)
				var hit atomic.Bool
				s.Reader(kiosk.DeviceToken).Trace(func(e pcscd.TraceEvent) {
					if b := e.Command; len(b) > 3 && b[1] == c.ins && b[3] == c.p2 && e.Answered == late && hit.CompareAndSwap(false, true) {
						s.Take(kiosk.DeviceToken)
					}
				})
				err := released(t, s).Unblock(t.Context(), tokenReader(s), secret.FromString("271828"), false)
				s.Reader(kiosk.DeviceToken).Trace(nil)
				if !hit.Load() || !errors.Is(err, hsm.ErrRemoved) {
					t.Fatal(err)
				}
				s.Bring(kiosk.DeviceToken)
				if err := released(t, s).Unblock(t.Context(), tokenReader(s), secret.FromString("161803"), false); err != nil {
					t.Fatalf("the next request: %v", err)
				}
				if err := signs(t, s, "161803"); err != nil {
					t.Errorf("the new PIN: %v", err)
				}
				if i, err := piv.Probe(t.Context(), tokenReader(s)); err != nil || i.PUKTries != 3 {
					t.Errorf("%+v, %v", i, err)
				}
			})
		}
	}
}

// What is not the token that was asked for is not touched; a PIN that everybody
// tries first is not set; no token, no PIN is enough where an officer is missing.
func TestUnblockRefused(t *testing.T) {
	t.Parallel()
	s := enrolledToken(t, nil)
	block(t, s)
	r := released(t, s)
	if err := r.Unblock(t.Context(), tokenReader(s), secret.FromString("123456"), false); !errors.Is(err, piv.ErrPINForm) {
		t.Errorf("easy PIN: %v", err)
	}
	enrolled := s.Token
	s.Take(kiosk.DeviceToken)
	s.IssueToken(pivtoken.Options{Serial: 12_345_678})
	s.Bring(kiosk.DeviceToken)
	if _, err := station.Look(t.Context(), tokenReader(s)); !errors.Is(err, station.ErrNotHolders) {
		t.Errorf("a factory-new token: %v", err)
	}
	changes := written(t, s)
	if err := r.Unblock(t.Context(), tokenReader(s), secret.FromString("271828"), false); !errors.Is(err, station.ErrNotHolders) {
		t.Errorf("a factory-new token: %v", err)
	}
	officer, err := issuers.Officers[1].Card(issuers.Tokens, stage.OfficerPIN)
	if err != nil {
		t.Fatal(err)
	}
	s.Take(kiosk.DeviceToken)
	s.Hold(kiosk.DeviceToken, officer)
	s.Bring(kiosk.DeviceToken)
	if err := r.Unblock(t.Context(), tokenReader(s), secret.FromString("271828"), false); err == nil {
		t.Error("an officer's card was unblocked")
	}
	if changes.Load() != 0 {
		t.Errorf("%d commands changed another token", changes.Load())
	}
	s.Take(kiosk.DeviceToken)
	s.Hold(kiosk.DeviceToken, enrolled)
	s.Bring(kiosk.DeviceToken)

	d, err := station.OpenUnblockDesk(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	token, err := station.Look(t.Context(), tokenReader(s))
	if err != nil {
		t.Fatal(err)
	}
	var wrong *hsm.WrongPIN
	if _, err := d.Ask(t.Context(), token, s.Reader(kiosk.DeviceOfficer).Name(), secret.FromString("999999")); !errors.As(err, &wrong) {
		t.Errorf("wrong PIN of the officer: %v", err)
	}
	var refused *client.UnblockRefused
	foreign := token
	foreign.DID = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
	if _, err := d.Ask(t.Context(), foreign, s.Reader(kiosk.DeviceOfficer).Name(), secret.FromString(stage.OfficerPIN)); !errors.As(err, &refused) || refused.Code != api.CodeHolder {
		t.Errorf("a token of nobody: %v", err)
	}
	s.Take(kiosk.DeviceOfficer)
	s.Hold(kiosk.DeviceOfficer, pivtoken.New(pivtoken.Options{Serial: 99, Root: issuers.Tokens}))
	s.Bring(kiosk.DeviceOfficer)
	if _, err := d.Ask(t.Context(), token, s.Reader(kiosk.DeviceOfficer).Name(), secret.FromString(stage.OfficerPIN)); !errors.Is(err, kiosk.ErrOfficerUnknown) {
		t.Errorf("a card of nobody: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	if _, err := station.OpenUnblockDesk(t.Context(), s.Config); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("no registry: %v", err)
	}
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		if _, err := station.OpenUnblockDesk(t.Context(), s.Config); !errors.Is(err, station.ErrAgentRuns) {
			return fmt.Errorf("beside an agent: %w", err)
		}
		return nil
	})
}

// An officer without the role of the desk is not asked of the registry at all; one
// whom the policy has lost since is refused there.
func TestUnblockOfficerWithoutRole(t *testing.T) {
	t.Parallel()
	s := newStage(t, nil)
	if err := s.SignPolicy(t.Context(), func(text string) string {
		return strings.Replace(strings.Replace(text, `"supervisor", "desk"]`, `"supervisor"]`, 1), "version = 1", "version = 2", 1)
	}); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	final(t, s, arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet())
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	s.Bring(kiosk.DeviceToken)
	s.Officer(0)
	d, err := station.OpenUnblockDesk(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	token, err := station.Look(t.Context(), tokenReader(s))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Ask(t.Context(), token, s.Reader(kiosk.DeviceOfficer).Name(), secret.FromString(stage.OfficerPIN)); !errors.Is(err, kiosk.ErrOfficerUnknown) {
		t.Errorf("%v", err)
	}
}

// No PUK and no management key that the token ever had is in a log or file of
// kiosk, registry or vault, in any encoding.
func TestNoAdministratorIsLeft(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	s := newStage(t, func(o *stage.Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	var mu sync.Mutex
	secrets := map[string]bool{}
	s.Reader(kiosk.DeviceToken).Trace(func(e pcscd.TraceEvent) {
		c := e.Command
		if e.Answered || len(c) < 6 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case c[1] == 0x24 && c[3] == 0x81: // CHANGE REFERENCE DATA of the PUK: old and new
			secrets[string(c[13:21])] = true
		case c[1] == 0xFF: // SET MANAGEMENT KEY: algorithm, reference, length, key
			secrets[string(c[8:8+int(c[7])])] = true
		}
	})
	start(t, s)
	final(t, s, arrive(t, s, idcard.Options{}, pivtoken.Options{}).meet())
	active(t, s, newest(t, s).ID)
	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	s.Bring(kiosk.DeviceToken)
	s.Officer(0)
	pins := []string{"271828", "161803"}
	for _, pin := range pins {
		block(t, s)
		if err := released(t, s).Unblock(t.Context(), tokenReader(s), secret.FromString(pin), false); err != nil {
			t.Fatal(err)
		}
	}
	s.Reader(kiosk.DeviceToken).Trace(nil)
	mu.Lock()
	defer mu.Unlock()
	for _, pin := range pins {
		secrets[pin] = true
	}
	if err := errors.Join(s.StopRegistry(), s.StopVault()); err != nil {
		t.Fatal(err)
	}
	if len(secrets) != 3*2+2 {
		t.Fatalf("%d secrets", len(secrets))
	}
	found := func() (n int) {
		search := func(name string, b []byte) {
			for secret := range secrets {
				for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)),
					base64.RawURLEncoding.EncodeToString([]byte(secret))} {
					if bytes.Contains(b, []byte(form)) {
						n++
						t.Logf("%s holds a secret of %d bytes", name, len(secret))
					}
				}
			}
		}
		search("log", []byte(log.String()))
		if err := filepath.WalkDir(s.Dir, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(name)
			search(name, b)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := found(); n != 0 {
		t.Errorf("%d leaks", n)
	}
	if !strings.Contains(log.String(), "administrator handed out") {
		t.Error("the log is another's: this test looks in the wrong place")
	}
	for secret := range secrets {
		if err := os.WriteFile(filepath.Join(s.Dir, "leak"), []byte(hex.EncodeToString([]byte(secret))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found() == 0 {
		t.Error("a leak is not found")
	}
}

// lockedBuffer takes the log of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

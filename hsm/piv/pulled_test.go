package piv_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
)

// pullAt takes the token out at its nth command from now on, before the token
// sees it; or, when answered, at the nth that changes something, before its
// answer arrives.
func pullAt(r *pcscd.Reader, n int, answered bool) (pulled *atomic.Bool) {
	var count atomic.Int32
	pulled = new(atomic.Bool)
	r.Trace(func(e pcscd.TraceEvent) {
		if e.Answered == answered && (!answered || changes(e.Command)) && int(count.Add(1)) == n {
			r.Pull()
			pulled.Store(true)
		}
	})
	return pulled
}

// changes says whether a command can change more than a session.
func changes(command []byte) bool {
	switch command[1] {
	case 0x20: // VERIFY, unless it only asks
		return len(command) > 5
	case 0x24, 0x47, 0x87, 0xDB, 0xFA, 0xFB, 0xFF:
		return true
	}
	return false
}

func whichCommand(answered bool) string {
	return map[bool]string{false: "before", true: "after"}[answered]
}

func removed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, hsm.ErrRemoved) {
		t.Errorf("want ErrRemoved, got %v", err)
	}
}

// Whatever the moment the token is pulled at, the error says so, the reader is
// free again, and starting over works.
func TestPulledAtEveryCommand(t *testing.T) {
	for _, answered := range []bool{false, true} {
		t.Run(whichCommand(answered), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				r, token := insert(t, pivtoken.Options{})
				pulled := pullAt(r, n, answered)
				_, err := enroll(within(t, 20*time.Second), r.Name())
				if !pulled.Load() {
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("pulled at each of %d commands", n-1)
					r.Remove()
					return
				}
				if err != nil {
					removed(t, err)
				}
				r.Trace(nil)
				r.Insert(token)
				if err := startOver(within(t, 20*time.Second), r.Name()); err != nil {
					t.Fatalf("command %d: start over: %v", n, err)
				}
				r.Remove()
			}
		})
	}
}

// startOver resets a token that was written to and enrolls it again.
func startOver(ctx context.Context, reader string) error {
	t, err := piv.Open(ctx, reader)
	if err != nil {
		return err
	}
	if !t.Info().FactoryNew {
		if err := t.Reset(ctx); err != nil {
			return err
		}
		if !t.Info().FactoryNew {
			return errors.New("not factory-new after a reset")
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	_, err = enroll(ctx, reader)
	return err
}

// A token in the middle of being locked is locked by doing the same once more.
func TestLockInterruptedAtEveryCommand(t *testing.T) {
	for _, answered := range []bool{false, true} {
		t.Run(whichCommand(answered), func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				r, token := insert(t, pivtoken.Options{})
				ctx := within(t, 20*time.Second)
				made := open(t, ctx, r.Name())
				if err := made.SetPIN(ctx, text(citizenPIN)); err != nil {
					t.Fatal(err)
				}
				if _, err := made.GenerateKeys(ctx, piv.KeySpec{TouchAlways: true}, nil); err != nil {
					t.Fatal(err)
				}
				pulled := pullAt(r, n, answered)
				err := made.Lock(ctx, text(citizenPIN), admin)
				if !pulled.Load() {
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("interrupted at each of %d commands", n-1)
					made.Close()
					r.Remove()
					return
				}
				removed(t, err)
				made.Close()
				r.Trace(nil)
				r.Insert(token)
				again := open(t, ctx, r.Name())
				if err := again.Lock(ctx, text(citizenPIN), admin); err != nil {
					t.Fatalf("command %d: lock again: %v", n, err)
				}
				again.Close()
				locked(t, r, token)
				r.Remove()
			}
		})
	}
}

// Reset, interrupted anywhere, is finished by doing it once more.
func TestResetInterruptedAtEveryCommand(t *testing.T) {
	for n := 1; ; n++ {
		r, token := insert(t, pivtoken.Options{Faults: pivtoken.Provisioned})
		ctx := within(t, 20*time.Second)
		used := open(t, ctx, r.Name())
		pulled := pullAt(r, n, false)
		err := used.Reset(ctx)
		used.Close()
		if !pulled.Load() {
			if err != nil || !used.Info().FactoryNew {
				t.Fatal(err)
			}
			t.Logf("interrupted at each of %d commands", n-1)
			return
		}
		removed(t, err)
		r.Trace(nil)
		r.Insert(token)
		if err := startOver(ctx, r.Name()); err != nil {
			t.Fatalf("command %d: %v", n, err)
		}
		r.Remove()
	}
}

func open(t testing.TB, ctx context.Context, reader string) *piv.Token {
	t.Helper()
	token, err := piv.Open(ctx, reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { token.Close() })
	return token
}

// locked checks with commands of its own that nothing of the factory is left.
func locked(t testing.TB, r *pcscd.Reader, token *pivtoken.Token) {
	t.Helper()
	r.Pull()
	send := func(command ...byte) string {
		return fmt.Sprintf("%X", token.Transmit(context.Background(), command))
	}
	send(0, 0xA4, 4, 0, 5, 0xA0, 0, 0, 3, 8)
	for ref, want := range map[byte]string{0x80: "0101FF05010006020303", 0x81: "0101FF05010006020303", 0x9B: "01010A0202000105010"} {
		if got := send(0, 0xF7, 0, ref, 0); len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("metadata of %02X: %s", ref, got)
		}
	}
	for _, object := range []byte{0x02, 0x05, 0x0B} { // CHUID, 9A, 9D
		if got := send(0, 0xCB, 0x3F, 0xFF, 5, 0x5C, 3, 0x5F, 0xC1, object, 0); got[:2] != "53" {
			t.Errorf("object 5FC1%02X: %s", object, got)
		}
	}
}

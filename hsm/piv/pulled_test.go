package piv_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk/secret"
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

// everyCommand calls try with 1, 2, 3... until it says that there was no such
// command. try cleans up after itself. One at a time: libpcsclite (seen with
// 1.9.9) crashes now and then when one thread disconnects from a card while another
// looks up its own: SCardRemoveHandle changes a list that others are reading.
func everyCommand(t *testing.T, try func(t *testing.T, n int) (reached bool)) {
	n := 1
	for try(t, n) && !t.Failed() {
		n++
	}
	t.Logf("less than %d commands", n)
}

func removed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, hsm.ErrRemoved) {
		t.Errorf("want ErrRemoved, got %v", err)
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

// born is a token with the citizen's PIN and keys, open.
func born(t testing.TB, ctx context.Context, o pivtoken.Options) (*pcscd.Reader, *pivtoken.Token, *piv.Token) {
	t.Helper()
	r, card := insert(t, o)
	token := open(t, ctx, r.Name())
	if err := token.SetPIN(ctx, text(citizenPIN)); err != nil {
		t.Fatal(err)
	}
	if _, err := token.GenerateKeys(ctx, text(citizenPIN), piv.KeySpec{}, nil); err != nil {
		t.Fatal(err)
	}
	return r, card, token
}

// lockAgain does what was interrupted once more.
func lockAgain(t *testing.T, ctx context.Context, n int, r *pcscd.Reader) {
	t.Helper()
	r.Trace(nil)
	token := open(t, ctx, r.Name())
	defer token.Close()
	if err := token.Lock(ctx, text(citizenPIN), admin); err != nil {
		t.Fatalf("command %d: lock again: %v", n, err)
	}
}

// A token in the middle of being locked is locked by doing the same once more.
func TestLockInterruptedAtEveryCommand(t *testing.T) {
	for _, answered := range []bool{false, true} {
		t.Run(whichCommand(answered), func(t *testing.T) {
			everyCommand(t, func(t *testing.T, n int) bool {
				ctx := within(t, 20*time.Second)
				r, card, token := born(t, ctx, pivtoken.Options{})
				defer r.Remove()
				pulled := pullAt(r, n, answered)
				err := token.Lock(ctx, text(citizenPIN), admin)
				token.Close()
				if !pulled.Load() {
					if err != nil {
						t.Fatal(err)
					}
					return false
				}
				removed(t, err)
				r.Insert(card)
				lockAgain(t, ctx, n, r)
				locked(t, r, card)
				return true
			})
		})
	}
}

// Whoever stops waiting, at any command, leaves a token that is free again and
// can be locked.
func TestGivenUpAtEveryCommand(t *testing.T) {
	before := runtime.NumGoroutine()
	everyCommand(t, func(t *testing.T, n int) bool {
		ctx := within(t, 20*time.Second)
		r, _, token := born(t, ctx, pivtoken.Options{})
		defer r.Remove()
		token.Close()

		impatient, giveUp := context.WithCancel(ctx)
		defer giveUp()
		var count atomic.Int32
		r.Trace(func(e pcscd.TraceEvent) {
			if !e.Answered && int(count.Add(1)) == n {
				giveUp()
				time.Sleep(time.Millisecond)
			}
		})
		pin := text(citizenPIN)
		mine := piv.Admin{PUK: text(string(admin.PUK.Reveal())), ManagementKey: text(string(admin.ManagementKey.Reveal()))}
		token, err := piv.Open(impatient, r.Name())
		if err == nil {
			err = token.Lock(impatient, pin, mine)
			token.Close()
		}
		for _, s := range []secret.Text{pin, mine.PUK, mine.ManagementKey} {
			s.Wipe() // an abandoned call may still be running
		}
		if impatient.Err() == nil || err == nil { // the last command is the one after the work
			if err != nil {
				t.Fatal(err)
			}
			return false
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("command %d: %v", n, err)
		}
		lockAgain(t, ctx, n, r)
		return true
	})
	settles(t, before)
}

func TestNobodyWaits(t *testing.T) {
	r, _ := insert(t, pivtoken.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	token := open(t, ctx, r.Name())
	cancel()
	wants(t, "set pin", token.SetPIN(ctx, text(citizenPIN)), context.Canceled)
	if err := token.SetPIN(within(t, time.Second), text(citizenPIN)); err != nil {
		t.Errorf("nothing was sent, so the connection is good: %v", err)
	}
	token.Close()
	_, err := piv.Open(ctx, r.Name())
	wants(t, "open", err, context.Canceled)
	exclusive(t, r)
}

// Reset, interrupted anywhere, is finished by doing it once more.
func TestResetInterruptedAtEveryCommand(t *testing.T) {
	everyCommand(t, func(t *testing.T, n int) bool {
		r, card := insert(t, pivtoken.Options{Faults: pivtoken.Provisioned})
		defer r.Remove()
		ctx := within(t, 20*time.Second)
		token := open(t, ctx, r.Name())
		pulled := pullAt(r, n, false)
		err := token.Reset(ctx)
		token.Close()
		if !pulled.Load() {
			if err != nil || !token.Info().FactoryNew {
				t.Fatal(err)
			}
			return false
		}
		removed(t, err)
		r.Trace(nil)
		r.Insert(card)
		if err := startOver(ctx, r.Name()); err != nil {
			t.Fatalf("command %d: %v", n, err)
		}
		return true
	})
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

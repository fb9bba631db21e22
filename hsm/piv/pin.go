package piv

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
)

// goodPIN is SP 800-73-4 Part 2 2.4.3, for the PUK too. FF is the padding.
func goodPIN(pin secret.Text) bool {
	for _, c := range pin.Reveal() {
		if c == 0xFF {
			return false
		}
	}
	return pin.Len() >= 6 && pin.Len() <= 8
}

// newPIN also keeps the factory's out.
func newPIN(pin secret.Text) bool { return goodPIN(pin) && string(pin.Reveal()) != piv.DefaultPIN }

// Insist lets the next PIN or PUK be sent although a wrong one would block it.
func (t *Token) Insist() { t.insist = true }

// VerifyPIN presents the PIN, once.
//
// Errors: *hsm.WrongPIN, hsm.ErrPINBlocked, ErrLastTry, ErrPINForm.
func (t *Token) VerifyPIN(ctx context.Context, pin secret.Text) error {
	presented := string(pin.Reveal())
	if err := t.sendPIN(ctx, pin, func(y *piv.YubiKey) error { return y.VerifyPIN(presented) }); err != nil {
		return fmt.Errorf("verify pin: %w", err)
	}
	return nil
}

// SetPIN replaces the factory PIN.
//
// Errors: ErrPINForm, hsm.ErrNotFactoryNew if it was replaced before,
// hsm.ErrPINBlocked.
func (t *Token) SetPIN(ctx context.Context, pin secret.Text) error {
	switch {
	case !newPIN(pin):
		return fmt.Errorf("set pin: %w", ErrPINForm)
	case t.ended == nil && !t.state.pin.factory:
		return fmt.Errorf("set pin: %w", hsm.ErrNotFactoryNew)
	}
	return t.ChangePIN(ctx, secret.FromString(piv.DefaultPIN), pin)
}

// ChangePIN replaces the PIN by whoever knows it.
//
// Errors: those of VerifyPIN; ErrPINForm is of either PIN.
func (t *Token) ChangePIN(ctx context.Context, old, pin secret.Text) error {
	if !newPIN(pin) || !goodPIN(old) {
		return fmt.Errorf("change pin: %w", ErrPINForm)
	}
	t.state.FactoryNew = false
	before, chosen := string(old.Reveal()), string(pin.Reveal())
	if err := t.sendPIN(ctx, old, func(y *piv.YubiKey) error { return y.SetPIN(before, chosen) }); err != nil {
		return fmt.Errorf("change pin: %w", err)
	}
	t.state.pin.factory = false
	return nil
}

// sendPIN does one piece of work that presents a PIN.
func (t *Token) sendPIN(ctx context.Context, pin secret.Text, work func(*piv.YubiKey) error) error {
	if t.ended != nil {
		return t.ended
	}
	if !goodPIN(pin) {
		return ErrPINForm
	}
	if err := t.mayTry(); err != nil {
		return err
	}
	err := t.do(ctx, aboutPIN, work)
	t.tried(err)
	return err
}

// mayTry refuses to risk the last try. The count is the token's own, kept since
// it was probed: asking again could undo a verified PIN on some firmware.
func (t *Token) mayTry() error { return t.risk(t.state.PINTries, hsm.ErrPINBlocked, ErrLastTry) }

// risk uses up the caller's insistence, whatever comes of it.
func (t *Token) risk(left int, blocked, last error) error {
	insist := t.insist
	t.insist = false
	switch {
	case left == 0:
		return blocked
	case left == 1 && !insist:
		return last
	}
	return nil
}

// tried counts a PIN that was sent.
func (t *Token) tried(err error) {
	var wrong *hsm.WrongPIN
	switch {
	case err == nil, errors.Is(err, hsm.ErrTouchTimeout) && t.ended == nil:
		t.state.PINTries = t.state.pinTotal
	case errors.As(err, &wrong):
		t.state.PINTries = wrong.Left
	case errors.Is(err, hsm.ErrPINBlocked):
		t.state.PINTries = 0
	}
}

// Unblock sets a new PIN with the PUK, once. The PIN has all its tries then.
//
// Errors: *WrongPUK, hsm.ErrPUKBlocked, ErrLastPUKTry, ErrPINForm.
func (t *Token) Unblock(ctx context.Context, puk, pin secret.Text) error {
	if err := t.unblock(ctx, puk, pin); err != nil {
		return fmt.Errorf("unblock pin: %w", err)
	}
	return nil
}

func (t *Token) unblock(ctx context.Context, puk, pin secret.Text) error {
	switch {
	case t.ended != nil:
		return t.ended
	case !goodPIN(puk) || !newPIN(pin):
		return ErrPINForm
	}
	if err := t.mayTryPUK(); err != nil {
		return err
	}
	presented, chosen := string(puk.Reveal()), string(pin.Reveal())
	t.state.FactoryNew = false
	err := t.do(ctx, aboutPUK, func(y *piv.YubiKey) error { return y.Unblock(presented, chosen) })
	t.triedPUK(err)
	if err == nil {
		t.state.pin.factory, t.state.PINTries = false, t.state.pinTotal
	}
	return err
}

// mayTryPUK is mayTry for the PUK, as far as the token says how many are left.
func (t *Token) mayTryPUK() error {
	return t.risk(t.state.PUKTries, hsm.ErrPUKBlocked, ErrLastPUKTry)
}

// triedPUK counts a PUK that was sent.
func (t *Token) triedPUK(err error) {
	var wrong *WrongPUK
	switch {
	case err == nil && t.state.puk.total > 0:
		t.state.PUKTries = t.state.puk.total
	case errors.As(err, &wrong):
		t.state.PUKTries = wrong.Left
	case errors.Is(err, hsm.ErrPUKBlocked):
		t.state.PUKTries = 0
	}
}

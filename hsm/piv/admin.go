package piv

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
)

// Admin is what administers a token after it was locked.
type Admin struct {
	PUK           secret.Text // 6 to 8 characters
	ManagementKey secret.Text // 24 bytes; 16 or 32 where the token takes such
}

// Ready says whether the token can be handed out: none of its PIN, PUK and
// management key is the factory's, as it said when it was opened. After Lock it
// is opened anew, so that it speaks for itself.
//
// Errors: hsm.ErrFactoryCredentials, also of a token that does not say.
func (t *Token) Ready() error {
	if t.ended != nil {
		return t.ended
	}
	return ready(t.state)
}

func ready(s state) error {
	for _, c := range []struct {
		name string
		of   metadata
	}{{"PIN", s.pin}, {"PUK", s.puk}, {"management key", s.admin}} {
		if !c.of.told {
			return fmt.Errorf("the token does not say whether its %s is the factory's: %w", c.name, hsm.ErrFactoryCredentials)
		}
		if c.of.factory {
			return fmt.Errorf("%s: %w", c.name, hsm.ErrFactoryCredentials)
		}
	}
	return nil
}

// Authenticate finds out whether a management key is the token's. It changes
// nothing and costs no tries.
//
// Errors: ErrOtherAdmin.
func (t *Token) Authenticate(ctx context.Context, managementKey secret.Text) error {
	key, algorithm := slices.Clone(managementKey.Reveal()), t.state.admin.algorithm
	if err := t.aside(ctx, func(c *card) error { return c.authenticate(algorithm, key) }); err != nil {
		return fmt.Errorf("authenticate administrator: %w", err)
	}
	return nil
}

// SetAdmin replaces PUK and management key by whoever has both, the management
// key last. Interrupted, it is repeated on the token opened anew with the same
// two: where the new key is set already, nothing is left to do; where it is not,
// the new PUK may be, and finding out costs one of its tries, given back at
// once. An old PUK that is wrong costs two. Whoever calls it has sealed the new ones to those who shall keep them.
//
// Errors: ErrOtherAdmin, *WrongPUK, hsm.ErrPUKBlocked, ErrLastPUKTry,
// hsm.ErrUnsupported for what no token would take.
func (t *Token) SetAdmin(ctx context.Context, old, admin Admin) error {
	if err := t.setAdmin(ctx, old, admin); err != nil {
		return fmt.Errorf("set administrator: %w", err)
	}
	return nil
}

func (t *Token) setAdmin(ctx context.Context, old, admin Admin) error {
	if t.ended != nil {
		return t.ended
	}
	if err := takes(admin); err != nil {
		return err
	}
	if !goodPIN(old.PUK) {
		return ErrPINForm
	}
	if err := t.mayTryPUK(); err != nil {
		return err
	}
	before, puk := string(old.PUK.Reveal()), string(admin.PUK.Reveal())
	from, to := slices.Clone(old.ManagementKey.Reveal()), slices.Clone(admin.ManagementKey.Reveal())
	algorithm, tries := t.state.admin.algorithm, t.state.PUKTries
	after, done := algorithm, false // read only when aside has ended well
	err := t.aside(ctx, func(c *card) error {
		err := c.authenticate(algorithm, from)
		if errors.Is(err, ErrOtherAdmin) {
			err = c.authenticate(algorithm, to)
			done = err == nil
			return err
		}
		if err != nil {
			return err
		}
		err = c.changePUK(before, puk)
		var wrong *WrongPUK
		if errors.As(err, &wrong) && wrong.Left > 1 && tries != 1 {
			err = c.changePUK(puk, puk) // set when it was interrupted
		}
		if err != nil {
			return fmt.Errorf("set puk: %w", err)
		}
		if after, err = c.setManagementKey(to); err != nil {
			return fmt.Errorf("set management key: %w", err)
		}
		return nil
	})
	if err == nil {
		t.state.admin = metadata{algorithm: after}
	}
	if err != nil || !done {
		t.triedPUK(err)
	}
	return err
}

package piv

import (
	"context"
	"fmt"

	"enrollkiosk/hsm"
)

// Attest has the token state where the key in a slot comes from. It needs no PIN.
//
// Errors: ErrNoKey, hsm.ErrCannotAttest, also for a key that was not born in the
// token.
func (t *Token) Attest(ctx context.Context, slot Slot) (KeyPair, error) {
	k, err := t.attested(ctx, slot)
	if err != nil {
		return KeyPair{}, fmt.Errorf("attest slot %v: %w", slot, err)
	}
	return k, nil
}

func (t *Token) attested(ctx context.Context, slot Slot) (KeyPair, error) {
	switch {
	case t.ended != nil:
		return KeyPair{}, t.ended
	case slot.object() == 0:
		return KeyPair{}, hsm.ErrUnsupported
	case !t.state.CanAttest:
		return KeyPair{}, hsm.ErrCannotAttest
	}
	var k KeyPair // read only when aside has ended well
	if err := t.aside(ctx, func(c *card) error {
		m, err := c.metadata(byte(slot))
		if err != nil {
			return err
		}
		if m.public == nil {
			return ErrNoKey
		}
		own, err := c.certificate(objectAttestation)
		if err != nil {
			return fmt.Errorf("%w: %w", hsm.ErrCannotAttest, err)
		}
		leaf, err := c.attest(slot)
		if err != nil && !isAny(err, hsm.ErrRemoved, hsm.ErrNoDevice) {
			err = fmt.Errorf("%w: %w", hsm.ErrCannotAttest, err) // an imported key
		}
		k = KeyPair{m.public, hsm.PIVEvidence{Certificate: leaf, Intermediate: own}}
		return err
	}); err != nil {
		return KeyPair{}, err
	}
	return k, nil
}

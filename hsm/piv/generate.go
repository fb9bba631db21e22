package piv

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
)

// planned is a key to make.
type planned struct {
	slot                  Slot
	algorithm, pin, touch byte
}

// plan turns a KeySpec into what the token is told. Unknown names and a 9D that
// could not agree are hsm.ErrUnsupported.
func (s KeySpec) plan() ([]planned, error) {
	if len(s.Retired) > int(lastRetired-firstRetired)+1 {
		return nil, fmt.Errorf("%d retired slots: %w", len(s.Retired), hsm.ErrUnsupported)
	}
	rules := map[Slot]hsm.KeyRule{Authentication: s.Authentication, KeyManagement: s.KeyManagement}
	order := []Slot{Authentication, KeyManagement}
	for i, r := range s.Retired {
		rules[Retired(i)] = r
		order = append(order, Retired(i))
	}
	var all []planned
	for _, slot := range order {
		r, touch := rules[slot], hsm.TouchCached
		if slot == Authentication {
			touch = hsm.TouchAlways
		}
		p := planned{slot, algorithms[cmp.Or(r.Algorithm, hsm.P256)], pinPolicies[cmp.Or(r.PIN, hsm.PINOnce)], touchPolicies[cmp.Or(r.Touch, touch)]}
		if p.algorithm == 0 || p.pin == 0 || p.touch == 0 || slot == KeyManagement && p.algorithm != algorithmP256 && p.algorithm != algorithmP384 {
			return nil, fmt.Errorf("rule %+v for slot %v: %w", r, slot, hsm.ErrUnsupported)
		}
		all = append(all, p)
	}
	return all, nil
}

// GenerateKeys makes and attests the citizen's keys with the factory management
// key and overwrites nothing. Then 9D agrees on a secret with a key made here,
// which needs the citizen's PIN and a touch: a token whose key cannot do that is
// found out before anybody relies on it. progress may be nil.
//
// A refusal in the middle leaves the keys made so far: the token is to be reset.
//
// Errors: hsm.ErrNotFactoryNew, ErrCannotAttest, ErrTouchTimeout, those of
// VerifyPIN; ErrUnsupported if the token lacks an algorithm, a policy or ECDH.
func (t *Token) GenerateKeys(ctx context.Context, pin secret.Text, spec KeySpec, progress func(hsm.Progress)) (Keys, error) {
	progress, done := untilDone(progress)
	defer done()
	keys, err := t.generateKeys(ctx, pin, spec, progress)
	if err != nil {
		return Keys{}, fmt.Errorf("generate keys: %w", err)
	}
	return keys, nil
}

func (t *Token) generateKeys(ctx context.Context, pin secret.Text, spec KeySpec, progress func(hsm.Progress)) (k Keys, err error) {
	plan, err := spec.plan()
	switch {
	case t.ended != nil:
		return k, t.ended
	case err != nil:
		return k, err
	case !t.state.CanAttest:
		return k, hsm.ErrCannotAttest
	case t.state.admin.algorithm == 0:
		return k, fmt.Errorf("it does not say what its management key is: %w", hsm.ErrUnsupported)
	case !t.state.admin.factory:
		return k, hsm.ErrNotFactoryNew
	case !goodPIN(pin):
		return k, ErrPINForm
	}
	t.state.FactoryNew = false
	made := make([]KeyPair, len(plan)) // read only when aside has ended well
	now := t.state
	if err := t.aside(ctx, func(c *card) error {
		if err := c.asFactory(now); err != nil {
			return fmt.Errorf("management key: %w", err)
		}
		own, err := c.certificate(objectAttestation)
		if err != nil {
			return fmt.Errorf("%w: %w", hsm.ErrCannotAttest, err)
		}
		for i, p := range plan {
			if made[i], err = c.make(p, own, progress); err != nil {
				return fmt.Errorf("slot %v: %w", p.slot, err)
			}
		}
		return nil
	}); err != nil {
		return k, err
	}
	for i, p := range plan {
		t.state.slots[p.slot] = metadata{status: apdu.OK, algorithm: p.algorithm, pin: p.pin, touch: p.touch, public: made[i].Public}
	}
	progress(hsm.TouchNow)
	if err := t.proveAgreement(ctx, pin); err != nil {
		return k, fmt.Errorf("agree with slot %v: %w", KeyManagement, err)
	}
	return Keys{made[0], made[1], made[2:]}, nil
}

// make generates and attests one key. The slot must be empty.
func (c *card) make(p planned, own []byte, progress func(hsm.Progress)) (k KeyPair, err error) {
	m, err := c.metadata(byte(p.slot))
	if err != nil {
		return k, err
	}
	if m.status != apdu.ReferencedDataNotFound {
		return k, fmt.Errorf("there is a key: %w", hsm.ErrNotFactoryNew)
	}
	progress(hsm.Generating)
	if k.Public, err = c.generate(p.slot, p.algorithm, p.pin, p.touch); err != nil {
		return k, fmt.Errorf("generate: %w", err)
	}
	progress(hsm.Attesting)
	certificate, err := c.attest(p.slot)
	if err != nil {
		return k, fmt.Errorf("attest: %w", err)
	}
	k.Evidence = hsm.PIVEvidence{Certificate: certificate, Intermediate: own}
	return k, nil
}

// untilDone lets progress be called until done was: a call that is left behind
// goes on alone.
func untilDone(progress func(hsm.Progress)) (guarded func(hsm.Progress), done func()) {
	var mu sync.Mutex
	return func(p hsm.Progress) {
			mu.Lock()
			defer mu.Unlock()
			if progress != nil {
				progress(p)
			}
		}, func() {
			mu.Lock()
			defer mu.Unlock()
			progress = nil
		}
}

// Agree is ECDH with the key in a slot (SP 800-73-4 Part 2, A.4): the shared
// point's first coordinate. It presents pin once.
//
// Errors: ErrNoKey, hsm.ErrUnsupported if token or key cannot, ErrTouchTimeout,
// those of VerifyPIN.
func (t *Token) Agree(ctx context.Context, slot Slot, pin secret.Text, peer *ecdh.PublicKey) ([]byte, error) {
	shared, err := t.AgreeAll(ctx, slot, pin, []*ecdh.PublicKey{peer})
	if err != nil {
		return nil, err
	}
	return shared[0], nil
}

// AgreeAll is Agree with each of some peers, while one touch lasts where the key
// takes a cached one. It presents pin before each. Errors leave no secret.
func (t *Token) AgreeAll(ctx context.Context, slot Slot, pin secret.Text, peers []*ecdh.PublicKey) ([][]byte, error) {
	k, err := t.key(ctx, slot, pin)
	if err != nil {
		return nil, fmt.Errorf("agree with slot %v: %w", slot, err)
	}
	shared := make([][]byte, len(peers))
	for i, peer := range peers {
		if shared[i], err = k.agree(ctx, peer); err != nil {
			for _, z := range shared {
				clear(z)
			}
			return nil, fmt.Errorf("agree with slot %v: %w", slot, err)
		}
	}
	return shared, nil
}

func (k *key) agree(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	own, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return nil, hsm.ErrUnsupported
	}
	if public, err := own.ECDH(); err != nil || public.Curve() != peer.Curve() {
		return nil, fmt.Errorf("another curve: %w", hsm.ErrUnsupported)
	}
	return k.present(ctx, aboutAgreement, func(private crypto.PrivateKey) ([]byte, error) {
		return private.(*piv.ECDSAPrivateKey).ECDH(peer)
	})
}

// proveAgreement has 9D agree with a key of this moment.
func (t *Token) proveAgreement(ctx context.Context, pin secret.Text) error {
	own, ok := t.state.slots[KeyManagement].public.(*ecdsa.PublicKey)
	if !ok {
		return hsm.ErrUnsupported
	}
	public, err := own.ECDH()
	if err != nil {
		return err
	}
	mine, err := public.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := mine.ECDH(public)
	if err != nil {
		return err
	}
	k := &key{token: t, slot: KeyManagement, public: own, pin: pin}
	got, err := k.agree(ctx, mine.PublicKey())
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.Join(errors.New("another secret than expected"), hsm.ErrUnsupported)
	}
	return nil
}

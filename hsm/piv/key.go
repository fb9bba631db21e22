package piv

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
)

// Key returns the key in a slot. It sends no PIN yet: each signature presents
// pin once. The caller keeps pin until it is done with the key.
//
// The public key is what the token says; a certificate in the slot must have
// the same one. P-256 and RSA from 2048 bits are supported; RSA signs by PKCS #1
// v1.5.
//
// Errors: ErrNoKey, ErrOtherKey, ErrPINForm, hsm.ErrUnsupported.
func (t *Token) Key(ctx context.Context, slot Slot, pin secret.Text) (hsm.Key, error) {
	k, err := t.key(ctx, slot, pin)
	if err != nil {
		return nil, fmt.Errorf("key in slot %v: %w", slot, err)
	}
	return k, nil
}

func (t *Token) key(ctx context.Context, slot Slot, pin secret.Text) (*key, error) {
	switch {
	case t.ended != nil:
		return nil, t.ended
	case slot.object() == 0:
		return nil, hsm.ErrUnsupported
	case !goodPIN(pin):
		return nil, ErrPINForm
	}
	k := &key{token: t, slot: slot, pin: pin, about: aboutTouch}
	info, err := t.slot(ctx, slot)
	switch {
	case err == nil:
		k.public = info.PublicKey
		if info.TouchPolicy == piv.TouchPolicyNever {
			k.about = aboutPIN
		}
	case errors.Is(err, ErrNoKey) || t.ended != nil || ctx.Err() != nil:
		return nil, err
	}
	certificate, err := t.certificate(ctx, slot)
	switch {
	case err == nil && k.public == nil: // a token without metadata
		k.public = certificate.PublicKey
	case err == nil && !same(k.public, certificate.PublicKey):
		return nil, ErrOtherKey
	case err != nil && (!errors.Is(err, ErrNoCertificate) || k.public == nil):
		return nil, err
	}
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return k, nil
		}
	case *rsa.PublicKey:
		if p.N.BitLen() >= 2048 {
			return k, nil
		}
	}
	return nil, hsm.ErrUnsupported
}

func same(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// key is a key on a token, usable as long as the token is open.
type key struct {
	token  *Token
	slot   Slot
	public crypto.PublicKey
	pin    secret.Text
	about  subject
}

func (k *key) Public() crypto.PublicKey { return k.public }

// Sign signs a SHA-256 digest; what comes back is verified.
//
// Errors: *hsm.WrongPIN, hsm.ErrPINBlocked, ErrLastTry, hsm.ErrTouchTimeout,
// ErrOtherKey.
func (k *key) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	signature, err := k.sign(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("sign with slot %v: %w", k.slot, err)
	}
	return signature, nil
}

func (k *key) sign(ctx context.Context, digest []byte) ([]byte, error) {
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("digest of %d bytes: %w", len(digest), hsm.ErrUnsupported)
	}
	t := k.token
	if t.ended != nil {
		return nil, t.ended
	}
	if !goodPIN(k.pin) { // wiped meanwhile
		return nil, ErrPINForm
	}
	if err := t.mayTry(); err != nil {
		return nil, err
	}
	digest = append([]byte(nil), digest...) // an abandoned call may outlive the caller's
	pin := string(k.pin.Reveal())
	signature, err := ask(ctx, t, k.about, func(y *piv.YubiKey) ([]byte, error) {
		// With a policy of its own piv-go asks the token nothing and sends the
		// PIN exactly once.
		private, err := y.PrivateKey(k.slot.upstream(), k.public, piv.KeyAuth{PIN: pin, PINPolicy: piv.PINPolicyAlways})
		if err != nil {
			return nil, err
		}
		return private.(crypto.Signer).Sign(rand.Reader, digest, crypto.SHA256)
	})
	t.tried(err)
	if err != nil {
		return nil, err
	}
	if !verifies(k.public, digest, signature) {
		return nil, ErrOtherKey
	}
	return signature, nil
}

func verifies(public crypto.PublicKey, digest, signature []byte) bool {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, signature) == nil
	}
	return false
}

package piv

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
)

// Key returns the key in a slot. It sends no PIN yet: each signature presents
// pin once. The caller keeps pin until it is done with the key.
//
// The public key is what the token says; a certificate in the slot must have
// the same one. P-256, P-384, Ed25519 and RSA from 2048 bits are supported; RSA
// signs by PKCS #1 v1.5.
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
	// What the token said of the slot when it was opened, not piv-go's KeyInfo,
	// which fails on origins and policies that it does not know.
	k := &key{token: t, slot: slot, pin: pin, about: aboutTouch}
	info, asked := t.state.slots[slot]
	switch {
	case asked && info.status == apdu.ReferencedDataNotFound:
		return nil, ErrNoKey
	case info.public != nil:
		k.public = info.public
		if info.touch == touchNever {
			k.about = aboutPIN
		}
	}
	certificate, err := t.certificate(ctx, slot)
	switch {
	case err == nil && k.public == nil: // a token without metadata
		k.public = certificate.PublicKey
	case err == nil && !same(k.public, certificate.PublicKey):
		return nil, ErrOtherKey
	case err != nil && !errors.Is(err, ErrNoCertificate):
		return nil, err
	case k.public == nil:
		return nil, ErrNoKey
	}
	if k.digest() < 0 {
		return nil, hsm.ErrUnsupported
	}
	return k, nil
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

// hash is what the key signs a digest of. RSA of every length has that of
// hsm.RSA2048.
func (k *key) hash() crypto.Hash {
	a, _ := hsm.AlgorithmOf(k.public)
	return a.Hash()
}

// digest is the length of what the key signs: 0 for any, -1 if it is of a kind
// that is not used here.
func (k *key) digest() int {
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() || p.Curve == elliptic.P384() {
			return k.hash().Size()
		}
	case ed25519.PublicKey:
		return 0
	case *rsa.PublicKey:
		if p.N.BitLen() >= 2048 {
			return k.hash().Size()
		}
	}
	return -1
}

// Sign signs a digest made with SHA-256, with P-384 one made with SHA-384, with
// Ed25519 the message itself; what comes back is verified.
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
	if n := k.digest(); n > 0 && len(digest) != n || len(digest) == 0 {
		return nil, fmt.Errorf("digest of %d bytes: %w", len(digest), hsm.ErrUnsupported)
	}
	digest = bytes.Clone(digest) // an abandoned call may outlive the caller's
	signature, err := k.present(ctx, k.about, func(private crypto.PrivateKey) ([]byte, error) {
		return private.(crypto.Signer).Sign(rand.Reader, digest, k.hash())
	})
	if err != nil {
		return nil, err
	}
	if !k.verifies(digest, signature) {
		return nil, ErrOtherKey
	}
	return signature, nil
}

// present uses the private key right after its PIN, which is sent exactly once.
func (k *key) present(ctx context.Context, about subject, use func(crypto.PrivateKey) ([]byte, error)) ([]byte, error) {
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
	pin := string(k.pin.Reveal())
	out, err := ask(ctx, t, about, func(y *piv.YubiKey) ([]byte, error) {
		// With a policy of its own piv-go asks the token nothing.
		private, err := y.PrivateKey(k.slot.upstream(), k.public, piv.KeyAuth{PIN: pin, PINPolicy: piv.PINPolicyAlways})
		if err != nil {
			return nil, err
		}
		return use(private)
	})
	t.tried(err)
	return out, err
}

func (k *key) verifies(digest, signature []byte) bool {
	switch p := k.public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(p, digest, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, signature) == nil
	}
	return false
}

// Certificate is the certificate in a slot, DER.
//
// Errors: ErrNoCertificate.
func (t *Token) Certificate(ctx context.Context, slot Slot) ([]byte, error) {
	c, err := t.certificate(ctx, slot)
	if err != nil {
		return nil, fmt.Errorf("certificate in slot %v: %w", slot, err)
	}
	return c.Raw, nil
}

func (t *Token) certificate(ctx context.Context, slot Slot) (*x509.Certificate, error) {
	if slot.object() == 0 {
		return nil, hsm.ErrUnsupported
	}
	c, err := ask(ctx, t, aboutContent, func(y *piv.YubiKey) (*x509.Certificate, error) { return y.Certificate(slot.upstream()) })
	if errors.Is(err, ErrNoKey) {
		err = ErrNoCertificate
	}
	return c, err
}

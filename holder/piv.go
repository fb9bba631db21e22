package holder

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk/secret"
)

// PIV opens the citizen's PIV token.
type PIV struct {
	// Reader finds the reader that it is in.
	Reader func(ctx context.Context) (string, error)
}

type pivToken struct {
	token    *piv.Token
	pin      secret.Text
	enrolled hsm.Key         // 9A
	public   *ecdh.PublicKey // 9D
}

// Open takes a token with keys in 9A and 9D, both on P-256.
//
// Errors: those of hsm and hsm/piv.
func (p PIV) Open(ctx context.Context, pin secret.Text) (Token, error) {
	reader, err := p.Reader(ctx)
	if err != nil {
		return nil, err
	}
	t, err := piv.Open(ctx, reader)
	if err != nil {
		return nil, err
	}
	own := &pivToken{token: t, pin: pin}
	if err := own.keys(ctx); err != nil {
		t.Close()
		return nil, err
	}
	return own, nil
}

func (t *pivToken) keys(ctx context.Context) (err error) {
	if t.enrolled, err = t.token.Key(ctx, piv.Authentication, t.pin); err != nil {
		return err
	}
	agreement, err := t.token.Key(ctx, piv.KeyManagement, t.pin)
	if err != nil {
		return err
	}
	for _, k := range []hsm.Key{t.enrolled, agreement} {
		if public, ok := k.Public().(*ecdsa.PublicKey); !ok || public.Curve != elliptic.P256() {
			return fmt.Errorf("a key on another curve than P-256: %w", hsm.ErrUnsupported)
		}
	}
	t.public, err = agreement.Public().(*ecdsa.PublicKey).ECDH()
	return err
}

func (t *pivToken) Public() *ecdh.PublicKey { return t.public }
func (t *pivToken) Enrolled() hsm.Key       { return t.enrolled }
func (t *pivToken) Close() error            { return t.token.Close() }

func (t *pivToken) AgreeAll(ctx context.Context, peers []*ecdh.PublicKey) ([][]byte, error) {
	return t.token.AgreeAll(ctx, piv.KeyManagement, t.pin, peers)
}

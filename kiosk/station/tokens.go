package station

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
)

// tokens plugs PIV tokens into the flow.
type tokens struct{ readers readers }

func (t tokens) Open(ctx context.Context, d kiosk.Device) (kiosk.Token, error) {
	name, err := t.readers.find(ctx, d)
	if errors.Is(err, kiosk.ErrReaderMissing) {
		return nil, fmt.Errorf("%w: %w", hsm.ErrNoDevice, err)
	}
	if err != nil {
		return nil, err
	}
	opened, err := piv.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return token{opened}, nil
}

// token translates between the flow's types and the driver's.
type token struct{ *piv.Token }

func (t token) Info() kiosk.TokenInfo { return TokenInfo(t.Token.Info()) }

// TokenInfo is what the flow wants to know of what a token says.
func TokenInfo(i piv.Info) kiosk.TokenInfo {
	return kiosk.TokenInfo{Serial: i.Serial, Firmware: i.Firmware, FactoryNew: i.FactoryNew, PINBlocked: i.PINTries == 0,
		PUKBlocked: i.PUKTries == 0, CanAttest: i.CanAttest, CanAgree: i.CanAgree}
}

func (t token) GenerateKeys(ctx context.Context, pin secret.Text, rules kiosk.TokenRules, progress func(hsm.Progress)) (kiosk.TokenKeys, error) {
	keys, err := t.Token.GenerateKeys(ctx, pin, piv.KeySpec(rules), progress)
	if err != nil {
		return kiosk.TokenKeys{}, err
	}
	out := kiosk.TokenKeys{Retired: make([]kiosk.TokenKey, len(keys.Retired))}
	to := []*kiosk.TokenKey{&out.Authentication, &out.KeyManagement}
	for i := range out.Retired {
		to = append(to, &out.Retired[i])
	}
	for i, from := range append([]piv.KeyPair{keys.Authentication, keys.KeyManagement}, keys.Retired...) {
		der, err := x509.MarshalPKIXPublicKey(from.Public)
		if err != nil {
			return kiosk.TokenKeys{}, fmt.Errorf("encode key: %w", err)
		}
		*to[i] = kiosk.TokenKey{Public: der, Evidence: from.Evidence}
	}
	return out, nil
}

func (t token) VerifyPIN(ctx context.Context, pin secret.Text, insist bool) error {
	if insist {
		t.Insist()
	}
	err := t.Token.VerifyPIN(ctx, pin)
	if errors.Is(err, piv.ErrLastTry) {
		return kiosk.ErrLastTry
	}
	return err
}

func (t token) Attest(ctx context.Context, slot kiosk.Slot) (kiosk.TokenKey, error) {
	k, err := t.Token.Attest(ctx, piv.Slot(slot))
	if errors.Is(err, piv.ErrNoKey) {
		return kiosk.TokenKey{}, fmt.Errorf("%w: %w", kiosk.ErrNoKey, err)
	}
	if err != nil {
		return kiosk.TokenKey{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public)
	if err != nil {
		return kiosk.TokenKey{}, fmt.Errorf("encode key: %w", err)
	}
	return kiosk.TokenKey{Public: der, Evidence: k.Evidence}, nil
}

func (t token) Lock(ctx context.Context, pin secret.Text, admin kiosk.TokenAdmin) error {
	return t.Token.Lock(ctx, pin, piv.Admin{PUK: admin.PUK, ManagementKey: admin.ManagementKey})
}

func (t token) Certificate(ctx context.Context, slot kiosk.Slot) ([]byte, error) {
	return t.Token.Certificate(ctx, piv.Slot(slot))
}

func (t token) Key(ctx context.Context, slot kiosk.Slot, pin secret.Text) (hsm.Key, error) {
	return t.Token.Key(ctx, piv.Slot(slot), pin)
}

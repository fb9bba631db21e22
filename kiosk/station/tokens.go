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

func (t token) Info() kiosk.TokenInfo {
	i := t.Token.Info()
	return kiosk.TokenInfo{Serial: i.Serial, Firmware: i.Firmware, FactoryNew: i.FactoryNew, PINBlocked: i.PINTries == 0, CanAttest: i.CanAttest}
}

func (t token) GenerateKeys(ctx context.Context, rules kiosk.TokenRules, progress func(hsm.Progress)) (kiosk.TokenKeys, error) {
	keys, err := t.Token.GenerateKeys(ctx, piv.KeySpec{TouchAlways: rules.TouchAlways}, progress)
	if err != nil {
		return kiosk.TokenKeys{}, err
	}
	var out kiosk.TokenKeys
	for _, k := range []struct {
		from piv.KeyPair
		to   *kiosk.TokenKey
	}{{keys.Authentication, &out.Authentication}, {keys.KeyManagement, &out.KeyManagement}} {
		der, err := x509.MarshalPKIXPublicKey(k.from.Public)
		if err != nil {
			return kiosk.TokenKeys{}, fmt.Errorf("encode key: %w", err)
		}
		*k.to = kiosk.TokenKey{Public: der, Evidence: k.from.Evidence}
	}
	return out, nil
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

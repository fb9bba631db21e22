package kiosk

import (
	"context"

	"enrollkiosk/hsm/attest"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

// citizenKey is the citizen's new key with the proof that it was born in its device.
type citizenKey struct {
	proof    attest.Proof
	evidence record.Attestation
}

// holderKey is where the citizen's new key is born and used: a token that the
// citizen takes home, or this kiosk's TPM. Its methods are called in this order;
// abandon may come after any of them.
type holderKey interface {
	// pin is the citizen's: chosen now, or of a key that is there already. The caller
	// wipes it.
	pin(ctx context.Context) (secret.Text, error)
	// make has the key born for a record's context, under the citizen's PIN, and
	// verifies the evidence as the registry will.
	make(ctx context.Context, rc record.Context, pin secret.Text) (citizenKey, error)
	// admin is what administers the device afterwards, nil if nothing does. It is
	// sealed before lock sets it.
	admin() *TokenAdmin
	lock(ctx context.Context, pin secret.Text, admin *TokenAdmin) error
	// sign makes the holder's signature.
	sign(ctx context.Context, f *frozen, pin secret.Text) error
	// promise comes just before the record is put: from now on the key is its.
	promise(ctx context.Context, record [32]byte) error
	// settle comes when the record was put, or may have been.
	settle(ctx context.Context)
	// abandon leaves no trace of a key whose record was not put.
	abandon(ctx context.Context)
	// number is what the citizen comes back with; "" for a device taken home.
	number() string
}

// chooseDevice has the citizen put a token in or, where that is allowed, say
// that there is none and that the key may live in this kiosk.
func (e *enrollment) chooseDevice(ctx context.Context) (holderKey, error) {
	if e.renews {
		t, err := e.showToken(ctx)
		return keptOnToken{e, t}, err
	}
	var instead []Action
	if e.old == nil && e.custodian != nil && custodyAllowed(e.policy.Policy()) {
		instead = append(instead, ActionNoToken)
	}
	for {
		err := e.newToken(ctx, instead...)
		if err != errInstead {
			return onToken{e}, err
		}
		in, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenNoToken, Turn: TurnCitizen, Main: ActionKeepHere,
				Actions: []Action{ActionKeepHere, ActionBack, ActionDecline, ActionChoose}}
		})
		if err != nil {
			return nil, err
		}
		if in.Action == ActionKeepHere {
			return &inCustody{e: e}, nil
		}
	}
}

// keptOnToken is a key that the citizen has had all along: the record is about the
// document. Nothing is written to the token.
type keptOnToken struct {
	e   *enrollment
	own ownToken
}

func (k keptOnToken) pin(ctx context.Context) (secret.Text, error) { return k.e.tokenPIN(ctx, k.own) }

func (k keptOnToken) make(context.Context, record.Context, secret.Text) (citizenKey, error) {
	return citizenKey{k.own.proof, k.own.evidence}, nil
}

func (k keptOnToken) sign(ctx context.Context, f *frozen, pin secret.Text) error {
	return k.e.tokenSign(ctx, func(ctx context.Context) error {
		return withToken(ctx, k.e.tokens, DeviceToken, k.own.serial, func(t Token) error { return signHolder(ctx, t, f, pin) })
	}, ownTokenFault)
}

func (k keptOnToken) admin() *TokenAdmin                                   { return nil }
func (k keptOnToken) lock(context.Context, secret.Text, *TokenAdmin) error { return nil }
func (k keptOnToken) promise(context.Context, [32]byte) error              { return nil }
func (k keptOnToken) settle(context.Context)                               {}
func (k keptOnToken) abandon(context.Context)                              {}
func (k keptOnToken) number() string                                       { return "" }

// tokenSign shows that the citizen signs with a token, again if the person wants.
func (e *enrollment) tokenSign(ctx context.Context, sign func(context.Context) error, classify func(error) *Fault) error {
	return e.try(ctx, func(ctx context.Context) error {
		return e.stepper(ScreenSaving, StepHolderSign).run(ctx, StepHolderSign, classify, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, e.limits.Touch)
			defer cancel()
			return sign(ctx)
		})
	})
}

func signHolder(ctx context.Context, t Token, f *frozen, pin secret.Text) error {
	k, err := t.Key(ctx, SlotAuthentication, pin)
	if err != nil {
		return err
	}
	return f.draft.Sign(ctx, record.Holder, k, nil)
}

// onToken is a key on the token that lies on the citizen's reader.
type onToken struct{ e *enrollment }

func (t onToken) pin(ctx context.Context) (secret.Text, error) { return t.e.choosePIN(ctx) }

func (t onToken) make(ctx context.Context, _ record.Context, pin secret.Text) (citizenKey, error) {
	return t.e.makeKey(ctx, pin)
}

func (t onToken) admin() *TokenAdmin {
	a := NewTokenAdmin()
	return &a
}

func (t onToken) lock(ctx context.Context, pin secret.Text, admin *TokenAdmin) error {
	return t.e.lockToken(ctx, pin, *admin)
}

func (t onToken) sign(ctx context.Context, f *frozen, pin secret.Text) error {
	return t.e.tokenSign(ctx, func(ctx context.Context) error {
		return withToken(ctx, t.e.tokens, DeviceToken, t.e.begun, func(open Token) error {
			// Opened anew after it was locked, the token speaks for itself.
			if err := open.Ready(); err != nil {
				return err
			}
			return signHolder(ctx, open, f, pin)
		})
	}, tokenFault)
}

func (t onToken) promise(context.Context, [32]byte) error { return nil }

func (t onToken) settle(context.Context) { t.e.begun = 0 }

func (t onToken) abandon(ctx context.Context) { t.e.abandon(ctx) }

func (t onToken) number() string { return "" }

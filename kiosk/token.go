package kiosk

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/expect"
	"enrollkiosk/registry/policy"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/registry/record"
)

// withToken opens the token on the reader of d, hands it to f and releases it.
// serial, when not zero, is the token it must be.
func withToken(ctx context.Context, tokens Tokens, d Device, serial uint32, f func(Token) error) (err error) {
	t, err := tokens.Open(ctx, d)
	if err != nil {
		return fmt.Errorf("open token: %w", err)
	}
	defer func() {
		if closeErr := t.Close(); err == nil {
			err = closeErr
		}
	}()
	if serial != 0 && t.Info().Serial != serial {
		return errOtherToken
	}
	return f(t)
}

// errOtherToken means that the token was exchanged during the enrollment.
var errOtherToken = errors.New("another token than before: put the first one back")

// newToken has the citizen insert a token and makes sure that it can be used
// before anything is written. An action out of instead ends it with errInstead.
func (e *enrollment) newToken(ctx context.Context, instead ...Action) error {
	return e.try(ctx, func(ctx context.Context) error {
		if err := e.awaitDevice(ctx, ScreenInsertToken, DeviceToken, instead...); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, e.limits.Token)
		defer cancel()
		if err := withToken(ctx, e.tokens, DeviceToken, 0, func(t Token) error { return t.Info().Usable() }); err != nil {
			return tokenFault(err)
		}
		return nil
	})
}

// Usable says why a token cannot be prepared for a citizen, nil if it can.
func (t TokenInfo) Usable() error {
	switch {
	case !t.CanAttest:
		return hsm.ErrCannotAttest
	case t.PINBlocked:
		return hsm.ErrPINBlocked
	case t.PUKBlocked:
		return hsm.ErrPUKBlocked
	case !t.FactoryNew:
		return hsm.ErrNotFactoryNew
	case !t.CanAgree:
		return hsm.ErrUnsupported
	}
	return nil
}

// VerifyTokenKeys checks the evidence of all keys of a citizen's token against
// the policy, and returns the proof of the one in 9A.
func VerifyTokenKeys(p policy.Policy, roots []attest.Root, keys TokenKeys, serial uint32, at time.Time) (attest.Proof, error) {
	between, err := expect.Intermediates(p)
	if err != nil {
		return attest.Proof{}, err
	}
	verify := func(slot Slot, k TokenKey) (attest.Proof, error) {
		public, err := x509.ParsePKIXPublicKey(k.Public)
		if err != nil {
			return attest.Proof{}, fmt.Errorf("slot %02X: %w", byte(slot), err)
		}
		want := expect.Token(p, between, byte(slot), public, at)
		want.Serial = serial
		proof, err := attest.VerifyPIV(k.Evidence, roots, want)
		if err != nil {
			err = fmt.Errorf("slot %02X: %w", byte(slot), err)
		}
		return proof, err
	}
	proof, err := verify(SlotAuthentication, keys.Authentication)
	if err != nil {
		return attest.Proof{}, err
	}
	if a, _ := hsm.AlgorithmOf(proof.Key()); !slices.Contains(p.TokenRules().Algorithms, policy.Algorithm(a)) {
		return attest.Proof{}, fmt.Errorf("key of algorithm %q: %w", a, hsm.ErrUnsupported)
	}
	if _, err := verify(SlotKeyManagement, keys.KeyManagement); err != nil {
		return attest.Proof{}, err
	}
	for i, k := range keys.Retired {
		if _, err := verify(SlotRetired+Slot(i), k); err != nil {
			return attest.Proof{}, err
		}
	}
	return proof, nil
}

// MakeTokenKeys has a token make the citizen's keys as the policy wants them: the
// first of its algorithms that the token has.
func MakeTokenKeys(ctx context.Context, t Token, pin secret.Text, p policy.Policy, progress func(hsm.Progress)) (keys TokenKeys, err error) {
	rules := p.TokenRules()
	wish := TokenRules{KeyManagement: hsm.KeyRule{Touch: hsm.TouchPolicy(rules.KeyAgreementTouch)}}
	var refused error
	for _, a := range rules.Algorithms {
		wish.Authentication = hsm.KeyRule{Algorithm: hsm.Algorithm(a), PIN: hsm.PINPolicy(rules.PIN), Touch: hsm.TouchPolicy(rules.Touch)}
		wish.Retired = slices.Repeat([]hsm.KeyRule{wish.Authentication}, int(rules.Retired))
		keys, err = t.GenerateKeys(ctx, pin, wish, progress)
		switch {
		case errors.Is(err, hsm.ErrUnsupported):
			refused = errors.Join(refused, err)
			continue
		case refused != nil && errors.Is(err, hsm.ErrNotFactoryNew): // not the algorithm was refused, but a key after the first
			return keys, refused
		}
		return keys, err
	}
	return keys, refused
}

// PIN lengths of SP 800-73-4 Part 2 2.4.3.
const (
	MinPIN = 6
	MaxPIN = 8
)

// choosePIN has the citizen choose a PIN and repeat it. The officer sees
// neither.
func (e *enrollment) choosePIN(ctx context.Context) (secret.Text, error) {
	problem := PINFine
	for {
		first, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenChoosePIN, Turn: TurnCitizen, Main: ActionPIN,
				Actions: []Action{ActionPIN, ActionDecline, ActionChoose},
				PIN:     &PINView{Min: MinPIN, Max: MaxPIN, Problem: problem}}
		})
		if err != nil {
			return secret.Text{}, err
		}
		if problem = CheckPIN(first.Secret); problem != PINFine {
			first.Wipe()
			continue
		}
		second, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenRepeatPIN, Turn: TurnCitizen, Main: ActionPIN,
				Actions: []Action{ActionPIN, ActionBack, ActionDecline, ActionChoose},
				PIN:     &PINView{Min: MinPIN, Max: MaxPIN}}
		})
		if err != nil {
			first.Wipe()
			return secret.Text{}, err
		}
		same := second.Action == ActionPIN && first.Secret.Equal(second.Secret)
		if second.Action == ActionPIN && !same {
			problem = PINDifferent
		}
		second.Wipe()
		if same {
			return first.Secret, nil
		}
		first.Wipe()
	}
}

// CheckPIN refuses what people try first: one digit repeated, runs up or down, a
// short pattern repeated, and the factory PIN. It is for every new PIN, wherever
// it is chosen.
func CheckPIN(pin secret.Text) PINProblem {
	if p := digits(pin, MinPIN, MaxPIN); p != PINFine {
		return p
	}
	b := pin.Reveal()
	for period := 1; period <= 4; period++ {
		repeats := true
		for i := period; i < len(b); i++ {
			repeats = repeats && b[i] == b[i-period]
		}
		if repeats {
			return PINTooEasy
		}
	}
	up, down := true, true
	for i := 1; i < len(b); i++ {
		up = up && (b[i] == b[i-1]+1 || b[i-1] == '9' && b[i] == '0')
		down = down && (b[i] == b[i-1]-1 || b[i-1] == '0' && b[i] == '9')
	}
	if up || down {
		return PINTooEasy
	}
	return PINFine
}

// officer is a signed-on officer: a card whose certificate is under the force's
// authority, and whose PIN was right. It is a number here and no person: that the
// citizen is the officer, only the vault can tell.
type officer struct {
	chain  [][]byte // certificate chain of slot 9C, leaf first, DER
	leaf   *x509.Certificate
	serial uint32
	number string
}

// digest is how the officer is counted and reported.
func (o officer) digest() [32]byte { return sha256.Sum256(o.leaf.Raw) }

// signOn waits for an officer's card and PIN. From then on d is guarded by that
// card.
func (a *Agent) signOn(ctx context.Context, d *desk) (officer, error) {
	d.base.Officer, d.guard = "", nil
	return a.admit(ctx, d, ScreenSignOn)
}

// admit asks on a screen for the card and PIN of any officer.
func (a *Agent) admit(ctx context.Context, d *desk, screen Screen) (officer, error) {
	if p, err := a.cfg.Policy(); err == nil {
		d.base.Simulated = simulated(p.Policy())
	}
	g := &guard{left: a.left.Load}
	o, err := d.askOfficer(ctx, func() State {
		s := State{Screen: screen, Main: ActionSignOn, Actions: []Action{ActionSignOn, ActionChoose}}
		if a.cfg.SelfService && screen == ScreenSignOn {
			s.Actions = append(s.Actions, ActionSelfService)
		}
		return s
	}, func(ctx context.Context, pin secret.Text) (o officer, err error) {
		err = g.proving(func() error {
			o, err = a.recognise(ctx, officer{}, pin)
			return err
		})
		return o, err
	})
	g.unlock = func(ctx context.Context, pin secret.Text) error {
		_, err := a.recognise(ctx, o, pin)
		return err
	}
	d.base.Officer, d.guard = o.number, g
	a.note(officer{}, DayCounts{}) // what went wrong before anybody was here
	return o, err
}

// recognise finds out whose card lies on the officers' reader: the one of known,
// if that is not zero. Its errors are *Fault, or the context's.
func (a *Agent) recognise(ctx context.Context, known officer, pin secret.Text) (officer, error) {
	limited, cancel := context.WithTimeout(ctx, a.cfg.Limits.Token)
	defer cancel()
	p, err := a.cfg.Policy()
	var o officer
	if err == nil {
		o, err = checkOfficer(limited, a.cfg.Tokens, p.Policy(), record.Officer, receipt.SignOn{Kiosk: a.cfg.ID, Time: a.now()}, known.serial, pin)
	}
	if err == nil && known.leaf != nil && !known.leaf.Equal(o.leaf) {
		err = errOtherToken
	}
	if err != nil && ctx.Err() == nil {
		fault := officerFault(err)
		a.log.Warn("sign-on refused", "code", fault.Code, "cause", fault.Unwrap())
		return o, fault
	}
	return o, err
}

// checkOfficer finds out whose card lies on the officers' reader, and that it may
// play a role. serial, when not zero, is the card that it must be. The card signs
// on, which says where and when.
func checkOfficer(ctx context.Context, tokens Tokens, p policy.Policy, role record.Role, on receipt.SignOn, serial uint32, pin secret.Text) (o officer, err error) {
	on.Audience, on.Time = p.LogOrigin, on.Time.UTC().Truncate(time.Second)
	err = withToken(ctx, tokens, DeviceOfficer, serial, func(t Token) error {
		der, err := t.Certificate(ctx, SlotSignature)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrOfficerUnknown, err)
		}
		if o, err = officerOf(der, p, role, on.Time); err != nil {
			return err
		}
		o.serial = t.Info().Serial
		return o.prove(ctx, t, on, pin)
	})
	return o, err
}

// prove has the card sign something fresh. A certificate is public, and a card
// that holds a copy of it could say yes to any PIN. The signature has a type of
// its own: it can be taken for nothing else that officers sign.
func (o officer) prove(ctx context.Context, t Token, on receipt.SignOn, pin secret.Text) error {
	k, err := t.Key(ctx, SlotSignature, pin)
	if err != nil {
		return err
	}
	rand.Read(on.Nonce[:])
	b, err := receipt.SignSignOn(ctx, on, k)
	if err != nil {
		return err
	}
	own := func(key crypto.PublicKey) bool {
		leaf, ok := o.leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		return ok && leaf.Equal(key)
	}
	if v, err := receipt.VerifySignOn(b, own); err != nil || v.Claims() != on {
		return fmt.Errorf("%w: the card does not hold the certificate's key: %w", ErrOfficerUnknown, err)
	}
	return nil
}

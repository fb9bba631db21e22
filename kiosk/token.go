package kiosk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/policy"
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
// before anything is written.
func (e *enrollment) newToken(ctx context.Context) error {
	return e.try(ctx, func(ctx context.Context) error {
		if err := e.awaitDevice(ctx, ScreenInsertToken, DeviceToken); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, e.limits.Token)
		defer cancel()
		if err := withToken(ctx, e.tokens, DeviceToken, 0, func(t Token) error { return usable(t.Info()) }); err != nil {
			return tokenFault(err)
		}
		return nil
	})
}

// usable says why a token is not good for an enrollment, nil if it is.
func usable(t TokenInfo) error {
	switch {
	case !t.CanAttest:
		return hsm.ErrCannotAttest
	case t.PINBlocked:
		return hsm.ErrPINBlocked
	case !t.FactoryNew:
		return hsm.ErrNotFactoryNew
	}
	return nil
}

// PIN lengths of SP 800-73-4 Part 2 2.4.3.
const (
	minPIN = 6
	maxPIN = 8
)

// choosePIN has the citizen choose a PIN and repeat it. The officer sees
// neither.
func (e *enrollment) choosePIN(ctx context.Context) (secret.Text, error) {
	problem := PINFine
	for {
		first, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenChoosePIN, Turn: TurnCitizen, Main: ActionPIN,
				Actions: []Action{ActionPIN, ActionDecline, ActionChoose},
				PIN:     &PINView{Min: minPIN, Max: maxPIN, Problem: problem}}
		})
		if err != nil {
			return secret.Text{}, err
		}
		if problem = pinProblem(first.Secret); problem != PINFine {
			first.Wipe()
			continue
		}
		second, err := e.d.ask(ctx, func() State {
			return State{Screen: ScreenRepeatPIN, Turn: TurnCitizen, Main: ActionPIN,
				Actions: []Action{ActionPIN, ActionBack, ActionDecline, ActionChoose},
				PIN:     &PINView{Min: minPIN, Max: maxPIN}}
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

// pinProblem refuses what people try first: one digit repeated, runs up or
// down, a short pattern repeated, and the factory PIN.
func pinProblem(pin secret.Text) PINProblem {
	if p := digits(pin, minPIN, maxPIN); p != PINFine {
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
// authority, and whose PIN was right.
type officer struct {
	chain  [][]byte // certificate chain of slot 9C, leaf first, DER
	leaf   *x509.Certificate
	serial uint32
	number string
}

// signOn waits for an officer's card and PIN.
func (a *Agent) signOn(ctx context.Context, d *desk) (officer, error) {
	d.base.Officer = ""
	if p, err := a.cfg.Policy(); err == nil {
		d.base.Simulated = simulated(p.Policy())
	}
	o, err := d.askOfficer(ctx, func() State {
		return State{Screen: ScreenSignOn, Main: ActionSignOn, Actions: []Action{ActionSignOn, ActionChoose}}
	}, func(ctx context.Context, pin secret.Text) (officer, error) {
		o, err := a.recognise(ctx, pin)
		if err != nil && ctx.Err() == nil {
			fault := officerFault(err)
			a.log.Warn("sign-on refused", "code", fault.Code, "cause", fault.Unwrap())
			return o, fault
		}
		return o, err
	})
	d.base.Officer = o.number
	return o, err
}

func (a *Agent) recognise(ctx context.Context, pin secret.Text) (officer, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Limits.Token)
	defer cancel()
	p, err := a.cfg.Policy()
	if err != nil {
		return officer{}, err
	}
	return checkOfficer(ctx, a.cfg.Tokens, p.Policy(), record.Officer, a.now(), pin)
}

// checkOfficer finds out whose card lies on the officers' reader, and that it may
// play a role.
func checkOfficer(ctx context.Context, tokens Tokens, p policy.Policy, role record.Role, at time.Time, pin secret.Text) (o officer, err error) {
	err = withToken(ctx, tokens, DeviceOfficer, 0, func(t Token) error {
		der, err := t.Certificate(ctx, SlotSignature)
		if err != nil {
			return fmt.Errorf("%w: %w", errOfficerUnknown, err)
		}
		if o, err = officerOf(der, p, role, at); err != nil {
			return err
		}
		o.serial = t.Info().Serial
		return o.prove(ctx, t, pin)
	})
	return o, err
}

// prove has the card sign something fresh. A certificate is public, and a card
// that holds a copy of it could say yes to any PIN.
func (o officer) prove(ctx context.Context, t Token, pin secret.Text) error {
	k, err := t.Key(ctx, SlotSignature, pin)
	if err != nil {
		return err
	}
	message := append([]byte("enrollkiosk/sign-on/v1"), make([]byte, 32)...)
	rand.Read(message[len(message)-32:])
	digest := sha256.Sum256(message)
	signature, err := k.Sign(ctx, digest[:])
	if err != nil {
		return err
	}
	algorithm := x509.ECDSAWithSHA256
	if o.leaf.PublicKeyAlgorithm == x509.RSA {
		algorithm = x509.SHA256WithRSA
	}
	if err := o.leaf.CheckSignature(algorithm, message, signature); err != nil {
		return fmt.Errorf("%w: the card does not hold the certificate's key", errOfficerUnknown)
	}
	return nil
}

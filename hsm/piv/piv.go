// Package piv drives PIV tokens (SP 800-73-4 with Yubico's extensions) through
// piv-go: it probes them, has the citizen's keys born and attested on them,
// locks them, and signs with them.
//
// A token is always probed in shared mode before piv-go gets it, because piv-go
// keeps a card locked that it cannot open, and panics on some that it can. What
// piv-go cannot say (factory settings, CHUID) is said over PC/SC directly. The
// libraries cannot be interrupted: when a context ends, the call is left behind,
// cleans up after itself once the token answers or is pulled, and the [Token]
// is not used again.
//
// A PIN is sent once for each call that has one, never retried, and not sent at
// all when a single try is left, unless the caller insists ([Token.Insist]).
// Every error is one of package hsm's or of this package's.
//
// The package trusts no token: evidence is verified by hsm/attest. It holds no
// keys in software and imports none into tokens.
package piv

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
)

// Slot is a PIV key reference (SP 800-73-4 Part 1 table 4b).
type Slot byte

// Slots.
const (
	Authentication     Slot = 0x9A
	Signature          Slot = 0x9C
	KeyManagement      Slot = 0x9D
	CardAuthentication Slot = 0x9E
)

func (s Slot) String() string { return fmt.Sprintf("%02X", byte(s)) }

// object is the slot's certificate, 0 for a slot unknown here.
func (s Slot) object() uint32 { return s.upstream().Object }

func (s Slot) upstream() piv.Slot {
	switch s {
	case Authentication:
		return piv.SlotAuthentication
	case Signature:
		return piv.SlotSignature
	case KeyManagement:
		return piv.SlotKeyManagement
	case CardAuthentication:
		return piv.SlotCardAuthentication
	}
	return piv.Slot{}
}

// KeySpec says how the citizen's keys are made.
type KeySpec struct {
	TouchAlways bool // 9A asks for a touch at every signature
}

// Keys are the citizen's key pairs.
type Keys struct {
	Authentication KeyPair // 9A
	KeyManagement  KeyPair // 9D
}

// KeyPair is a key that the token says it generated. The evidence is unverified.
type KeyPair struct {
	Public   crypto.PublicKey
	Evidence hsm.PIVEvidence
}

const (
	closeLimit = 5 * time.Second // for the service to take a token back
	resetLimit = time.Second     // to get at it once more, to reset it
)

// Token is an open token, held exclusively. It is not safe for concurrent use,
// nor together with the keys it hands out.
type Token struct {
	reader  string
	state   state
	yubikey *piv.YubiKey
	insist  bool
	ended   error // why it cannot be used any more
}

// Open probes the token in a reader and takes it for this process alone.
//
// Errors: those of Probe.
func Open(ctx context.Context, reader string) (*Token, error) {
	s, err := probe(ctx, reader)
	if err != nil {
		return nil, fmt.Errorf("probe token: %w", err)
	}
	t := &Token{reader: reader, state: s}
	if err := t.take(ctx); err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	return t, nil
}

// take opens the token with piv-go and makes sure that it is the probed one.
func (t *Token) take(ctx context.Context) error {
	var busy error
	for end := time.Now().Add(busyLimit); ; time.Sleep(busyRetry) {
		switch {
		case ctx.Err() == nil && time.Now().Before(end):
		case busy != nil:
			return busy
		default:
			return context.Cause(ctx)
		}
		yubikey, err := within(ctx, func() (*piv.YubiKey, error) { return openUpstream(t.reader) },
			func(y *piv.YubiKey) { shut(t.reader, y) })
		if err == nil {
			t.yubikey = yubikey
			break
		}
		if errors.Is(err, errLate) {
			return waiting(err)
		}
		// If it answers, then only an exclusive connection could not be had.
		switch why := look(ctx, t.reader); {
		case why == nil:
			busy = fmt.Errorf("%w: %w", hsm.ErrBusy, err)
		case ctx.Err() == nil:
			return fmt.Errorf("%w: %w", why, err)
		}
	}
	if t.state.Serial == 0 {
		return nil
	}
	serial, err := ask(ctx, t, aboutOther, (*piv.YubiKey).Serial)
	if err == nil && serial != t.state.Serial {
		err = fmt.Errorf("another token: %w", hsm.ErrRemoved)
	}
	if err != nil {
		t.Close()
	}
	return err
}

// openUpstream is piv.Open without its leak: when a token is pulled between the
// first commands, piv-go forgets its connection, whose handle stays exclusive,
// and nobody could use that reader again until this process ends. What it forgot
// is the one connection to the service that is new since before the call.
func openUpstream(reader string) (*piv.YubiKey, error) {
	release, alone := connecting()
	defer release()
	before := daemonSockets()
	y, err := piv.Open(reader)
	if err != nil && alone {
		hangUpNewer(before)
	}
	return y, err
}

// turn is held while this package makes a connection to the PC/SC service, so
// that openUpstream can tell which one is new. The connections belong to the
// process, and so does this.
var turn = make(chan struct{}, 1)

// connecting waits for the turn, but not long: a token that hangs in one reader
// must not keep the other readers from being used.
func connecting() (release func(), alone bool) {
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, true
	case <-time.After(resetLimit):
		return func() {}, false
	}
}

// shut closes a piv-go connection and resets the token, which piv-go does not.
func shut(reader string, y *piv.YubiKey) {
	if y == nil {
		return
	}
	y.Close()
	ctx, cancel := context.WithTimeout(context.Background(), resetLimit)
	defer cancel()
	if c, err := connect(ctx, reader); err == nil {
		c.close()
	}
}

// ask runs one piece of work on the token.
func ask[T any](ctx context.Context, t *Token, about subject, work func(*piv.YubiKey) (T, error)) (T, error) {
	var none T
	if t.ended != nil {
		return none, t.ended
	}
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	yubikey, reader := t.yubikey, t.reader
	v, err := within(ctx, func() (T, error) { return work(yubikey) }, func(T) { shut(reader, yubikey) })
	if err != nil {
		return none, t.fault(ctx, err, about)
	}
	return v, nil
}

// do is ask for work without a result.
func (t *Token) do(ctx context.Context, about subject, work func(*piv.YubiKey) error) error {
	_, err := ask(ctx, t, about, func(y *piv.YubiKey) (struct{}, error) { return struct{}{}, work(y) })
	return err
}

// aside gives up the exclusive connection, does something over PC/SC directly,
// and takes the token again.
func (t *Token) aside(ctx context.Context, work func(*card) error) error {
	if t.ended != nil {
		return t.ended
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	yubikey, serial := t.yubikey, t.state.Serial
	t.yubikey, t.ended = nil, hsm.ErrUnavailable // until it is taken again
	if _, err := within(ctx, func() (struct{}, error) { return struct{}{}, yubikey.Close() }, func(struct{}) {}); err != nil {
		return fmt.Errorf("%w: %w", hsm.ErrRemoved, err)
	}
	if _, err := onCard(ctx, t.reader, func(c *card) (struct{}, error) {
		if err := c.selectPIV(); err != nil {
			return struct{}{}, err
		}
		if now, err := c.serial(); err != nil || now != serial {
			return struct{}{}, errors.Join(hsm.ErrRemoved, err)
		}
		return struct{}{}, work(c)
	}); err != nil {
		return err
	}
	t.ended = nil
	if err := t.take(ctx); err != nil {
		t.ended = hsm.ErrUnavailable
		return err
	}
	return nil
}

// Info is what the token said when it was opened, kept up to date with what
// was done to it since.
func (t *Token) Info() Info { return t.state.Info }

// Close gives the token back, locked, within 5 s. It is safe to call again.
func (t *Token) Close() error {
	if t.yubikey == nil || t.ended != nil {
		t.ended = ErrClosed
		return nil
	}
	yubikey, reader := t.yubikey, t.reader
	t.yubikey, t.ended = nil, ErrClosed
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	_, err := within(ctx, func() (struct{}, error) {
		shut(reader, yubikey)
		return struct{}{}, nil
	}, func(struct{}) {})
	return waiting(err)
}

// Insist lets the next PIN be sent although a wrong one would block the token.
func (t *Token) Insist() { t.insist = true }

// SetPIN replaces the factory PIN.
//
// Errors: ErrPINForm, hsm.ErrNotFactoryNew if it was replaced before,
// hsm.ErrPINBlocked.
func (t *Token) SetPIN(ctx context.Context, pin secret.Text) error {
	if !goodPIN(pin) || string(pin.Reveal()) == piv.DefaultPIN {
		return fmt.Errorf("set pin: %w", ErrPINForm)
	}
	if err := t.setPIN(ctx, pin); err != nil {
		return fmt.Errorf("set pin: %w", err)
	}
	return nil
}

func (t *Token) setPIN(ctx context.Context, pin secret.Text) error {
	if !t.state.pinFactory {
		return hsm.ErrNotFactoryNew
	}
	if err := t.mayTry(); err != nil {
		return err
	}
	t.state.FactoryNew = false
	chosen := string(pin.Reveal())
	err := t.do(ctx, aboutPIN, func(y *piv.YubiKey) error { return y.SetPIN(piv.DefaultPIN, chosen) })
	t.tried(err)
	if err == nil {
		t.state.pinFactory = false
	}
	return err
}

// goodPIN is SP 800-73-4 Part 2 2.4.3, for the PUK too. FF is the padding.
func goodPIN(pin secret.Text) bool {
	for _, c := range pin.Reveal() {
		if c == 0xFF {
			return false
		}
	}
	return pin.Len() >= 6 && pin.Len() <= 8
}

// VerifyPIN presents the PIN, once.
//
// Errors: *hsm.WrongPIN, hsm.ErrPINBlocked, ErrLastTry, ErrPINForm.
func (t *Token) VerifyPIN(ctx context.Context, pin secret.Text) error {
	if err := t.verifyPIN(ctx, pin); err != nil {
		return fmt.Errorf("verify pin: %w", err)
	}
	return nil
}

func (t *Token) verifyPIN(ctx context.Context, pin secret.Text) error {
	if t.ended != nil {
		return t.ended
	}
	if !goodPIN(pin) {
		return ErrPINForm
	}
	if err := t.mayTry(); err != nil {
		return err
	}
	presented := string(pin.Reveal())
	err := t.do(ctx, aboutPIN, func(y *piv.YubiKey) error { return y.VerifyPIN(presented) })
	t.tried(err)
	return err
}

// mayTry refuses to risk the last try. The count is the token's own, kept since
// it was probed: asking again could undo a verified PIN on some firmware.
func (t *Token) mayTry() error {
	insist := t.insist
	t.insist = false
	switch {
	case t.state.PINTries == 0:
		return hsm.ErrPINBlocked
	case t.state.PINTries == 1 && !insist:
		return ErrLastTry
	}
	return nil
}

// tried counts a PIN that was sent.
func (t *Token) tried(err error) {
	var wrong *hsm.WrongPIN
	switch {
	case err == nil, errors.Is(err, hsm.ErrTouchTimeout) && t.ended == nil:
		t.state.PINTries = t.state.pinTotal
	case errors.As(err, &wrong):
		t.state.PINTries = wrong.Left
	case errors.Is(err, hsm.ErrPINBlocked):
		t.state.PINTries = 0
	}
}

// GenerateKeys makes and attests the citizen's keys with the factory management
// key: P-256 in 9A (PIN once, touch as spec says) and in 9D (PIN once, touch
// cached). It overwrites nothing. progress may be nil.
//
// Errors: hsm.ErrNotFactoryNew, ErrCannotAttest, ErrUnsupported.
func (t *Token) GenerateKeys(ctx context.Context, spec KeySpec, progress func(hsm.Progress)) (Keys, error) {
	if progress == nil {
		progress = func(hsm.Progress) {}
	}
	keys, err := t.generateKeys(ctx, spec, progress)
	if err != nil {
		return Keys{}, fmt.Errorf("generate keys: %w", err)
	}
	return keys, nil
}

func (t *Token) generateKeys(ctx context.Context, spec KeySpec, progress func(hsm.Progress)) (k Keys, err error) {
	switch {
	case t.ended != nil:
		return k, t.ended
	case !t.state.CanAttest:
		return k, hsm.ErrCannotAttest
	case t.state.key.algorithm == 0:
		return k, hsm.ErrUnsupported
	case !t.state.key.factory:
		return k, hsm.ErrNotFactoryNew
	}
	own, err := ask(ctx, t, aboutContent, (*piv.YubiKey).AttestationCertificate)
	if err != nil {
		return k, fmt.Errorf("%w: %w", hsm.ErrCannotAttest, err)
	}
	touch := piv.TouchPolicyNever
	if spec.TouchAlways {
		touch = piv.TouchPolicyAlways
	}
	for _, pair := range []struct {
		slot  Slot
		touch piv.TouchPolicy
		to    *KeyPair
	}{{Authentication, touch, &k.Authentication}, {KeyManagement, piv.TouchPolicyCached, &k.KeyManagement}} {
		if _, err := t.slot(ctx, pair.slot); !errors.Is(err, ErrNoKey) {
			return k, errors.Join(hsm.ErrNotFactoryNew, err)
		}
		progress(hsm.Generating)
		t.state.FactoryNew = false
		pair.to.Public, err = ask(ctx, t, aboutAdmin, func(y *piv.YubiKey) (crypto.PublicKey, error) {
			return y.GenerateKey(piv.DefaultManagementKey, pair.slot.upstream(),
				piv.Key{Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyOnce, TouchPolicy: pair.touch})
		})
		if err != nil {
			return k, fmt.Errorf("slot %v: %w", pair.slot, err)
		}
		progress(hsm.Attesting)
		certificate, err := ask(ctx, t, aboutContent, func(y *piv.YubiKey) (*x509.Certificate, error) {
			return y.Attest(pair.slot.upstream())
		})
		if err != nil {
			return k, fmt.Errorf("attest slot %v: %w", pair.slot, err)
		}
		pair.to.Evidence = hsm.PIVEvidence{Certificate: certificate.Raw, Intermediate: own.Raw}
	}
	return k, nil
}

// slot is what the token says of the key in a slot. ErrNoKey if there is none.
func (t *Token) slot(ctx context.Context, s Slot) (piv.KeyInfo, error) {
	return ask(ctx, t, aboutContent, func(y *piv.YubiKey) (piv.KeyInfo, error) { return y.KeyInfo(s.upstream()) })
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

// Reset returns the token to its factory state, destroying its keys. It blocks
// PIN and PUK on purpose: nothing else allows a reset. Interrupted, it can be
// repeated on the token opened anew.
func (t *Token) Reset(ctx context.Context) error {
	if err := t.reset(ctx); err != nil {
		return fmt.Errorf("reset token: %w", err)
	}
	return nil
}

func (t *Token) reset(ctx context.Context) error {
	t.state.FactoryNew = false
	if err := t.do(ctx, aboutOther, (*piv.YubiKey).Reset); err != nil {
		return err
	}
	var after state // read only when aside has ended well
	if err := t.aside(ctx, func(c *card) (err error) {
		after, err = read(c)
		return err
	}); err != nil {
		return err
	}
	t.state = after
	if !after.FactoryNew {
		return fmt.Errorf("not factory-new afterwards: %w", hsm.ErrUnavailable)
	}
	return nil
}

// waiting gives a wait that ended its class.
func waiting(err error) error {
	if errors.Is(err, errLate) || errors.Is(err, errPanic) {
		return fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
	}
	return err
}

// Package piv drives PIV tokens (SP 800-73-4 with Yubico's extensions) through
// piv-go: it probes and describes them, has the citizen's keys born and attested
// on them, locks them, and signs and agrees with them.
//
// A token is always probed in shared mode before piv-go gets it, because piv-go
// keeps a card locked that it cannot open. What piv-go cannot say (factory
// settings, CHUID), or says only with one authentication for each command, is
// said in a session of this package's own. The libraries cannot be interrupted:
// when a context ends, the call is left behind, cleans up after itself once the
// token answers or is pulled, and the [Token] is not used again.
//
// # The making of a token
//
// Each step changes one thing that the token tells when it is opened, so that
// whoever finds a token knows how far it came:
//
//	factory-new           Info.FactoryNew
//	SetPIN                PIN replaced
//	GenerateKeys          keys in 9A, 9D and retired slots
//	Lock: certificates, CHUID, PUK replaced, management key replaced
//	finished              Info.Ready
//
// Between the first and the last line the token is begun. Whoever still has PIN
// and Admin repeats Lock; everybody else resets. Nothing makes a begun token
// look finished: the management key comes last.
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
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"enrollkiosk/hsm"
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

// Retired is the nth of the twenty slots for former key management keys, from 0.
func Retired(n int) Slot { return firstRetired + Slot(n) }

const (
	firstRetired Slot = 0x82
	lastRetired  Slot = 0x95
)

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
	slot, _ := piv.RetiredKeyManagementSlot(uint32(s))
	return slot
}

// KeySpec says how the citizen's keys are made. An empty member of a rule means
// P-256, PIN once in a session, and touch always for 9A, cached for the others.
type KeySpec struct {
	Authentication hsm.KeyRule
	KeyManagement  hsm.KeyRule   // must be able to agree: P-256 or P-384
	Retired        []hsm.KeyRule // from slot 82 on
}

// Keys are the citizen's key pairs.
type Keys struct {
	Authentication KeyPair   // 9A
	KeyManagement  KeyPair   // 9D
	Retired        []KeyPair // from slot 82 on
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
		switch {
		case errors.Is(err, errLate) && busy != nil: // not even failing was quick
			return busy
		case errors.Is(err, errLate):
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
	if t.yubikey == nil { // given up by aside
		if err := t.take(ctx); err != nil {
			t.ended = hsm.ErrUnavailable
			return none, err
		}
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

// aside gives up piv-go's connection and does something in a session of this
// package's own; ask takes the token again. What the token refused there costs
// nothing; after anything else that went wrong the Token is not used again.
func (t *Token) aside(ctx context.Context, work func(*card) error) error {
	if t.ended != nil {
		return t.ended
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	yubikey, serial := t.yubikey, t.state.Serial
	t.yubikey, t.ended = nil, hsm.ErrUnavailable // until it has ended well
	if yubikey != nil {
		if _, err := within(ctx, func() (struct{}, error) { return struct{}{}, yubikey.Close() }, func(struct{}) {}); err != nil {
			return fmt.Errorf("%w: %w", hsm.ErrRemoved, err)
		}
	}
	_, refused := onCard(ctx, t.reader, func(c *card) (struct{}, error) {
		if _, _, err := c.selectPIV(); err != nil {
			return struct{}{}, err
		}
		if now, err := c.serial(); err != nil || now != serial {
			return struct{}{}, errors.Join(hsm.ErrRemoved, err)
		}
		return struct{}{}, work(c)
	})
	if !isAny(refused, hsm.ErrRemoved, hsm.ErrNoDevice, hsm.ErrBusy, hsm.ErrUnavailable, hsm.ErrNotPIV) {
		t.ended = nil
	}
	return refused
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
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

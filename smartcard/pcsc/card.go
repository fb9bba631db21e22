package pcsc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ebfe/scard"

	"enrollkiosk/smartcard/apdu"
)

const (
	connectLimit  = 5 * time.Second        // for a card to power up, or another program to let go
	closeLimit    = 5 * time.Second        // for the service to take a card back
	busyRetry     = 50 * time.Millisecond  // many desktops look into every new card for a moment
	removalNotice = 600 * time.Millisecond // the service polls for removal every 400 ms
	minCommand    = 4                      // CLA INS P1 P2
	statusBytes   = 2                      // SW1 SW2
)

// Card is an open card. It holds the card in a transaction: no other program
// gets a command in between. It is not safe for concurrent use.
type Card struct {
	reader  string
	context *scard.Context
	card    *scard.Card
	ours    bool // the transaction is, or was, ours
	atr     []byte
	maxAPDU int
	trace   func(Exchange)
	ended   error // ErrClosed or ErrAbandoned
}

var _ apdu.Card = (*Card)(nil)

// Exchange is one command and its answer, in clear, PINs included: whoever
// traces must redact.
type Exchange struct {
	Command, Response []byte
	Err               error
	Took              time.Duration
}

// Connect opens the card in a reader, shared with other programs but inside a
// transaction, over T=0 or T=1. While another program holds the card it tries
// again, for at most 5 s or until ctx ends.
//
// Errors: ErrNoService, ErrNoReader, ErrNoCard, ErrBusy, ErrUnresponsive.
func Connect(ctx context.Context, reader string) (*Card, error) {
	c := &Card{reader: reader}
	limited, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	var inUse atomic.Bool
	err := inLibrary(limited, func() error { return c.open(limited, &inUse) }, c.shut)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, ErrAbandoned) && inUse.Load():
		err = fmt.Errorf("%w: %w", ErrBusy, context.Cause(limited))
	case errors.Is(err, ErrAbandoned) && ctx.Err() == nil:
		err = ErrUnresponsive
	case errors.Is(err, ErrAbandoned):
		err = ctx.Err()
	}
	return nil, fmt.Errorf("connect to card: %w", err)
}

// open leaves nothing open when it fails.
func (c *Card) open(ctx context.Context, inUse *atomic.Bool) (err error) {
	defer func() {
		if err != nil {
			c.shut()
		}
		err = classify(err)
	}()
	if c.context, err = scard.EstablishContext(); err != nil {
		return err
	}
	for {
		c.card, err = c.connectOnce()
		busy := errors.Is(err, scard.ErrSharingViolation)
		inUse.Store(busy)
		if !busy || ctx.Err() != nil {
			break
		}
		time.Sleep(busyRetry)
	}
	if err != nil {
		return err
	}
	inUse.Store(true) // the library waits for another program's transaction without limit
	status, err := c.begin()
	for errors.Is(err, scard.ErrResetCard) && ctx.Err() == nil { // it left the card reset
		if err = c.card.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.LeaveCard); err == nil {
			status, err = c.begin()
		}
	}
	if err != nil {
		return err
	}
	inUse.Store(false)
	c.atr, c.maxAPDU = slices.Clone(status.Atr), readerLimit(c.card)
	return nil
}

// connectOnce prefers T=1, which alone carries extended length: a card that offers
// both would be taken by T=0 where that stands first in its answer to reset, as it
// does in those that readers make up for contactless chips (PC/SC Part 3 3.1.3.2.3).
func (c *Card) connectOnce() (*scard.Card, error) {
	card, err := c.context.Connect(c.reader, scard.ShareShared, scard.ProtocolT1)
	if errors.Is(err, scard.ErrProtoMismatch) {
		card, err = c.context.Connect(c.reader, scard.ShareShared, scard.ProtocolAny)
	}
	return card, err
}

func (c *Card) begin() (*scard.CardStatus, error) {
	if err := c.card.BeginTransaction(); err != nil {
		return nil, err
	}
	c.ours = true
	return c.card.Status()
}

// shut gives the card back, reset: what was unlocked must not stay unlocked for
// the next program.
func (c *Card) shut() {
	switch {
	case c.card == nil:
	case c.ours:
		c.card.Disconnect(scard.ResetCard)
	default:
		c.card.Disconnect(scard.LeaveCard)
	}
	if c.context != nil {
		c.context.Release()
	}
	c.card, c.context = nil, nil
}

// Reader is the name of the reader.
func (c *Card) Reader() string { return c.reader }

// ATR is the card's answer to reset.
func (c *Card) ATR() []byte { return slices.Clone(c.atr) }

// MaxAPDU is the longest APDU that reader and protocol carry, in bytes of data:
// 256 means short ones only, 0 that nothing is known.
func (c *Card) MaxAPDU() int { return c.maxAPDU }

// Trace calls f after every command; nil ends it. The slices are only valid
// during the call.
func (c *Card) Trace(f func(Exchange)) { c.trace = f }

// Transmit sends one command and returns data and status.
//
// When ctx ends first, the command goes on in the card, the connection is
// abandoned and every later call fails with ErrAbandoned. Other errors:
// ErrCardRemoved, ErrUnresponsive, ErrBusy, ErrNoService, ErrClosed, and
// apdu.ErrMalformed for fewer than four bytes.
func (c *Card) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	if len(command) < minCommand { // the library panics on an empty one
		return nil, fmt.Errorf("transmit %d bytes: %w", len(command), apdu.ErrMalformed)
	}
	own := slices.Clone(command) // an abandoned command may outlive the caller's buffer
	start := time.Now()
	var response []byte
	err := c.do(ctx, func() (answer func(), err error) {
		r, err := c.card.Transmit(own)
		if err == nil && len(r) < statusBytes { // some drivers succeed with nothing when the card is gone
			err = scard.ErrNotTransacted
		}
		if errors.Is(err, scard.ErrNotTransacted) {
			err = c.whyNoAnswer(err)
		}
		if errors.Is(err, scard.ErrNoSmartcard) {
			err = scard.ErrRemovedCard
		}
		// the library allocates for the longest answer: keep only this one
		return func() { response = slices.Clone(r) }, err
	})
	if c.trace != nil {
		c.trace(Exchange{Command: command, Response: response, Err: err, Took: time.Since(start)})
	}
	if err != nil {
		return nil, fmt.Errorf("transmit: %w", err)
	}
	return response, nil
}

// whyNoAnswer tells a card that was pulled in the middle of a command from one
// that broke off: the driver says the same of both, the service knows a little
// later.
func (c *Card) whyNoAnswer(err error) error {
	for end := time.Now().Add(removalNotice); time.Now().Before(end); time.Sleep(removalNotice / 20) {
		if _, e := c.card.Status(); errors.Is(e, scard.ErrRemovedCard) || errors.Is(e, scard.ErrNoSmartcard) || errors.Is(e, scard.ErrReaderUnavailable) {
			return scard.ErrRemovedCard
		}
	}
	return err
}

// Reset resets the card, or powers it off and on if it does not take a reset,
// and keeps the connection and its transaction. Errors are those of Transmit.
func (c *Card) Reset(ctx context.Context) error {
	err := c.do(ctx, func() (func(), error) {
		err := c.card.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.ResetCard)
		if errors.Is(err, scard.ErrUnresponsiveCard) {
			err = c.card.Reconnect(scard.ShareShared, scard.ProtocolAny, scard.UnpowerCard)
		}
		if err != nil {
			return nil, err
		}
		status, err := c.card.Status()
		if err != nil {
			return nil, err
		}
		return func() { c.atr = slices.Clone(status.Atr) }, nil
	})
	if err != nil {
		return fmt.Errorf("reset card: %w", err)
	}
	return nil
}

// do runs one library call. Its result is taken over by a function of its own,
// so that an abandoned call writes to nothing that the caller still reads.
func (c *Card) do(ctx context.Context, f func() (take func(), err error)) error {
	if c.ended != nil {
		return c.ended
	}
	var take func()
	results := make(chan func(), 1)
	err := inLibrary(ctx, func() error {
		take, err := f()
		results <- take
		return classify(err)
	}, c.shut)
	if errors.Is(err, ErrAbandoned) {
		c.ended = ErrAbandoned
		return err
	}
	select {
	case take = <-results:
	default: // ctx had ended before the call
	}
	if err == nil && take != nil {
		take()
	}
	return err
}

// Close resets the card and gives it back, within 5 s. It is safe to call
// again, and after a failure.
func (c *Card) Close() error {
	if c.ended != nil {
		c.ended = ErrClosed
		return nil
	}
	c.ended = ErrClosed
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if err := inLibrary(ctx, func() error { c.shut(); return nil }, func() {}); err != nil {
		return fmt.Errorf("close card: %w", ErrNoService)
	}
	return nil
}

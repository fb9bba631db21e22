package piv

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ebfe/scard"

	"enrollkiosk/hsm"
	"enrollkiosk/smartcard/apdu"
)

const (
	busyLimit = 5 * time.Second       // for another program to let go of the token
	busyRetry = 50 * time.Millisecond // many desktops look into every new card for a moment
	maxAnswer = 4096                  // bytes of one answer; the largest object has 3052
)

// within runs f, which calls the PC/SC library and may panic inside piv-go,
// and waits for it no longer than ctx allows. When ctx ends first, f goes on
// alone: the library cannot be interrupted. Its result then goes to late. What
// the caller may change or wipe meanwhile, f must have a copy of.
func within[T any](ctx context.Context, f func() (T, error), late func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("%w: %v", errPanic, p)
			}
			done <- r
		}()
		r.value, r.err = f()
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() { late((<-done).value) }()
		var none T
		return none, fmt.Errorf("%w: %w", errLate, context.Cause(ctx))
	}
}

// card is a connection in shared mode and in a transaction, for what piv-go
// cannot say. Its methods block; they are called inside within.
type card struct {
	context *scard.Context
	card    *scard.Card
	done    <-chan struct{} // nobody waits for what comes next; nil: never
}

// onCard connects to the card in a reader for the time of work.
func onCard[T any](ctx context.Context, reader string, work func(*card) (T, error)) (T, error) {
	var none T
	c, err := connect(ctx, reader)
	if err != nil {
		return none, waiting(err)
	}
	v, err := within(ctx, func() (T, error) {
		defer c.close()
		c.done = ctx.Done()
		return work(c)
	}, func(T) {})
	return v, waiting(err)
}

// connect opens the card in a reader. While another program holds it, it tries
// again, for at most busyLimit or until ctx ends. It selects nothing.
func connect(ctx context.Context, reader string) (*card, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, busyLimit)
	defer cancel()
	var inUse atomic.Bool
	c, err := within(limited, func() (*card, error) { return open(limited, reader, &inUse) }, (*card).close)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, errLate) && inUse.Load():
		err = fmt.Errorf("%w: %w", hsm.ErrBusy, context.Cause(limited))
	}
	return nil, err
}

func open(ctx context.Context, reader string, inUse *atomic.Bool) (c *card, err error) {
	c = new(card)
	defer func() {
		if err != nil {
			c.close()
			c, err = nil, readerError(err)
		}
	}()
	release, _ := connecting()
	c.context, err = scard.EstablishContext()
	release()
	if err != nil {
		return c, err
	}
	for {
		// T=1 only, as piv-go: what cannot do it is found out here.
		c.card, err = c.context.Connect(reader, scard.ShareShared, scard.ProtocolT1)
		if errors.Is(err, scard.ErrProtoMismatch) {
			// Another program may have left it in T=0; a reset lets it choose again.
			if other, e := c.context.Connect(reader, scard.ShareShared, scard.ProtocolAny); e == nil {
				other.Disconnect(scard.ResetCard)
				c.card, err = c.context.Connect(reader, scard.ShareShared, scard.ProtocolT1)
			}
		}
		busy := errors.Is(err, scard.ErrSharingViolation)
		inUse.Store(busy)
		if !busy || ctx.Err() != nil {
			break
		}
		time.Sleep(busyRetry)
	}
	if err != nil {
		return c, err
	}
	inUse.Store(true) // the library waits for another program's transaction without limit
	err = c.card.BeginTransaction()
	for errors.Is(err, scard.ErrResetCard) && ctx.Err() == nil { // another program's parting reset
		if err = c.card.Reconnect(scard.ShareShared, scard.ProtocolT1, scard.LeaveCard); err == nil {
			err = c.card.BeginTransaction()
		}
	}
	inUse.Store(false)
	return c, err
}

// close gives the card back, reset: what was unlocked does not stay unlocked.
func (c *card) close() {
	if c == nil {
		return
	}
	if c.card != nil {
		c.card.Disconnect(scard.ResetCard)
	}
	if c.context != nil {
		c.context.Release()
	}
	c.card, c.context = nil, nil
}

// send transmits one command and collects its answer (ISO/IEC 7816-4 5.3).
func (c *card) send(command apdu.Command) ([]byte, apdu.Status, error) {
	var answer []byte
	for {
		select {
		case <-c.done:
			return nil, 0, errLate
		default:
		}
		b, err := command.Bytes()
		if err != nil {
			return nil, 0, err
		}
		raw, err := c.card.Transmit(b)
		if err != nil {
			return nil, 0, readerError(err)
		}
		r, err := apdu.ParseResponse(raw)
		if err != nil {
			// Some drivers answer nothing for a card that was pulled in the middle of a command.
			return nil, 0, fmt.Errorf("%w: %w", hsm.ErrRemoved, err)
		}
		answer = append(answer, r.Data...)
		if r.Status>>8 != 0x61 {
			return answer, r.Status, nil
		}
		if len(answer) > maxAnswer || len(r.Data) == 0 {
			return nil, 0, fmt.Errorf("%w: endless answer", hsm.ErrUnavailable)
		}
		command = apdu.Command{INS: insGetResponse, Le: apdu.MaxShortLe}
	}
}

// Package pcsc sees readers and cards through the system's PC/SC service.
//
// [Watch] reports readers and cards as they come and go, [Connect] opens a card
// as an apdu.Card. Every call is bounded by its context although the PC/SC
// library gives no way to interrupt a command: what cannot be interrupted is
// left behind, cleans up after itself when it returns, and its card is not used
// again.
//
// The package knows nothing of what cards say. It logs nothing and trusts no
// card: what makes a card genuine is decided elsewhere.
package pcsc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/ebfe/scard"
)

// Errors. Each says what the person can do.
var (
	ErrNoService    = errors.New("the smart card service is not running: call staff")
	ErrNoReader     = errors.New("the card reader is not connected: connect it and try again")
	ErrNoCard       = errors.New("there is no card in the reader: insert it and try again")
	ErrCardRemoved  = errors.New("the card was taken away: put it back and try again")
	ErrBusy         = errors.New("the card is in use by another program: close it and try again")
	ErrUnresponsive = errors.New("the card does not answer: take it out, put it in again, chip first")
	ErrAbandoned    = errors.New("the card was left in the middle of a command: take it out and put it back")
	ErrClosed       = errors.New("the connection to the card is closed")
)

// ClearEnvironment removes from the environment of this process, the C
// library's included, what could redirect PC/SC to another service or library,
// and returns the names it removed. Production programs call it first: the
// PC/SC library reads its environment once.
func ClearEnvironment() (removed []string) {
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "PCSCLITE_") || strings.HasPrefix(name, "LIBPCSCLITE_") {
			os.Unsetenv(name)
			removed = append(removed, name)
		}
	}
	return removed
}

// classify turns a library error into one of the package's errors, keeping the
// code for the log.
func classify(err error) error {
	var code scard.Error
	if !errors.As(err, &code) {
		return err
	}
	var class error
	switch code {
	case scard.ErrNoService, scard.ErrServiceStopped, scard.ErrCommError, scard.ErrInvalidHandle,
		scard.ErrServerTooBusy, scard.ErrShutdown:
		class = ErrNoService
	case scard.ErrUnknownReader, scard.ErrReaderUnavailable, scard.ErrNoReadersAvailable:
		class = ErrNoReader
	case scard.ErrNoSmartcard:
		class = ErrNoCard
	case scard.ErrRemovedCard:
		class = ErrCardRemoved
	case scard.ErrSharingViolation, scard.ErrResetCard:
		class = ErrBusy
	case scard.ErrUnresponsiveCard, scard.ErrUnpoweredCard, scard.ErrUnsupportedCard, scard.ErrUnknownCard,
		scard.ErrProtoMismatch, scard.ErrNotTransacted, scard.ErrCommDataLost:
		class = ErrUnresponsive
	default:
		return err
	}
	return fmt.Errorf("%w (%w)", class, err)
}

// inLibrary runs f, which calls the PC/SC library. When ctx ends first, f goes
// on alone and after runs once it has returned.
func inLibrary(ctx context.Context, f func() error, after func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		go func() {
			<-done
			after()
		}()
		return fmt.Errorf("%w: %w", ErrAbandoned, context.Cause(ctx))
	}
}

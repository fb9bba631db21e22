package piv

import (
	"context"
	"errors"
	"fmt"

	"github.com/ebfe/scard"

	"enrollkiosk/hsm"
	"enrollkiosk/smartcard/apdu"
)

// Errors of this package, beside those of package hsm.
var (
	ErrNoKey         = errors.New("the token has no key in this slot: use another one")
	ErrNoCertificate = errors.New("the token has no certificate in this slot: use another one")
	ErrOtherKey      = errors.New("certificate and key in this slot do not belong together: use another token")
	ErrPINForm       = errors.New("a PIN has 6 to 8 characters and is not the factory's: choose another one")
	ErrClosed        = errors.New("the connection to the token is closed")

	// ErrLastTry means that the PIN was not sent to the token, because a wrong
	// one would block it. It is an hsm.ErrPINBlocked too: the remedy is the same.
	ErrLastTry error = &narrower{"one PIN try is left: have the PIN changed or unblocked at the service desk", hsm.ErrPINBlocked}

	// ErrLastPUKTry is the same of the PUK, an hsm.ErrPUKBlocked too.
	ErrLastPUKTry error = &narrower{"one PUK try is left: a wrong PUK blocks the token for good", hsm.ErrPUKBlocked}

	// ErrOtherAdmin means that the management key is not the one given. It is an
	// hsm.ErrNotFactoryNew too: who expects the factory's has a used token.
	ErrOtherAdmin error = &narrower{"the token has another management key: it was prepared by somebody else", hsm.ErrNotFactoryNew}
)

// narrower is an error that says more than the one it is a case of.
type narrower struct {
	text string
	of   error
}

func (e *narrower) Error() string { return e.text }
func (e *narrower) Unwrap() error { return e.of }

// WrongPUK is a refused PUK with Left tries before it blocks. It is an
// hsm.ErrNotFactoryNew too: who expects the factory's has a used token.
type WrongPUK struct{ Left int }

func (e *WrongPUK) Error() string { return fmt.Sprintf("wrong PUK, %d tries left", e.Left) }
func (e *WrongPUK) Unwrap() error { return hsm.ErrNotFactoryNew }

// How a call into the PC/SC library can fail on this side.
var (
	errLate  = errors.New("gave up waiting")
	errPanic = errors.New("panic in the token library")
)

// subject is what a command was about: the same status means different things.
type subject int

const (
	aboutOther     subject = iota
	aboutPIN               // the citizen's or officer's PIN
	aboutPUK               // the PUK
	aboutAdmin             // something only the management key allows
	aboutKind              // the same, of a kind that not every token knows
	aboutTouch             // the PIN, then a key that waits for a touch
	aboutAgreement         // the same, with a key that may not be able to agree
	aboutContent           // a slot's key or certificate
)

// statusOf is the status in an error of piv-go. It is the only place that looks
// into them.
func statusOf(err error) (apdu.Status, bool) {
	var holder interface{ Status() uint16 }
	if !errors.As(err, &holder) {
		return 0, false
	}
	return apdu.Status(holder.Status()), true
}

// classOf is the error for a status other than 9000.
func classOf(status apdu.Status, about subject) error {
	tries, counted := triesLeft(status)
	switch {
	case about == aboutPUK && (status == apdu.AuthenticationBlocked || counted && tries == 0):
		return hsm.ErrPUKBlocked
	case about == aboutPUK && counted:
		return &WrongPUK{Left: tries}
	case (about == aboutAdmin || about == aboutKind) && status == apdu.SecurityNotSatisfied:
		return ErrOtherAdmin
	case status == apdu.AuthenticationBlocked, counted && tries == 0:
		return hsm.ErrPINBlocked
	case counted:
		return &hsm.WrongPIN{Left: tries}
	case (about == aboutTouch || about == aboutAgreement) && status == apdu.SecurityNotSatisfied:
		return hsm.ErrTouchTimeout
	case about == aboutContent && (status == apdu.FileNotFound || status == apdu.ReferencedDataNotFound):
		return ErrNoKey
	case (about == aboutKind || about == aboutAgreement) && (status == apdu.WrongData || status == apdu.ReferencedDataNotFound):
		return hsm.ErrUnsupported
	case status == apdu.InstructionNotSupported, status == apdu.FunctionNotSupported,
		status == apdu.ClassNotSupported, status == apdu.IncorrectP1P2:
		return hsm.ErrUnsupported
	}
	return hsm.ErrUnavailable
}

// triesLeft reads 63Cx (ISO/IEC 7816-4 5.6) and the 630x of older YubiKeys.
func triesLeft(s apdu.Status) (int, bool) {
	if s&0xFFF0 == 0x63C0 || s&0xFFF0 == 0x6300 {
		return int(s & 0xF), true
	}
	return 0, false
}

// readerError gives a PC/SC error the person's words and keeps its code.
func readerError(err error) error {
	var code scard.Error
	if !errors.As(err, &code) {
		return err
	}
	class := hsm.ErrUnavailable
	switch code {
	case scard.ErrUnknownReader, scard.ErrReaderUnavailable, scard.ErrNoReadersAvailable:
		class = hsm.ErrNoDevice
	case scard.ErrNoSmartcard, scard.ErrRemovedCard, scard.ErrNotTransacted:
		// A driver says "not transacted" of a card that was pulled in the middle of a command.
		class = hsm.ErrRemoved
	case scard.ErrSharingViolation, scard.ErrResetCard:
		class = hsm.ErrBusy
	case scard.ErrProtoMismatch, scard.ErrUnsupportedCard:
		class = hsm.ErrNotPIV
	}
	return fmt.Errorf("%w (%w)", class, err)
}

// fault turns any error of a call into one of hsm's. After anything but a
// status the connection is given up, and a look at the reader tells why.
func (t *Token) fault(ctx context.Context, err error, about subject) error {
	if status, ok := statusOf(err); ok {
		return classOf(status, about)
	}
	if errors.Is(err, errLate) {
		t.ended = hsm.ErrUnavailable // closed by whoever waits for the call
		if (about == aboutTouch || about == aboutAgreement) && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return fmt.Errorf("%w: %w", hsm.ErrTouchTimeout, err)
		}
		return fmt.Errorf("%w: %w", hsm.ErrUnavailable, err)
	}
	reader, yubikey := t.reader, t.yubikey
	t.yubikey, t.ended = nil, hsm.ErrUnavailable
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	if _, why := within(limited, func() (struct{}, error) {
		shut(reader, yubikey)
		return struct{}{}, look(limited, reader)
	}, func(struct{}) {}); why != nil {
		t.ended = waiting(why)
	}
	return fmt.Errorf("%w: %w", t.ended, err)
}

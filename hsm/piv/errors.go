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
	ErrLastTry error = lastTry{}
)

type lastTry struct{}

func (lastTry) Error() string {
	return "one PIN try is left: have the PIN changed or unblocked at the service desk"
}

func (lastTry) Unwrap() error { return hsm.ErrPINBlocked }

// How a call into the PC/SC library can fail on this side.
var (
	errLate  = errors.New("gave up waiting")
	errPanic = errors.New("panic in the token library")
)

// subject is what a command was about: the same status means different things.
type subject int

const (
	aboutOther   subject = iota
	aboutPIN             // the citizen's or officer's PIN
	aboutPUK             // the PUK
	aboutAdmin           // something only the management key allows
	aboutTouch           // the PIN, then a key that waits for a touch
	aboutContent         // a slot's key or certificate
)

// statusError is hsm's error for a status, nil if err holds none. It is the only
// place that looks into piv-go's errors.
func statusError(err error, about subject) error {
	var holder interface{ Status() uint16 }
	if !errors.As(err, &holder) {
		return nil
	}
	status := apdu.Status(holder.Status())
	tries, counted := triesLeft(status)
	switch {
	case about == aboutPUK && status == apdu.AuthenticationBlocked, about == aboutPUK && counted && tries == 0:
		return hsm.ErrPUKBlocked
	case about == aboutPUK && counted, about == aboutAdmin && status == apdu.SecurityNotSatisfied:
		return hsm.ErrNotFactoryNew // somebody set another one
	case status == apdu.AuthenticationBlocked, counted && tries == 0:
		return hsm.ErrPINBlocked
	case counted:
		return &hsm.WrongPIN{Left: tries}
	case about == aboutTouch && status == apdu.SecurityNotSatisfied:
		return hsm.ErrTouchTimeout
	case about == aboutContent && (status == apdu.FileNotFound || status == apdu.ReferencedDataNotFound):
		return ErrNoKey
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
	if class := statusError(err, about); class != nil {
		return class
	}
	if errors.Is(err, errLate) {
		t.ended = hsm.ErrUnavailable // closed by whoever waits for the call
		if about == aboutTouch && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
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

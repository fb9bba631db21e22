package setup

import (
	"context"
	"errors"
	"slices"

	"enrollkiosk/holder"
	"enrollkiosk/holder/sitekey"
	"enrollkiosk/holder/store"
	"enrollkiosk/hsm"
	"enrollkiosk/hsm/piv"
	"enrollkiosk/registry/credential"
	"enrollkiosk/smartcard/pcsc"
)

// Exit codes.
const (
	Done        = 0
	Failed      = 1
	Usage       = 2
	Hardware    = 3
	Refused     = 4
	Unreachable = 5
	Interrupted = 130
)

// Code is the code of what has one, or empty.
func Code(err error) string {
	var f holder.Fault
	var r credential.Refusal
	switch {
	case errors.As(err, &f):
		return string(f)
	case errors.As(err, &r):
		return string(r)
	}
	return ""
}

// ExitCode classes an error by what ended the run.
func ExitCode(err error) int {
	is := func(targets ...error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
	var config *ConfigError
	var wrong *hsm.WrongPIN
	var refused credential.Refusal
	switch {
	case errors.As(err, &config), is(holder.ErrLink):
		return Usage
	case is(context.Canceled):
		return Interrupted
	case is(hsm.ErrNoDevice, hsm.ErrRemoved, hsm.ErrBusy, hsm.ErrUnavailable, hsm.ErrTouchTimeout, pcsc.ErrNoService, pcsc.ErrNoReader, pcsc.ErrNoCard,
		pcsc.ErrCardRemoved, pcsc.ErrUnresponsive, pcsc.ErrAbandoned):
		return Hardware
	case is(holder.ErrUnreachable):
		return Unreachable
	case errors.As(err, &refused), errors.As(err, &wrong), is(holder.ErrDeclined, holder.ErrPause, holder.ErrTLS, holder.ErrRedirect, holder.ErrAnswer, holder.ErrClock, holder.ErrSite,
		holder.ErrIssuer, holder.ErrClaimCode, holder.ErrNoCode, holder.ErrMetadata, holder.ErrMarked, holder.ErrNoneLeft, holder.ErrNotIssued,
		store.ErrForm, store.ErrVersion, store.ErrOtherToken, store.ErrDamaged, store.ErrUnknown, sitekey.ErrAgreement,
		hsm.ErrNotPIV, hsm.ErrPINBlocked, hsm.ErrUnsupported, hsm.ErrCannotAttest, piv.ErrNoKey, piv.ErrOtherKey, piv.ErrPINForm):
		return Refused
	}
	return Failed
}

package kiosk

import (
	"context"
	"errors"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/trust"
	"enrollkiosk/sync/queue"
)

// Errors that device adapters wrap, so that this package needs no driver.
var (
	ErrReaderMissing  = errors.New("the card reader is missing: connect it")
	ErrServiceMissing = errors.New("the smart card service is not running: call staff")
	ErrCardRemoved    = errors.New("the card was taken away: put it back")
	ErrCardMute       = errors.New("the card does not answer: turn it over")
	ErrCardBusy       = errors.New("the card is in use by another program")
	errCardChanged    = errors.New("another card than the one that was checked: put the first one back")
	errOfficerUnknown = errors.New("the card is not an officer's: use an officer's card")
)

// fault makes a Fault of err by the first row that err matches; other is for
// the rest. A Fault stays as it is.
func classify(err error, rows []row, other row) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	for _, r := range rows {
		if errors.Is(err, r.is) {
			return &Fault{Code: r.code, Remedy: r.remedy, err: err}
		}
	}
	return &Fault{Code: other.code, Remedy: other.remedy, err: err}
}

type row struct {
	is     error
	code   Code
	remedy Remedy
}

var cardRows = []row{
	{errCardChanged, CodeCardChanged, RemedyOtherCard},
	{ErrCardRemoved, CodeCardRemoved, RemedyRetry},
	{ErrCardMute, CodeCardMute, RemedyRetry},
	{ErrReaderMissing, CodeReaderMissing, RemedyStaff},
	{ErrServiceMissing, CodeServiceMissing, RemedyStaff},
	{ErrCardBusy, CodeCardProtocol, RemedyRetry},
	{icao.ErrWrongPassword, CodeWrongAccess, RemedyRetry},
	{icao.ErrNotEMRTD, CodeNotEMRTD, RemedyOtherCard},
	{icao.ErrAccessDenied, CodeAccessDenied, RemedyOtherCard},
	{icao.ErrNeedsMRZ, CodeWrongAccess, RemedyRetry},
	{icao.ErrBlocked, CodeAccessDenied, RemedyOtherCard},
	{icao.ErrChipNotGenuine, CodeChipCloned, RemedyStaff},
	{icao.ErrClosed, CodeCardRemoved, RemedyRetry},
	{context.DeadlineExceeded, CodeCardSlow, RemedyRetry},
}

func cardFault(err error) *Fault {
	return classify(err, cardRows, row{code: CodeCardProtocol, remedy: RemedyRetry})
}

var proofRows = []row{
	{trust.ErrExpired, CodeExpired, RemedyStartOver},
	{trust.ErrHash, CodeDataAltered, RemedyStaff},
	{trust.ErrSignature, CodeSignatureInvalid, RemedyStaff},
	{trust.ErrUnknownAuthority, CodeUnknownAuthority, RemedyStaff},
	{trust.ErrCertificate, CodeUnknownAuthority, RemedyStaff},
	{trust.ErrSignerExpired, CodeUnknownAuthority, RemedyStaff},
	{trust.ErrRevoked, CodeUnknownAuthority, RemedyStaff},
	{trust.ErrChip, CodeChipCloned, RemedyStaff},
	{trust.ErrChipCannotProve, CodeChipCloned, RemedyStaff},
}

func proofFault(err error) *Fault {
	return classify(err, proofRows, row{code: CodeUnreadable, remedy: RemedyOtherCard})
}

func proofOrCardFault(err error) *Fault {
	var e *trust.Error
	if errors.As(err, &e) || errors.Is(err, trust.ErrMalformed) {
		return proofFault(err)
	}
	return cardFault(err)
}

var tokenRows = []row{
	{hsm.ErrRemoved, CodeTokenRemoved, RemedyRetry},
	{hsm.ErrNoDevice, CodeTokenRemoved, RemedyRetry},
	{errOtherToken, CodeTokenRemoved, RemedyRetry},
	{ErrCardRemoved, CodeTokenRemoved, RemedyRetry},
	{hsm.ErrNotPIV, CodeNotPIV, RemedyOtherCard},
	{hsm.ErrNotFactoryNew, CodeNotFactoryNew, RemedyOtherCard},
	{hsm.ErrCannotAttest, CodeCannotAttest, RemedyOtherCard},
	{attest.ErrRejected, CodeAttestation, RemedyOtherCard},
	{hsm.ErrPINBlocked, CodeTokenPINBlocked, RemedyOtherCard},
	{hsm.ErrPUKBlocked, CodeTokenPINBlocked, RemedyOtherCard},
	{hsm.ErrTouchTimeout, CodeTouchTimeout, RemedyRetry},
	{hsm.ErrBusy, CodeTokenBusy, RemedyRetry},
	{hsm.ErrUnsupported, CodeCannotAttest, RemedyOtherCard},
}

func tokenFault(err error) *Fault {
	f := classify(err, tokenRows, row{code: CodeTokenFailed, remedy: RemedyRetry})
	var wrong *hsm.WrongPIN
	if errors.As(err, &wrong) {
		// The PIN was chosen a moment ago; sending it again would only burn a try.
		f.Code, f.Remedy, f.Left = CodeTokenWrongPIN, RemedyStartOver, wrong.Left
	}
	return f
}

var officerRows = []row{
	{hsm.ErrRemoved, CodeOfficerRemoved, RemedyRetry}, // before anything that was not read because of it
	{hsm.ErrNoDevice, CodeOfficerRemoved, RemedyRetry},
	{hsm.ErrBusy, CodeOfficerRemoved, RemedyRetry},
	{hsm.ErrUnavailable, CodeOfficerRemoved, RemedyRetry},
	{errOfficerUnknown, CodeOfficerUnknown, RemedyOtherCard},
	{hsm.ErrNotPIV, CodeOfficerUnknown, RemedyOtherCard},
	{hsm.ErrCannotAttest, CodeOfficerUnknown, RemedyOtherCard}, // not one of ours
	{hsm.ErrPINBlocked, CodeOfficerBlocked, RemedyOtherCard},
	{errOtherToken, CodeOfficerOther, RemedyOtherCard},
}

func officerFault(err error) *Fault {
	f := classify(err, append(officerRows, policyRows...), row{code: CodeOfficerUnknown, remedy: RemedyOtherCard})
	var wrong *hsm.WrongPIN
	if errors.As(err, &wrong) {
		f.Code, f.Remedy, f.Left = CodeOfficerWrongPIN, RemedyRetry, wrong.Left
	}
	return f
}

var kioskRows = []row{
	{ErrRolledBack, CodeRolledBack, RemedyStaff},
	{queue.ErrFull, CodeDiskFull, RemedyStaff},
	{queue.ErrLocked, CodeQueueLocked, RemedyStaff},
	{queue.ErrDamaged, CodeQueueDamaged, RemedyStaff},
	{hsm.ErrNoDevice, CodeTPMMissing, RemedyStaff},
	{hsm.ErrUnavailable, CodeTPMMissing, RemedyStaff},
	{errText, CodePolicyMissing, RemedyStaff},
	{hsm.ErrLockout, CodeTPMLockout, RemedyStaff},
	{context.DeadlineExceeded, CodeTPMMissing, RemedyStaff}, // the disk has no deadline, the TPM has
}

// policyRows are what forbids every enrollment for now.
var policyRows = []row{
	{ErrPolicy, CodePolicyMissing, RemedyStaff},
	{policy.ErrExpired, CodePolicyExpired, RemedyStaff},
	{policy.ErrNotYet, CodeClock, RemedyStaff},
	{ErrClock, CodeClock, RemedyStaff},
	{ErrOffline, CodeOffline, RemedyStaff},
	{ErrCertificate, CodeKioskCertificate, RemedyStaff},
}

// kioskFault is for the machine itself: TPM, disk, policy.
func kioskFault(err error) *Fault {
	return classify(err, append(policyRows, kioskRows...), row{code: CodeInternal, remedy: RemedyStaff})
}

package kiosk

import (
	"context"
	"errors"
	"time"

	"enrollkiosk/hsm"
	"enrollkiosk/hsm/attest"
	"enrollkiosk/registry/policy"
	"enrollkiosk/smartcard/beid"
	"enrollkiosk/smartcard/icao"
	"enrollkiosk/smartcard/identity"
	"enrollkiosk/smartcard/inspection"
	"enrollkiosk/smartcard/prcid"
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
	ErrPrinter        = errors.New("the printer did not print: look at it")
	ErrFolder         = errors.New("the page cannot be written: put the drive in, or make room on it")
	ErrNoRecord       = errors.New("this kiosk has no such record")
	ErrKeyGone        = errors.New("the key is not here, or another TPM's: call staff")
	ErrNoKey          = errors.New("the token has no key here: use another one")
	ErrUntold         = errors.New("the registry tells nothing about this receipt: it has no such record, or not yet")
	ErrNoHolder       = errors.New("the record brought no identity that stands: enroll the person")
	ErrRegistry       = errors.New("the registry does not answer: try again later")
	ErrLastTry        = errors.New("one try is left: enter the PIN again to use it")
	errSamePerson     = errors.New("the second officer is the one who signed on: another officer must agree")
	errKindRefused    = errors.New("this kind of document is not accepted: use another one")
	errCannotProve    = errors.New("the document lacks a proof that the policy wants: use another one")
	errGuardianYoung  = errors.New("the guardian is not of age: another guardian must come")
	errGuardianSame   = errors.New("the document is the citizen's own: put the guardian's on the reader")
	errQuota          = errors.New("no more enrollments are allowed today")
	ErrOfficerUnknown = errors.New("the card is not an officer's: use an officer's card")
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
	{inspection.ErrChanged, CodeCardChanged, RemedyOtherCard},
	{errKindRefused, CodeKindRefused, RemedyOtherCard},
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
	{beid.ErrNotBelgianEID, CodeNotEMRTD, RemedyOtherCard},
	{prcid.ErrNoAnswer, CodeModuleMissing, RemedyStaff},
	{prcid.ErrModule, CodeModuleMissing, RemedyStaff},
	{prcid.ErrNoCard, CodeCardRemoved, RemedyRetry},
	{prcid.ErrCardLost, CodeCardRemoved, RemedyRetry},
	{prcid.ErrNotGenuine, CodeChipCloned, RemedyStaff},
	{prcid.ErrWrongCard, CodeNotEMRTD, RemedyOtherCard},
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
	{trust.ErrChipCannotProve, CodeCannotProve, RemedyOtherCard},
	{beid.ErrExpired, CodeExpired, RemedyStartOver},
	{beid.ErrNotYetValid, CodeExpired, RemedyStartOver},
	{beid.ErrHash, CodeDataAltered, RemedyStaff},
	{beid.ErrSignature, CodeSignatureInvalid, RemedyStaff},
	{beid.ErrUnknownAuthority, CodeUnknownAuthority, RemedyStaff},
	{beid.ErrCertificate, CodeUnknownAuthority, RemedyStaff},
	{beid.ErrSignerExpired, CodeUnknownAuthority, RemedyStaff},
	{beid.ErrChip, CodeChipCloned, RemedyStaff},
	{beid.ErrNoBasicKey, CodeCannotProve, RemedyOtherCard},
	{errCannotProve, CodeCannotProve, RemedyOtherCard},
	{identity.ErrUnsigned, CodeCannotProve, RemedyOtherCard},
	{identity.ErrContradiction, CodeDataAltered, RemedyStaff},
}

func proofFault(err error) *Fault {
	return classify(err, proofRows, row{code: CodeUnreadable, remedy: RemedyOtherCard})
}

// guardianRows are for what is asked of a guardian's document beside the proofs that
// every document gives.
var guardianRows = []row{
	{errGuardianYoung, CodeGuardianYoung, RemedyOtherCard},
	{errGuardianSame, CodeGuardianSame, RemedyOtherCard},
	{trust.ErrExpired, CodeGuardianExpired, RemedyOtherCard},
	{beid.ErrExpired, CodeGuardianExpired, RemedyOtherCard},
	{beid.ErrNotYetValid, CodeGuardianExpired, RemedyOtherCard},
}

// guardianFault is for a guardian's document: another guardian, or another document,
// may do where the citizen's own would end the enrollment.
func guardianFault(err error) *Fault {
	for _, r := range guardianRows {
		if errors.Is(err, r.is) {
			return &Fault{Code: r.code, Remedy: r.remedy, err: err}
		}
	}
	return documentFault(err)
}

// documentFault is for the whole of an inspection: what the verifiers say is a
// matter of proofs, all else one of the card and its reader.
func documentFault(err error) *Fault {
	var page *inspection.PageError
	var ofTrust *trust.Error
	var ofBelgian *beid.Error
	switch {
	case errors.As(err, &page):
		return classify(err, nil, row{code: CodePageDiffers, remedy: RemedyStaff})
	case errors.Is(err, icao.ErrFileNotFound): // listed by the issuer, and hidden or broken
		return proofFault(err)
	case errors.As(err, &ofTrust), errors.As(err, &ofBelgian), errors.Is(err, trust.ErrExpired), errors.Is(err, trust.ErrMalformed),
		errors.Is(err, identity.ErrUnsigned), errors.Is(err, identity.ErrIncomplete), errors.Is(err, identity.ErrContradiction),
		errors.Is(err, errCannotProve):
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
	{hsm.ErrUnsupported, CodeTokenUnsupported, RemedyOtherCard},
	{hsm.ErrFactoryCredentials, CodeTokenFailed, RemedyRetry},
	{hsm.ErrUnavailable, CodeTokenFailed, RemedyRetry},
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

// ownTokenRows are for a token that the citizen brings with a key on it.
var ownTokenRows = []row{
	{hsm.ErrRemoved, CodeOwnRemoved, RemedyRetry},
	{hsm.ErrNoDevice, CodeOwnRemoved, RemedyRetry},
	{errOtherToken, CodeOwnRemoved, RemedyRetry},
	{ErrCardRemoved, CodeOwnRemoved, RemedyRetry},
	{hsm.ErrNotPIV, CodeOwnNoKey, RemedyOtherCard},
	{ErrNoKey, CodeOwnNoKey, RemedyOtherCard},
	{hsm.ErrPINBlocked, CodeOwnBlocked, RemedyStartOver},
	{hsm.ErrCannotAttest, CodeOwnNotProven, RemedyStaff},
	{attest.ErrRejected, CodeOwnNotProven, RemedyStaff},
	{errNotPossessed, CodeOwnNotProven, RemedyStaff},
	{hsm.ErrTouchTimeout, CodeOwnTouch, RemedyRetry},
}

func ownTokenFault(err error) *Fault {
	return classify(err, append(ownTokenRows, policyRows...), row{code: CodeOwnFailed, remedy: RemedyRetry})
}

var registryRows = []row{
	{ErrRegistry, CodeNotAsked, RemedyRetry},
	{context.DeadlineExceeded, CodeNotAsked, RemedyRetry},
	{ErrUntold, CodeUntold, RemedyStartOver},
	{ErrNoHolder, CodeNoHolder, RemedyStartOver},
}

// registryFault is for what a citizen asks of the registry.
func registryFault(err error) *Fault {
	f := classify(err, registryRows, row{code: CodeInternal, remedy: RemedyStaff})
	var many *TooMany
	if errors.As(err, &many) {
		f.Code, f.Remedy, f.Until = CodeTooMany, RemedyStartOver, many.Until
	}
	return f
}

// TooMany means that the registry takes nothing more from here before Until.
type TooMany struct{ Until time.Time }

func (e *TooMany) Error() string {
	return "too many at once: wait until " + e.Until.Format(time.TimeOnly)
}

var keyRows = []row{
	{hsm.ErrPINBlocked, CodeKeyBlocked, RemedyStartOver},
	{hsm.ErrLockout, CodeKeyWaits, RemedyStartOver},
	{ErrKeyGone, CodeKeyElsewhere, RemedyStaff},
	{errNotPossessed, CodeKeyElsewhere, RemedyStaff},
	{attest.ErrRejected, CodeKeyFailed, RemedyStaff},
}

// keyFault is for keys in the kiosk's own TPM.
func keyFault(err error) *Fault {
	f := classify(err, append(keyRows, kioskRows...), row{code: CodeKeyFailed, remedy: RemedyStaff})
	var lockout *hsm.Lockout
	if errors.As(err, &lockout) {
		f.Until = lockout.Until
	}
	return f
}

var officerRows = []row{
	{hsm.ErrRemoved, CodeOfficerRemoved, RemedyRetry}, // before anything that was not read because of it
	{hsm.ErrNoDevice, CodeOfficerRemoved, RemedyRetry},
	{hsm.ErrBusy, CodeOfficerRemoved, RemedyRetry},
	{hsm.ErrUnavailable, CodeOfficerRemoved, RemedyRetry},
	{ErrOfficerUnknown, CodeOfficerUnknown, RemedyOtherCard},
	{hsm.ErrNotPIV, CodeOfficerUnknown, RemedyOtherCard},
	{hsm.ErrCannotAttest, CodeOfficerUnknown, RemedyOtherCard}, // not one of ours
	{hsm.ErrPINBlocked, CodeOfficerBlocked, RemedyOtherCard},
	{errOtherToken, CodeOfficerOther, RemedyOtherCard},
	{errSamePerson, CodeSamePerson, RemedyOtherCard},
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
	{errQuota, CodeQuota, RemedyStartOver},
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

// printFault is for the printer: whatever it was, the receipt is on the screen.
func printFault(err error) *Fault {
	return classify(err, []row{{ErrFolder, CodeNotWritten, RemedyRetry}, {ErrPrinter, CodeNotPrinted, RemedyRetry}, {context.DeadlineExceeded, CodeNotPrinted, RemedyRetry}}, row{code: CodeInternal, remedy: RemedyStaff})
}

// kioskFault is for the machine itself: TPM, disk, policy.
func kioskFault(err error) *Fault {
	return classify(err, append(policyRows, kioskRows...), row{code: CodeInternal, remedy: RemedyStaff})
}

package kiosk

import "time"

// Fault is what a person is told when a step fails: a code, the one best
// remedy, and arguments for the sentence. Sentences live in kiosk/words, one
// for each Code.
type Fault struct {
	Code   Code
	Remedy Remedy
	Left   int       // tries left, for CodeTokenWrongPIN and CodeOfficerWrongPIN
	Until  time.Time // for CodeKeyWaits and CodeTooMany
	err    error
}

func (f *Fault) Error() string {
	if f.err == nil {
		return string(f.Code)
	}
	return string(f.Code) + ": " + f.err.Error()
}

// Unwrap returns the cause. It may hold device details, never personal data.
func (f *Fault) Unwrap() error { return f.err }

// Remedy is the class of what the person can do.
type Remedy string

const (
	RemedyRetry     Remedy = "retry"      // the same step again
	RemedyOtherCard Remedy = "other-card" // another card or token
	RemedyStaff     Remedy = "staff"      // call staff
	RemedyStartOver Remedy = "start-over" // nothing kept, from the beginning
)

// Code is a closed list, documented in docs/errors.md. A code is never reused.
type Code string

const (
	CodeCardRemoved      Code = "K-CARD-01" // taken away too early
	CodeReaderMissing    Code = "K-CARD-02"
	CodeNotEMRTD         Code = "K-CARD-03" // not an electronic ID card
	CodeCardMute         Code = "K-CARD-04" // does not answer: upside down?
	CodeWrongAccess      Code = "K-CARD-05" // wrong CAN or MRZ
	CodeAccessDenied     Code = "K-CARD-06" // the chip does not give its data
	CodeCardProtocol     Code = "K-CARD-07" // secure messaging broken, nonsense answers
	CodeCardSlow         Code = "K-CARD-08" // no answer in time
	CodeCardChanged      Code = "K-CARD-09" // another card than the one that was checked
	CodeServiceMissing   Code = "K-CARD-10" // smart card service not running
	CodeKindRefused      Code = "K-CARD-11" // the policy does not accept this kind of document
	CodeModuleMissing    Code = "K-CARD-12" // the module that reads resident cards does not answer
	CodeDataAltered      Code = "K-PROOF-01"
	CodeSignatureInvalid Code = "K-PROOF-02"
	CodeUnknownAuthority Code = "K-PROOF-03"
	CodeChipCloned       Code = "K-PROOF-04"
	CodeExpired          Code = "K-PROOF-05"
	CodeUnreadable       Code = "K-PROOF-06"    // a required file is missing or does not parse
	CodeCannotProve      Code = "K-PROOF-07"    // lacks a proof that the policy wants
	CodePageDiffers      Code = "K-PROOF-08"    // the scanned page is not the chip's
	CodeGuardianYoung    Code = "K-GUARDIAN-01" // not of age
	CodeGuardianSame     Code = "K-GUARDIAN-02" // the document is the citizen's own
	CodeGuardianExpired  Code = "K-GUARDIAN-03" // the guardian's document
	CodeTokenRemoved     Code = "K-TOKEN-01"
	CodeNotPIV           Code = "K-TOKEN-02"
	CodeNotFactoryNew    Code = "K-TOKEN-03"
	CodeCannotAttest     Code = "K-TOKEN-04"
	CodeAttestation      Code = "K-TOKEN-05" // evidence rejected
	CodeTokenPINBlocked  Code = "K-TOKEN-06"
	CodeTokenWrongPIN    Code = "K-TOKEN-07"
	CodeTouchTimeout     Code = "K-TOKEN-08"
	CodeTokenBusy        Code = "K-TOKEN-09"
	CodeTokenFailed      Code = "K-TOKEN-10"
	CodeTokenUnsupported Code = "K-TOKEN-11"   // lacks an algorithm, a policy or key agreement
	CodeKeyBlocked       Code = "K-KEY-01"     // no tries are left for its PIN, for good
	CodeKeyWaits         Code = "K-KEY-02"     // the TPM refuses every PIN for a while
	CodeKeyElsewhere     Code = "K-KEY-03"     // gone, damaged, or another TPM's
	CodeKeyFailed        Code = "K-KEY-04"     // the TPM made no key, or none that proves itself
	CodeOwnRemoved       Code = "K-OWN-01"     // the citizen's own token was taken out during a step
	CodeOwnNoKey         Code = "K-OWN-02"     // it holds no citizen's key
	CodeOwnBlocked       Code = "K-OWN-03"     // its PIN
	CodeOwnNotProven     Code = "K-OWN-04"     // its key was not born in it, or does not answer
	CodeOwnTouch         Code = "K-OWN-05"     // not touched in time
	CodeOwnFailed        Code = "K-OWN-06"     // it does not answer
	CodeNoReceipt        Code = "K-RECEIPT-01" // what was scanned is no receipt, or not a true one
	CodeUntold           Code = "K-RECEIPT-02" // the registry tells nothing about it
	CodeNoHolder         Code = "K-RECEIPT-03" // its identity was never confirmed, or is replaced already
	CodeNotAsked         Code = "K-ASK-01"     // the registry cannot be asked
	CodeTooMany          Code = "K-ASK-02"     // too much was asked from here
	CodeOfficerUnknown   Code = "K-OFFICER-01" // certificate not under the officers' CA, or expired
	CodeOfficerWrongPIN  Code = "K-OFFICER-02"
	CodeOfficerBlocked   Code = "K-OFFICER-03"
	CodeOfficerRemoved   Code = "K-OFFICER-04"
	CodeOfficerOther     Code = "K-OFFICER-05" // another card than the one signed on
	CodeSamePerson       Code = "K-OFFICER-06" // the second officer is the first one
	CodeQuota            Code = "K-OFFICER-07" // the officer's or the kiosk's enrollments of a day are used up
	CodeTPMMissing       Code = "K-TPM-01"
	CodeTPMLockout       Code = "K-TPM-02"
	CodeTPMFailed        Code = "K-TPM-03"
	CodeDiskFull         Code = "K-QUEUE-01"
	CodeQueueLocked      Code = "K-QUEUE-02" // a second agent
	CodeQueueDamaged     Code = "K-QUEUE-03"
	CodeRolledBack       Code = "K-QUEUE-04" // disk behind the TPM's counter
	CodePolicyMissing    Code = "K-POLICY-01"
	CodePolicyExpired    Code = "K-POLICY-02"
	CodeOffline          Code = "K-POLICY-03" // longer than the policy allows
	CodeAuthorityFork    Code = "K-POLICY-04" // two root keys claim to follow the same one
	CodeClock            Code = "K-CLOCK-01"
	CodeKioskCertificate Code = "K-KIOSK-01" // the kiosk's own, expired
	CodeCertificateEnds  Code = "K-KIOSK-02" // the kiosk's own, within a month
	CodeUnreachable      Code = "K-NET-01"   // registry not reachable
	CodeCaptivePortal    Code = "K-NET-02"   // a page instead of the registry
	CodeNonsense         Code = "K-NET-03"   // the registry's answer is not valid
	CodeNotAllowed       Code = "K-NET-04"   // 401, 403, 407
	CodeTLS              Code = "K-NET-05"   // wrong or expired certificate
	CodeRejected         Code = "K-NET-06"   // signed rejection: quarantined
	CodeInspected        Code = "K-NET-07"   // a proxy opens the connection; see Health.Inspector
	CodeSplitView        Code = "K-LOG-01"   // the registry's public log has shown two faces
	CodeNotPrinted       Code = "K-PRINT-01" // no paper, off, or its queue stands still
	CodeNotWritten       Code = "K-PRINT-02" // the folder for pages is not there, full, or not to be written to
	CodeTimedOut         Code = "K-FLOW-01"  // nobody answered
	CodeInternal         Code = "K-FLOW-99"
)

// Codes lists every code.
func Codes() []Code {
	return []Code{CodeCardRemoved, CodeReaderMissing, CodeNotEMRTD, CodeCardMute, CodeWrongAccess, CodeAccessDenied,
		CodeCardProtocol, CodeCardSlow, CodeCardChanged, CodeServiceMissing, CodeKindRefused, CodeModuleMissing, CodeDataAltered, CodeSignatureInvalid,
		CodeUnknownAuthority, CodeChipCloned, CodeExpired, CodeUnreadable, CodeCannotProve, CodePageDiffers, CodeGuardianYoung, CodeGuardianSame, CodeGuardianExpired, CodeTokenRemoved, CodeNotPIV,
		CodeNotFactoryNew, CodeCannotAttest, CodeAttestation, CodeTokenPINBlocked, CodeTokenWrongPIN, CodeTouchTimeout,
		CodeTokenBusy, CodeTokenFailed, CodeTokenUnsupported, CodeKeyBlocked, CodeKeyWaits, CodeKeyElsewhere, CodeKeyFailed, CodeOwnRemoved, CodeOwnNoKey, CodeOwnBlocked, CodeOwnNotProven,
		CodeOwnTouch, CodeOwnFailed, CodeNoReceipt, CodeUntold, CodeNoHolder, CodeNotAsked, CodeTooMany, CodeOfficerUnknown, CodeOfficerWrongPIN, CodeOfficerBlocked,
		CodeOfficerRemoved, CodeOfficerOther, CodeSamePerson, CodeQuota, CodeTPMMissing, CodeTPMLockout, CodeTPMFailed, CodeDiskFull,
		CodeQueueLocked, CodeQueueDamaged, CodeRolledBack, CodePolicyMissing, CodePolicyExpired, CodeOffline, CodeAuthorityFork, CodeClock,
		CodeKioskCertificate, CodeCertificateEnds, CodeUnreachable,
		CodeCaptivePortal, CodeNonsense, CodeNotAllowed, CodeTLS, CodeRejected, CodeInspected, CodeSplitView, CodeNotPrinted, CodeNotWritten, CodeTimedOut, CodeInternal}
}

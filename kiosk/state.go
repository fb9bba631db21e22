package kiosk

import (
	"context"
	"strings"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/registry/record"
)

// Desk is the agent as a window or a terminal sees it: states out, intents in.
// A channel in the same process and the local socket (kiosk/wire) offer it alike.
type Desk interface {
	// States yields the current state at once and then the newest one whenever
	// it changes; a slow reader misses states in between, never the last. The
	// channel closes when ctx ends or the agent is gone.
	States(ctx context.Context) (<-chan State, error)
	// Send hands over an intent and returns at once. An intent that does not
	// answer the current state is dropped by the agent: a second tap does
	// nothing.
	Send(ctx context.Context, in Intent) error
}

// State is everything a screen shows, at one moment. It is a plain value: no
// function in it, nothing of it changes after it was published. It holds
// personal data only as secret.Text; kiosk/wire alone encodes those.
type State struct {
	Number    uint64 // of the question asked; an Intent names the one it answers
	Revision  uint64 // grows with every state; states of one Number differ in Health, Steps and Fault only
	Screen    Screen
	Turn      Turn
	Language  string   // of the citizen's screens: "en", "zh"
	Languages []string // to choose from
	Position  int      // "3 of 8"; 0 outside an enrollment
	Positions int
	Main      Action   // the one main button
	Actions   []Action // everything that can be done now, Main included
	Simulated bool     // a root of class test is trusted: a training installation

	// Closed is how often an officer has closed the kiosk's windows since the agent
	// began. A window that sees it grow ends; one that starts later does not.
	Closed uint64

	Locked  bool   // SignOn: an enrollment waits for the card of the officer who signed on
	Officer string // number on the officer's certificate; "" when nobody is signed on
	Health  Health

	Steps   []Step       // Reading, MakingKey, Saving
	Holder  *HolderView  // from Compare on
	Checks  []Check      // from Compare on: each proof with its verdict
	Lacks   []Lack       // from Compare on: proofs that the document cannot give; a second officer agrees and signs
	Consent *ConsentView // Consent
	Review  *ReviewView  // Review
	// Guardian is set on Guardian, and from GuardianCard on, where a guardian acts for the
	// citizen: what speaks to the citizen then speaks to the guardian.
	Guardian *GuardianView

	PIN     *PINView     // SignOn, Locked, AccessNumber, SecondOfficer, ChoosePIN, RepeatPIN, Approve, SecondApprove, GuardianNote, CustodyNumber, CustodyPIN, Close, Receipts, SetAside, TokenPIN, CancelCode
	Receipt *ReceiptView // Receipt
	Records []RecordView // Receipts, SetAside: the newest first
	Record  *RecordView  // Record
	Day     *DayView     // Day
	Custody *CustodyView // CustodyKey
	Token   *TokenView   // TokenResult
	Proof   *ProofView   // Standing
	Ended   *EndedView   // Cancelled, IdentityEnded
	Fault   *Fault       // Trouble; elsewhere what is wrong with a card or its reader
	Waiting Device       // which device the person should bring: PlaceCard, GuardianCard, CardBack, InsertToken, SignOn, Approve, SecondOfficer, SecondApprove, Close, TakeThings, ShowToken
	Left    []Device     // TakeThings, GuardianCard, CardBack: what still lies on a reader
}

// Screen names a screen of the kiosk; ui has one file for each.
type Screen string

const (
	ScreenSignOn       Screen = "sign-on"       // officer's card and PIN; see State.Locked
	ScreenHome         Screen = "home"          // officer: start
	ScreenClose        Screen = "close"         // officer's card and PIN end the windows
	ScreenLocked       Screen = "locked"        // the same officer goes on, or another one takes over
	ScreenReceipts     Screen = "receipts"      // officer: look for one, and the newest
	ScreenSetAside     Screen = "set-aside"     // officer: records in quarantine
	ScreenRecord       Screen = "record"        // officer: one of either
	ScreenDay          Screen = "day"           // officer: what was done, and what is to do before going
	ScreenServices     Screen = "services"      // officer: what else citizens come for
	ScreenLanguage     Screen = "language"      // citizen chooses
	ScreenWelcome      Screen = "welcome"       // what happens, rights
	ScreenPlaceCard    Screen = "place-card"    // ID card on the reader
	ScreenAccessNumber Screen = "access-number" // CAN or MRZ
	ScreenReading      Screen = "reading"       // wait: reading and proving
	ScreenCompare      Screen = "compare"       // officer: face and data
	// A second officer looks at the document and the person and agrees with card
	// and PIN, because the document cannot prove everything; see State.Lacks.
	ScreenSecondOfficer Screen = "second-officer"
	ScreenConfirmData   Screen = "confirm-data" // citizen: are these yours?
	ScreenConsent       Screen = "consent"      // one purpose a page
	ScreenInsertToken   Screen = "insert-token"
	ScreenNoToken       Screen = "no-token" // citizen: the key may live in this kiosk
	ScreenChoosePIN     Screen = "choose-pin"
	ScreenRepeatPIN     Screen = "repeat-pin"
	ScreenMakingKey     Screen = "making-key"     // wait
	ScreenReview        Screen = "review"         // citizen: sign
	ScreenApprove       Screen = "approve"        // officer: card and PIN
	ScreenSecondApprove Screen = "second-approve" // the second officer: card and PIN
	ScreenSaving        Screen = "saving"         // wait
	ScreenReceipt       Screen = "receipt"
	ScreenPrinting      Screen = "printing" // wait
	ScreenTakeThings    Screen = "take-things"
	ScreenTrouble       Screen = "trouble" // see State.Fault

	// A citizen whose key is kept in this kiosk comes back.
	ScreenCustodyNumber Screen = "custody-number" // the number on the receipt
	ScreenCustodyPIN    Screen = "custody-pin"    // the key's PIN
	ScreenCustodyKey    Screen = "custody-key"    // proved: what to do with it

	// A citizen alone, without an officer.
	ScreenSelfService   Screen = "self-service"   // what can be done here
	ScreenShowToken     Screen = "show-token"     // the citizen's own, with a key on it
	ScreenTokenPIN      Screen = "token-pin"      // its PIN
	ScreenTokenWork     Screen = "token-work"     // wait
	ScreenTokenResult   Screen = "token-result"   // what came of it
	ScreenScanReceipt   Screen = "scan-receipt"   // the QR code
	ScreenStanding      Screen = "standing"       // what has become of its record
	ScreenCancelCode    Screen = "cancel-code"    // type it
	ScreenConfirmCancel Screen = "confirm-cancel" // what it does: once more
	ScreenCancelled     Screen = "cancelled"      // the registry has it
	ScreenAskRegistry   Screen = "ask-registry"   // wait

	// An identity is ended at the desk.
	ScreenEndIdentity   Screen = "end-identity"   // officer: with the token, or with the receipt
	ScreenConfirmEnd    Screen = "confirm-end"    // citizen: it is for good
	ScreenIdentityEnded Screen = "identity-ended" // the record that ends it is saved

	// Where the citizen is too young to decide alone, a guardian comes in.
	ScreenGuardian        Screen = "guardian"         // officer: why, and what is needed
	ScreenGuardianCard    Screen = "guardian-card"    // the guardian's ID card, in the place of the citizen's
	ScreenGuardianCompare Screen = "guardian-compare" // officer: face and data of the guardian
	ScreenGuardianProof   Screen = "guardian-proof"   // officer: what shows the guardianship
	ScreenGuardianNote    Screen = "guardian-note"    // officer: which paper
	ScreenCardBack        Screen = "card-back"        // the citizen's ID card once more
)

// Screens lists every screen in the order of the enrollment.
func Screens() []Screen {
	return []Screen{ScreenSignOn, ScreenHome, ScreenServices, ScreenLocked, ScreenReceipts, ScreenSetAside, ScreenRecord, ScreenDay, ScreenClose, ScreenLanguage, ScreenWelcome, ScreenPlaceCard, ScreenAccessNumber,
		ScreenReading, ScreenCompare, ScreenGuardian, ScreenGuardianCard, ScreenGuardianCompare, ScreenGuardianProof, ScreenGuardianNote, ScreenCardBack, ScreenSecondOfficer, ScreenConfirmData, ScreenConsent, ScreenInsertToken, ScreenNoToken, ScreenChoosePIN,
		ScreenRepeatPIN, ScreenMakingKey, ScreenReview, ScreenApprove, ScreenSecondApprove, ScreenSaving, ScreenReceipt, ScreenPrinting,
		ScreenTakeThings, ScreenTrouble, ScreenCustodyNumber, ScreenCustodyPIN, ScreenCustodyKey,
		ScreenSelfService, ScreenShowToken, ScreenTokenPIN, ScreenTokenWork, ScreenTokenResult, ScreenScanReceipt, ScreenStanding,
		ScreenCancelCode, ScreenConfirmCancel, ScreenCancelled, ScreenAskRegistry, ScreenEndIdentity, ScreenConfirmEnd, ScreenIdentityEnded}
}

// Turn says whose action is awaited.
type Turn string

const (
	TurnOfficer Turn = "officer"
	TurnCitizen Turn = "citizen"
	TurnMachine Turn = "machine" // nobody: wait
)

// Audience says who may see a state.
type Audience string

const (
	AudienceOfficer Audience = "officer"
	AudienceCitizen Audience = "citizen"
	AudienceBoth    Audience = "both" // it names steps and nobody
)

// Audience is who may see s: the one whose action is awaited. While the machine
// works a state holds steps alone, and both may.
func (s State) Audience() Audience {
	switch s.Turn {
	case TurnOfficer:
		return AudienceOfficer
	case TurnCitizen:
		return AudienceCitizen
	}
	return AudienceBoth
}

// Action is something a person can do on a screen.
type Action string

const (
	ActionSignOn        Action = "sign-on"  // Intent.Secret = PIN
	ActionSignOff       Action = "sign-off" // officer leaves
	ActionClose         Action = "close"    // officer: end the windows; asks for card and PIN
	ActionStart         Action = "start"
	ActionLock          Action = "lock"           // officer goes away for a while
	ActionReceipts      Action = "receipts"       // officer: receipts given here
	ActionSetAside      Action = "set-aside"      // officer: records in quarantine
	ActionDay           Action = "day"            // officer: end of the day
	ActionFind          Action = "find"           // officer: Intent.Secret = the beginning of a record's number, or a scanned receipt
	ActionWrite         Action = "write"          // officer: the page, or the record set aside, into a folder
	ActionChoose        Action = "choose"         // Intent.Choice = language
	ActionContinue      Action = "continue"       // welcome
	ActionEnterCAN      Action = "enter-can"      // Intent.Secret
	ActionEnterMRZ      Action = "enter-mrz"      // Intent.MRZ
	ActionScanMRZ       Action = "scan-mrz"       // Intent.Secret: what a scanner typed of the whole zone
	ActionConfirmPerson Action = "confirm-person" // officer: this is the person
	ActionDoubtPerson   Action = "doubt-person"   // officer: it is not; ends the enrollment
	ActionConfirmData   Action = "confirm-data"   // citizen: these are mine
	ActionAccept        Action = "accept"         // consent given; Intent.Choice = consent id
	ActionRefuse        Action = "refuse"         // consent not given; Intent.Choice = consent id
	ActionPIN           Action = "pin"            // choose or repeat; Intent.Secret
	ActionSign          Action = "sign"           // citizen signs the review
	ActionApprove       Action = "approve"        // either officer: Intent.Secret = PIN
	ActionDecline       Action = "decline"        // citizen: I do not want this; nothing is kept
	ActionRetry         Action = "retry"          // the step that failed, again
	ActionBack          Action = "back"           // choose another PIN, type another number
	ActionStartOver     Action = "start-over"     // leave the enrollment; nothing is kept
	ActionDone          Action = "done"           // receipt taken
	ActionNoToken       Action = "no-token"       // citizen: I have none
	ActionKeepHere      Action = "keep-here"      // citizen: my key may live in this kiosk
	ActionCustody       Action = "custody"        // officer: somebody comes back to a key that is kept here
	ActionNumber        Action = "number"         // Intent.Secret = custody number
	ActionMove          Action = "move"           // citizen: move to a token now
	ActionLeave         Action = "leave"          // citizen: back to the home screen
	ActionServices      Action = "services"       // officer: what else citizens come for
	ActionReplace       Action = "replace"        // officer: the token is lost, or its identity was ended
	ActionRenew         Action = "renew"          // officer: a new ID card, the same token
	ActionEndIdentity   Action = "end-identity"   // officer: a citizen wants the identity to end
	ActionWithToken     Action = "with-token"     // the holder's key signs
	ActionWithReceipt   Action = "with-receipt"   // two officers sign
	ActionEnd           Action = "end"            // citizen: for good
	ActionSelfService   Action = "self-service"   // what a citizen can do alone
	ActionTryToken      Action = "try-token"      // does it work, and is its key proven?
	ActionChangePIN     Action = "change-pin"     // of the citizen's token
	ActionCheckReceipt  Action = "check-receipt"  // what has become of it
	ActionCancel        Action = "cancel"         // end an identity with its cancel code
	ActionScan          Action = "scan"           // Intent.Secret: what a scanner typed of a receipt's QR code
	ActionGiveCode      Action = "give-code"      // Intent.Secret: the cancel code, as typed
	ActionSuspend       Action = "suspend"        // the person knows what the code does
	ActionPrint         Action = "print"          // the receipt or the page, on paper; Intent.Choice = language of a page for officers

	ActionOfAge       Action = "of-age"            // officer: old enough, which the document does not show
	ActionBirthPaper  Action = "birth-certificate" // officer: it shows who the guardian is
	ActionFamilyPaper Action = "family-register"   // likewise
	ActionCourtPaper  Action = "court-order"       // likewise
	ActionOtherPaper  Action = "other-proof"       // likewise; asks which
	ActionNote        Action = "note"              // officer: Intent.Secret = which paper, in a few words
	ActionGuard       Action = "guard"             // guardian: I am, and the citizen's data are right
)

// Intent is what a person did. It is one value for all actions.
type Intent struct {
	State  uint64 // the State.Number it answers
	Action Action
	Choice string      // language or consent id
	Secret secret.Text // PIN, CAN, custody number, cancel code, scanned zone or receipt, a note, or what to find; wiped by the agent after use
	MRZ    *MRZKey
}

// MRZKey is what opens a chip when there is no CAN: three fields of the MRZ as
// printed (ICAO 9303-11 4.3.2). Dates are YYMMDD.
type MRZKey struct{ Number, Birth, Expiry secret.Text }

// Step is one line of a waiting screen.
type Step struct {
	Name   StepName
	Status StepStatus
	Done   int // of Total, when the step can tell
	Total  int
}

// StepName names a step of the flow; the flow's list is in flow.go.
type StepName string

// StepStatus is how far a step is.
type StepStatus string

const (
	StepPending StepStatus = "pending"
	StepRunning StepStatus = "running"
	StepDone    StepStatus = "done"
	StepFailed  StepStatus = "failed"
)

// The steps that waiting screens show.
const (
	StepOpenCard    StepName = "open-card"    // PACE or BAC
	StepReadCard    StepName = "read-card"    // files under secure messaging
	StepVerifyCard  StepName = "verify-card"  // passive authentication
	StepProveChip   StepName = "prove-chip"   // Chip Authentication
	StepMakeContext StepName = "make-context" // sequence number reserved, context fixed
	StepProbeToken  StepName = "probe-token"
	StepSetPIN      StepName = "set-pin"
	StepMakeKeys    StepName = "make-keys"
	StepVerifyToken StepName = "verify-token" // attestation
	StepVerifyKey   StepName = "verify-key"   // the TPM's attestation of a key in custody
	StepBindChip    StepName = "bind-chip"    // Active Authentication over context and key
	StepGuardChip   StepName = "guard-chip"   // the same of the guardian's document
	StepSeal        StepName = "seal"         // identity sealed, payload frozen
	StepLockToken   StepName = "lock-token"   // PUK and management key set
	StepOldSign     StepName = "old-sign"     // the key that is replaced
	StepHolderSign  StepName = "holder-sign"
	StepOfficerSign StepName = "officer-sign"
	StepSecondSign  StepName = "second-sign" // the second officer, for a document that lacks a proof
	StepKioskSign   StepName = "kiosk-sign"
	StepProvisional StepName = "provisional" // provisional receipt, shown after the next step
	StepPrint       StepName = "print"
	StepSave        StepName = "save"    // durable in the queue
	StepDeliver     StepName = "deliver" // courier: accepted by the registry
	StepFinal       StepName = "final"   // receipt verified
	StepPurge       StepName = "purge"
	StepActivate    StepName = "activate" // the identity authority confirms

	StepLookAtToken StepName = "look-at-token" // the citizen's own: attestation of its key
	StepTryKey      StepName = "try-key"       // it signs a fresh challenge
	StepChangePIN   StepName = "change-pin"
	StepAskRegistry StepName = "ask-registry"
)

// HolderView is what the officer compares and the citizen confirms.
type HolderView struct {
	Surname, GivenNames, Number secret.Text
	Birth, Expiry               secret.Text // YYYY-MM-DD, or as far as the card knows
	Sex, Nationality, Issuer    string      // ICAO codes
	Face                        secret.Text // PNG that this kiosk drew from the card's image; empty when unreadable
	FaceMIME                    string
}

// GuardianView is who must have a guardian, and who can be one, in years.
type GuardianView struct {
	Below int // who is younger needs a guardian
	From  int // who is younger is no guardian
}

// Lack is a proof that the citizen or the document cannot give.
type Lack string

const (
	LackChip   Lack = "chip"             // nothing shows that the chip is the original
	LackIssuer Lack = "issuer-signature" // no signature of the issuer protects the data
	LackAge    Lack = "age"              // nothing shows that the citizen is old enough to decide alone
	LackKey    Lack = "old-key"          // of the citizen, not the document: the key that is replaced does not sign
)

// Check is one proof about the card or the token, with its verdict.
type Check struct {
	Name    CheckName
	Verdict Verdict
}

// CheckName names a proof.
type CheckName string

const (
	CheckHashes    CheckName = "hashes"    // data unaltered
	CheckSignature CheckName = "signature" // signed by the document signer
	CheckChain     CheckName = "chain"     // signer belongs to a trusted country authority
	CheckRevoked   CheckName = "revocation"
	CheckChip      CheckName = "chip"     // the chip is no copy
	CheckValidity  CheckName = "validity" // not expired
)

// Verdict of a check.
type Verdict string

const (
	Passed     Verdict = "passed"
	Failed     Verdict = "failed"
	NotChecked Verdict = "not-checked"
	Warned     Verdict = "warning"
)

// ConsentView is one purpose: its exact text in the citizen's language.
type ConsentView struct {
	ID       string
	Title    string
	Text     string
	Required bool // a refusal ends the enrollment
	Index    int  // 1 of Count
	Count    int
}

// ReviewView is what the citizen signs: what is kept and sent, by item names
// that the words package explains.
type ReviewView struct {
	Sealed   []string // items only the identity authority can read, e.g. "dg1", "sod"
	Open     []string // items the registry sees, e.g. "did", "public-key"
	Consents []ConsentView
	DID      string
}

// PINView describes a pad: never a digit, never a count.
type PINView struct {
	Min, Max int
	Problem  PINProblem // why the last entry was not taken
	Left     int        // tries left when Problem is PINWrong, PINKeyWrong, PINOwnWrong, PINLastTry or PINOwnLast
}

// PINProblem says why an entry was not taken.
type PINProblem string

const (
	PINFine      PINProblem = ""
	PINTooShort  PINProblem = "too-short"
	PINTooLong   PINProblem = "too-long"
	PINTooEasy   PINProblem = "too-easy"
	PINDifferent PINProblem = "different" // repeated wrongly
	PINWrong     PINProblem = "wrong"     // refused by the card
	PINNotDigits PINProblem = "not-digits"
	PINMistyped  PINProblem = "mistyped"       // a custody number whose check digit is wrong
	PINUnknown   PINProblem = "unknown-number" // no key of this custody number is here
	PINKeyWrong  PINProblem = "wrong-key"      // refused by a key in custody
	PINLastTry   PINProblem = "last-try"       // not tried yet: Left is 1, and the person must know
	PINNoRecord  PINProblem = "no-record"      // this kiosk has made no such record, or what was entered is no number
	PINSeveral   PINProblem = "several"        // records' numbers begin so
	PINOwnWrong  PINProblem = "wrong-own"      // refused by the citizen's own token
	PINOwnLast   PINProblem = "last-try-own"   // as PINLastTry, of that token
	PINNoCode    PINProblem = "no-code"        // a cancel code that cannot be right
	PINNoNote    PINProblem = "no-note"        // a note that says nothing, or in other than capitals, digits and marks
)

// ReceiptView is the provisional receipt, and the final one when it has come.
type ReceiptView struct {
	RecordID    string // hex
	Provisional string // compact JWS
	Final       string // tlog-proof, "" until delivered
	CancelCode  secret.Text
	QR          string // what the QR code holds
	Saved       time.Time
	Custody     string // number to come back with; "" when the key is on a token
	Printed     bool   // it is on paper
}

// ClaimCode is what the citizen collects credentials for websites with, once; "" for
// a key that stays at the station. It follows from the cancel code, and does not tell
// it.
func (r ReceiptView) ClaimCode() string {
	code, err := record.ParseCancelCode(string(r.CancelCode.Reveal()))
	if err != nil || r.Custody != "" {
		return ""
	}
	return record.ClaimCode(record.CancelHash(code[:]))
}

// Number is the record's, in groups of eight digits.
func (r ReceiptView) Number() string { return inGroups(r.RecordID) }

func inGroups(id string) string {
	var b strings.Builder
	for i, c := range id {
		if i > 0 && i%8 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// CustodyView is a key in custody whose holder has shown that it is theirs.
type CustodyView struct {
	Number string
	Moving bool // a record that moves it to a token is on its way
}

// TokenView is what came of a visit with a token.
type TokenView struct {
	Changed bool // the PIN; otherwise the key has proved itself
}

// ProofView is a receipt that was shown, and what has become of its record.
type ProofView struct {
	RecordID string // hex
	Kind     ReceiptKind
	Standing Standing
}

// ReceiptKind says what a receipt proves by itself.
type ReceiptKind string

const (
	ReceiptFinal       ReceiptKind = "final"       // the record is in the public log
	ReceiptProvisional ReceiptKind = "provisional" // this kiosk has taken it on
	ReceiptOther       ReceiptKind = "other"       // another kiosk says so, which only the registry can check
	ReceiptVouched     ReceiptKind = "vouched"     // another kiosk says so, and the registry has checked it
)

// EndedView says when the registry got a cancel code, of which it tells nobody
// whether it is one of its own; or which record ends an identity, and since when it is
// saved here.
type EndedView struct {
	RecordID string // hex; "" for a cancel code
	At       time.Time
}

// Device names a device by its role.
type Device string

const (
	DeviceDocument Device = "document" // reader for ID cards
	DeviceToken    Device = "token"
	DeviceOfficer  Device = "officer"
	DeviceTPM      Device = "tpm"
	DeviceQueue    Device = "queue"
	DeviceClock    Device = "clock"
	DeviceDisk     Device = "disk"
	DevicePrinter  Device = "printer"
	DeviceRegistry Device = "registry"
)

// Health is the state of the machine in a few words, always current.
type Health struct {
	Readers      map[Device]ReaderState
	TPM          bool
	Registry     bool      // reached at the last attempt
	RegistryNote Code      // why not
	Stopped      bool      // and somebody has to act before it can be
	Inspector    string    // whose certificate was shown in the registry's place; anybody's claim, printable
	NextTry      time.Time // no attempt to deliver before it; zero when none is put off
	Queued       int       // records waiting
	Oldest       time.Time // zero when none
	Delivered    time.Time // last delivery; zero when never
	Quarantined  int
	Today        Today
	Clock        Code         // why the clock cannot be right; "" when nothing speaks against it
	Disk         Code         // why nothing can be saved; "" when there is room
	Printer      PrinterState // of the printer for receipts
	LogFault     Code         // what the registry's public log has shown amiss: CodeSplitView, until staff has taken the evidence away
	documents    uint64       // how often a card has left the document's reader
	Alarms       []Code       // what else staff must see to, while all goes on: CodeAuthorityFork, CodeCertificateEnds
}

// withoutFigures takes away what only the officer who signed on is shown.
func (h Health) withoutFigures() Health {
	h.Queued, h.Oldest, h.Delivered, h.Quarantined, h.Today = 0, time.Time{}, time.Time{}, 0, Today{}
	return h
}

// Today is what has become of enrollments since midnight, local time.
type Today struct {
	Enrolled  int // saved here
	Delivered int // receipts of the registry that came
	Refused   int // rejected and set aside, or refused by the identity authority
}

// PrinterState is how the printer does.
type PrinterState string

const (
	PrinterNone  PrinterState = "" // none is configured
	PrinterReady PrinterState = "ready"
	PrinterMute  PrinterState = "mute" // it does not answer, or takes no jobs
)

// ReaderState is what a reader shows.
type ReaderState string

const (
	ReaderMissing ReaderState = "missing"
	ReaderEmpty   ReaderState = "empty"
	ReaderCard    ReaderState = "card"
	ReaderMute    ReaderState = "mute" // a card that does not answer: upside down
)

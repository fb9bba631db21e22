// Package samples holds a made-up state for every screen and every fault, for
// the tests of ui and for the contact sheet that people look at. The citizen in
// it is ICAO's specimen.
package samples

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"maps"
	"slices"
	"strings"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
)

// Sample is a state under a name that fits a file.
type Sample struct {
	Name  string
	State kiosk.State
}

// Surname is the name that tests look for where it must not be.
const Surname = "ERIKSSON"

// All returns at least one sample of every screen, in the order of the
// enrollment, in one language.
func All(language string) []Sample {
	var n uint64
	var all []Sample
	add := func(name string, s kiosk.State) {
		n++
		s.Number, s.Revision, s.Language, s.Languages = n, n, language, slices.Sorted(maps.Keys(consents))
		s.Simulated = true
		if s.Health.Readers == nil {
			s.Health = health(s.Screen)
		}
		if s.Screen != kiosk.ScreenSignOn {
			s.Officer = "40771"
		}
		if !strings.Contains(name, ".") {
			name = string(s.Screen) + name
		}
		all = append(all, Sample{name, s})
	}
	officer := func(screen kiosk.Screen, main kiosk.Action, more ...kiosk.Action) kiosk.State {
		return kiosk.State{Screen: screen, Turn: kiosk.TurnOfficer, Main: main, Actions: actions(main, more)}
	}
	citizen := func(screen kiosk.Screen, main kiosk.Action, more ...kiosk.Action) kiosk.State {
		s := kiosk.State{Screen: screen, Turn: kiosk.TurnCitizen, Main: main, Position: 2, Positions: 8}
		s.Actions = actions(main, append(more, kiosk.ActionChoose, kiosk.ActionDecline))
		return s
	}

	s := kiosk.State{Screen: kiosk.ScreenSignOn, Turn: kiosk.TurnOfficer, Waiting: kiosk.DeviceOfficer}
	s.Health = health(s.Screen)
	s.Health.Readers[kiosk.DeviceOfficer] = kiosk.ReaderEmpty
	add("-1-card", s)
	s = officer(kiosk.ScreenSignOn, kiosk.ActionSignOn)
	s.Waiting, s.PIN = kiosk.DeviceOfficer, &kiosk.PINView{Min: 6, Max: 8}
	add("-2-pin", s)
	s.PIN = &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINWrong, Left: 1}
	add("-3-last-try", s)
	s = officer(kiosk.ScreenSignOn, kiosk.ActionSignOn, kiosk.ActionStartOver, kiosk.ActionChoose)
	s.Locked, s.Waiting, s.PIN = true, kiosk.DeviceOfficer, &kiosk.PINView{Min: 6, Max: 8}
	s.Fault = &kiosk.Fault{Code: kiosk.CodeOfficerRemoved, Remedy: kiosk.RemedyRetry}
	s.Health = health(s.Screen)
	s.Health.Readers[kiosk.DeviceOfficer] = kiosk.ReaderEmpty
	add("-4-locked", s)
	s.Health = health(s.Screen)
	add("-5-locked-pin", s)

	s = officer(kiosk.ScreenSignOn, kiosk.ActionSignOn, kiosk.ActionChoose, kiosk.ActionSelfService)
	s.Waiting, s.PIN, s.Health = kiosk.DeviceOfficer, &kiosk.PINView{Min: 6, Max: 8}, health(kiosk.ScreenSignOn)
	s.Health.Readers[kiosk.DeviceOfficer] = kiosk.ReaderEmpty
	add("-6-self-service", s)
	home := []kiosk.Action{kiosk.ActionServices, kiosk.ActionReceipts, kiosk.ActionSetAside, kiosk.ActionDay, kiosk.ActionLock, kiosk.ActionSignOff, kiosk.ActionClose, kiosk.ActionChoose}
	s = officer(kiosk.ScreenHome, kiosk.ActionStart, home...)
	add("-1-ready", s)
	s.Health = health(s.Screen)
	s.Health.Registry, s.Health.RegistryNote, s.Health.Queued, s.Health.Quarantined = false, kiosk.CodeUnreachable, 3, 1
	s.Health.Oldest = time.Date(2026, 5, 2, 16, 10, 0, 0, time.UTC)
	s.Health.Readers[kiosk.DeviceDocument] = kiosk.ReaderMissing
	s.Health.Today, s.Health.Clock, s.Health.Disk, s.Health.Printer = kiosk.Today{Enrolled: 41, Delivered: 37, Refused: 1}, kiosk.CodeClock, kiosk.CodeDiskFull, kiosk.PrinterMute
	add("-2-offline", s)
	s.Health.RegistryNote, s.Health.Stopped, s.Health.Inspector = kiosk.CodeInspected, true, "Example Web Security GmbH & Co. KG, Berlin"
	s.Health.NextTry = time.Date(2026, 5, 4, 9, 31, 7, 0, time.UTC)
	add("-4-inspected", s)
	s.Health = health(s.Screen)
	s.Health.Alarms = []kiosk.Code{kiosk.CodeAuthorityFork, kiosk.CodeCertificateEnds}
	add("-6-alarms", s)
	add("", officer(kiosk.ScreenServices, "", kiosk.ActionReplace, kiosk.ActionRenew, kiosk.ActionEndIdentity, kiosk.ActionSelfService, kiosk.ActionCustody, kiosk.ActionLeave, kiosk.ActionChoose))
	s = officer(kiosk.ScreenHome, kiosk.ActionStart, home...)
	s.Health = health(s.Screen)
	s.Health.LogFault = kiosk.CodeSplitView
	add("-5-split-view", s)

	s = officer(kiosk.ScreenClose, kiosk.ActionApprove, kiosk.ActionLeave, kiosk.ActionChoose)
	s.Waiting, s.PIN = kiosk.DeviceOfficer, &kiosk.PINView{Min: 6, Max: 8}
	add("", s)
	s = officer(kiosk.ScreenLocked, "", kiosk.ActionChoose)
	s.Waiting, s.Health = kiosk.DeviceOfficer, health(s.Screen)
	s.Health.Readers[kiosk.DeviceOfficer] = kiosk.ReaderEmpty
	add("-1-card", s)
	s = officer(kiosk.ScreenLocked, kiosk.ActionSignOn, kiosk.ActionChoose)
	s.Waiting, s.PIN = kiosk.DeviceOfficer, &kiosk.PINView{Min: 6, Max: 8}
	add("-2-pin", s)

	s = officer(kiosk.ScreenReceipts, kiosk.ActionFind, kiosk.ActionBack, kiosk.ActionLock, kiosk.ActionChoose)
	s.PIN = &kiosk.PINView{Min: 8, Max: 64}
	add("-1-none", s)
	s.Records, s.PIN = records(), &kiosk.PINView{Min: 8, Max: 64, Problem: kiosk.PINNoRecord}
	add("-2-no-record", s)
	s = officer(kiosk.ScreenSetAside, kiosk.ActionBack, kiosk.ActionLock, kiosk.ActionChoose)
	s.PIN = &kiosk.PINView{Min: 8, Max: 64}
	add("-1-none", s)
	s.Actions = append(s.Actions, kiosk.ActionFind)
	for _, code := range []string{"registry-holder", "vault-officer", "registry-officer-revoked", "registry-time", "queue-damaged", "registry-new-one", "registry-fork", "record-canonical"} {
		r := record(kiosk.StandingSetAside)
		r.Code, r.QR = code, ""
		s.Records = append(s.Records, r)
	}
	add("-2-some", s)
	s = officer(kiosk.ScreenRecord, kiosk.ActionPrint, kiosk.ActionBack, kiosk.ActionLock, kiosk.ActionChoose)
	for i, standing := range []kiosk.Standing{kiosk.StandingWaiting, kiosk.StandingReceipted, kiosk.StandingActive, kiosk.StandingRefused, kiosk.StandingSuspended, kiosk.StandingRevoked} {
		r := record(standing)
		r.Final, r.Printed = standing != kiosk.StandingWaiting, i == 2
		switch standing {
		case kiosk.StandingRefused:
			r.Code = "vault-review"
		case kiosk.StandingSuspended:
			r.Code = "registry-cancelled"
		}
		s.Record, s.Fault = &r, nil
		if i == 1 {
			s.Fault = &kiosk.Fault{Code: kiosk.CodeNotPrinted, Remedy: kiosk.RemedyRetry}
		}
		add("-"+string(standing), s)
	}
	aside := record(kiosk.StandingSetAside)
	aside.Code, aside.QR, aside.File = "registry-kiosk", "", "record-9f3c21d09f3c21d0.json"
	s = officer(kiosk.ScreenRecord, kiosk.ActionWrite, kiosk.ActionBack, kiosk.ActionLock, kiosk.ActionChoose)
	s.Record = &aside
	add("-set-aside", s)
	s = officer(kiosk.ScreenDay, kiosk.ActionPrint, kiosk.ActionBack, kiosk.ActionLock, kiosk.ActionSignOff, kiosk.ActionChoose)
	s.Day = &kiosk.DayView{At: time.Date(2026, 5, 4, 17, 5, 0, 0, time.UTC), Officer: "40771", Own: kiosk.DayCounts{Enrolled: 12}, All: kiosk.DayCounts{Enrolled: 31}, Delivered: 31}
	add("-1-nothing-to-do", s)
	s.Day, s.Fault = Day(), &kiosk.Fault{Code: kiosk.CodeNotPrinted, Remedy: kiosk.RemedyRetry}
	add("-2-all-there-is", s)

	s = citizen(kiosk.ScreenLanguage, "")
	s.Position = 1
	add("", s)
	s = citizen(kiosk.ScreenWelcome, kiosk.ActionContinue)
	s.Position = 1
	add("", s)

	s = citizen(kiosk.ScreenPlaceCard, "")
	s.Waiting = kiosk.DeviceDocument
	s.Health = health(s.Screen)
	s.Health.Readers[kiosk.DeviceDocument] = kiosk.ReaderEmpty
	add("-1", s)
	s.Health = health(s.Screen)
	s.Health.Readers[kiosk.DeviceDocument] = kiosk.ReaderMute
	add("-2-upside-down", s)

	s = citizen(kiosk.ScreenAccessNumber, kiosk.ActionEnterCAN, kiosk.ActionEnterMRZ, kiosk.ActionScanMRZ)
	s.Turn = kiosk.TurnOfficer
	s.PIN = &kiosk.PINView{Min: 6, Max: 6}
	add("-1-number", s)
	s.Main, s.Actions = kiosk.ActionEnterMRZ, []kiosk.Action{kiosk.ActionEnterMRZ, kiosk.ActionScanMRZ, kiosk.ActionChoose, kiosk.ActionDecline}
	add("-2-lines", s)

	s = kiosk.State{Screen: kiosk.ScreenReading, Turn: kiosk.TurnMachine, Position: 3, Positions: 8, Steps: []kiosk.Step{
		{Name: kiosk.StepOpenCard, Status: kiosk.StepDone},
		{Name: kiosk.StepProveChip, Status: kiosk.StepDone},
		{Name: kiosk.StepReadCard, Status: kiosk.StepRunning, Done: 11200, Total: 18400},
		{Name: kiosk.StepVerifyCard, Status: kiosk.StepPending},
	}}
	add("", s)

	s = officer(kiosk.ScreenCompare, kiosk.ActionConfirmPerson, kiosk.ActionDoubtPerson)
	s.Position, s.Positions, s.Holder, s.Checks = 3, 8, Holder(Face()), checks(kiosk.Passed)
	add("-1", s)
	s.Holder, s.Checks = Holder(nil), checks(kiosk.Warned)
	s.Holder.GivenNames = secret.FromString("ANNA MARIA ALEXANDRINA THEODORA WILHELMINA")
	add("-2-no-picture", s)
	s.Holder, s.Checks, s.Lacks = Holder(Face()), without(kiosk.CheckChip), []kiosk.Lack{kiosk.LackChip}
	add("-3-lacks", s)
	s.Checks, s.Lacks = without(kiosk.CheckHashes, kiosk.CheckSignature, kiosk.CheckChain, kiosk.CheckChip), []kiosk.Lack{kiosk.LackChip, kiosk.LackIssuer}
	add("-4-lacks-all", s)

	s.Checks, s.Lacks = checks(kiosk.Passed), []kiosk.Lack{kiosk.LackKey}
	add("-5-lost-key", s)

	second := officer(kiosk.ScreenSecondOfficer, kiosk.ActionApprove, kiosk.ActionDoubtPerson, kiosk.ActionStartOver)
	second.Position, second.Positions, second.Waiting, second.PIN = 3, 8, kiosk.DeviceOfficer, &kiosk.PINView{Min: 6, Max: 8}
	s = second
	s.Holder, s.Checks, s.Lacks = Holder(Face()), without(kiosk.CheckChip), []kiosk.Lack{kiosk.LackChip}
	s.Health = health(s.Screen)
	s.Health.Readers[kiosk.DeviceOfficer] = kiosk.ReaderEmpty
	add("-1-card", s)
	s.Health = kiosk.Health{}
	add("-2-pin", s)
	s.Fault = &kiosk.Fault{Code: kiosk.CodeSamePerson, Remedy: kiosk.RemedyOtherCard}
	add("-3-same-person", s)
	s.Fault, s.PIN = nil, &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINWrong, Left: 1}
	s.Holder, s.Checks, s.Lacks = Holder(nil), without(kiosk.CheckHashes, kiosk.CheckSignature, kiosk.CheckChain, kiosk.CheckChip), []kiosk.Lack{kiosk.LackChip, kiosk.LackIssuer}
	s.Holder.GivenNames = secret.FromString("ANNA MARIA ALEXANDRINA THEODORA WILHELMINA")
	add("-4-last-try", s)
	s.Holder, s.Checks, s.Lacks, s.PIN = nil, nil, []kiosk.Lack{kiosk.LackKey}, &kiosk.PINView{Min: 6, Max: 8}
	add("-5-to-end", s)

	s = citizen(kiosk.ScreenConfirmData, kiosk.ActionConfirmData)
	s.Position, s.Holder, s.Checks = 4, Holder(Face()), checks(kiosk.Passed)
	add("", s)

	texts := consents[language]
	s = citizen(kiosk.ScreenConsent, kiosk.ActionAccept, kiosk.ActionRefuse)
	s.Position = 4
	s.Consent = &kiosk.ConsentView{ID: "reminders", Title: texts.reminders, Text: texts.text, Index: 2, Count: 2}
	add("-1", s)
	s.Consent = &kiosk.ConsentView{ID: "enrollment", Title: texts.enrollment, Text: strings.Repeat(texts.long, 24), Required: true, Index: 1, Count: 2}
	add("-2-long", s)

	s = citizen(kiosk.ScreenInsertToken, "")
	s.Position, s.Waiting, s.Fault = 5, kiosk.DeviceToken, &kiosk.Fault{Code: kiosk.CodeReaderMissing, Remedy: kiosk.RemedyStaff}
	add("-1", s)
	s.Actions = append([]kiosk.Action{kiosk.ActionNoToken}, s.Actions...)
	add("-2-or-none", s)
	s = citizen(kiosk.ScreenNoToken, kiosk.ActionKeepHere, kiosk.ActionBack)
	s.Position = 5
	add("", s)
	s = citizen(kiosk.ScreenChoosePIN, kiosk.ActionPIN)
	s.Position, s.PIN = 5, &kiosk.PINView{Min: 6, Max: 8}
	add("-1", s)
	s.PIN = &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINTooEasy}
	add("-2-too-easy", s)
	s = citizen(kiosk.ScreenRepeatPIN, kiosk.ActionPIN, kiosk.ActionBack)
	s.Position, s.PIN = 5, &kiosk.PINView{Min: 6, Max: 8}
	add("", s)
	s = kiosk.State{Screen: kiosk.ScreenMakingKey, Turn: kiosk.TurnMachine, Position: 6, Positions: 8, Steps: []kiosk.Step{
		{Name: kiosk.StepMakeContext, Status: kiosk.StepDone},
		{Name: kiosk.StepProbeToken, Status: kiosk.StepDone},
		{Name: kiosk.StepSetPIN, Status: kiosk.StepDone},
		{Name: kiosk.StepMakeKeys, Status: kiosk.StepDone},
		{Name: kiosk.StepVerifyToken, Status: kiosk.StepDone},
		{Name: kiosk.StepBindChip, Status: kiosk.StepRunning},
		{Name: kiosk.StepSeal, Status: kiosk.StepPending},
		{Name: kiosk.StepLockToken, Status: kiosk.StepPending},
	}}
	add("", s)

	s = citizen(kiosk.ScreenReview, kiosk.ActionSign)
	s.Position = 7
	s.Review = &kiosk.ReviewView{
		Sealed: []string{"dg1", "dg14", "dg15", "sod", "card-access", "chip-proof", "report", "consents", "officer-checks", "token-admin"},
		Open:   []string{"did", "public-key", "key-place", "attestation", "officer", "kiosk", "purposes", "times", "cancel-code"},
		Consents: []kiosk.ConsentView{{ID: "enrollment", Title: texts.enrollment, Required: true},
			{ID: "reminders", Title: texts.reminders}},
		DID: "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169",
	}
	add("-1", s)
	own := *s.Review
	more := *s.Review
	more.Sealed = append([]string{"identity-file", "address-file", "card-signatures", "resident-text"}, more.Sealed[5:]...)
	more.Open = append(more.Open[:len(more.Open):len(more.Open)], "exceptions", "second-officer")
	s.Review = &more
	add("-2-other-card", s)
	s = officer(kiosk.ScreenApprove, kiosk.ActionApprove)
	s.Position, s.Positions, s.Waiting, s.PIN = 7, 8, kiosk.DeviceOfficer, &kiosk.PINView{Min: 6, Max: 8}
	add("-1-pin", s)
	s = kiosk.State{Screen: kiosk.ScreenApprove, Turn: kiosk.TurnOfficer, Position: 7, Positions: 8, Waiting: kiosk.DeviceOfficer}
	s.Health = health(s.Screen)
	s.Health.Readers[kiosk.DeviceOfficer] = kiosk.ReaderEmpty
	add("-2-card", s)
	s = second
	s.Screen, s.Position = kiosk.ScreenSecondApprove, 7
	add("-1-pin", s)
	s.Health = health(s.Screen)
	s.Health.Readers[kiosk.DeviceOfficer] = kiosk.ReaderEmpty
	add("-2-card", s)
	s = kiosk.State{Screen: kiosk.ScreenSaving, Turn: kiosk.TurnMachine, Position: 8, Positions: 8, Steps: []kiosk.Step{
		{Name: kiosk.StepHolderSign, Status: kiosk.StepDone},
		{Name: kiosk.StepOfficerSign, Status: kiosk.StepDone},
		{Name: kiosk.StepSecondSign, Status: kiosk.StepDone},
		{Name: kiosk.StepKioskSign, Status: kiosk.StepRunning},
		{Name: kiosk.StepProvisional, Status: kiosk.StepPending},
		{Name: kiosk.StepSave, Status: kiosk.StepPending},
	}}
	add("", s)

	s = citizen(kiosk.ScreenReceipt, kiosk.ActionDone)
	s.Actions = []kiosk.Action{kiosk.ActionDone, kiosk.ActionChoose}
	s.Position = 8
	s.Receipt = &kiosk.ReceiptView{
		RecordID:   strings.Repeat("9f3c21d0", 8),
		CancelCode: secret.FromString("7X2R-PJE5-1YQT-S9TB-PDZ3-K6E3-0M8H"),
		QR:         strings.Repeat("eyJhbGciOiJFUzI1NiJ9.", 30),
		Saved:      time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC),
	}
	add("-1-saved", s)
	r := *s.Receipt
	r.Final = "c2sp.org/tlog-proof@v1"
	s.Receipt = &r
	add("-2-final", s)
	s.Actions = append(s.Actions, kiosk.ActionPrint)
	s.Fault = &kiosk.Fault{Code: kiosk.CodeNotPrinted, Remedy: kiosk.RemedyRetry}
	add("-4-not-printed", s)
	printed := r
	printed.Printed = true
	s.Fault, s.Receipt = nil, &printed
	add("-5-printed", s)
	p := kiosk.State{Screen: kiosk.ScreenPrinting, Turn: kiosk.TurnMachine, Position: 8, Positions: 8, Steps: []kiosk.Step{{Name: kiosk.StepPrint, Status: kiosk.StepRunning}}}
	add("", p)
	kept := r
	kept.Custody = "39402174"
	s.Receipt = &kept
	add("-3-kept-here", s)
	s = kiosk.State{Screen: kiosk.ScreenTakeThings, Turn: kiosk.TurnCitizen, Position: 8, Positions: 8, Waiting: kiosk.DeviceDocument,
		Left: []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken}}
	add("", s)
	for _, t := range []kiosk.Fault{{Code: kiosk.CodeCardMute, Remedy: kiosk.RemedyRetry}, {Code: kiosk.CodeOfficerWrongPIN, Remedy: kiosk.RemedyRetry, Left: 1},
		{Code: kiosk.CodeChipCloned, Remedy: kiosk.RemedyStaff}} {
		add("trouble."+string(t.Code), Trouble(t))
	}

	back := func(screen kiosk.Screen, main kiosk.Action, more ...kiosk.Action) kiosk.State {
		return kiosk.State{Screen: screen, Turn: kiosk.TurnCitizen, Main: main, Actions: actions(main, append(more, kiosk.ActionChoose))}
	}
	s = back(kiosk.ScreenCustodyNumber, kiosk.ActionNumber, kiosk.ActionLeave)
	s.PIN = &kiosk.PINView{Min: 8, Max: 8}
	add("-1", s)
	s.PIN = &kiosk.PINView{Min: 8, Max: 8, Problem: kiosk.PINUnknown}
	add("-2-unknown", s)
	s = back(kiosk.ScreenCustodyPIN, kiosk.ActionPIN, kiosk.ActionLeave)
	s.PIN = &kiosk.PINView{Min: 6, Max: 8}
	add("-1", s)
	s.PIN = &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINLastTry, Left: 1}
	add("-2-last-try", s)
	s = back(kiosk.ScreenCustodyKey, kiosk.ActionMove, kiosk.ActionLeave)
	s.Custody = &kiosk.CustodyView{Number: "39402174"}
	add("-1", s)
	s = back(kiosk.ScreenCustodyKey, kiosk.ActionLeave)
	s.Custody = &kiosk.CustodyView{Number: "39402174", Moving: true}
	add("-2-moving", s)

	s = back(kiosk.ScreenSelfService, "", kiosk.ActionTryToken, kiosk.ActionChangePIN, kiosk.ActionCheckReceipt, kiosk.ActionCancel, kiosk.ActionLeave)
	add("", s)
	s = back(kiosk.ScreenShowToken, "", kiosk.ActionLeave)
	s.Waiting, s.Fault = kiosk.DeviceToken, &kiosk.Fault{Code: kiosk.CodeReaderMissing, Remedy: kiosk.RemedyStaff}
	add("", s)
	s = back(kiosk.ScreenTokenPIN, kiosk.ActionPIN, kiosk.ActionLeave)
	s.PIN = &kiosk.PINView{Min: 6, Max: 8}
	add("-1", s)
	s.PIN = &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINOwnLast, Left: 1}
	add("-2-last-try", s)
	add("", kiosk.State{Screen: kiosk.ScreenTokenWork, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepTryKey, Status: kiosk.StepRunning}}})
	s = back(kiosk.ScreenTokenResult, kiosk.ActionLeave)
	s.Token = &kiosk.TokenView{}
	add("-1-tried", s)
	s.Token = &kiosk.TokenView{Changed: true}
	add("-2-changed", s)
	s = back(kiosk.ScreenScanReceipt, "", kiosk.ActionScan, kiosk.ActionLeave)
	add("-1", s)
	s.Fault = &kiosk.Fault{Code: kiosk.CodeNoReceipt, Remedy: kiosk.RemedyRetry}
	add("-2-none", s)
	for i, p := range []kiosk.ProofView{{Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingActive}, {Kind: kiosk.ReceiptProvisional, Standing: kiosk.StandingWaiting},
		{Kind: kiosk.ReceiptOther, Standing: kiosk.StandingUntold}, {Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingSuspended},
		{Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingRevoked}, {Kind: kiosk.ReceiptVouched, Standing: kiosk.StandingReceipted},
		{Kind: kiosk.ReceiptOther, Standing: kiosk.StandingUnknown}} {
		s = back(kiosk.ScreenStanding, kiosk.ActionLeave)
		p.RecordID = strings.Repeat("9f3c21d0", 8)
		s.Proof = &p
		add("-"+string('1'+rune(i))+"-"+string(p.Standing), s)
	}
	s = back(kiosk.ScreenCancelCode, kiosk.ActionGiveCode, kiosk.ActionLeave)
	s.PIN = &kiosk.PINView{Min: 28, Max: 28}
	add("-1", s)
	s.PIN = &kiosk.PINView{Min: 28, Max: 28, Problem: kiosk.PINNoCode}
	add("-2-mistyped", s)
	add("", back(kiosk.ScreenConfirmCancel, kiosk.ActionSuspend, kiosk.ActionLeave))
	s = back(kiosk.ScreenCancelled, kiosk.ActionLeave)
	s.Ended = &kiosk.EndedView{At: time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)}
	add("", s)
	add("", officer(kiosk.ScreenEndIdentity, "", kiosk.ActionWithToken, kiosk.ActionWithReceipt, kiosk.ActionLeave, kiosk.ActionChoose))
	add("", back(kiosk.ScreenConfirmEnd, kiosk.ActionEnd, kiosk.ActionDecline))
	s = back(kiosk.ScreenIdentityEnded, kiosk.ActionDone)
	s.Ended = &kiosk.EndedView{RecordID: strings.Repeat("9f3c21d0", 8), At: time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)}
	add("", s)
	add("", kiosk.State{Screen: kiosk.ScreenAskRegistry, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepAskRegistry, Status: kiosk.StepRunning}}})
	add("trouble."+string(kiosk.CodeKeyWaits), Trouble(kiosk.Fault{Code: kiosk.CodeKeyWaits, Remedy: kiosk.RemedyStartOver, Until: time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)}))
	guarded := &kiosk.GuardianView{Below: 14, From: 18}
	s = officer(kiosk.ScreenGuardian, kiosk.ActionContinue, kiosk.ActionStartOver, kiosk.ActionChoose)
	s.Position, s.Positions, s.Guardian = 3, 8, guarded
	add("-1", s)
	s.Actions = append(s.Actions, kiosk.ActionOfAge)
	add("-2-age-unclear", s)
	s = citizen(kiosk.ScreenGuardianCard, "")
	s.Position, s.Guardian, s.Waiting, s.Left = 3, guarded, kiosk.DeviceDocument, []kiosk.Device{kiosk.DeviceDocument}
	add("-1-other-lies-there", s)
	s.Left, s.Health = nil, health(s.Screen)
	s.Health.Readers[kiosk.DeviceDocument] = kiosk.ReaderEmpty
	add("-2", s)
	s = officer(kiosk.ScreenGuardianCompare, kiosk.ActionConfirmPerson, kiosk.ActionDoubtPerson)
	s.Position, s.Positions, s.Guardian, s.Holder, s.Checks = 3, 8, guarded, Holder(Face()), checks(kiosk.Passed)
	add("-1", s)
	s.Checks, s.Lacks = without(kiosk.CheckChip), []kiosk.Lack{kiosk.LackChip}
	add("-2-lacks", s)
	s = officer(kiosk.ScreenGuardianProof, "", kiosk.ActionBirthPaper, kiosk.ActionFamilyPaper, kiosk.ActionCourtPaper, kiosk.ActionOtherPaper, kiosk.ActionStartOver, kiosk.ActionChoose)
	s.Position, s.Positions, s.Guardian = 3, 8, guarded
	add("", s)
	s = officer(kiosk.ScreenGuardianNote, kiosk.ActionNote, kiosk.ActionBack, kiosk.ActionChoose)
	s.Position, s.Positions, s.Guardian, s.PIN = 3, 8, guarded, &kiosk.PINView{Min: 1, Max: kiosk.NoteSize}
	add("-1", s)
	s.PIN = &kiosk.PINView{Min: 1, Max: kiosk.NoteSize, Problem: kiosk.PINNoNote}
	add("-2-empty", s)
	s = citizen(kiosk.ScreenCardBack, "")
	s.Position, s.Guardian, s.Waiting, s.Left = 5, guarded, kiosk.DeviceDocument, []kiosk.Device{kiosk.DeviceDocument}
	add("", s)
	s = citizen(kiosk.ScreenConfirmData, kiosk.ActionGuard)
	s.Position, s.Holder, s.Guardian = 4, Holder(Face()), guarded
	add("-2-guardian", s)
	s = citizen(kiosk.ScreenReview, kiosk.ActionSign)
	own.Sealed = append(own.Sealed[:len(own.Sealed):len(own.Sealed)], "guardian")
	s.Position, s.Review, s.Guardian = 7, &own, guarded
	add("-3-guardian", s)
	return all
}

// Day is a day on which everything happened.
func Day() *kiosk.DayView {
	v := kiosk.DayView{At: time.Date(2026, 5, 4, 17, 5, 0, 0, time.UTC), Officer: "40771", Delivered: 118, Refused: 2, Waiting: 13, SetAside: 3,
		Own: kiosk.DayCounts{Enrolled: 60, Second: 4}, All: kiosk.DayCounts{Enrolled: 133, Second: 11, Ended: map[kiosk.Ending]int{}, Faults: map[kiosk.Code]int{}},
		Alarms: []kiosk.Code{kiosk.CodeSplitView, kiosk.CodeCertificateEnds}}
	for i, e := range kiosk.Endings() {
		v.All.Ended[e] = i + 1
	}
	for i, c := range []kiosk.Code{kiosk.CodeCardRemoved, kiosk.CodeTokenRemoved, kiosk.CodeOfficerWrongPIN, kiosk.CodeTPMLockout, kiosk.CodeDiskFull, kiosk.CodeClock, kiosk.CodeNotPrinted} {
		v.All.Faults[c] = 20 - i
	}
	v.Own.Ended = map[kiosk.Ending]int{kiosk.EndDeclined: 1}
	return &v
}

func record(s kiosk.Standing) kiosk.RecordView {
	return kiosk.RecordView{ID: strings.Repeat("9f3c21d0", 8), Saved: time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC), Standing: s, QR: strings.Repeat("eyJhbGciOiJFUzI1NiJ9.", 30)}
}

// records are more than a page has room for.
func records() (all []kiosk.RecordView) {
	for i := range 23 {
		r := record([]kiosk.Standing{kiosk.StandingWaiting, kiosk.StandingReceipted, kiosk.StandingActive, kiosk.StandingSetAside, kiosk.StandingRefused, kiosk.StandingSuspended}[i%6])
		r.QR, r.Saved = "", r.Saved.Add(-time.Duration(i)*time.Hour)
		all = append(all, r)
	}
	return all
}

// Trouble is the state that shows a fault, as the agent would.
func Trouble(f kiosk.Fault) kiosk.State {
	s := kiosk.State{Screen: kiosk.ScreenTrouble, Turn: kiosk.TurnCitizen, Position: 3, Positions: 8, Fault: &f,
		Main: kiosk.ActionRetry, Actions: []kiosk.Action{kiosk.ActionRetry, kiosk.ActionStartOver}}
	switch f.Remedy {
	case kiosk.RemedyStartOver:
		s.Main, s.Actions = kiosk.ActionStartOver, []kiosk.Action{kiosk.ActionStartOver}
	case kiosk.RemedyStaff:
		s.Turn = kiosk.TurnOfficer
	}
	return s
}

// Holder is ICAO's specimen with a picture, or none.
func Holder(face []byte) *kiosk.HolderView {
	return &kiosk.HolderView{
		Surname: secret.FromString(Surname), GivenNames: secret.FromString("ANNA MARIA"), Number: secret.FromString("D23145890"),
		Birth: secret.FromString("1974-08-12"), Expiry: secret.FromString("2032-04-15"), Sex: "F", Nationality: "UTO", Issuer: "UTO",
		Face: secret.New(face), FaceMIME: "image/png",
	}
}

// Face draws a portrait, since no real one belongs into a repository.
func Face() []byte {
	const w, h = 240, 312
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	in := func(x, y, cx, cy, rx, ry float64) bool {
		dx, dy := (x-cx)/rx, (y-cy)/ry
		return dx*dx+dy*dy < 1
	}
	for y := range h {
		for x := range w {
			fx, fy := float64(x), float64(y)
			c := color.NRGBA{0xD5, 0xDF, 0xEA, 0xFF}
			switch {
			case in(fx, fy, 120, 128, 56, 72):
				c = color.NRGBA{0xE8, 0xC4, 0xA6, 0xFF}
				if fy < 96 && in(fx, fy, 120, 108, 66, 62) && !in(fx, fy, 120, 150, 60, 62) {
					c = color.NRGBA{0x5A, 0x3B, 0x28, 0xFF}
				}
				for _, ex := range []float64{98, 142} {
					if in(fx, fy, ex, 128, 6, 5) {
						c = color.NRGBA{0x2A, 0x2A, 0x30, 0xFF}
					}
				}
				if in(fx, fy, 120, 168, 18, 5) {
					c = color.NRGBA{0xB0, 0x5A, 0x50, 0xFF}
				}
			case in(fx, fy, 120, 112, 72, 78):
				c = color.NRGBA{0x5A, 0x3B, 0x28, 0xFF}
			case in(fx, fy, 120, 320, 104, 96):
				c = color.NRGBA{0x2F, 0x4A, 0x6B, 0xFF}
			case fy > 180 && fy < 240 && fx > 98 && fx < 142:
				c = color.NRGBA{0xD9, 0xB3, 0x95, 0xFF}
			}
			img.SetNRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // to memory
	}
	return b.Bytes()
}

func health(s kiosk.Screen) kiosk.Health {
	h := kiosk.Health{
		Readers: map[kiosk.Device]kiosk.ReaderState{kiosk.DeviceDocument: kiosk.ReaderCard, kiosk.DeviceToken: kiosk.ReaderMissing, kiosk.DeviceOfficer: kiosk.ReaderCard},
		TPM:     true, Registry: true, Delivered: time.Date(2026, 5, 4, 9, 30, 0, 0, time.UTC),
	}
	if s == kiosk.ScreenHome {
		h.Readers[kiosk.DeviceDocument] = kiosk.ReaderEmpty
	}
	return h
}

func checks(last kiosk.Verdict) []kiosk.Check {
	return []kiosk.Check{{Name: kiosk.CheckHashes, Verdict: kiosk.Passed}, {Name: kiosk.CheckSignature, Verdict: kiosk.Passed},
		{Name: kiosk.CheckChain, Verdict: kiosk.Passed}, {Name: kiosk.CheckRevoked, Verdict: kiosk.NotChecked},
		{Name: kiosk.CheckChip, Verdict: kiosk.Passed}, {Name: kiosk.CheckValidity, Verdict: last}}
}

// without are the checks of a document that has nothing to show for some.
func without(names ...kiosk.CheckName) []kiosk.Check {
	all := checks(kiosk.Passed)
	for i := range all {
		if slices.Contains(names, all[i].Name) {
			all[i].Verdict = kiosk.NotChecked
		}
	}
	return all
}

func actions(main kiosk.Action, more []kiosk.Action) []kiosk.Action {
	if main == "" {
		return more
	}
	return append([]kiosk.Action{main}, more...)
}

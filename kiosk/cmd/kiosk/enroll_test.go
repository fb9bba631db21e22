package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/kiosk/words"
)

// desk is an agent that shows what the test wants and remembers intents.
type desk struct {
	path    string
	intents chan kiosk.Intent
	stop    func()

	mu      sync.Mutex
	current kiosk.State
	change  chan struct{}
}

func newDesk(t *testing.T, s setting) *desk {
	t.Helper()
	if err := os.MkdirAll(s.state, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &desk{path: filepath.Join(s.state, "agent.sock"), intents: make(chan kiosk.Intent, 16), change: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- wire.Serve(ctx, d.path, d, func(context.Context, wire.Query) (any, error) { return nil, errors.New("none") })
	}()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(d.stop)
	for range 400 {
		if _, err := os.Stat(d.path); err == nil {
			return d
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("no socket")
	return nil
}

// show publishes a state under the next number, more of it under the same one.
func (d *desk) show(s kiosk.State) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.Number == 0 {
		s.Number = d.current.Number + 1
	}
	s.Revision = d.current.Revision + 1
	if s.Languages == nil {
		s.Languages = words.Languages()
	}
	if s.Language == "" {
		s.Language = "en"
	}
	d.current = s
	close(d.change)
	d.change = make(chan struct{})
	return s.Number
}

func (d *desk) States(ctx context.Context) (<-chan kiosk.State, error) {
	out := make(chan kiosk.State)
	go func() {
		defer close(out)
		var told uint64
		for {
			d.mu.Lock()
			s, change := d.current, d.change
			d.mu.Unlock()
			if s.Revision > told {
				told = s.Revision
				select {
				case out <- s:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-change:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (d *desk) Send(_ context.Context, in kiosk.Intent) error {
	d.intents <- in
	return nil
}

// terminal under test: kiosk enroll in a pseudo-terminal.
type seat struct {
	t   *testing.T
	cmd *exec.Cmd
	tty *os.File

	mu   sync.Mutex
	said bytes.Buffer
	read int
	done chan struct{}
}

func sit(t *testing.T, s setting, args ...string) *seat {
	t.Helper()
	return sitBefore(t, program(t, s.config, append([]string{"enroll"}, args...)...))
}

func sitBefore(t *testing.T, cmd *exec.Cmd) *seat {
	t.Helper()
	out := &seat{t: t, cmd: cmd, done: make(chan struct{})}
	var err error
	if out.tty, err = pty.StartWithSize(out.cmd, &pty.Winsize{Rows: 40, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.cmd.Process.Kill(); out.tty.Close() })
	go func() {
		defer close(out.done)
		buf := make([]byte, 4096)
		for {
			n, err := out.tty.Read(buf)
			out.mu.Lock()
			out.said.Write(buf[:n])
			out.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return out
}

func (s *seat) transcript() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// sees waits for each of texts, in this order, behind what was seen before.
func (s *seat) sees(texts ...string) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, text := range texts {
		text = strings.ReplaceAll(text, "\n", "\r\n")
		for {
			all := s.transcript()
			if i := strings.Index(all[s.read:], text); i >= 0 {
				s.read += i + len(text)
				break
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("never saw %q behind\n%s\nin\n%s", text, all[:s.read], all[s.read:])
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func (s *seat) types(text string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// leaves waits for the end and returns the exit code.
func (s *seat) leaves() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(15 * time.Second):
		s.t.Fatalf("it does not end; the screen:\n%s", s.transcript())
	}
	s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

// echoes reads the terminal's own setting.
func (s *seat) echoes() bool {
	s.t.Helper()
	mode, err := unix.IoctlGetTermios(int(s.tty.Fd()), getTerminal)
	if err != nil {
		s.t.Fatal(err)
	}
	return mode.Lflag&unix.ECHO != 0
}

func (d *desk) gets(t *testing.T) kiosk.Intent {
	t.Helper()
	select {
	case in := <-d.intents:
		return in
	case <-time.After(10 * time.Second):
		t.Fatal("no intent")
		return kiosk.Intent{}
	}
}

// specimen states, one for each screen, and what a person types there.
const somePIN, someCAN, someNumber, someCode = "58203917", "739105", "39402174", "000G40R40M30E209185GR38E1Y7E"

var holder = &kiosk.HolderView{Surname: secret.FromString("ERIKSSON"), GivenNames: secret.FromString("ANNA MARIA"), Number: secret.FromString("D23145890"),
	Birth: secret.FromString("1974-08-12"), Expiry: secret.FromString("2034-04-15"), Sex: "F", Nationality: "UTO", Issuer: "UTO"}

var (
	someRecord = kiosk.RecordView{ID: strings.Repeat("0123abcd", 8), Standing: kiosk.StandingWaiting, QR: "eyJ.specimen"}
	// one that was not accepted
	asideRecord = kiosk.RecordView{ID: strings.Repeat("0123abcd", 8), Standing: kiosk.StandingSetAside, Code: "registry-kiosk", File: "some.json"}
)

type scene struct {
	state  kiosk.State
	types  string
	intent kiosk.Intent // what must come; Action "" for none
	shows  []string     // beside title and instruction
}

func scenes() []scene {
	acts := func(a ...kiosk.Action) []kiosk.Action { return a }
	pad := func(min, max int) *kiosk.PINView { return &kiosk.PINView{Min: min, Max: max} }
	guarded := &kiosk.GuardianView{Below: 14, From: 18}
	return []scene{
		{kiosk.State{Screen: kiosk.ScreenSignOn, Main: kiosk.ActionSignOn, Actions: acts(kiosk.ActionSignOn, kiosk.ActionChoose), PIN: pad(6, 8)},
			somePIN, kiosk.Intent{Action: kiosk.ActionSignOn, Secret: secret.FromString(somePIN)}, []string{"PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenHome, Main: kiosk.ActionStart, Actions: acts(kiosk.ActionStart, kiosk.ActionSignOff, kiosk.ActionChoose),
			Officer: "0001", Simulated: true, Health: kiosk.Health{Registry: true, Queued: 3, Quarantined: 1}},
			"", kiosk.Intent{Action: kiosk.ActionStart}, []string{"0001", "3", "1"}},
		{kiosk.State{Screen: kiosk.ScreenHome, Main: kiosk.ActionStart, Actions: acts(kiosk.ActionStart, kiosk.ActionClose)},
			"z", kiosk.Intent{Action: kiosk.ActionClose}, []string{"z = "}},
		{kiosk.State{Screen: kiosk.ScreenClose, Main: kiosk.ActionApprove, Actions: acts(kiosk.ActionApprove, kiosk.ActionLeave), PIN: pad(6, 8)},
			somePIN, kiosk.Intent{Action: kiosk.ActionApprove, Secret: secret.FromString(somePIN)}, []string{"PIN> ", "v = "}},
		{kiosk.State{Screen: kiosk.ScreenLanguage, Position: 1, Positions: 8, Main: kiosk.ActionChoose, Actions: acts(kiosk.ActionChoose, kiosk.ActionDecline)},
			"zh", kiosk.Intent{Action: kiosk.ActionChoose, Choice: "zh"}, []string{"en / es / hi / zh"}},
		{kiosk.State{Screen: kiosk.ScreenHome, Main: kiosk.ActionStart, Actions: acts(kiosk.ActionStart, kiosk.ActionReceipts, kiosk.ActionSetAside, kiosk.ActionDay, kiosk.ActionLock),
			Health: kiosk.Health{Today: kiosk.Today{Enrolled: 41, Delivered: 37, Refused: 2}}},
			"e", kiosk.Intent{Action: kiosk.ActionDay}, []string{"r = ", "a = ", "e = ", "x = ", "41", "37"}},
		{kiosk.State{Screen: kiosk.ScreenLocked, Main: kiosk.ActionSignOn, Actions: acts(kiosk.ActionSignOn, kiosk.ActionChoose), PIN: pad(6, 8)},
			somePIN, kiosk.Intent{Action: kiosk.ActionSignOn, Secret: secret.FromString(somePIN)}, []string{"PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenReceipts, Main: kiosk.ActionFind, Actions: acts(kiosk.ActionFind, kiosk.ActionBack, kiosk.ActionLock), Records: []kiosk.RecordView{someRecord},
			PIN: &kiosk.PINView{Min: 8, Max: 64, Problem: kiosk.PINNoRecord}},
			"0123abcd", kiosk.Intent{Action: kiosk.ActionFind, Secret: secret.FromString("0123abcd")}, []string{"0123abcd0123abcd  ", "b = ", "x = "}},
		{kiosk.State{Screen: kiosk.ScreenReceipts, Main: kiosk.ActionFind, Actions: acts(kiosk.ActionFind, kiosk.ActionBack), PIN: pad(8, 64)},
			"c2sp.org/tlog-proof@v1\nextra AAAA", kiosk.Intent{Action: kiosk.ActionFind, Secret: secret.FromString("c2sp.org/tlog-proof@v1\nextra AAAA")}, nil},
		{kiosk.State{Screen: kiosk.ScreenSetAside, Main: kiosk.ActionBack, Actions: acts(kiosk.ActionBack, kiosk.ActionLock, kiosk.ActionFind), Records: []kiosk.RecordView{asideRecord}, PIN: pad(8, 64)},
			"0123abcd", kiosk.Intent{Action: kiosk.ActionFind, Secret: secret.FromString("0123abcd")}, []string{"0123abcd0123abcd  "}},
		{kiosk.State{Screen: kiosk.ScreenSetAside, Main: kiosk.ActionBack, Actions: acts(kiosk.ActionBack, kiosk.ActionLock), PIN: pad(8, 64)},
			"", kiosk.Intent{Action: kiosk.ActionBack}, nil},
		{kiosk.State{Screen: kiosk.ScreenRecord, Main: kiosk.ActionPrint, Actions: acts(kiosk.ActionPrint, kiosk.ActionBack), Record: &someRecord},
			"", kiosk.Intent{Action: kiosk.ActionPrint}, []string{someRecord.ID, "eyJ.specimen"}},
		{kiosk.State{Screen: kiosk.ScreenRecord, Main: kiosk.ActionBack, Actions: acts(kiosk.ActionBack, kiosk.ActionWrite), Record: &asideRecord},
			"w", kiosk.Intent{Action: kiosk.ActionWrite}, []string{someRecord.ID, "registry-kiosk", "w = ", "some.json"}},
		{kiosk.State{Screen: kiosk.ScreenDay, Main: kiosk.ActionPrint, Actions: acts(kiosk.ActionPrint, kiosk.ActionBack),
			Day: &kiosk.DayView{All: kiosk.DayCounts{Enrolled: 57, Ended: map[kiosk.Ending]int{kiosk.EndDeclined: 4}}, Waiting: 12, Alarms: []kiosk.Code{kiosk.CodeSplitView}}},
			"b", kiosk.Intent{Action: kiosk.ActionBack}, []string{"57", "12", "K-LOG-01"}},
		{kiosk.State{Screen: kiosk.ScreenHome, Main: kiosk.ActionStart, Actions: acts(kiosk.ActionStart, kiosk.ActionSignOff, kiosk.ActionServices)},
			"g", kiosk.Intent{Action: kiosk.ActionServices}, []string{"g = "}},
		{kiosk.State{Screen: kiosk.ScreenServices, Actions: acts(kiosk.ActionReplace, kiosk.ActionRenew, kiosk.ActionEndIdentity, kiosk.ActionSelfService, kiosk.ActionCustody, kiosk.ActionLeave)},
			"k", kiosk.Intent{Action: kiosk.ActionCustody}, []string{"a = ", "w = ", "z = ", "k = ", "f = ", "v = "}},
		{kiosk.State{Screen: kiosk.ScreenSelfService, Actions: acts(kiosk.ActionTryToken, kiosk.ActionChangePIN, kiosk.ActionCheckReceipt, kiosk.ActionCancel, kiosk.ActionLeave)},
			"c", kiosk.Intent{Action: kiosk.ActionChangePIN}, []string{"y = ", "h = ", "u = ", "v = "}},
		{kiosk.State{Screen: kiosk.ScreenShowToken, Actions: acts(kiosk.ActionLeave), Waiting: kiosk.DeviceToken},
			"v", kiosk.Intent{Action: kiosk.ActionLeave}, nil},
		{kiosk.State{Screen: kiosk.ScreenTokenPIN, Main: kiosk.ActionPIN, Actions: acts(kiosk.ActionPIN, kiosk.ActionLeave),
			PIN: &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINOwnWrong, Left: 2}},
			somePIN, kiosk.Intent{Action: kiosk.ActionPIN, Secret: secret.FromString(somePIN)}, []string{"2", "PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenTokenWork, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepTryKey, Status: kiosk.StepDone}}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenTokenResult, Main: kiosk.ActionLeave, Actions: acts(kiosk.ActionLeave), Token: &kiosk.TokenView{Changed: true}},
			"", kiosk.Intent{Action: kiosk.ActionLeave}, nil},
		{kiosk.State{Screen: kiosk.ScreenScanReceipt, Main: kiosk.ActionScan, Actions: acts(kiosk.ActionScan, kiosk.ActionLeave)},
			"eyJhbGciOiJFUzI1NiJ9.e30.AAAA", kiosk.Intent{Action: kiosk.ActionScan, Secret: secret.FromString("eyJhbGciOiJFUzI1NiJ9.e30.AAAA\n")}, []string{"v = "}},
		{kiosk.State{Screen: kiosk.ScreenAskRegistry, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepAskRegistry, Status: kiosk.StepRunning}}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenStanding, Main: kiosk.ActionLeave, Actions: acts(kiosk.ActionLeave),
			Proof: &kiosk.ProofView{RecordID: "0123abcd", Kind: kiosk.ReceiptFinal, Standing: kiosk.StandingActive}},
			"", kiosk.Intent{Action: kiosk.ActionLeave}, []string{"0123abcd"}},
		{kiosk.State{Screen: kiosk.ScreenCancelCode, Main: kiosk.ActionGiveCode, Actions: acts(kiosk.ActionGiveCode, kiosk.ActionLeave), PIN: pad(28, 28)},
			someCode, kiosk.Intent{Action: kiosk.ActionGiveCode, Secret: secret.FromString(someCode)}, []string{"28", "> "}},
		{kiosk.State{Screen: kiosk.ScreenConfirmCancel, Main: kiosk.ActionSuspend, Actions: acts(kiosk.ActionSuspend, kiosk.ActionLeave)},
			"v", kiosk.Intent{Action: kiosk.ActionLeave}, []string{"v = "}},
		{kiosk.State{Screen: kiosk.ScreenCancelled, Main: kiosk.ActionLeave, Actions: acts(kiosk.ActionLeave), Ended: &kiosk.EndedView{At: time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)}},
			"", kiosk.Intent{Action: kiosk.ActionLeave}, []string{"10:42"}},
		{kiosk.State{Screen: kiosk.ScreenCustodyNumber, Main: kiosk.ActionNumber, Actions: acts(kiosk.ActionNumber, kiosk.ActionLeave), PIN: pad(8, 8)},
			someNumber, kiosk.Intent{Action: kiosk.ActionNumber, Secret: secret.FromString(someNumber)}, []string{"8", "> "}},
		{kiosk.State{Screen: kiosk.ScreenCustodyPIN, Main: kiosk.ActionPIN, Actions: acts(kiosk.ActionPIN, kiosk.ActionLeave),
			PIN: &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINKeyWrong, Left: 3}},
			somePIN, kiosk.Intent{Action: kiosk.ActionPIN, Secret: secret.FromString(somePIN)}, []string{"3", "PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenCustodyKey, Main: kiosk.ActionMove, Actions: acts(kiosk.ActionMove, kiosk.ActionLeave), Custody: &kiosk.CustodyView{Number: someNumber}},
			"v", kiosk.Intent{Action: kiosk.ActionLeave}, []string{someNumber, "v = "}},
		{kiosk.State{Screen: kiosk.ScreenInsertToken, Position: 6, Positions: 8, Actions: acts(kiosk.ActionNoToken, kiosk.ActionDecline)},
			"t", kiosk.Intent{Action: kiosk.ActionNoToken}, []string{"t = "}},
		{kiosk.State{Screen: kiosk.ScreenNoToken, Position: 6, Positions: 8, Main: kiosk.ActionKeepHere, Actions: acts(kiosk.ActionKeepHere, kiosk.ActionBack, kiosk.ActionDecline)},
			"", kiosk.Intent{Action: kiosk.ActionKeepHere}, nil},
		{kiosk.State{Screen: kiosk.ScreenEndIdentity, Actions: acts(kiosk.ActionWithToken, kiosk.ActionWithReceipt, kiosk.ActionLeave)},
			"u", kiosk.Intent{Action: kiosk.ActionWithReceipt}, []string{"i = ", "u = ", "v = "}},
		{kiosk.State{Screen: kiosk.ScreenConfirmEnd, Main: kiosk.ActionEnd, Actions: acts(kiosk.ActionEnd, kiosk.ActionDecline)},
			"s", kiosk.Intent{Action: kiosk.ActionDecline}, []string{"s = "}},
		{kiosk.State{Screen: kiosk.ScreenIdentityEnded, Main: kiosk.ActionDone, Actions: acts(kiosk.ActionDone), Ended: &kiosk.EndedView{RecordID: "0123abcd", At: time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)}},
			"", kiosk.Intent{Action: kiosk.ActionDone}, []string{"0123abcd", "10:42"}},
		{kiosk.State{Screen: kiosk.ScreenWelcome, Position: 2, Positions: 8, Main: kiosk.ActionContinue, Actions: acts(kiosk.ActionContinue, kiosk.ActionDecline, kiosk.ActionChoose)},
			"", kiosk.Intent{Action: kiosk.ActionContinue}, nil},
		{kiosk.State{Screen: kiosk.ScreenPlaceCard, Position: 3, Positions: 8, Actions: acts(kiosk.ActionDecline, kiosk.ActionChoose), Waiting: kiosk.DeviceDocument,
			Fault: &kiosk.Fault{Code: kiosk.CodeCardMute, Remedy: kiosk.RemedyRetry}},
			"s", kiosk.Intent{Action: kiosk.ActionDecline}, []string{"K-CARD-04"}},
		{kiosk.State{Screen: kiosk.ScreenAccessNumber, Position: 3, Positions: 8, Main: kiosk.ActionEnterCAN,
			Actions: acts(kiosk.ActionEnterCAN, kiosk.ActionEnterMRZ, kiosk.ActionScanMRZ, kiosk.ActionDecline), PIN: pad(6, 6)},
			someCAN, kiosk.Intent{Action: kiosk.ActionEnterCAN, Secret: secret.FromString(someCAN)}, []string{"CAN> "}},
		{kiosk.State{Screen: kiosk.ScreenReading, Position: 3, Positions: 8, Turn: kiosk.TurnMachine,
			Steps: []kiosk.Step{{Name: kiosk.StepOpenCard, Status: kiosk.StepDone}, {Name: kiosk.StepReadCard, Status: kiosk.StepRunning}, {Name: kiosk.StepVerifyCard, Status: kiosk.StepPending}}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenCompare, Position: 4, Positions: 8, Main: kiosk.ActionConfirmPerson, Actions: acts(kiosk.ActionConfirmPerson, kiosk.ActionDoubtPerson),
			Holder: holder, Checks: []kiosk.Check{{Name: kiosk.CheckChip, Verdict: kiosk.NotChecked}}, Lacks: []kiosk.Lack{kiosk.LackChip}},
			"d", kiosk.Intent{Action: kiosk.ActionDoubtPerson}, []string{"ERIKSSON", "ANNA MARIA", "D23145890", "1974-08-12"}},
		{kiosk.State{Screen: kiosk.ScreenSecondOfficer, Position: 4, Positions: 8, Main: kiosk.ActionApprove,
			Actions: acts(kiosk.ActionApprove, kiosk.ActionDoubtPerson, kiosk.ActionStartOver), Waiting: kiosk.DeviceOfficer, PIN: pad(6, 8), Holder: holder,
			Checks: []kiosk.Check{{Name: kiosk.CheckChip, Verdict: kiosk.NotChecked}}, Lacks: []kiosk.Lack{kiosk.LackChip, kiosk.LackIssuer},
			Fault: &kiosk.Fault{Code: kiosk.CodeSamePerson, Remedy: kiosk.RemedyOtherCard}},
			somePIN, kiosk.Intent{Action: kiosk.ActionApprove, Secret: secret.FromString(somePIN)}, []string{"ERIKSSON", "K-OFFICER-06", "PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenGuardian, Position: 4, Positions: 8, Guardian: guarded, Main: kiosk.ActionContinue, Actions: acts(kiosk.ActionContinue, kiosk.ActionOfAge, kiosk.ActionStartOver)},
			"y", kiosk.Intent{Action: kiosk.ActionOfAge}, []string{"14", "18", "o = "}},
		{kiosk.State{Screen: kiosk.ScreenGuardianCard, Position: 4, Positions: 8, Guardian: guarded, Actions: acts(kiosk.ActionDecline), Waiting: kiosk.DeviceDocument, Left: []kiosk.Device{kiosk.DeviceDocument}},
			"s", kiosk.Intent{Action: kiosk.ActionDecline}, nil},
		{kiosk.State{Screen: kiosk.ScreenReading, Position: 4, Positions: 8, Guardian: guarded, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepOpenCard, Status: kiosk.StepDone}}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenGuardianCompare, Position: 4, Positions: 8, Guardian: guarded, Main: kiosk.ActionConfirmPerson, Actions: acts(kiosk.ActionConfirmPerson, kiosk.ActionDoubtPerson),
			Holder: holder, Lacks: []kiosk.Lack{kiosk.LackChip}},
			"d", kiosk.Intent{Action: kiosk.ActionDoubtPerson}, []string{"ERIKSSON"}},
		{kiosk.State{Screen: kiosk.ScreenGuardianProof, Position: 4, Positions: 8, Guardian: guarded,
			Actions: acts(kiosk.ActionBirthPaper, kiosk.ActionFamilyPaper, kiosk.ActionCourtPaper, kiosk.ActionOtherPaper, kiosk.ActionStartOver)},
			"u", kiosk.Intent{Action: kiosk.ActionFamilyPaper}, []string{"i = ", "c = ", "p = ", "o = "}},
		{kiosk.State{Screen: kiosk.ScreenGuardianNote, Position: 4, Positions: 8, Guardian: guarded, Main: kiosk.ActionNote, Actions: acts(kiosk.ActionNote, kiosk.ActionBack),
			PIN: &kiosk.PINView{Min: 1, Max: kiosk.NoteSize, Problem: kiosk.PINNoNote}},
			"Adoption 12/2026", kiosk.Intent{Action: kiosk.ActionNote, Secret: secret.FromString("ADOPTION 12/2026")}, []string{"b = "}},
		{kiosk.State{Screen: kiosk.ScreenConfirmData, Position: 4, Positions: 8, Guardian: guarded, Main: kiosk.ActionGuard, Actions: acts(kiosk.ActionGuard, kiosk.ActionDecline), Holder: holder},
			"", kiosk.Intent{Action: kiosk.ActionGuard}, []string{"ERIKSSON"}},
		{kiosk.State{Screen: kiosk.ScreenCardBack, Position: 6, Positions: 8, Guardian: guarded, Actions: acts(kiosk.ActionDecline), Waiting: kiosk.DeviceDocument},
			"s", kiosk.Intent{Action: kiosk.ActionDecline}, nil},
		{kiosk.State{Screen: kiosk.ScreenConfirmData, Position: 4, Positions: 8, Main: kiosk.ActionConfirmData, Actions: acts(kiosk.ActionConfirmData, kiosk.ActionDecline), Holder: holder},
			"", kiosk.Intent{Action: kiosk.ActionConfirmData}, []string{"ERIKSSON"}},
		{kiosk.State{Screen: kiosk.ScreenConsent, Position: 5, Positions: 8, Main: kiosk.ActionAccept, Actions: acts(kiosk.ActionAccept, kiosk.ActionRefuse, kiosk.ActionDecline),
			Consent: &kiosk.ConsentView{ID: "statistics", Title: "Counting", Text: "May we count you?", Index: 2, Count: 2}},
			"n", kiosk.Intent{Action: kiosk.ActionRefuse, Choice: "statistics"}, []string{"2", "Counting", "May we count you?"}},
		{kiosk.State{Screen: kiosk.ScreenInsertToken, Position: 6, Positions: 8, Actions: acts(kiosk.ActionDecline, kiosk.ActionChoose), Waiting: kiosk.DeviceToken},
			"l", kiosk.Intent{Action: kiosk.ActionChoose}, nil},
		{kiosk.State{Screen: kiosk.ScreenChoosePIN, Position: 6, Positions: 8, Main: kiosk.ActionPIN, Actions: acts(kiosk.ActionPIN, kiosk.ActionDecline),
			PIN: &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINTooEasy}},
			somePIN, kiosk.Intent{Action: kiosk.ActionPIN, Secret: secret.FromString(somePIN)}, []string{"123456", "PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenRepeatPIN, Position: 6, Positions: 8, Main: kiosk.ActionPIN, Actions: acts(kiosk.ActionPIN, kiosk.ActionBack), PIN: pad(6, 8)},
			"b", kiosk.Intent{Action: kiosk.ActionBack}, []string{"PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenMakingKey, Position: 6, Positions: 8, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepMakeKeys, Status: kiosk.StepFailed}}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenReview, Position: 7, Positions: 8, Main: kiosk.ActionSign, Actions: acts(kiosk.ActionSign, kiosk.ActionDecline),
			Review: &kiosk.ReviewView{Sealed: []string{"dg1"}, Open: []string{"did"}, Consents: []kiosk.ConsentView{{Title: "Counting"}}, DID: "did:key:zSpecimen"}},
			"", kiosk.Intent{Action: kiosk.ActionSign}, []string{"Counting", "did:key:zSpecimen"}},
		{kiosk.State{Screen: kiosk.ScreenApprove, Position: 7, Positions: 8, Main: kiosk.ActionApprove, Actions: acts(kiosk.ActionApprove, kiosk.ActionDoubtPerson),
			PIN: &kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINWrong, Left: 1}},
			somePIN, kiosk.Intent{Action: kiosk.ActionApprove, Secret: secret.FromString(somePIN)}, []string{"1", "PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenSecondApprove, Position: 7, Positions: 8, Main: kiosk.ActionApprove,
			Actions: acts(kiosk.ActionApprove, kiosk.ActionDoubtPerson, kiosk.ActionStartOver), Waiting: kiosk.DeviceOfficer, PIN: pad(6, 8)},
			somePIN, kiosk.Intent{Action: kiosk.ActionApprove, Secret: secret.FromString(somePIN)}, []string{"PIN> "}},
		{kiosk.State{Screen: kiosk.ScreenSaving, Position: 7, Positions: 8, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepSave, Status: kiosk.StepDone}}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenReceipt, Position: 8, Positions: 8, Main: kiosk.ActionDone, Actions: acts(kiosk.ActionDone),
			Receipt: &kiosk.ReceiptView{RecordID: "0123abcd", Provisional: "eyJ.specimen", CancelCode: secret.FromString("ABCDE-FGHIJ")}},
			"", kiosk.Intent{Action: kiosk.ActionDone}, []string{"0123abcd", "ABCDE-FGHIJ", "eyJ.specimen"}},
		{kiosk.State{Screen: kiosk.ScreenReceipt, Position: 8, Positions: 8, Main: kiosk.ActionDone, Actions: acts(kiosk.ActionDone, kiosk.ActionPrint),
			Fault: &kiosk.Fault{Code: kiosk.CodeNotPrinted, Remedy: kiosk.RemedyRetry}, Receipt: &kiosk.ReceiptView{RecordID: "0123abcd", Provisional: "eyJ.specimen"}},
			"p", kiosk.Intent{Action: kiosk.ActionPrint}, []string{"K-PRINT-01", "p = "}},
		{kiosk.State{Screen: kiosk.ScreenPrinting, Position: 8, Positions: 8, Turn: kiosk.TurnMachine, Steps: []kiosk.Step{{Name: kiosk.StepPrint, Status: kiosk.StepDone}}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenTakeThings, Position: 8, Positions: 8, Actions: acts(kiosk.ActionChoose), Left: []kiosk.Device{kiosk.DeviceToken}},
			"", kiosk.Intent{}, nil},
		{kiosk.State{Screen: kiosk.ScreenTrouble, Main: kiosk.ActionRetry, Actions: acts(kiosk.ActionRetry, kiosk.ActionStartOver),
			Fault: &kiosk.Fault{Code: kiosk.CodeDiskFull, Remedy: kiosk.RemedyStaff}},
			"o", kiosk.Intent{Action: kiosk.ActionStartOver}, []string{"K-QUEUE-01"}},
	}
}

// Every screen in every language: its words, its prompt, what is typed there,
// and no PIN or access number on the terminal.
func TestEveryScreen(t *testing.T) {
	for _, language := range words.Languages() {
		t.Run(language, func(t *testing.T) {
			w, err := words.Open(language)
			if err != nil {
				t.Fatal(err)
			}
			s := newSetting(t, "/dev/none")
			d := newDesk(t, s)
			seat := sit(t, s)
			seen := map[kiosk.Screen]bool{}
			for _, sc := range scenes() {
				seen[sc.state.Screen] = true
				sc.state.Language = language
				number := d.show(sc.state)
				title, instruction := w.Heading(sc.state)
				seat.sees("== "+title, "\n   "+instruction+"\n")
				body := seat.read
				for _, step := range sc.state.Steps {
					if step.Status != kiosk.StepPending {
						seat.sees(w.Status(step.Status), w.Step(step.Name)+"\n")
					}
				}
				if sc.state.Main != "" && sc.state.Main != kiosk.ActionChoose {
					seat.sees("Enter = " + w.Action(sc.state.Main))
				}
				if len(sc.state.Actions) > 0 {
					seat.sees("> ")
				}
				if f := sc.state.Fault; f != nil && !strings.Contains(seat.transcript()[body:], w.Trouble(*f).Do) {
					t.Errorf("%s: the fault is not explained:\n%s", sc.state.Screen, seat.transcript()[body:])
				}
				if p := sc.state.PIN; p != nil && !strings.Contains(seat.transcript()[body:], w.Problem(*p)) {
					t.Errorf("%s: the problem is not explained", sc.state.Screen)
				}
				for _, left := range sc.state.Left {
					if !strings.Contains(seat.transcript()[body:], w.Take(left)) {
						t.Errorf("%s is not to be taken", left)
					}
				}
				for _, lack := range sc.state.Lacks {
					if !strings.Contains(seat.transcript()[body:], w.Lack(lack)) {
						t.Errorf("%s: it is not said that the card lacks %s", sc.state.Screen, lack)
					}
				}
				if said := strings.Contains(seat.transcript()[body:], w.Label(words.SecondNeeded, nil)); said != (sc.state.Screen == kiosk.ScreenCompare || sc.state.Screen == kiosk.ScreenGuardianCompare) {
					t.Errorf("%s: that a second officer is needed is said: %v", sc.state.Screen, said)
				}
				for _, words := range sc.shows {
					if !strings.Contains(seat.transcript()[body:], words) {
						t.Errorf("%s: no %q in\n%s", sc.state.Screen, words, seat.transcript()[body:])
					}
				}
				hidden := sc.intent.Secret.Len() > 0 && sc.intent.Action != kiosk.ActionNumber && sc.intent.Action != kiosk.ActionNote && sc.intent.Action != kiosk.ActionFind || sc.state.Screen == kiosk.ScreenRepeatPIN // typed at a PIN's prompt
				if len(sc.state.Actions) > 0 && seat.echoes() == hidden {
					t.Errorf("%s: the terminal echoes: %v", sc.state.Screen, !hidden)
				}
				if sc.intent.Action == "" {
					continue
				}
				seat.types(sc.types + "\n")
				in := d.gets(t)
				if sc.intent.Action == kiosk.ActionChoose && sc.state.Screen == kiosk.ScreenInsertToken { // "l": the other language
					sc.intent.Choice = map[string]string{"en": "es", "es": "hi", "hi": "zh", "zh": "en"}[language]
				}
				if in.State != number || in.Action != sc.intent.Action || in.Choice != sc.intent.Choice || !in.Secret.Equal(sc.intent.Secret) {
					t.Errorf("%s: got action %q, choice %q, %d bytes of secret", sc.state.Screen, in.Action, in.Choice, in.Secret.Len())
				}
			}
			for _, screen := range kiosk.Screens() {
				if !seen[screen] {
					t.Errorf("screen %s is not shown by this test", screen)
				}
			}
			for _, secret := range []string{somePIN, someCAN} {
				if strings.Contains(seat.transcript(), secret) {
					t.Errorf("%s was shown", secret)
				}
			}
		})
	}
}

func stateOf(t *testing.T, screen kiosk.Screen) kiosk.State {
	t.Helper()
	all := scenes()
	i := slices.IndexFunc(all, func(s scene) bool { return s.state.Screen == screen })
	return all[i].state
}

// However the program ends at a PIN's prompt, the terminal echoes again, and the
// exit code is the documented one.
func TestEchoComesBack(t *testing.T) {
	for name, end := range map[string]struct {
		how  func(*seat, *desk)
		code int
		says string
	}{
		"Ctrl-C":         {func(s *seat, _ *desk) { s.types("\x03") }, exitInterrupted, ""},
		"Ctrl-\\":        {func(s *seat, _ *desk) { s.types("\x1c") }, exitInterrupted, ""},
		"end of file":    {func(s *seat, _ *desk) { s.types("\x04") }, exitFailed, "the terminal was closed"},
		"SIGTERM":        {func(s *seat, _ *desk) { s.cmd.Process.Signal(syscall.SIGTERM) }, exitInterrupted, ""},
		"SIGHUP":         {func(s *seat, _ *desk) { s.cmd.Process.Signal(syscall.SIGHUP) }, exitInterrupted, ""},
		"the agent ends": {func(_ *seat, d *desk) { d.stop() }, exitUnreachable, "it has ended"},
		"a long line":    {func(s *seat, _ *desk) { s.types(strings.Repeat(strings.Repeat("5", 99)+"\x04", 11)) }, exitFailed, "more than 1024"},
	} {
		s := newSetting(t, "/dev/none")
		d := newDesk(t, s)
		d.show(stateOf(t, kiosk.ScreenChoosePIN))
		// A shell keeps the terminal open behind the program.
		seat := sit(t, s)
		seat.sees("PIN> ")
		if seat.echoes() {
			t.Fatalf("%s: it echoes at the prompt", name)
		}
		keep, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", seat.cmd.Process.Pid), os.O_RDWR|syscall.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		end.how(seat, d)
		seat.cmd.Wait()
		if !seat.echoes() {
			t.Errorf("%s: the terminal stays mute", name)
		}
		if code := seat.cmd.ProcessState.ExitCode(); code != end.code {
			t.Errorf("%s: exit code %d, want %d\n%s", name, code, end.code, seat.transcript())
		}
		seat.sees(end.says) // before the last one lets go of the terminal, which may cost what stands in it
		keep.Close()
		<-seat.done
	}
}

// Ctrl-Z and fg: the prompt for a PIN stays hidden, whatever the shell did.
func TestStoppedAndContinued(t *testing.T) {
	s := newSetting(t, "/dev/none")
	d := newDesk(t, s)
	d.show(stateOf(t, kiosk.ScreenChoosePIN))
	seat := sit(t, s)
	seat.sees("PIN> ")
	mode, err := unix.IoctlGetTermios(int(seat.tty.Fd()), getTerminal)
	if err != nil {
		t.Fatal(err)
	}
	mode.Lflag |= unix.ECHO // as a shell does
	if err := unix.IoctlSetTermios(int(seat.tty.Fd()), setTerminal, mode); err != nil {
		t.Fatal(err)
	}
	seat.cmd.Process.Signal(syscall.SIGCONT)
	for range 1000 {
		if !seat.echoes() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("it echoes after it was continued")
}

func TestMachineReadableZoneInsteadOfNumber(t *testing.T) {
	s := newSetting(t, "/dev/none")
	d := newDesk(t, s)
	w, err := words.Open("en")
	if err != nil {
		t.Fatal(err)
	}
	d.show(stateOf(t, kiosk.ScreenAccessNumber))
	seat := sit(t, s)
	seat.sees("CAN> ")
	label := func(l words.Label) string { return w.Label(l, nil) + "> " }
	seat.types("m\n")
	seat.sees(label(words.MRZNumber))
	seat.types("\n") // changed one's mind
	seat.sees("CAN> ")
	seat.types("m\n")
	for _, f := range []struct {
		label words.Label
		text  string
	}{{words.MRZNumber, "d23145890"}, {words.MRZBirth, "740812"}, {words.MRZExpiry, " 340415 "}} {
		seat.sees(label(f.label))
		seat.types(f.text + "\n")
	}
	in := d.gets(t)
	if in.Action != kiosk.ActionEnterMRZ || in.MRZ == nil || string(in.MRZ.Number.Reveal()) != "D23145890" ||
		string(in.MRZ.Birth.Reveal()) != "740812" || string(in.MRZ.Expiry.Reveal()) != "340415" {
		t.Errorf("got %q, %v", in.Action, in.MRZ)
	}
}

// A scanner, or a paste, at either of the prompts: the zone is sent as it came,
// and nothing of it is on the terminal.
func TestScannedZone(t *testing.T) {
	// The specimens of ICAO Doc 9303-5 and 9303-4, Appendix B.
	const (
		td1 = "I<UTOD231458907<<<<<<<<<<<<<<<\n7408122F1204159UTO<<<<<<<<<<<6\nERIKSSON<<ANNA<MARIA<<<<<<<<<<\n"
		td3 = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<\nL898902C36UTO7408122F1204159ZE184226B<<<<<10\n"
	)
	w, err := words.Open("en")
	if err != nil {
		t.Fatal(err)
	}
	s := newSetting(t, "/dev/none")
	d := newDesk(t, s)
	seat := sit(t, s)
	for _, zone := range []string{td1, td3, strings.ReplaceAll(td1[:90], "\n", "") + "<<<\n", strings.ToLower(td3), "I<UTOD231458907\n7408122F1204159UTO<<<<<<<<<<<6\nERIKSSON<<ANNA<MARIA\n"} {
		number := d.show(stateOf(t, kiosk.ScreenAccessNumber))
		seat.sees(w.Label(words.ScanHint, nil), "CAN> ")
		seat.types(zone)
		if in := d.gets(t); in.State != number || in.Action != kiosk.ActionScanMRZ || string(in.Secret.Reveal()) != zone {
			t.Errorf("sent %s, %d characters", in.Action, in.Secret.Len())
		}
	}
	d.show(stateOf(t, kiosk.ScreenAccessNumber))
	seat.sees("CAN> ")
	for _, unclear := range []string{td1[:31], "ABCDEF123456\n", strings.Repeat("<", 300) + "\n", td1[:31] + strings.Repeat("<", 300) + "\n"} {
		seat.types(unclear)
		seat.sees(w.Label(words.ScanUnclear, nil), "CAN> ")
	}
	if text := seat.transcript(); strings.Contains(text, "ERIKSSON") || strings.Contains(text, "<") {
		t.Error("the zone was shown")
	}
	seat.types("m\n")
	seat.sees(w.Label(words.MRZNumber, nil) + "> ")
	seat.types(td3)
	if in := d.gets(t); in.Action != kiosk.ActionScanMRZ || string(in.Secret.Reveal()) != td3 {
		t.Errorf("among the fields: sent %s", in.Action)
	}
	d.show(stateOf(t, kiosk.ScreenAccessNumber))
	seat.sees("CAN> ")
	seat.types(someCAN + "\n")
	if in := d.gets(t); in.Action != kiosk.ActionEnterCAN || string(in.Secret.Reveal()) != someCAN {
		t.Errorf("a number: sent %s", in.Action)
	}
}

// What comes while a prompt stands is printed before it once more, and an empty
// line at a PIN's prompt is no PIN.
func TestPromptStaysInSight(t *testing.T) {
	s := newSetting(t, "/dev/none")
	d := newDesk(t, s)
	state := stateOf(t, kiosk.ScreenSignOn)
	state.Number = d.show(state)
	seat := sit(t, s)
	seat.sees("PIN> ")
	state.Fault = &kiosk.Fault{Code: kiosk.CodeReaderMissing, Remedy: kiosk.RemedyStaff}
	d.show(state)
	seat.sees("[K-CARD-02]", "\nPIN> ")
	d.show(state) // the same once more says nothing
	seat.types("\n")
	seat.sees("PIN> ")
	seat.types(somePIN + "\n")
	if in := d.gets(t); in.State != state.Number || string(in.Secret.Reveal()) != somePIN {
		t.Error("not the PIN")
	}
	if n := strings.Count(seat.transcript(), "[K-CARD-02]"); n != 1 {
		t.Errorf("the hint stands there %d times", n)
	}
}

// What the public log has shown amiss stands on the home screen, for as long as it
// does, also when it comes while the prompt waits.
func TestLogAlarm(t *testing.T) {
	for _, language := range words.Languages() {
		t.Run(language, func(t *testing.T) {
			w, err := words.Open(language)
			if err != nil {
				t.Fatal(err)
			}
			s := newSetting(t, "/dev/none")
			d := newDesk(t, s)
			seat := sit(t, s)
			alarm := "[K-LOG-01] " + w.Trouble(kiosk.Fault{Code: kiosk.CodeSplitView}).Staff + "\n"
			home := kiosk.State{Language: language, Screen: kiosk.ScreenHome, Main: kiosk.ActionStart, Actions: []kiosk.Action{kiosk.ActionStart}, Health: kiosk.Health{Registry: true}}
			number := d.show(home)
			seat.sees("> ")
			if strings.Contains(seat.transcript(), string(kiosk.CodeSplitView)) {
				t.Error("an alarm about nothing")
			}
			home.Number, home.Health.LogFault = number, kiosk.CodeSplitView
			d.show(home)
			seat.sees(alarm)
			home.Number = 0 // the next time
			d.show(home)
			seat.sees("== "+w.Title(home.Screen), alarm, "> ")
		})
	}
}

func TestOnce(t *testing.T) {
	for name, end := range map[string]struct {
		screens []kiosk.Screen
		code    int
	}{
		"with a receipt": {[]kiosk.Screen{kiosk.ScreenHome, kiosk.ScreenReceipt, kiosk.ScreenTakeThings}, exitDone},
		"without one":    {[]kiosk.Screen{kiosk.ScreenHome, kiosk.ScreenWelcome}, exitFailed},
	} {
		s := newSetting(t, "/dev/none")
		d := newDesk(t, s)
		w, err := words.Open("en")
		if err != nil {
			t.Fatal(err)
		}
		d.show(stateOf(t, end.screens[0]))
		seat := sit(t, s, "--once")
		for i, screen := range end.screens {
			if i > 0 {
				d.show(stateOf(t, screen))
			}
			seat.sees("== " + w.Title(screen))
		}
		d.show(stateOf(t, kiosk.ScreenHome))
		if code := seat.leaves(); code != end.code {
			t.Errorf("%s: exit code %d\n%s", name, code, seat.transcript())
		}
	}
	s := newSetting(t, "/dev/none")
	newDesk(t, s)
	wants(t, exitUsage, "no such language", s.config, "enroll", "--language", "tlh")
}

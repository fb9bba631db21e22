package stage_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/station"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/registry/receipt"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/cups"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// officer is one at the desk between two citizens, who answers each question once.
type officer struct {
	t      *testing.T
	desk   kiosk.Desk
	states <-chan kiosk.State
	now    kiosk.State
}

func sitDown(t *testing.T, s *stage.Stage) *officer {
	t.Helper()
	states, err := s.Kiosk.Desk().States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &officer{t: t, desk: s.Kiosk.Desk(), states: states}
}

// until waits for a state that is as wanted.
func (o *officer) until(what string, wanted func(kiosk.State) bool) kiosk.State {
	o.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case s, ok := <-o.states:
			if !ok {
				o.t.Fatalf("the agent has ended before %s", what)
			}
			if o.now = s; wanted(s) {
				return s
			}
		case <-late:
			o.t.Fatalf("no %s; the desk shows %+v", what, o.now)
		}
	}
}

// does answers a screen and returns what the next question is. An intent that the
// agent was not ready for is sent again; it drops what it has answered before.
func (o *officer) does(screen kiosk.Screen, in kiosk.Intent) kiosk.State {
	o.t.Helper()
	if o.now.Screen != screen || !slices.Contains(o.now.Actions, in.Action) {
		o.until(string(screen), func(s kiosk.State) bool { return s.Screen == screen && slices.Contains(s.Actions, in.Action) })
	}
	in.State = o.now.Number
	text := string(in.Secret.Reveal())
	send := func() {
		in.Secret = secret.FromString(text)
		if err := o.desk.Send(o.t.Context(), in); err != nil {
			o.t.Fatal(err)
		}
	}
	send()
	again := time.NewTicker(3 * time.Second)
	defer again.Stop()
	late := time.After(time.Minute)
	for {
		select {
		case s, ok := <-o.states:
			if !ok {
				o.t.Fatal("the agent has ended")
			}
			// Waiting screens are no question.
			if o.now = s; s.Number > in.State && len(s.Actions) > 0 {
				return s
			}
		case <-again.C:
			send()
		case <-late:
			o.t.Fatalf("%s on %s leads nowhere; the desk shows %+v", in.Action, screen, o.now)
		}
	}
}

func (o *officer) act(screen kiosk.Screen, a kiosk.Action) kiosk.State {
	o.t.Helper()
	return o.does(screen, kiosk.Intent{Action: a})
}

func (o *officer) says(screen kiosk.Screen, a kiosk.Action, text string) kiosk.State {
	o.t.Helper()
	return o.does(screen, kiosk.Intent{Action: a, Secret: secret.FromString(text)})
}

// oneDay waits for a day to begin that is about to: what is counted by days is
// counted on one.
func oneDay(t *testing.T) {
	t.Helper()
	now := time.Now()
	if left := kiosk.Midnight(now).AddDate(0, 0, 1).Sub(now); left < 4*time.Minute {
		time.Sleep(left + time.Second)
	}
}

// reads is the code on a page of paper, as a camera sees it.
func reads(t *testing.T, pdf string) string {
	t.Helper()
	picture := filepath.Join(t.TempDir(), "page")
	if out, err := exec.Command("pdftoppm", "-r", "300", "-png", "-singlefile", pdf, picture).CombinedOutput(); err != nil {
		t.Fatalf("pdftoppm (package poppler-utils): %v\n%s", err, out)
	}
	out, err := exec.Command("zbarimg", "--nodbus", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", picture+".png").Output()
	if err != nil {
		t.Fatalf("zbarimg (package zbar-tools): %v", err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// nameless checks that a page says what it should and nothing of the citizens. Of their
// names only what is no hexadecimal number is looked for: records have those.
func nameless(t *testing.T, pdf string, who []idcard.Person, codes []string, want ...string) {
	t.Helper()
	out, err := exec.Command("pdftotext", "-raw", pdf, "-").Output()
	if err != nil {
		t.Fatalf("pdftotext (package poppler-utils): %v", err)
	}
	text := strings.ReplaceAll(string(out), "\n", " ")
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in %q", w, text)
		}
	}
	for _, p := range who {
		for _, no := range append([]string{p.Surname, strings.Fields(p.GivenNames)[0], p.Number, p.CAN}, codes...) {
			if strings.Contains(strings.ToUpper(text), strings.ToUpper(no)) {
				t.Errorf("%q on paper", no)
			}
		}
	}
}

// A citizen comes back without the page: the receipt is found by the code of the
// registry's receipt, by that of the provisional one, and by how the number begins; a
// copy is printed, and the code on it is a receipt that verifies. It has no
// cancel code and no name. While the registry is away the copy is provisional, and
// verifies too.
func TestReceiptIsReprinted(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	printers, err := cups.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(printers.Close)
	uri, page, err := printers.Queue(t.Context(), "desk")
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, func(o *stage.Options) { o.Printer = uri })
	start(t, s)
	first := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	r := first.meet()
	final(t, s, r)
	w, err := words.Open("es")
	if err != nil {
		t.Fatal(err)
	}

	o := sitDown(t, s)
	o.until("printer", func(st kiosk.State) bool {
		return st.Screen == kiosk.ScreenHome && st.Health.Printer == kiosk.PrinterReady
	})
	if st := o.act(kiosk.ScreenHome, kiosk.ActionReceipts); len(st.Records) != 1 || st.Records[0].ID != r.RecordID {
		t.Fatalf("the list: %+v", st.Records)
	}
	for _, scanned := range []string{r.Final, r.Provisional, strings.Fields(r.Number())[0]} {
		if st := o.says(kiosk.ScreenReceipts, kiosk.ActionFind, scanned); st.Screen != kiosk.ScreenRecord || st.Record.ID != r.RecordID || !st.Record.Final {
			t.Fatalf("%.20q: %+v", scanned, st)
		}
		o.act(kiosk.ScreenRecord, kiosk.ActionBack)
	}
	o.says(kiosk.ScreenReceipts, kiosk.ActionFind, r.QR)
	if st := o.does(kiosk.ScreenRecord, kiosk.Intent{Action: kiosk.ActionPrint, Choice: "es"}); !st.Record.Printed || st.Fault != nil {
		t.Fatalf("not printed: %+v", st)
	}
	code := reads(t, page)
	logged(t, s, []byte(code))
	if code != r.Final {
		t.Errorf("on paper: %q", code)
	}
	cancel := string(r.CancelCode.Reveal())
	nameless(t, page, []idcard.Person{first.who}, []string{cancel}, w.Label(words.PaperCopy, nil), stage.KioskID)
	o.act(kiosk.ScreenRecord, kiosk.ActionBack)
	o.act(kiosk.ScreenReceipts, kiosk.ActionBack)

	if err := s.StopRegistry(); err != nil {
		t.Fatal(err)
	}
	second := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	r2 := second.meet()
	if r2.Final != "" {
		t.Fatal("a final receipt without a registry")
	}
	o = sitDown(t, s)
	o.act(kiosk.ScreenHome, kiosk.ActionReceipts)
	if st := o.says(kiosk.ScreenReceipts, kiosk.ActionFind, r2.QR); st.Screen != kiosk.ScreenRecord || st.Record.ID != r2.RecordID || st.Record.Standing != kiosk.StandingWaiting {
		t.Fatalf("a record that waits: %+v", st)
	}
	if st := o.act(kiosk.ScreenRecord, kiosk.ActionPrint); !st.Record.Printed {
		t.Fatalf("not printed: %+v", st)
	}
	ders, err := station.RecordCertificate(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	kioskCertificate, err := x509.ParseCertificate(ders[0])
	if err != nil {
		t.Fatal(err)
	}
	own := kioskCertificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	v, err := receipt.VerifyProvisional([]byte(reads(t, page)), func(pub crypto.PublicKey) bool { return own.Equal(pub) })
	if err != nil {
		t.Fatal(err)
	}
	if c := v.Claims(); hex.EncodeToString(c.Record[:]) != r2.RecordID || c.Kiosk != stage.KioskID || c.Audience != stage.Origin {
		t.Errorf("the copy says %+v", c)
	}
	nameless(t, page, []idcard.Person{first.who, second.who}, []string{cancel, string(r2.CancelCode.Reveal())})
	o.act(kiosk.ScreenRecord, kiosk.ActionBack)
	// A genuine receipt of this registry that another kiosk gave is nobody's here.
	foreign := strings.Replace(r.RecordID, r.RecordID[:8], "00000000", 1)
	if st := o.says(kiosk.ScreenReceipts, kiosk.ActionFind, foreign); st.Screen != kiosk.ScreenReceipts || st.PIN.Problem != kiosk.PINNoRecord {
		t.Errorf("a record that is not of this kiosk: %+v", st)
	}
}

// An officer locks the desk and unlocks it, another one takes it over, and the day's
// summary knows what each has done, also after the agent was started anew. It is
// written where there is no printer, in the language of who reads it, and has no name.
func TestShiftsAndTheDay(t *testing.T) {
	t.Parallel()
	oneDay(t)
	drive := tempDir(t)
	s := newStage(t, func(o *stage.Options) {
		o.Folder, o.Policy = drive, "\n[[documents]]\nkind = \"emrtd\"\nmay_lack = [\"no-chip-proof\"]\n"
	})
	start(t, s)
	p := arrive(t, s, idcard.Options{Faults: []idcard.Fault{idcard.NoChipKeys}}, pivtoken.Options{}) // a second officer agrees
	r := p.meet()
	final(t, s, r)
	away := func() { // the second officer's card lies there, swapped sooner than a hand can
		t.Helper()
		s.Take(kiosk.DeviceOfficer)
		seen(t, s, func(h kiosk.Health) bool { return h.Readers[kiosk.DeviceOfficer] == kiosk.ReaderEmpty })
	}
	away()
	declines := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	declines.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen != kiosk.ScreenWelcome {
			return false, nil
		}
		declines.over = true
		return true, declines.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionDecline})
	}
	declines.leaveQuietly()

	o := sitDown(t, s)
	home := o.until("today's count", func(st kiosk.State) bool {
		return st.Screen == kiosk.ScreenHome && st.Health.Today.Enrolled == 1 && st.Health.Today.Delivered == 1
	})
	locked := o.act(kiosk.ScreenHome, kiosk.ActionLock)
	if locked.Screen != kiosk.ScreenLocked || locked.Health.Today != (kiosk.Today{}) || len(locked.Actions) != 2 {
		t.Fatalf("locked: %+v", locked)
	}
	if st := o.says(kiosk.ScreenLocked, kiosk.ActionSignOn, "111111"); st.Screen != kiosk.ScreenLocked || st.PIN.Problem != kiosk.PINWrong {
		t.Fatalf("a wrong PIN: %+v", st)
	}
	if st := o.says(kiosk.ScreenLocked, kiosk.ActionSignOn, stage.OfficerPIN); st.Screen != kiosk.ScreenHome || st.Officer != home.Officer {
		t.Fatalf("unlocked: %+v", st)
	}
	o.act(kiosk.ScreenHome, kiosk.ActionLock)
	away()
	s.Officer(1)
	seen(t, s, func(h kiosk.Health) bool { return h.Readers[kiosk.DeviceOfficer] == kiosk.ReaderCard })
	o = sitDown(t, s)
	taken := o.says(kiosk.ScreenLocked, kiosk.ActionSignOn, stage.OfficerPIN)
	if taken.Screen != kiosk.ScreenHome || taken.Officer == home.Officer || taken.Officer == "" {
		t.Fatalf("taken over: %+v", taken)
	}
	check := func(v *kiosk.DayView, own int) {
		t.Helper()
		if v == nil || v.All.Enrolled != 1 || v.Own.Enrolled != own || v.All.Second != 1 || v.Own.Second != own || v.All.Ended[kiosk.EndDeclined] != 1 || v.Own.Ended[kiosk.EndDeclined] != own ||
			v.Delivered != 1 || v.Waiting != 0 || v.SetAside != 0 {
			t.Fatalf("the day: %+v", v)
		}
	}
	check(o.act(kiosk.ScreenHome, kiosk.ActionDay).Day, 0)

	if err := s.StopKiosk(); err != nil {
		t.Fatal(err)
	}
	s.Take(kiosk.DeviceOfficer)
	if err := s.StartKiosk(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen(t, s, func(h kiosk.Health) bool { return h.Readers[kiosk.DeviceOfficer] == kiosk.ReaderEmpty })
	s.Officer(0)
	seen(t, s, func(h kiosk.Health) bool { return h.Readers[kiosk.DeviceOfficer] == kiosk.ReaderCard })
	o = sitDown(t, s)
	if st := o.says(kiosk.ScreenSignOn, kiosk.ActionSignOn, stage.OfficerPIN); st.Officer != home.Officer {
		t.Fatalf("signed on: %+v", st)
	}
	check(o.act(kiosk.ScreenHome, kiosk.ActionDay).Day, 1)
	st := o.does(kiosk.ScreenDay, kiosk.Intent{Action: kiosk.ActionWrite, Choice: "es"})
	if st.Fault != nil || st.Day.File == "" {
		t.Fatalf("not written: %+v", st)
	}
	w, err := words.Open("es")
	if err != nil {
		t.Fatal(err)
	}
	nameless(t, filepath.Join(drive, st.Day.File), []idcard.Person{p.who, declines.who}, []string{string(r.CancelCode.Reveal()), r.RecordID[:8]},
		w.Title(kiosk.ScreenDay), w.Label(words.DayEnrolled, nil), w.Label(words.DaySecond, nil), w.Ending(kiosk.EndDeclined), w.Label(words.ToDoNothing, nil), stage.KioskID, home.Officer)
	if err := os.RemoveAll(drive); err != nil {
		t.Fatal(err)
	}
	if st = o.act(kiosk.ScreenDay, kiosk.ActionWrite); st.Fault == nil || st.Fault.Code != kiosk.CodeNotWritten {
		t.Errorf("the drive is pulled: %+v", st)
	}
}

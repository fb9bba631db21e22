package stage_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/cups"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pivtoken"
)

// The receipt is printed, once more when the first page was crumpled, and on a
// printer that takes no jobs the citizen is told and has the screen. What stands on
// paper is the receipt in the citizen's language, with the cancel code and no name.
func TestReceiptOnPaper(t *testing.T) {
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
	p := arrive(t, s, idcard.Options{}, pivtoken.Options{})
	p.Language = "es"
	printed := 0
	p.odd = func(ctx context.Context, st kiosk.State) (bool, error) {
		if st.Screen != kiosk.ScreenReceipt || st.Fault != nil {
			return false, nil
		}
		if st.Receipt.Printed != (printed > 0) {
			t.Errorf("after %d pages the screen says that one is printed: %v", printed, st.Receipt.Printed)
		}
		if printed++; printed == 3 {
			if err := printers.Refuse(t.Context(), "desk"); err != nil {
				t.Error(err)
			}
		}
		return true, p.Desk.Send(ctx, kiosk.Intent{State: st.Number, Action: kiosk.ActionPrint})
	}
	p.mend = func(int, told) kiosk.Action { return kiosk.ActionDone }
	r := p.meet(told{screen: kiosk.ScreenReceipt, code: kiosk.CodeNotPrinted})
	final(t, s, r)
	if printed != 3 {
		t.Errorf("printed %d times", printed)
	}
	text, err := exec.Command("pdftotext", "-raw", page, "-").Output()
	if err != nil {
		t.Fatalf("pdftotext (package poppler-utils): %v", err)
	}
	w, err := words.Open("es")
	if err != nil {
		t.Fatal(err)
	}
	// Two letters that overlap (JJ) are in two lines for this reader.
	solid := func(s string) string { return strings.Join(strings.Fields(s), "") }
	for _, want := range []string{w.Label(words.Training, nil), w.Title(kiosk.ScreenReceipt), stage.KioskID, string(r.CancelCode.Reveal()), strings.Fields(r.Number())[7]} {
		if !strings.Contains(solid(string(text)), solid(want)) {
			t.Errorf("no %q on paper:\n%s", want, text)
		}
	}
	for _, no := range []string{p.who.Surname, strings.Fields(p.who.GivenNames)[0], p.who.Number, p.who.CAN} {
		if strings.Contains(strings.ToUpper(string(text)), strings.ToUpper(no)) {
			t.Errorf("%q on paper", no)
		}
	}
	if jobs, err := printers.Waiting(t.Context()); err != nil || jobs != "" {
		t.Errorf("jobs wait: %q, %v", jobs, err)
	}
}

package ui

import (
	"slices"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
)

// sample draws the sample of a name.
func (b *bench) sample(language, name string) kiosk.State {
	b.t.Helper()
	all := samples.All(language)
	i := slices.IndexFunc(all, func(s samples.Sample) bool { return s.Name == name })
	if i < 0 {
		b.t.Fatalf("no sample %q", name)
	}
	b.draw(kiosk.State{Screen: kiosk.ScreenWelcome, Language: language})
	b.draw(all[i].State)
	return all[i].State
}

// A scanner types the code of a receipt, of one line or of many with empty ones
// between, while the boxes have the focus or a button: all of it is looked for as it
// was typed, nothing of it is drawn, and none of its Enters presses anything.
func TestScannedReceipt(t *testing.T) {
	final := "c2sp.org/tlog-proof@v1\nextra " + strings.Repeat("QUFB", 21) + "\nindex 5\n" + strings.Repeat(strings.Repeat("0123456789ab", 3)+"+/=\n", 20) + "\nregistry.example/log\n6\nAAAA\n\n? registry.example/log AAAA\n"
	for name, text := range map[string]string{"provisional": strings.Repeat("eyJhbGciOiJFUzI1NiJ9.", 30) + "\n", "final": final} {
		for _, onButton := range []bool{false, true} {
			b := newBench(t, least)
			s := b.sample("en", "receipts-2-no-record")
			if onButton {
				b.w.Canvas().Focus(b.button(b.book("en").Action(kiosk.ActionBack)))
			}
			for line := range strings.Lines(text) {
				b.keys(strings.TrimSuffix(line, "\n"))
				b.press(fyne.KeyReturn)
			}
			b.desk.none(t)
			if b.boxes() != "" {
				t.Errorf("%s: the boxes show %q", name, b.boxes())
			}
			b.now = b.now.Add(scanQuiet + time.Millisecond)
			b.show(nil)
			in := b.desk.take(t)
			if in.Action != kiosk.ActionFind || in.State != s.Number || string(in.Secret.Reveal()) != text {
				t.Errorf("%s: sent %s, %q", name, in.Action, in.Secret.Reveal())
			}
			if b.local.scan.b != [scanRoom]byte{} || b.local.scan.n != 0 {
				t.Errorf("%s: kept", name)
			}
		}
	}
	b := newBench(t, least)
	b.sample("en", "receipts-1-none")
	b.keys("9f3c21d0-short")
	b.now = b.now.Add(scanQuiet + time.Millisecond)
	b.show(nil)
	b.desk.none(t)
	if !b.reads(b.book("en").Label(words.ScanUnclear, nil)) {
		t.Error("it is not said that the scan was not whole")
	}
	b.keys(strings.Repeat("eyJ.", 2000))
	b.now = b.now.Add(scanQuiet + time.Millisecond)
	b.show(nil)
	b.desk.none(t)
}

// The beginning of a number is typed in either case and sent when it is long
// enough; what is no digit of one is not taken.
func TestTypedRecordNumber(t *testing.T) {
	b := newBench(t, least)
	b.sample("en", "receipts-1-none")
	b.typeText("9F3xyz<c")
	if b.boxes() != "9f3c" {
		t.Errorf("the boxes show %q", b.boxes())
	}
	b.press(fyne.KeyReturn)
	b.desk.none(t)
	if short := b.book("en").Problem(kiosk.PINView{Min: 8, Max: 64, Problem: kiosk.PINTooShort}); !b.reads(short) {
		t.Error("it is not said that it is too short")
	}
	b.typeText("21d0")
	b.press(fyne.KeyReturn)
	if in := b.desk.take(t); in.Action != kiosk.ActionFind || string(in.Secret.Reveal()) != "9f3c21d0" {
		t.Errorf("sent %s, %q", in.Action, in.Secret.Reveal())
	}
}

// Every record of a list can be reached by turning pages and is opened with a tap,
// in every language; how it stands, or why it was not accepted, is said in words.
func TestListsOpenRecords(t *testing.T) {
	for _, l := range words.Languages() {
		for name, what := range map[string]func(*words.Catalog, kiosk.RecordView) string{
			"receipts-2-no-record": func(w *words.Catalog, r kiosk.RecordView) string { return w.Standing(r.Standing) },
			"set-aside-2-some":     func(w *words.Catalog, r kiosk.RecordView) string { return w.Rejection(kiosk.RejectionOf(r.Code)) },
		} {
			b := newBench(t, least)
			s := b.sample(l, name)
			w := b.book(l)
			seen := 0
			for {
				for _, x := range b.buttons() {
					if x.icon != "" && x.kind == keyButton {
						r := s.Records[seen]
						if !strings.HasPrefix(x.text, r.ID[:8]) || !strings.HasSuffix(x.text, what(w, r)) || x.icon != standingSign(r.Standing) {
							t.Errorf("%s %s: record %d is %q", l, name, seen, x.text)
						}
						seen++
					}
				}
				more := b.button(w.Label(words.PageOn, nil))
				if more == nil {
					break
				}
				b.now = b.now.Add(time.Second)
				test.Tap(more)
				b.fits()
			}
			b.desk.none(t)
			if seen != len(s.Records) {
				t.Errorf("%s %s: %d of %d records", l, name, seen, len(s.Records))
			}
		}
	}
}

// The page of a record says how it stands and, where it was not accepted, why and
// what to do, whatever the code; another sign goes with each word.
func TestRecordSaysWhatToDo(t *testing.T) {
	for _, l := range words.Languages() {
		b := newBench(t, least)
		s := b.sample(l, "record-set-aside")
		w := b.book(l)
		for _, code := range []string{"registry-fork", "registry-holder", "vault-review", "record-form", "queue-damaged", "code-of-tomorrow"} {
			r := *s.Record
			r.Code = code
			s.Number++
			s.Record = &r
			b.draw(s)
			b.fits()
			why := kiosk.RejectionOf(code)
			for _, want := range []string{w.Standing(kiosk.StandingSetAside), w.Means(kiosk.StandingSetAside), w.Rejection(why) + " " + code, w.Advice(why.Advice())} {
				if !b.reads(want) {
					t.Errorf("%s %s: %q is not on the page", l, code, want)
				}
			}
		}
	}
}

// Nothing of the day stands on a locked desk, and nothing but language, looks and the
// officer's PIN can be pressed.
func TestLockedPage(t *testing.T) {
	for _, l := range words.Languages() {
		b := newBench(t, least)
		for _, name := range []string{"locked-1-card", "locked-2-pin"} {
			s := b.sample(l, name)
			w := b.book(l)
			for _, x := range b.buttons() {
				ok := x.kind == keyButton || x.text == w.Name() || x.text == w.Label(words.Access, nil) || x.text == w.Action(kiosk.ActionSignOn)
				if !ok {
					t.Errorf("%s %s: %q can be pressed", l, name, x.text)
				}
			}
			for _, label := range []words.Label{words.TodayTitle, words.DayEnrolled, words.NothingWaiting} {
				if b.reads(w.Label(label, nil)) {
					t.Errorf("%s %s: %q is shown", l, name, w.Label(label, nil))
				}
			}
			if !b.reads(w.Title(s.Screen)) {
				t.Errorf("%s %s: it is not said that the desk is locked", l, name)
			}
		}
	}
}

// Home says how everything does with a sign and a word, and today's figures.
func TestHomeSaysHowTheMachineDoes(t *testing.T) {
	for _, l := range words.Languages() {
		b := newBench(t, large)
		w := b.book(l)
		b.sample(l, "home-1-ready")
		ready := b.texts()
		s := b.sample(l, "home-2-offline")
		for _, want := range []string{w.Device(kiosk.DeviceClock), w.Label(words.ClockWrong, nil), w.Device(kiosk.DeviceDisk), w.Label(words.DiskFull, nil),
			w.Device(kiosk.DevicePrinter), w.Label(words.NotWorking, nil), w.Label(words.NotReached, nil), "41", "37", w.Label(words.DayRefused, nil)} {
			if !b.reads(want) {
				t.Errorf("%s %s: no %q", l, s.Screen, want)
			}
			if slices.Contains([]string{w.Label(words.ClockWrong, nil), w.Label(words.DiskFull, nil), "41"}, want) && slices.Contains(ready, want) {
				t.Errorf("%s: %q on a machine that is in order", l, want)
			}
		}
	}
}

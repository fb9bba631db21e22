package ui

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
)

// The specimens of ICAO Doc 9303-5 Appendix B, 9303-6 Appendix B and 9303-4 Appendix B.
const (
	td1a = "I<UTOD231458907<<<<<<<<<<<<<<<"
	td1b = "7408122F1204159UTO<<<<<<<<<<<6"
	td1c = "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"
	td2a = "I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<"
	td2b = "D231458907UTO7408122F1204159<<<<<<<6"
	td3a = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<"
	td3b = "L898902C36UTO7408122F1204159ZE184226B<<<<<10"
)

// scans types lines as a scanner does, with Enter after each.
func (b *bench) scans(lines ...string) {
	b.t.Helper()
	for _, l := range lines {
		b.keys(l)
		b.press(fyne.KeyReturn)
	}
}

// access draws the page for the number, or for the printed lines.
func (b *bench) access(lines bool) {
	for _, s := range samples.All("en") {
		if s.Name == either(lines, "access-number-2-lines", "access-number-1-number") {
			b.draw(kiosk.State{Screen: kiosk.ScreenHome, Language: "en"})
			b.draw(s.State)
		}
	}
}

// boxes reads what stands in the boxes.
func (b *bench) boxes() string {
	var all strings.Builder
	for _, l := range leaves(b.page.root) {
		if t, ok := l.o.(*canvas.Text); ok {
			if _, ok := l.in.(*cells); ok {
				all.WriteString(t.Text)
			}
		}
	}
	return all.String()
}

// A scanner sends the zone of any size, whole lines or one long one, in lower
// case and with other filler too. Nothing of the person stands on the screen or
// stays in memory.
func TestScanner(t *testing.T) {
	other := func(filler string, lines ...string) (out []string) {
		for _, l := range lines {
			out = append(out, strings.ReplaceAll(l, "<", filler))
		}
		return out
	}
	b := newBench(t, least)
	onLines := false
	for name, lines := range map[string][]string{
		"TD1": {td1a, td1b, td1c}, "TD1 at once": {td1a + td1b + td1c}, "TD2": {td2a, td2b}, "TD3": {td3a, td3b},
		"a space between": {td3a + " " + td3b}, "lower case": {strings.ToLower(td3a), strings.ToLower(td3b)},
		"underscores": other("_", td1a, td1b, td1c), "spaces for filler": other(" ", td2a, td2b),
	} {
		onLines = !onLines // on either page
		b.access(onLines)
		b.scansWatched(lines)
		in := b.desk.take(t)
		if want := strings.Join(lines, "\n") + "\n"; in.Action != kiosk.ActionScanMRZ || in.State != b.shown.state.Number || string(in.Secret.Reveal()) != want {
			t.Errorf("%s: sent %s, %d characters", name, in.Action, in.Secret.Len())
		}
		b.press(fyne.KeyReturn) // the line feed behind the carriage return
		b.desk.none(t)
		if b.local.scan.b != [scanRoom]byte{} || b.local.typed.n != 0 || b.local.mrz[0].n != 0 || b.reads(b.book("en").Label(words.ScanUnclear, nil)) {
			t.Errorf("%s: not at rest after the scan", name)
		}
	}
}

// scansWatched types lines at a scanner's pace and sees that no more than the
// issuing state is ever drawn.
func (b *bench) scansWatched(lines []string) {
	b.t.Helper()
	for n, l := range lines {
		for at, r := range l {
			b.keys(string(r))
			b.now = b.now.Add(10 * time.Millisecond)
			if at > 8 && at%8 > 0 {
				continue
			}
			if got := b.boxes(); n == 0 && at < 5 && len(got) > 5 || (n > 0 || at >= 5) && got != "" {
				b.t.Fatalf("%q is drawn", got)
			}
		}
		b.desk.none(b.t)
		b.press(fyne.KeyReturn)
		b.now = b.now.Add(200 * time.Millisecond) // the next line
	}
}

// A scanner's keys press nothing, whatever has the focus.
func TestScannerPressesNothing(t *testing.T) {
	b := newBench(t, least)
	for _, onLines := range []bool{false, true} {
		b.access(onLines)
		seen := map[string]bool{} // one of each kind
		for i, f := range focusables(b.page.root) {
			look := fmt.Sprintf("%T", f)
			if x, ok := f.(*button); ok {
				look += fmt.Sprint(x.kind)
			}
			if seen[look] {
				continue
			}
			seen[look] = true
			b.access(onLines)
			b.w.Canvas().Focus(focusables(b.page.root)[i])
			b.scans(td1a, td1b, td1c)
			if in := b.desk.take(t); in.Action != kiosk.ActionScanMRZ || b.local.confirm != "" {
				t.Errorf("control %d: sent %s", i, in.Action)
			}
		}
	}
}

// A scan that is no zone is said to be unclear as soon as nothing follows it.
// The next one works, and so does typing.
func TestUnclearScans(t *testing.T) {
	b := newBench(t, least)
	unclear := b.book("en").Label(words.ScanUnclear, nil)
	for _, onLines := range []bool{false, true} {
		for name, line := range map[string]string{
			"one line": td3a, "short": td3a[1:], "very long": strings.Repeat(td3a, 9), "a bar code": "ABCDEF123456",
		} {
			b.access(onLines)
			b.scans(line)
			if b.Draw(b.shown.state); b.reads(unclear) {
				t.Errorf("%s: unclear while the scanner may work", name)
			}
			b.draw(b.shown.state)
			b.draw(b.shown.state)
			b.desk.none(t)
			if !b.reads(unclear) {
				t.Errorf("%s: not said to be unclear", name)
			}
			if got := b.boxes(); got != "" {
				t.Errorf("%s: %q is drawn", name, got)
			}
			b.fits()
			if b.local.scan.b != [scanRoom]byte{} {
				t.Errorf("%s: it is left", name)
			}
			b.now = b.now.Add(time.Second)
			b.scans(td2a, td2b)
			if in := b.desk.take(t); in.Action != kiosk.ActionScanMRZ {
				t.Errorf("%s: then sent %s", name, in.Action)
			}
			if b.reads(unclear) {
				t.Errorf("%s: still unclear", name)
			}
		}
	}
	b.access(false)
	b.typeText(pin)
	b.press(fyne.KeyReturn)
	if in := b.desk.take(t); in.Action != kiosk.ActionEnterCAN {
		t.Errorf("sent %s", in.Action)
	}
}

// Scanners that leave filler out, or add something of their own, are
// understood when they have come to their end; the window asks to look by then.
func TestScansOfOtherLengths(t *testing.T) {
	b := newBench(t, least)
	for name, lines := range map[string][]string{
		"no filler at the end": {"I<UTOD231458907", td1b, "ERIKSSON<<ANNA<MARIA"}, "something before": {"]Q1" + td3a, td3b}, "a character too many": {td3a, td3b + "0"},
	} {
		b.access(false)
		var look func()
		b.after = func(d time.Duration, f func()) {
			if d <= scanQuiet {
				t.Errorf("%s: looks after %v", name, d)
			}
			look = f
		}
		b.scans(lines...)
		b.desk.none(t)
		b.now = b.now.Add(scanQuiet + time.Millisecond)
		look()
		if in := b.desk.take(t); in.Action != kiosk.ActionScanMRZ || string(in.Secret.Reveal()) != strings.Join(lines, "\n")+"\n" {
			t.Errorf("%s: sent %s", name, in.Action)
		}
	}
}

// What the agent does not take after a scan is a scan's mistake, in any
// language; after typing it is not.
func TestTheAgentRefusesAScan(t *testing.T) {
	b := newBench(t, least)
	b.access(false)
	refused := b.shown.state
	refused.PIN = &kiosk.PINView{Min: 6, Max: 6, Problem: kiosk.PINNotDigits}
	b.scans(td3a, td3b)
	b.desk.take(t)
	refused.Number++
	b.draw(refused)
	digits := func(w *words.Catalog) string { return w.Problem(*refused.PIN) }
	if w := b.book("en"); !b.reads(w.Label(words.ScanUnclear, nil)) || b.reads(digits(w)) {
		t.Error("not said to be the scan")
	}
	refused.Number++
	refused.Language = "zh"
	b.draw(refused)
	if w := b.book("zh"); !b.reads(w.Label(words.ScanUnclear, nil)) {
		t.Error("not said to be the scan in the other language")
	}
	b.typeText(pin)
	b.press(fyne.KeyReturn)
	b.desk.take(t)
	refused.Number++
	b.draw(refused)
	if w := b.book("zh"); b.reads(w.Label(words.ScanUnclear, nil)) || !b.reads(digits(w)) {
		t.Error("said to be the scan after typing")
	}
}

// People's keys are no scan: fast ones, held ones, a hand on the keyboard, or
// what waited while the machine was busy.
func TestPeopleAreNoScanners(t *testing.T) {
	b := newBench(t, least)
	b.access(false)
	b.keys("739105") // all at once
	b.press(fyne.KeyReturn)
	if in := b.desk.take(t); in.Action != kiosk.ActionEnterCAN || string(in.Secret.Reveal()) != pin {
		t.Errorf("sent %s", in.Action)
	}
	b.access(true)
	for _, r := range "L898902C3" {
		b.now = b.now.Add(scanPace + time.Millisecond)
		b.keys(string(r))
	}
	if got := b.boxes(); got != "L898902C3" {
		t.Errorf("boxes show %q", got)
	}
	b.access(true)
	b.keys(strings.Repeat("x", 20)) // a key that repeats
	if got := b.boxes(); got != strings.Repeat("X", 20) {
		t.Errorf("boxes show %q", got)
	}
	b.press(fyne.KeyBackspace)
	if got := b.boxes(); len(got) != 19 {
		t.Errorf("boxes show %q", got)
	}
}

// Where no scanner is expected, its keys are a keyboard's. Two pages take letters, and
// what they send is looked at by an officer first.
func TestNoScannerNoScan(t *testing.T) {
	b := newBench(t, least)
	seen := map[kiosk.Screen]bool{kiosk.ScreenAccessNumber: true, kiosk.ScreenReceipts: true, kiosk.ScreenGuardianNote: true}
	for _, s := range samples.All("en") {
		if s.State.PIN == nil || seen[s.State.Screen] {
			continue
		}
		seen[s.State.Screen] = true
		b.draw(s.State)
		b.scans(td3a)
		b.desk.mu.Lock()
		for _, in := range b.desk.sent {
			if in.Action == kiosk.ActionScanMRZ || bytes.Contains(in.Secret.Reveal(), []byte("ERIKSSON")) {
				t.Errorf("%s: sent %s", s.Name, in.Action)
			}
		}
		b.desk.sent = nil
		b.desk.mu.Unlock()
		if b.local.scan.n != 0 {
			t.Errorf("%s: a scan is kept", s.Name)
		}
	}
}

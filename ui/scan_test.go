package ui

import (
	"bytes"
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

// A scanner sends the zone of any size, whole lines or one long one, lower case
// too, whatever has the focus, and nothing of the person stands on the screen
// or stays in memory.
func TestScanner(t *testing.T) {
	b := newBench(t, least)
	for _, onLines := range []bool{false, true} {
		for name, lines := range map[string][]string{
			"TD1": {td1a, td1b, td1c}, "TD1 at once": {td1a + td1b + td1c}, "TD2": {td2a, td2b}, "TD3": {td3a, td3b},
			"spaces": {td3a + " " + td3b}, "lower case": {strings.ToLower(td3a), strings.ToLower(td3b)},
		} {
			b.access(onLines)
			for i, f := range focusables(b.page.root) {
				if x, ok := f.(*button); ok && x.kind == keyButton && i%9 > 0 {
					continue // enough of them
				}
				b.access(onLines)
				b.w.Canvas().Focus(focusables(b.page.root)[i])
				for n, l := range lines {
					for at, r := range l {
						b.keys(string(r))
						b.now = b.now.Add(10 * time.Millisecond)
						if at%5 != 4 {
							continue
						}
						if got := b.boxes(); len(got) > 5 || got != "" && !strings.HasPrefix(strings.ToUpper(lines[0]), got) {
							t.Fatalf("%s: %q is drawn", name, got)
						}
					}
					if n < len(lines)-1 {
						b.press(fyne.KeyReturn)
						b.now = b.now.Add(600 * time.Millisecond) // the scanner's head moves on
					}
				}
				b.desk.none(t)
				b.press(fyne.KeyReturn)
				in := b.desk.take(t)
				want := strings.ReplaceAll(strings.ToUpper(strings.Join(lines, "")), " ", "")
				if in.Action != kiosk.ActionScanMRZ || in.State != b.shown.state.Number || string(in.Secret.Reveal()) != want {
					t.Fatalf("%s, control %d: sent %s, %d characters", name, i, in.Action, in.Secret.Len())
				}
				b.press(fyne.KeyReturn) // the line feed behind the carriage return
				b.desk.none(t)
				if b.local.scan.b != [scanMost]byte{} || b.local.typed.n != 0 || b.local.confirm != "" {
					t.Fatalf("%s, control %d: the zone is left", name, i)
				}
			}
		}
	}
}

// A scan that is no zone is said to be unclear, and so is one that was cut
// short. The next one works, and so does typing.
func TestUnclearScans(t *testing.T) {
	b := newBench(t, least)
	unclear := b.book("en").Label(words.ScanUnclear, nil)
	for _, onLines := range []bool{false, true} {
		for name, line := range map[string]string{
			"short": td3a[1:], "long": td3a + td3b + "0", "very long": strings.Repeat(td3a, 9), "foreign": "P>UTO" + td3a[5:], "barcode": "ABCDEF123456",
		} {
			b.access(onLines)
			b.scans(line)
			b.desk.none(t)
			if !b.reads(unclear) {
				t.Errorf("%s: not said to be unclear", name)
			}
			if got := b.boxes(); got != "" {
				t.Errorf("%s: %q is drawn", name, got)
			}
			b.fits()
			if b.local.scan.b != [scanMost]byte{} {
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
		b.access(onLines)
		b.scans(td1a, td1b)
		if b.Draw(b.shown.state); b.reads(unclear) {
			t.Error("unclear while the scanner works")
		}
		b.draw(b.shown.state)
		b.draw(b.shown.state)
		if !b.reads(unclear) || b.local.scan.b != [scanMost]byte{} {
			t.Error("two lines of three are not said to be unclear")
		}
	}
	b.access(false)
	b.typeText(pin)
	b.press(fyne.KeyReturn)
	if in := b.desk.take(t); in.Action != kiosk.ActionEnterCAN {
		t.Errorf("sent %s", in.Action)
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
	b.keys(strings.Repeat("X", 20)) // a key that repeats
	if got := b.boxes(); got != strings.Repeat("X", 20) {
		t.Errorf("boxes show %q", got)
	}
	b.press(fyne.KeyBackspace)
	if got := b.boxes(); len(got) != 19 {
		t.Errorf("boxes show %q", got)
	}
}

// Where no scanner is expected, its keys are a keyboard's.
func TestNoScannerNoScan(t *testing.T) {
	b := newBench(t, least)
	for _, s := range samples.All("en") {
		if s.State.PIN == nil || s.State.Screen == kiosk.ScreenAccessNumber {
			continue
		}
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

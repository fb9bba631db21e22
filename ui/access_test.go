package ui

import (
	"fmt"
	"image/color"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
)

// Every text of every page stands out from what it really lies on, in each
// palette: 4.5:1, and 7:1 in those of high contrast. Signs and marks are in the
// table of TestContrast.
func TestTextStandsOut(t *testing.T) {
	for _, l := range looks() {
		b := newBench(t, large)
		b.look(l)
		need := either(l.Contrast, 7.0, 4.5)
		for _, s := range samples.All("en") {
			b.draw(s.State)
			for _, page := range []func(){func() {}, func() { b.tap(b.book("en").Label(words.Access, nil)) }} {
				page()
				b.standsOut(t, l.name()+" "+s.Name, need)
			}
		}
	}
}

func (b *bench) standsOut(t *testing.T, name string, need float64) {
	t.Helper()
	all := leaves(b.page.root)
	for i, l := range all {
		text, ok := l.o.(*canvas.Text)
		if !ok || text.Text == "" {
			continue
		}
		middle := l.pos.AddXY(l.size.Width/2, l.size.Height/2)
		if text.Alignment == fyne.TextAlignLeading {
			middle.X = l.pos.X + 2
		}
		var back color.Color
		for _, under := range all[:i] {
			var fill color.Color
			switch o := under.o.(type) {
			case *canvas.Rectangle:
				fill = o.FillColor
			case *canvas.Circle:
				fill = o.FillColor
			}
			if _, tone := fill.(tone); tone {
				t.Fatalf("%s: something was never dressed", name)
			}
			if c, ok := fill.(color.NRGBA); ok && c.A == 0xFF && middle.X >= under.pos.X && middle.Y >= under.pos.Y &&
				middle.X <= under.pos.X+under.size.Width && middle.Y <= under.pos.Y+under.size.Height {
				back = c
			}
		}
		front, ok := text.Color.(color.NRGBA)
		if !ok || back == nil {
			t.Fatalf("%s: %q has colour %v on %v", name, text.Text, text.Color, back)
		}
		if got := contrast(front, back.(color.NRGBA)); got < need {
			t.Errorf("%s: %q: %.2f to 1, need %.1f", name, text.Text, got, need)
		}
	}
}

// Each verdict and each status has a sign of its own and a word of its own, in
// every language: who sees no colour sees which is which.
func TestVerdictsDifferWithoutColour(t *testing.T) {
	b := newBench(t, large)
	for _, l := range words.Languages() {
		w := b.book(l)
		seen := map[string]kiosk.Verdict{}
		for _, v := range []kiosk.Verdict{kiosk.Passed, kiosk.Failed, kiosk.Warned, kiosk.NotChecked} {
			for _, what := range []string{"sign " + verdictSign(v), "word " + w.Verdict(v)} {
				if other, ok := seen[what]; ok && other != v {
					t.Errorf("%s: %s and %s share the %s", l, v, other, what)
				}
				seen[what] = v
			}
		}
		said := map[string]kiosk.StepStatus{}
		for _, s := range []kiosk.StepStatus{kiosk.StepPending, kiosk.StepRunning, kiosk.StepDone, kiosk.StepFailed} {
			for _, what := range []string{"sign " + statusSign(s), "word " + w.Status(s)} {
				if other, ok := said[what]; ok {
					t.Errorf("%s: %s and %s share the %s", l, s, other, what)
				}
				said[what] = s
			}
		}
	}
	shape := func(name string) string { // the drawing without its colours
		svg, err := drawings.ReadFile("icons/" + name + ".svg")
		if err != nil {
			t.Fatal(err)
		}
		s := string(svg)
		for i := strings.IndexByte(s, '#'); i >= 0; i = strings.IndexByte(s, '#') {
			s = s[:i] + s[i+7:]
		}
		return s
	}
	shapes := map[string]string{}
	for _, name := range []string{"done", "failed", "warning", "unknown", "pending", "running"} {
		if other, ok := shapes[shape(name)]; ok {
			t.Errorf("%s and %s differ in colour only", name, other)
		}
		shapes[shape(name)] = name
	}
}

// What a citizen chooses goes with the visit; what an officer chooses stays.
// Both can be changed on every page of theirs, by finger and by keyboard, and
// nothing that was typed or asked is lost by it but the digits.
func TestLookIsOfWhoChoseIt(t *testing.T) {
	b := newBench(t, large)
	w := b.book("en")
	home := kiosk.State{Number: 1, Screen: kiosk.ScreenHome, Turn: kiosk.TurnOfficer, Language: "en"}
	welcome := kiosk.State{Number: 2, Screen: kiosk.ScreenWelcome, Turn: kiosk.TurnCitizen, Language: "en"}
	compare := kiosk.State{Number: 3, Screen: kiosk.ScreenCompare, Turn: kiosk.TurnOfficer, Language: "en"}
	background := func() color.Color {
		return b.page.root.Objects[0].(*canvas.Rectangle).FillColor
	}
	choose := func(buttons ...string) {
		t.Helper()
		b.tap(w.Label(words.Access, nil))
		for _, text := range buttons {
			b.tap(text)
			b.fits()
		}
		b.tap(w.Action(kiosk.ActionBack))
	}
	b.draw(home)
	choose(w.Label(words.ColoursDark, nil))
	if background() != dark[paper] {
		t.Error("the officer's page is not dark")
	}
	b.draw(welcome)
	if background() != light[paper] {
		t.Error("the citizen's page has the officer's colours")
	}
	choose("200 %", w.Label(words.ContrastHigh, nil))
	if background() != lightContrast[paper] || b.page.content == nil || b.citizen.Text != 200 {
		t.Error("the citizen's page has no high contrast, or small text")
	}
	b.draw(compare)
	if background() != dark[paper] {
		t.Error("the officer's page lost its colours")
	}
	welcome.Number = 4
	b.draw(welcome)
	if background() != lightContrast[paper] {
		t.Error("the choice is lost within the visit")
	}
	home.Number, welcome.Number = 5, 6
	b.draw(home)
	if background() != dark[paper] {
		t.Error("the officer's choice went with the visit")
	}
	b.draw(welcome)
	if background() != light[paper] {
		t.Error("the next person has the last one's choice")
	}
	b.desk.none(t)

	b.tap(w.Label(words.Access, nil)) // by keyboard: Tab to a choice, Space, Tab to Back, Return
	c := b.w.Canvas()
	key := func(target string, k fyne.KeyName) {
		t.Helper()
		for range 40 {
			if f, ok := c.Focused().(*button); ok && f.text == target {
				b.press(k)
				return
			}
			c.FocusNext()
		}
		t.Fatalf("Tab does not reach %q", target)
	}
	key("150 %", fyne.KeySpace)
	if f, ok := c.Focused().(*button); !ok || f.text != "150 %" {
		t.Error("the focus left what was chosen")
	}
	key(w.Action(kiosk.ActionBack), fyne.KeyReturn)
	if b.citizen.Text != 150 || b.local.access {
		t.Error("not chosen by keyboard")
	}
}

// The page of choices is on every screen, fits in every look and language, and
// says what is chosen by more than colour.
func TestAccessiblePage(t *testing.T) {
	for _, percent := range TextSizes() {
		for _, l := range words.Languages() {
			b := newBench(t, large)
			b.o.Speaker = &voice{}
			b.look(Look{Text: percent})
			for _, s := range samples.All(l) {
				b.draw(s.State)
				open := b.button(b.book(b.page.language).Label(words.Access, nil))
				if open == nil {
					t.Fatalf("%s: no way to it", s.Name)
				}
				test.Tap(open)
				b.fits()
				marked := 0
				for _, x := range b.buttons() {
					if x.icon == "chosen" {
						marked++
					}
				}
				for more := b.book(l).Label(words.PageOn, nil); b.button(more) != nil; {
					b.tap(more)
					b.fits()
					for _, x := range b.buttons() {
						if x.icon == "chosen" {
							marked++
						}
					}
				}
				if marked != 4 {
					t.Errorf("%d %% %s %s: %d choices are marked", percent, l, s.Name, marked)
				}
				if t.Failed() {
					return
				}
			}
		}
	}
}

// voice keeps what it is told to say.
type voice struct{ said, languages []string }

func (v *voice) Say(language, text string) {
	v.said, v.languages = append(v.said, text), append(v.languages, language)
}
func (v *voice) Stop() { v.said, v.languages = append(v.said, ""), append(v.languages, "") }

// Nothing is said until somebody asks for it. Then each page is, in its language,
// once; and nothing ever that is the person's own: no PIN, number, name, cancel
// code or identifier.
func TestReadAloud(t *testing.T) {
	for _, l := range words.Languages() {
		v := &voice{}
		b := newBench(t, large)
		b.o.Speaker = v
		own := map[string]bool{}
		for _, aloud := range []bool{false, true} {
			v.said, v.languages = nil, nil
			for _, s := range samples.All(l) {
				b.officer.aloud, b.citizen.aloud = aloud, aloud
				before := len(v.said)
				b.draw(s.State)
				b.officer.aloud, b.citizen.aloud = aloud, aloud // between visits it is forgotten
				b.rebuild(true)
				for _, secret := range personal(s.State) {
					own[secret] = true
				}
				if b.page.entry != nil {
					b.typeText(pin)
					own[pin] = true
				}
				if aloud && len(v.said) == before {
					t.Errorf("%s: nothing is said", s.Name)
				}
				if n := len(v.said); aloud && n > 0 && v.languages[n-1] != l {
					t.Errorf("%s: said in %q", s.Name, v.languages[n-1])
				}
				count := len(v.said)
				s.State.Revision++
				b.draw(s.State)
				b.rebuild(false)
				if len(v.said) != count {
					t.Errorf("%s: said again", s.Name)
				}
			}
			for _, text := range v.said {
				if !aloud && text != "" {
					t.Errorf("%q is said to nobody", text)
				}
				for secret := range own {
					if strings.Contains(text, secret) {
						t.Errorf("%q holds %q", text, secret)
					}
				}
			}
		}
		if len(own) < 10 {
			t.Errorf("only %d things to look for", len(own))
		}
		b.draw(kiosk.State{Number: 9999, Screen: kiosk.ScreenHome, Turn: kiosk.TurnOfficer, Language: l})
		b.officer.aloud = false
		b.rebuild(true)
		if v.said[len(v.said)-1] != "" {
			t.Error("it goes on speaking when it is turned off")
		}
	}
}

// personal lists what a state holds that is somebody's own.
func personal(s kiosk.State) []string {
	var all []string
	add := func(text string) {
		if len(text) > 3 {
			all = append(all, text)
		}
	}
	if h := s.Holder; h != nil {
		add(reveal(h.Surname))
		add(reveal(h.GivenNames))
		add(reveal(h.Birth))
		add(reveal(h.Number))
		add(reveal(h.Expiry))
	}
	if r := s.Receipt; r != nil {
		add(reveal(r.CancelCode))
		add(r.Number())
		add(r.Custody)
	}
	if s.Review != nil {
		add(s.Review.DID)
	}
	if s.Custody != nil {
		add(s.Custody.Number)
	}
	add(s.Officer)
	return all
}

// Keys for letters come when a finger opens a field, or where they are
// configured; they go with the question. Who types on a keyboard needs none.
func TestKeyboardOnScreen(t *testing.T) {
	for _, always := range []bool{false, true} {
		b := newBench(t, large)
		b.o.Keyboard = always
		for _, s := range samples.All("en") {
			if s.Name != "access-number-2-lines" {
				continue
			}
			b.draw(s.State)
			if shown := b.button("Q") != nil; shown != always {
				t.Errorf("keys before a touch: %v, configured: %v", shown, always)
			}
			b.typeText("l8")
			b.touchField(1)
			if b.button("Q") == nil || b.local.field != 1 {
				t.Error("a touch brings no keys, or in another field")
			}
			b.tap("7")
			if b.local.mrz[0].n != 2 || b.local.mrz[1].n != 1 {
				t.Error("the keys fill another field")
			}
			b.draw(kiosk.State{Number: 900, Screen: kiosk.ScreenWelcome, Language: "en"})
			s.State.Number = 901
			b.draw(s.State)
			if shown := b.button("Q") != nil; shown != always {
				t.Error("the next question has the keys of the last")
			}
		}
	}
}

// A finger that wobbles still presses: nothing on a page can be dragged or
// scrolled, so nothing takes the tap from a button (fyne-io/fyne#4672).
func TestNothingCanBeDragged(t *testing.T) {
	b := newBench(t, large)
	for _, s := range samples.All("en") {
		b.draw(s.State)
		for _, l := range leaves(b.page.root) {
			switch l.o.(type) {
			case fyne.Draggable, fyne.Scrollable:
				t.Errorf("%s: %T takes taps that move", s.Name, l.o)
			}
		}
	}
}

// Whatever can be pressed is at least 12 mm wide and high, at any size of text.
func TestTargets(t *testing.T) {
	const mm = 92 / 25.4 // units, see kiosk-window
	for _, size := range []fyne.Size{least, large, full} {
		b := newBench(t, size)
		for _, s := range samples.All("en") {
			b.draw(s.State)
			for _, x := range b.buttons() {
				if w := x.Size().SubtractWidthHeight(2*ringGap, 2*ringGap); min(w.Width, w.Height) < 12*mm {
					t.Errorf("%s: %q is %.1f by %.1f mm", s.Name, x.text, w.Width/mm, w.Height/mm)
				}
			}
		}
	}
	if got := fmt.Sprintf("%.0f", touch/mm); got != "20" {
		t.Errorf("digit keys have %s mm", got)
	}
}

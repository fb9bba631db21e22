package ui

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"
	"golang.org/x/image/font/sfnt"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
)

// fits checks that nothing on the page is cut, leaves the window, or lies on
// something else.
func (b *bench) fits() {
	b.t.Helper()
	size := b.w.Canvas().Size()
	all := leaves(b.page.root)
	type box struct {
		what string
		pos  fyne.Position
		size fyne.Size
	}
	var texts, buttons []box
	for _, l := range all {
		switch o := l.o.(type) {
		case *canvas.Text:
			need := o.MinSize()
			if l.size.Width+0.6 < need.Width {
				b.t.Errorf("%q is cut: %.0f of %.0f", o.Text, l.size.Width, need.Width)
			}
			x := l.pos.X
			switch o.Alignment {
			case fyne.TextAlignCenter:
				x += (l.size.Width - need.Width) / 2
			case fyne.TextAlignTrailing:
				x += l.size.Width - need.Width
			}
			high := o.TextSize // ink, without the space between lines
			t := box{o.Text, fyne.NewPos(x, l.pos.Y+(need.Height-high)/2), fyne.NewSize(need.Width, high)}
			if l.size.Height > need.Height {
				t.pos.Y += (l.size.Height - need.Height) / 2
			}
			if o.Text != "" {
				texts = append(texts, t)
			}
		case *button:
			inner := box{o.text, l.pos.AddXY(ringGap, ringGap), l.size.SubtractWidthHeight(2*ringGap, 2*ringGap)}
			buttons = append(buttons, inner)
			least := touch
			if o.kind == headerButton || o.kind == keyButton {
				least = 48 // twice what WCAG 2.5.8 asks; digit keys have a test of their own
			}
			if inner.size.Height < least || inner.size.Width < 48 {
				b.t.Errorf("button %q is only %v", o.text, inner.size)
			}
		}
		if l.pos.X < -0.6 || l.pos.Y < -0.6 || l.pos.X+l.size.Width > size.Width+0.6 || l.pos.Y+l.size.Height > size.Height+6 {
			b.t.Errorf("%T at %v %v leaves the window", l.o, l.pos, l.size)
		}
	}
	overlap := func(a, c box) bool {
		return a.pos.X+0.6 < c.pos.X+c.size.Width && c.pos.X+0.6 < a.pos.X+a.size.Width &&
			a.pos.Y+0.6 < c.pos.Y+c.size.Height && c.pos.Y+0.6 < a.pos.Y+a.size.Height
	}
	inside := func(a, c box) bool {
		return a.pos.X >= c.pos.X-0.6 && a.pos.Y >= c.pos.Y-0.6 && a.pos.X+a.size.Width <= c.pos.X+c.size.Width+0.6 && a.pos.Y+a.size.Height <= c.pos.Y+c.size.Height+0.6
	}
	for i, t := range texts {
		for _, o := range texts[:i] {
			if overlap(t, o) {
				b.t.Errorf("%q lies on %q", t.what, o.what)
			}
		}
		for _, o := range buttons {
			if overlap(t, o) && !inside(t, o) {
				b.t.Errorf("%q lies on button %q", t.what, o.what)
			}
		}
	}
	for i, x := range buttons {
		for _, o := range buttons[:i] {
			if overlap(x, o) {
				b.t.Errorf("button %q lies on button %q", x.what, o.what)
			}
		}
	}
	if need := heightFor(b.page.content, b.page.content.Size().Width); need > b.page.room.Height+0.6 {
		b.t.Errorf("the page needs %.0f, has %.0f", need, b.page.room.Height)
	}
}

// everyTrouble is a state for each code, with the remedies in turn.
func everyTrouble(language string) []samples.Sample {
	var all []samples.Sample
	remedies := []kiosk.Remedy{kiosk.RemedyRetry, kiosk.RemedyOtherCard, kiosk.RemedyStaff, kiosk.RemedyStartOver}
	for i, c := range kiosk.Codes() {
		s := samples.Trouble(kiosk.Fault{Code: c, Remedy: remedies[i%len(remedies)], Left: 1 + i%2})
		s.Number, s.Language, s.Languages, s.Simulated = uint64(1000+i), language, words.Languages(), true
		all = append(all, samples.Sample{Name: string(c), State: s})
	}
	return all
}

func TestEveryScreenIsSampled(t *testing.T) {
	have := map[kiosk.Screen]bool{}
	for _, s := range samples.All("en") {
		have[s.State.Screen] = true
	}
	for _, s := range kiosk.Screens() {
		if !have[s] {
			t.Errorf("no sample of %s", s)
		}
	}
}

// Every screen fits in every language and size of text, on every one of its
// pages, with what is the main thing to do on each.
func TestEveryScreenFits(t *testing.T) {
	for _, size := range []fyne.Size{large, least, full} {
		for _, percent := range TextSizes() {
			b := newBench(t, size)
			b.look(Look{Text: percent})
			for _, l := range words.Languages() {
				for _, s := range append(samples.All(l), everyTrouble(l)...) {
					t.Run(fmt.Sprintf("%.0f/%d/%s/%s", size.Width, percent, l, s.Name), func(t *testing.T) {
						b.t = t
						b.draw(s.State)
						b.everyPage()
					})
				}
			}
		}
	}
}

// look gives both people a look.
func (b *bench) look(l Look) { b.o.Look, b.officer.Look, b.citizen.Look = l, l, l }

// everyPage turns the pages of the screen shown and looks at each.
func (b *bench) everyPage() {
	b.t.Helper()
	w := b.book(b.page.language)
	s := b.shown.state
	for n := 1; ; n++ {
		b.fits()
		more := b.button(w.Label(words.PageOn, nil))
		if main := b.button(w.Action(s.Main)); s.Main != "" && main == nil && b.doable(s.Main) && !(b.page.main != nil && b.page.main == more) {
			b.t.Errorf("page %d has no main button", n)
		}
		if n > 12 {
			b.t.Errorf("more than %d pages", n)
			more = nil
		}
		if b.t.Failed() {
			b.t.Fatalf("page %d", n)
		}
		if more == nil {
			return
		}
		test.Tap(more)
	}
}

// stretched is the English catalogue with every sentence 40 % longer.
func stretched(t *testing.T) *words.Catalog {
	t.Helper()
	j, err := os.ReadFile("../kiosk/words/en.json")
	if err != nil {
		t.Fatal(err)
	}
	value := regexp.MustCompile(`(: *)"([^"]+)"`)
	j = value.ReplaceAllFunc(j, func(m []byte) []byte {
		p := value.FindSubmatch(m)
		s := string(p[2])
		if s == "en" {
			return m
		}
		for extra := (len(s)*2 + 4) / 5; extra > 0; extra -= 4 {
			if len(s) < 14 {
				s += strings.Repeat("m", min(extra, 4))
				continue
			}
			s += " mmm"[:min(extra, 4)]
		}
		return []byte(string(p[1]) + `"` + strings.TrimSpace(s) + `"`)
	})
	c, err := words.Parse(j)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A language whose sentences are 40 % longer fits as well.
func TestLongerSentencesFit(t *testing.T) {
	c := stretched(t)
	for _, size := range []fyne.Size{large, least} {
		b := newBench(t, size)
		b.books["en"] = c
		for _, s := range append(samples.All("en"), everyTrouble("en")...) {
			t.Run(fmt.Sprintf("%.0f/%s", size.Width, s.Name), func(t *testing.T) {
				b.t = t
				b.draw(s.State)
				b.fits()
			})
		}
	}
}

// Every page of a text that needs several fits, and together they are the text.
func TestLongTextsAreTurned(t *testing.T) {
	for _, l := range words.Languages() {
		for _, s := range samples.All(l) {
			if s.State.Screen != kiosk.ScreenConsent && s.State.Screen != kiosk.ScreenReview {
				continue
			}
			b := newBench(t, least)
			b.draw(s.State)
			more, accept := b.book(l).Label(words.PageOn, nil), b.book(l).Action(s.State.Main)
			var read string
			pages := 1
			for ; ; pages++ {
				b.fits()
				if c := s.State.Consent; c != nil {
					for _, text := range b.texts() {
						if flat := strings.ReplaceAll(text, "\n", ""); flat != "" && strings.Contains(strings.ReplaceAll(c.Text, " ", ""), strings.ReplaceAll(flat, " ", "")) {
							read += strings.ReplaceAll(flat, " ", "")
						}
					}
				}
				if b.button(more) == nil {
					break
				}
				if b.button(accept) != nil {
					t.Errorf("%s: can be agreed to before its last page", s.Name)
				}
				b.press(fyne.KeyReturn)
			}
			b.desk.none(t)
			if b.button(accept) == nil {
				t.Errorf("%s: no %q on the last page", s.Name, accept)
			}
			if c := s.State.Consent; c != nil && read != strings.ReplaceAll(c.Text, " ", "") {
				t.Errorf("%s: %d pages show another text than the one agreed to", s.Name, pages)
			}
			for range pages - 1 {
				b.tap(b.book(l).Label(words.PageBack, nil))
			}
			b.fits()
		}
	}
}

// The faces in use have every character of every sentence: a missing one would
// draw as a box, without an error.
func TestNoGlyphIsMissing(t *testing.T) {
	var all []string
	for _, l := range words.Languages() {
		c, err := words.Open(l)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c.Sentences()...)
	}
	ascii := ""
	for c := ' '; c <= '~'; c++ {
		ascii += string(c)
	}
	all = append(all, ascii+"·–", ascii+"·– हिन्दी")
	texts, err := filepath.Glob("../kiosk/station/texts/*.txt")
	if err != nil || len(texts) == 0 {
		t.Fatalf("no consent texts (%v)", err)
	}
	for _, p := range texts {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Split(string(b), "\n")...)
	}
	for _, bold := range []bool{false, true} {
		style := fyne.TextStyle{Bold: bold}
		missing, parsed := map[string]bool{}, map[string]*sfnt.Font{}
		var buf sfnt.Buffer
		for _, s := range all {
			font := face(s, style)
			if font == nil {
				font = Theme().Font(style)
			}
			f := parsed[font.Name()]
			if f == nil {
				var err error
				if f, err = sfnt.Parse(font.Content()); err != nil {
					t.Fatal(err)
				}
				parsed[font.Name()] = f
			}
			for _, r := range s {
				if g, err := f.GlyphIndex(&buf, r); err != nil || g == 0 {
					missing[fmt.Sprintf("%s has no %q", font.Name(), r)] = true
				}
			}
		}
		for m := range missing {
			t.Errorf("%s: run kiosk/typeface/subset.sh", m)
		}
	}
}

// What colour says is also said in words.
func TestNothingByColourAlone(t *testing.T) {
	b := newBench(t, large)
	for _, l := range words.Languages() {
		for _, s := range samples.All(l) {
			b.draw(s.State)
			w := b.book(l)
			for _, st := range s.State.Steps {
				if !b.reads(w.Step(st.Name)) || !(b.reads(w.Status(st.Status)) || st.Total > 0) {
					t.Errorf("%s: step %s is not said to be %s", s.Name, st.Name, st.Status)
				}
			}
			if s.State.Screen == kiosk.ScreenCompare || s.State.Screen == kiosk.ScreenSecondOfficer {
				all := strings.Join(b.texts(), "\n")
				for _, lack := range s.State.Lacks {
					if !strings.Contains(all, w.Lack(lack)) {
						t.Errorf("%s: it is not said that the card lacks %s", s.Name, lack)
					}
				}
				needed := strings.Contains(all, w.Label(words.SecondNeeded, nil))
				if s.State.Screen == kiosk.ScreenCompare && needed != (len(s.State.Lacks) > 0) {
					t.Errorf("%s: a second officer is needed: %v", s.Name, needed)
				}
			}
			if s.State.Screen == kiosk.ScreenCompare {
				for _, c := range s.State.Checks {
					if !b.reads(w.Check(c.Name)) || !b.reads(w.Verdict(c.Verdict)) {
						t.Errorf("%s: check %s is not said to be %s", s.Name, c.Name, c.Verdict)
					}
				}
			}
			turn := map[kiosk.Turn]words.Label{kiosk.TurnOfficer: words.TurnOfficer, kiosk.TurnCitizen: words.TurnCitizen, kiosk.TurnMachine: words.TurnMachine}[s.State.Turn]
			if !b.reads(w.Label(turn, nil)) {
				t.Errorf("%s: it is not said whose turn it is", s.Name)
			}
			if !b.reads(w.Label(words.Training, nil)) {
				t.Errorf("%s: the training banner is missing", s.Name)
			}
			s.State.Simulated = false
			b.draw(s.State)
			if b.reads(w.Label(words.Training, nil)) {
				t.Errorf("%s: a training banner on a real kiosk", s.Name)
			}
		}
	}
}

// Every code has its page: what is so, what to do, what is safe, the cause for
// the officer, the code, and the remedy as the main button with the focus.
func TestEveryTroubleIsTold(t *testing.T) {
	b := newBench(t, large)
	for _, l := range words.Languages() {
		for _, s := range everyTrouble(l) {
			b.draw(s.State)
			w := b.book(l).Trouble(*s.State.Fault)
			for _, want := range []string{w.Headline, w.Do, w.Safe, w.Staff, string(s.State.Fault.Code)} {
				if !b.reads(want) {
					t.Errorf("%s %s: %q is not on the page", l, s.Name, want)
				}
			}
			main := b.button(b.book(l).Action(s.State.Main))
			if main == nil || b.w.Canvas().Focused() != fyne.Focusable(main) || main.kind != mainButton {
				t.Errorf("%s %s: the remedy is not the main button", l, s.Name)
			}
		}
	}
}

// Every trouble has a drawing of what is to be done or of what it is about, and every
// drawing is on a page.
func TestEveryTroubleIsDrawn(t *testing.T) {
	b := newBench(t, large)
	seen := map[string]bool{}
	for _, s := range everyTrouble("en") {
		b.draw(s.State)
		all := b.drawings()
		if len(all) != 1 {
			t.Errorf("%s: drawings %v", s.Name, all)
		}
		for _, name := range all {
			seen[name] = true
		}
	}
	for _, same := range [][]kiosk.Code{{kiosk.CodeCardMute, kiosk.CodeCardRemoved}, {kiosk.CodeReaderMissing, kiosk.CodeCardRemoved}, {kiosk.CodeUnreachable, kiosk.CodeClock},
		{kiosk.CodeDiskFull, kiosk.CodeTPMFailed}, {kiosk.CodeTokenRemoved, kiosk.CodeTokenPINBlocked}, {kiosk.CodeOfficerRemoved, kiosk.CodeTokenRemoved}} {
		if about(same[0]) == about(same[1]) {
			t.Errorf("%s and %s have the same drawing", same[0], same[1])
		}
	}
	for _, s := range samples.All("en") {
		b.draw(s.State)
		for _, name := range b.drawings() {
			seen[name] = true
		}
	}
	for _, c := range covers {
		seen[c.drawing] = true
	}
	files, err := drawings.ReadDir("icons")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		svg, err := drawings.ReadFile("icons/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(f.Name(), ".svg")
		if strings.Contains(string(svg), `width="360"`) && !seen[name] {
			t.Errorf("the drawing %s is on no page", name)
		}
	}
}

// The officer sees picture and name side by side at once, whatever the size of text.
func TestPictureStandsBesideTheName(t *testing.T) {
	for _, size := range []fyne.Size{large, full} {
		for _, percent := range TextSizes() {
			b := newBench(t, size)
			b.look(Look{Text: percent})
			for _, l := range words.Languages() {
				for _, s := range samples.All(l) {
					if s.State.Screen != kiosk.ScreenCompare || s.State.Holder == nil || s.State.Holder.Face.Len() == 0 {
						continue
					}
					b.draw(s.State)
					seen := slices.ContainsFunc(leaves(b.page.root), func(l leaf) bool {
						img, ok := l.o.(*canvas.Image)
						return ok && img.Image != nil && img.Image == b.shown.face
					})
					if !seen || !b.reads(samples.Surname) {
						t.Errorf("%v %d %% %s %s: the first page has picture %v, name %v", size, percent, l, s.Name, seen, b.reads(samples.Surname))
					}
				}
			}
		}
	}
}

// What the public log has shown amiss stands on the home screen, while there is
// something amiss.
func TestHomeShowsTheLogAlarm(t *testing.T) {
	b := newBench(t, large)
	seen := false
	for _, l := range words.Languages() {
		for _, s := range samples.All(l) {
			if s.State.Screen != kiosk.ScreenHome {
				continue
			}
			b.draw(s.State)
			amiss := s.State.Health.LogFault != ""
			seen = seen || amiss
			why := b.book(l).Trouble(kiosk.Fault{Code: kiosk.CodeSplitView}).Staff + " " + string(kiosk.CodeSplitView)
			if b.reads(why) != amiss {
				t.Errorf("%s %s: alarm %v", l, s.Name, !amiss)
			}
		}
	}
	if !seen {
		t.Error("no sample has an alarm")
	}
}

// A token is its own reader: while none is in, nothing is said to be wrong.
func TestNoTokenIsNoFault(t *testing.T) {
	for _, s := range samples.All("en") {
		if s.State.Screen != kiosk.ScreenInsertToken {
			continue
		}
		b := newBench(t, large)
		b.draw(s.State)
		if s.State.Fault == nil || b.reads(string(s.State.Fault.Code)) || b.reads(b.book("en").Trouble(*s.State.Fault).Headline) {
			t.Errorf("%s: a fault is shown", s.Name)
		}
		if !b.reads(b.book("en").Bring(kiosk.DeviceToken, kiosk.ReaderMissing)) {
			t.Errorf("%s: the token is not asked for", s.Name)
		}
	}
}

// A window has no size before it is shown, and a small one while it is dragged.
func TestAnySize(t *testing.T) {
	for _, size := range []fyne.Size{{}, fyne.NewSize(1, 1), fyne.NewSize(300, 90)} {
		b := newBench(t, size)
		for _, s := range samples.All("zh") {
			b.draw(s.State)
		}
		b.w.Resize(large)
		b.draw(samples.All("zh")[0].State)
		b.fits()
	}
}

// A code to write down is not broken, on the smallest window too.
func TestCancelCodeOnOneLine(t *testing.T) {
	b := newBench(t, least)
	for _, l := range words.Languages() {
		for _, s := range samples.All(l) {
			if s.State.Receipt == nil {
				continue
			}
			b.draw(s.State)
			whole := slices.ContainsFunc(leaves(b.page.root), func(l leaf) bool {
				text, ok := l.o.(*canvas.Text)
				return ok && text.Text == string(s.State.Receipt.CancelCode.Reveal())
			})
			if !whole {
				t.Errorf("%s %s: the cancel code is broken into lines", l, s.Name)
			}
		}
	}
}

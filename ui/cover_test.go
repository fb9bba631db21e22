package ui

import (
	"slices"
	"strings"
	"testing"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
)

// Each window shows its own side's pages and tells nothing of the other side's:
// no sentence of them, no picture, no button, no key that does something.
func TestEachSideSeesItsOwn(t *testing.T) {
	own := map[Side]kiosk.Audience{Officer: kiosk.AudienceOfficer, Citizen: kiosk.AudienceCitizen, Nobody: "nobody"}
	for side, audience := range own {
		b, bare := newBench(t, large), newBench(t, large)
		b.Serve(side)
		for _, s := range samples.All("en") {
			b.draw(s.State)
			bare.now = b.now
			bare.Draw(s.State)
			a := s.State.Audience()
			if a == audience || a == kiosk.AudienceBoth && side != Nobody {
				if !slices.Equal(b.texts(), bare.texts()) {
					t.Errorf("%s: the window of side %s shows %q", s.Name, side, b.texts())
				}
				continue
			}
			b.tellsNothing(s.State, bare.texts())
			if len(b.buttons()) > 0 {
				t.Errorf("%s: there is a button %q on side %s", s.Name, b.buttons()[0].text, side)
			}
			b.typeText("739105")
			b.press(fyne.KeyReturn)
			b.desk.none(t)
		}
	}
}

// tellsNothing holds that the page tells nothing that the page it stands for
// does, but for what frames every page, and its title where the officer waits.
func (b *bench) tellsNothing(s kiosk.State, page []string) {
	b.t.Helper()
	w, err := words.Open(s.Language)
	if err != nil {
		b.t.Fatal(err)
	}
	frame := []string{"10:42", w.Label(words.App, nil), w.Label(words.Training, nil), w.Label(words.StepOf, words.Args{"position": s.Position, "positions": s.Positions}),
		w.Label(words.TurnOfficer, nil), w.Label(words.TurnCitizen, nil), w.Label(words.TurnMachine, nil), w.Label(words.SignedOn, words.Args{"number": s.Officer})}
	clock := func(t string) bool { return len(t) == 5 && t[2] == ':' }
	for _, text := range b.texts() {
		if strings.Contains(text, samples.Surname) || slices.Contains(page, text) && !slices.Contains(frame, text) && !clock(text) {
			b.t.Errorf("%s: side %s reads %q", s.Screen, b.side, text)
		}
	}
	visit(b.page.root, func(o fyne.CanvasObject) {
		if img, ok := o.(*canvas.Image); ok && img.Image != nil {
			if f := b.shown.face; f != nil && img.Image == f {
				b.t.Errorf("%s: side %s sees the citizen's face", s.Screen, b.side)
			}
		}
	})
	if len(b.page.photos) > 0 || b.page.entry != nil {
		b.t.Errorf("%s: side %s has pictures or an entry", s.Screen, b.side)
	}
}

// On the only display the page of the other side is covered until the one whom
// it is for says so; what the machine does covers nothing.
func TestTurnedDisplayIsCovered(t *testing.T) {
	b, bare := newBench(t, large), newBench(t, large)
	b.Serve(Turned)
	w, err := words.Open("en")
	if err != nil {
		t.Fatal(err)
	}
	lift := map[kiosk.Audience]string{kiosk.AudienceOfficer: w.Label(words.CoverOfficerLift, nil), kiosk.AudienceCitizen: w.Label(words.CoverCitizenLift, nil)}
	front := kiosk.AudienceBoth
	for _, s := range samples.All("en") {
		b.draw(s.State)
		bare.now = b.now
		bare.Draw(s.State)
		a := s.State.Audience()
		if front == kiosk.AudienceBoth {
			front = a // the first page: the window is where it was
		}
		if a != kiosk.AudienceBoth && a != front {
			b.tellsNothing(s.State, bare.texts())
			b.typeText("739105")
			b.desk.none(t)
			b.tap(lift[a])
			front = a
		}
		bare.now = b.now
		bare.Draw(s.State) // its clock
		if !slices.Equal(b.texts(), bare.texts()) {
			t.Errorf("%s: in front of %s stands %q", s.Name, front, b.texts())
		}
		b.desk.none(t)
	}
}

// The second half of a double tap does not lift the cover that the first half
// brought, nor does that of the tap that lifted it press anything.
func TestDoubleTapLiftsNoCover(t *testing.T) {
	b := newBench(t, large)
	b.Serve(Turned)
	page := func(n uint64, turn kiosk.Turn, screen kiosk.Screen, main kiosk.Action) kiosk.State {
		return kiosk.State{Number: n, Revision: n, Screen: screen, Turn: turn, Language: "en", Main: main, Actions: []kiosk.Action{main}}
	}
	b.draw(page(1, kiosk.TurnOfficer, kiosk.ScreenHome, kiosk.ActionStart))
	b.press(fyne.KeyReturn)
	b.desk.take(t)
	b.Draw(page(2, kiosk.TurnCitizen, kiosk.ScreenWelcome, kiosk.ActionContinue))
	b.press(fyne.KeyReturn)
	if c := b.coverOf(b.shown); c != toCitizen {
		t.Fatalf("the second half of a double tap leaves cover %d", c)
	}
	b.now = b.now.Add(2 * StrikeGuard)
	b.press(fyne.KeyReturn)
	if c := b.coverOf(b.shown); c != open {
		t.Fatalf("the citizen's tap leaves cover %d", c)
	}
	b.press(fyne.KeyReturn)
	b.desk.none(t)
	b.now = b.now.Add(2 * StrikeGuard)
	b.press(fyne.KeyReturn)
	if in := b.desk.take(t); in.Action != kiosk.ActionContinue {
		t.Errorf("sent %s", in.Action)
	}
}

// A display that becomes the only one, or gets its pair back, shows at no moment
// what is not its side's; what was typed on it is gone.
func TestDisplayComesAndGoes(t *testing.T) {
	b := newBench(t, large)
	b.Serve(Citizen)
	pin := kiosk.State{Number: 3, Revision: 3, Screen: kiosk.ScreenChoosePIN, Turn: kiosk.TurnCitizen, Language: "en", Main: kiosk.ActionPIN,
		Actions: []kiosk.Action{kiosk.ActionPIN}, PIN: &kiosk.PINView{Min: 6, Max: 8}}
	b.draw(pin)
	b.typeText("8024")
	for _, c := range []struct {
		side Side
		want cover
	}{{Nobody, waiting}, {Citizen, open}, {Turned, toCitizen}, {Officer, other}, {Turned, toCitizen}, {Citizen, open}} {
		b.Serve(c.side)
		if got := b.coverOf(b.shown); got != c.want || (b.page.entry != nil) != (c.want == open) {
			t.Errorf("side %s has cover %d, want %d", c.side, got, c.want)
		}
		if b.local.typed.n != 0 {
			t.Error("digits of the display before are there")
		}
	}
}

// Windows end when an officer closes them, and not for one that was closed
// before they began.
func TestClosedByAnOfficer(t *testing.T) {
	ended := 0
	b := newBench(t, large)
	b.o.Closed = func() { ended++ }
	s := kiosk.State{Number: 1, Revision: 1, Screen: kiosk.ScreenHome, Turn: kiosk.TurnOfficer, Language: "en", Closed: 4}
	b.draw(s)
	b.Draw(s)
	if ended != 0 {
		t.Fatal("a window ends for what came before it")
	}
	s.Number, s.Closed = 2, 5
	b.draw(s)
	if ended != 1 {
		t.Errorf("ended %d times", ended)
	}
}

// covers are one of each kind: whose window, who is in front of it, and what for.
var covers = []struct {
	name    string
	side    Side
	front   kiosk.Audience
	state   kiosk.State
	cover   cover
	drawing string
}{
	{"to-officer", Turned, kiosk.AudienceCitizen, kiosk.State{Screen: kiosk.ScreenCompare, Turn: kiosk.TurnOfficer}, toOfficer, "turn-to-officer"},
	{"to-citizen", Turned, kiosk.AudienceOfficer, kiosk.State{Screen: kiosk.ScreenWelcome, Turn: kiosk.TurnCitizen}, toCitizen, "turn-to-citizen"},
	{"waiting", Citizen, kiosk.AudienceBoth, kiosk.State{Screen: kiosk.ScreenCompare, Turn: kiosk.TurnOfficer}, waiting, "officer-at-work"},
	{"idle", Citizen, kiosk.AudienceBoth, kiosk.State{Screen: kiosk.ScreenHome, Turn: kiosk.TurnOfficer}, idle, "welcome"},
	{"other", Officer, kiosk.AudienceBoth, kiosk.State{Screen: kiosk.ScreenChoosePIN, Turn: kiosk.TurnCitizen}, other, "citizen-at-work"},
}

// Every cover has its own drawing, and is whole on one page, in every language and
// size of text.
func TestCoversFit(t *testing.T) {
	for _, size := range []fyne.Size{large, least, full} {
		for _, percent := range TextSizes() {
			b := newBench(t, size)
			b.look(Look{Text: percent})
			for _, l := range words.Languages() {
				for i, c := range covers {
					s := c.state
					s.Number, s.Language, s.Languages, s.Simulated = uint64(i+1), l, words.Languages(), true
					b.Serve(c.side)
					b.front, b.found = c.front, true
					b.draw(s)
					b.fits()
					if got := b.coverOf(b.shown); got != c.cover || !slices.Equal(b.drawings(), []string{c.drawing}) {
						t.Errorf("%v %d %% %s: cover %s is %d with %v", size, percent, l, c.name, got, b.drawings())
					}
					if b.button(b.book(l).Label(words.PageOn, nil)) != nil {
						t.Errorf("%v %d %% %s: cover %s has several pages", size, percent, l, c.name)
					}
				}
			}
		}
	}
}

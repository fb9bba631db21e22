package ui

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
)

const (
	pin     = "739105"
	custody = "39402174"
	text    = "L898902C3"
	zone    = td1a + td1b + td1c
	note    = "ADOPTION 12/2026"
	code28  = "7X2RPJE51YQTS9TBPDZ3K6E30M8H"
	proof   = "c2sp.org/tlog-proof@v1\nextra 5bhMifYkpAzf3Axto8nwtHzlh+2uARe4yLfAqVI9tcQ=\nindex 4\n"
)

// reach brings the page to where an action's button can be pressed: digits
// typed, pages turned, the question asked once more.
func (b *bench) reach(a kiosk.Action, s kiosk.State) (button string, want kiosk.Intent) {
	w := b.book(s.Language)
	want = kiosk.Intent{State: s.Number, Action: a}
	button = w.Action(a)
	for b.button(w.Label(words.PageOn, nil)) != nil && (a == kiosk.ActionAccept || a == kiosk.ActionSign) {
		b.tap(w.Label(words.PageOn, nil))
	}
	switch a {
	case kiosk.ActionChoose:
		want.Choice = "zh"
		if s.Language == "zh" {
			want.Choice = "en"
		}
		button = b.book(want.Choice).Name()
		if b.button(button) == nil { // several others stand on a page of their own
			b.tap(w.Name())
			b.desk.none(b.t)
			b.fits()
		}
	case kiosk.ActionAccept, kiosk.ActionRefuse:
		want.Choice = s.Consent.ID
	case kiosk.ActionSignOn, kiosk.ActionApprove, kiosk.ActionPIN, kiosk.ActionEnterCAN:
		b.typeText(pin)
	case kiosk.ActionNumber:
		b.typeText(custody)
	case kiosk.ActionGiveCode:
		b.typeText(strings.ToLower(code28))
	case kiosk.ActionNote:
		b.typeText(strings.ToLower(note))
	case kiosk.ActionScan:
		b.scan(proof)
	case kiosk.ActionEnterMRZ:
		if b.button(w.Label(words.UseMRZ, nil)) != nil {
			b.tap(w.Label(words.UseMRZ, nil))
		}
		b.touchField(0)
		b.typeText(strings.ToLower(text))
		b.press(fyne.KeyReturn)
		b.typeText("740812")
		b.tap(w.Label(words.NextField, nil))
		b.typeText("320415")
	case kiosk.ActionScanMRZ:
		b.keys(zone)
	case kiosk.ActionFind:
		want.Secret = secret.FromString(custody)
		if s.Screen == kiosk.ScreenSetAside { // each record is a button
			r := s.Records[0]
			want.Secret = secret.FromString(r.ID)
			button = r.ID[:8] + " · " + r.Saved.Local().Format("01-02 15:04") + " · " + w.Rejection(kiosk.RejectionOf(r.Code))
			break
		}
		b.typeText(custody)
	case kiosk.ActionPrint, kiosk.ActionWrite:
		if s.Record != nil || s.Day != nil {
			want.Choice = s.Language
		}
	case kiosk.ActionDecline, kiosk.ActionDoubtPerson:
		b.tap(button)
		b.desk.none(b.t)
		b.fits()
	}
	return button, want
}

// scan types a text as a scanner does, and waits until it must have come to its end.
func (b *bench) scan(text string) {
	for _, r := range text {
		b.now = b.now.Add(5 * time.Millisecond)
		switch r {
		case '\n':
			b.press(fyne.KeyReturn)
		case ' ':
			b.press(fyne.KeySpace)
			b.keys(" ")
		default:
			b.keys(string(r))
		}
	}
	b.now = b.now.Add(2 * scanQuiet)
	b.UI.draw(b.shown)
}

func equal(t *testing.T, name string, got, want kiosk.Intent) {
	t.Helper()
	if got.State != want.State || got.Action != want.Action || got.Choice != want.Choice {
		t.Errorf("%s: sent %s for state %d, choice %q; want %s, %d, %q", name, got.Action, got.State, got.Choice, want.Action, want.State, want.Choice)
	}
	secret, mrz := "", false
	switch want.Action {
	case kiosk.ActionSignOn, kiosk.ActionApprove, kiosk.ActionPIN, kiosk.ActionEnterCAN:
		secret = pin
	case kiosk.ActionNumber:
		secret = custody
	case kiosk.ActionGiveCode:
		secret = code28
	case kiosk.ActionNote:
		secret = note
	case kiosk.ActionScan:
		secret = proof
	case kiosk.ActionEnterMRZ:
		mrz = true
	case kiosk.ActionScanMRZ:
		secret = zone + "\n"
	case kiosk.ActionFind:
		secret = string(want.Secret.Reveal())
	}
	if string(got.Secret.Reveal()) != secret {
		t.Errorf("%s: the wrong digits were sent", name)
	}
	if (got.MRZ != nil) != mrz {
		t.Fatalf("%s: printed lines sent: %v", name, got.MRZ != nil)
	}
	if mrz && (string(got.MRZ.Number.Reveal()) != text || string(got.MRZ.Birth.Reveal()) != "740812" || string(got.MRZ.Expiry.Reveal()) != "320415") {
		t.Errorf("%s: the wrong lines were sent", name)
	}
}

// doable says whether the page has what an action takes: an officer's PIN waits
// for the card.
func (b *bench) doable(a kiosk.Action) bool {
	s := b.shown.state
	return a != kiosk.ActionApprove && a != kiosk.ActionSignOn || s.Health.Readers[kiosk.DeviceOfficer] == kiosk.ReaderCard
}

// Each action of each screen has one button, and pressing it sends one intent
// with exactly its fields.
func TestEveryButtonSendsItsIntent(t *testing.T) {
	for _, l := range words.Languages() {
		b := newBench(t, least)
		for _, s := range samples.All(l) {
			for _, a := range s.State.Actions {
				b.draw(kiosk.State{Screen: kiosk.ScreenHome, Language: l})
				b.draw(s.State)
				if !b.doable(a) {
					continue
				}
				name, want := b.reach(a, s.State)
				switch a {
				case kiosk.ActionScan: // by itself
				case kiosk.ActionScanMRZ:
					b.press(fyne.KeyReturn)
				default:
					b.tap(name)
				}
				equal(t, l+" "+s.Name+" "+string(a), b.desk.take(t), want)
			}
		}
	}
}

// The same with the keyboard alone: Tab to the button, then Return, keypad
// Enter, or Space.
func TestTheKeyboardReachesEverything(t *testing.T) {
	keys := []fyne.KeyName{fyne.KeyReturn, fyne.KeyEnter, fyne.KeySpace}
	b := newBench(t, least)
	i := 0
	for _, s := range samples.All("en") {
		for _, a := range s.State.Actions {
			b.draw(kiosk.State{Screen: kiosk.ScreenHome, Language: "en"})
			b.draw(s.State)
			if a == kiosk.ActionScanMRZ || a == kiosk.ActionScan || !b.doable(a) {
				continue
			}
			name, want := b.reach(a, s.State)
			target := b.button(name)
			if target == nil {
				t.Fatalf("%s: no button %q", s.Name, name)
			}
			for range 100 {
				if b.w.Canvas().Focused() == fyne.Focusable(target) {
					break
				}
				b.w.Canvas().FocusNext()
			}
			if b.w.Canvas().Focused() != fyne.Focusable(target) {
				t.Fatalf("%s: Tab does not reach %q", s.Name, name)
			}
			b.press(keys[i%len(keys)])
			i++
			equal(t, s.Name+" "+string(a), b.desk.take(t), want)
		}
	}
}

// Tab goes through every control once, from the top of the window to its end,
// and around.
func TestTabOrder(t *testing.T) {
	b := newBench(t, large)
	for _, s := range samples.All("en") {
		b.draw(s.State)
		order := focusables(b.page.root)
		if len(order) == 0 {
			continue
		}
		c := b.w.Canvas()
		c.Focus(order[0])
		seen := []fyne.Focusable{order[0]}
		for c.FocusNext(); c.Focused() != order[0] && len(seen) < 200; c.FocusNext() {
			seen = append(seen, c.Focused())
		}
		if !slices.Equal(seen, order) {
			t.Errorf("%s: Tab visits %d of %d controls", s.Name, len(seen), len(order))
		}
	}
}

// The main button, or the boxes that take digits, have the focus as soon as a
// page is there, and also when a finger has touched beside everything.
func TestTheMainThingHasTheFocus(t *testing.T) {
	b := newBench(t, large)
	for _, s := range samples.All("en") {
		b.draw(s.State)
		if s.State.Main == "" || !b.doable(s.State.Main) {
			continue
		}
		f := b.w.Canvas().Focused()
		switch f := f.(type) {
		case *button:
			if f != b.page.main && s.State.Screen != kiosk.ScreenLanguage {
				t.Errorf("%s: %q has the focus", s.Name, f.text)
			}
		case *cells:
		default:
			t.Errorf("%s: nothing has the focus", s.Name)
		}
		b.w.Canvas().Unfocus()
		switch s.State.Main {
		case kiosk.ActionNumber, kiosk.ActionFind:
			b.typeText(custody)
		case kiosk.ActionGiveCode:
			b.typeText(code28)
		default:
			b.typeText(pin)
		}
		b.press(fyne.KeyReturn)
		if b.book("en").Action(s.State.Main) == "" || b.page.entry != nil && s.State.Main == kiosk.ActionEnterMRZ || b.button(b.book("en").Label(words.PageBack, nil)) != nil {
			b.desk.sent = nil
			continue
		}
		if len(b.desk.sent) != 1 || b.desk.sent[0].Action != s.State.Main {
			t.Errorf("%s: Return does not do the main thing", s.Name)
		}
		b.desk.sent = nil
	}
}

// On a page that waits for an officer's card, Enter does nothing: least of all
// does it end the enrollment.
func TestEnterEndsNothing(t *testing.T) {
	b := newBench(t, large)
	waiting := 0
	for _, s := range samples.All("en") {
		b.draw(s.State)
		if s.State.Main == "" || b.doable(s.State.Main) {
			continue
		}
		waiting++
		b.typeText(pin)
		b.press(fyne.KeyReturn)
		b.desk.none(t)
	}
	if waiting < 2 {
		t.Errorf("%d such pages", waiting)
	}
}

// Two taps on one button send two intents for the same state: the agent drops
// the second. A tap that the first one's new page catches is not sent at all.
func TestDoubleTaps(t *testing.T) {
	b := newBench(t, large)
	welcome := kiosk.State{Number: 7, Screen: kiosk.ScreenWelcome, Main: kiosk.ActionContinue, Actions: []kiosk.Action{kiosk.ActionContinue}, Language: "en"}
	b.draw(welcome)
	go_on := b.button(b.book("en").Action(kiosk.ActionContinue))
	test.Tap(go_on)
	test.Tap(go_on)
	if len(b.desk.sent) != 2 || b.desk.sent[0].State != 7 || b.desk.sent[1].State != 7 {
		t.Fatalf("a double tap sent %d intents", len(b.desk.sent))
	}
	b.desk.sent = nil

	review := kiosk.State{Number: 8, Screen: kiosk.ScreenConfirmData, Main: kiosk.ActionConfirmData, Actions: []kiosk.Action{kiosk.ActionConfirmData}, Language: "en", Holder: samples.Holder(nil)}
	b.Draw(review)
	sign := b.book("en").Action(kiosk.ActionConfirmData)
	for range 20 { // a finger that trembles, or a key held down
		b.now = b.now.Add(StrikeGuard / 2)
		b.tap(sign)
	}
	b.desk.none(t)
	b.now = b.now.Add(StrikeGuard)
	b.tap(sign)
	if in := b.desk.take(t); in.State != 8 {
		t.Errorf("sent for state %d", in.State)
	}
}

// What was typed is in one place, as bytes; it goes when it is sent, deleted,
// cleared, or when its page goes, and no text on the screen ever holds it.
func TestNothingTypedStays(t *testing.T) {
	var state kiosk.State
	for _, s := range samples.All("en") {
		if s.Name == "choose-pin-1" {
			state = s.State
		}
	}
	b := newBench(t, large)
	empty := func(when string) {
		t.Helper()
		if b.local.typed.n != 0 || !bytes.Equal(b.local.typed.b[:], make([]byte, longest)) {
			t.Errorf("digits are left %s", when)
		}
	}
	b.draw(state)
	for _, r := range pin {
		b.tap(string(r))
	}
	dots := 0
	for _, l := range leaves(b.page.root) {
		if x, ok := l.o.(*canvas.Text); ok && len(x.Text) > 1 && strings.Contains(x.Text, pin[:2]) {
			t.Errorf("%q shows digits", x.Text)
		}
		if _, ok := l.o.(*canvas.Circle); ok {
			if _, ok := l.in.(*cells); ok {
				dots++
			}
		}
	}
	if dots != len(pin) {
		t.Errorf("%d dots for %d digits", dots, len(pin))
	}
	w := b.book("en")
	b.tap(w.Label(words.KeyDelete, nil))
	if b.local.typed.n != len(pin)-1 || b.local.typed.b[len(pin)-1] != 0 {
		t.Error("a deleted digit is still there")
	}
	b.tap(w.Label(words.KeyClear, nil))
	empty("after Clear")

	b.typeText(pin[:3])
	b.tap(w.Action(kiosk.ActionPIN))
	b.desk.none(t)
	if want := w.Problem(kiosk.PINView{Min: 6, Max: 8, Problem: kiosk.PINTooShort}); !b.reads(want) {
		t.Errorf("three digits: %q is not said", want)
	}
	b.typeText(pin[3:] + "1234567")
	if b.local.typed.n != 8 {
		t.Errorf("%d digits taken, 8 allowed", b.local.typed.n)
	}
	b.tap(w.Label(words.KeyClear, nil))
	b.typeText(pin)
	b.tap(w.Action(kiosk.ActionPIN))
	sent := b.desk.take(t)
	if string(sent.Secret.Reveal()) != pin {
		t.Error("the wrong digits were sent")
	}
	empty("after they were sent")

	b.typeText(pin)
	next := state
	next.Number++
	next.Screen = kiosk.ScreenRepeatPIN
	b.draw(next)
	empty("on the next page")
	b.typeText(pin)
	b.UI.Wait()
	empty("when the agent is gone")

	// A number that the person copies from a card may be seen, one text a digit.
	for _, s := range samples.All("en") {
		if s.State.Screen != kiosk.ScreenAccessNumber {
			continue
		}
		b.draw(s.State)
		b.typeText("314159")
		for _, l := range leaves(b.page.root) {
			if x, ok := l.o.(*canvas.Text); ok && strings.Contains(x.Text, "31") {
				t.Errorf("%s: %q holds the number", s.Name, x.Text)
			}
		}
		b.draw(next)
		if b.local.typed.n+b.local.mrz[0].n != 0 || b.local.mrz != [3]entry{{max: mrzLongest}, {max: 6}, {max: 6}} {
			t.Errorf("%s: the number is left", s.Name)
		}
	}
}

// Health, progress and the clock come in while people type and press: what was
// typed stays, the focus stays, and a page that looks the same is not replaced
// under the finger.
func TestUpdatesDoNotDisturb(t *testing.T) {
	var state kiosk.State
	for _, s := range samples.All("en") {
		if s.Name == "choose-pin-1" {
			state = s.State
		}
	}
	b := newBench(t, large)
	b.draw(state)
	b.typeText(pin[:4])
	key := b.button("5")
	b.w.Canvas().Focus(key)
	state.Revision++
	state.Health.Queued = 12
	b.draw(state)
	if b.button("5") != key || b.w.Canvas().Focused() != fyne.Focusable(key) {
		t.Error("the page was replaced though nothing on it changed")
	}
	state.Revision++
	state.Fault = &kiosk.Fault{Code: kiosk.CodeTokenRemoved}
	b.draw(state)
	if b.local.typed.n != 4 {
		t.Error("what was typed is lost")
	}
	if f, ok := b.w.Canvas().Focused().(*button); !ok || f.text != "5" {
		t.Error("the focus went elsewhere")
	}
	b.w.Resize(least)
	b.draw(state)
	b.fits()
}

// An officer's card that is taken away takes the boxes for its PIN along. The
// focus goes with them: a Return on its way must press nothing.
func TestTheFocusGoesWithTheCard(t *testing.T) {
	for _, s := range samples.All("en") {
		if s.State.Screen != kiosk.ScreenApprove && s.State.Screen != kiosk.ScreenSecondOfficer {
			continue
		}
		state := s.State
		show := func(b *bench, officer kiosk.ReaderState) {
			state.Health.Readers = map[kiosk.Device]kiosk.ReaderState{kiosk.DeviceOfficer: officer}
			state.Revision++
			b.draw(state)
		}
		b := newBench(t, large)
		show(b, kiosk.ReaderCard)
		if b.w.Canvas().Focused() == nil {
			continue // no PIN is asked for
		}
		show(b, kiosk.ReaderEmpty)
		if f := b.w.Canvas().Focused(); f != nil {
			t.Errorf("%s: without the card %v has the focus", s.Name, f)
		}
		b.press(fyne.KeyReturn)
		b.desk.none(t)
		show(b, kiosk.ReaderCard)
		if f := b.w.Canvas().Focused(); f != fyne.Focusable(b.page.entry) {
			t.Errorf("%s: with the card again %v has the focus", s.Name, f)
		}
	}
}

// The picture goes with its page: pixels overwritten, and nothing on the stage
// refers to it.
func TestThePictureGoes(t *testing.T) {
	b := newBench(t, large)
	for _, s := range samples.All("en") {
		if s.Name != "compare-1" && s.Name != "second-officer-1-card" && s.Name != "second-officer-2-pin" && s.Name != "confirm-data" {
			continue
		}
		b.draw(s.State)
		if len(b.page.photos) != 1 || b.shown.face == nil {
			t.Fatalf("%s: no picture", s.Name)
		}
		photo, face := b.page.photos[0], b.shown.face
		b.draw(kiosk.State{Number: 999, Screen: kiosk.ScreenWelcome, Language: "en"})
		if photo.Image != nil {
			t.Errorf("%s: the page keeps the picture", s.Name)
		}
		for y := range face.Bounds().Dy() {
			for x := range face.Bounds().Dx() {
				if face.At(x, y) != (color.NRGBA{}) {
					t.Fatalf("%s: pixels are left", s.Name)
				}
			}
		}
		for _, read := range b.texts() {
			if strings.Contains(read, samples.Surname) {
				t.Errorf("%s: the name is left", s.Name)
			}
		}
	}
}

// A picture that is no PNG, or a monstrous one, is a sentence and no fault.
func TestPicturesThatCannotBeShown(t *testing.T) {
	good := samples.Face()
	huge := bytes.Clone(good)
	copy(huge[16:], []byte{0, 1, 0, 0, 0, 1, 0, 0}) // IHDR: 65536 by 65536
	var encoded bytes.Buffer
	if err := jpeg.Encode(&encoded, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, large)
	for name, face := range map[string][]byte{
		"JPEG": encoded.Bytes(), "JPEG 2000": []byte("\x00\x00\x00\x0cjP  \r\n\x87\n"), "cut": good[:len(good)/2], "huge": huge, "too long": make([]byte, maxFaceBytes+1),
	} {
		s := kiosk.State{Number: 5, Screen: kiosk.ScreenCompare, Language: "en", Holder: samples.Holder(face)}
		b.draw(s)
		if b.shown.face != nil || !b.reads(b.book("en").Label(words.NoPhoto, nil)) {
			t.Errorf("%s: no sentence in place of the picture", name)
		}
		b.draw(kiosk.State{Number: 6, Screen: kiosk.ScreenHome, Language: "en"})
	}
}

// A step that runs long is said to be slow; progress starts the count anew.
func TestSlowStepsAreSaid(t *testing.T) {
	b := newBench(t, large)
	s := kiosk.State{Number: 5, Screen: kiosk.ScreenReading, Language: "en", Steps: []kiosk.Step{{Name: kiosk.StepReadCard, Status: kiosk.StepRunning, Total: 10}}}
	slow := b.book("en").Label(words.Slow, nil)
	b.Draw(s)
	b.now = b.now.Add(slowAfter - time.Second)
	b.Draw(s)
	if b.reads(slow) {
		t.Error("slow too early")
	}
	b.now = b.now.Add(2 * time.Second)
	b.Draw(s)
	if !b.reads(slow) {
		t.Error("not said to be slow")
	}
	s.Steps = []kiosk.Step{{Name: kiosk.StepReadCard, Status: kiosk.StepRunning, Done: 1, Total: 10}}
	b.Draw(s)
	if b.reads(slow) {
		t.Error("still slow though it goes on")
	}
}

// script is a desk whose agent comes and goes.
type script struct {
	recorder
	mu    sync.Mutex
	tries int
	feed  chan chan kiosk.State
}

var errNobody = errors.New("nobody there")

func (s *script) States(ctx context.Context) (<-chan kiosk.State, error) {
	s.mu.Lock()
	s.tries++
	first := s.tries == 1
	s.mu.Unlock()
	if first {
		return nil, errNobody
	}
	ch := make(chan kiosk.State)
	select {
	case s.feed <- ch:
		return ch, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// With an agent that answers, its page is the first that is drawn. One that says
// nothing is waited for, visibly.
func TestFirstPage(t *testing.T) {
	for name, state := range map[string]*kiosk.State{"answers": {Number: 1, Screen: kiosk.ScreenHome, Language: "en"}, "says nothing": nil} {
		t.Run(name, func(t *testing.T) {
			test.NewTempApp(t)
			w := test.NewTempWindow(t, nil)
			w.Resize(large)
			u := New(silent{state}, w, Options{})
			work := make(chan func(), 10)
			u.do = func(f func()) { work <- f }
			go u.Run(t.Context())
			(<-work)()
			b := &bench{UI: u, t: t}
			if waits := b.reads(u.book("en").Label(words.AgentTitle, nil)); u.shown.agent != (state != nil) || waits == (state != nil) {
				t.Errorf("first drawn: %v", b.texts())
			}
		})
	}
}

// silent is a desk with one state at most.
type silent struct{ state *kiosk.State }

func (s silent) States(context.Context) (<-chan kiosk.State, error) {
	ch := make(chan kiosk.State, 1)
	if s.state != nil {
		ch <- *s.state
	}
	return ch, nil
}

func (silent) Send(context.Context, kiosk.Intent) error { return nil }

// A window waits for its agent, shows its states, waits again when it is gone,
// and goes on when it is back. A flood of states costs few drawings, and the
// last one is drawn.
func TestRun(t *testing.T) {
	test.NewTempApp(t)
	w := test.NewTempWindow(t, nil)
	w.Resize(large)
	desk := &script{feed: make(chan chan kiosk.State)}
	u := New(desk, w, Options{})
	work := make(chan func(), 100000)
	u.do = func(f func()) { work <- f }
	waits := u.book("en").Label(words.AgentTitle, nil)
	b := &bench{UI: u, t: t}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()

	until := func(what string, ok func() bool) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for !ok() {
			select {
			case f := <-work:
				f()
			case <-limit:
				t.Fatalf("%s: never", what)
			}
		}
	}
	until("a page that says that there is no agent", func() bool { return b.reads(waits) })
	states := <-desk.feed
	states <- kiosk.State{Number: 1, Screen: kiosk.ScreenHome, Language: "en"}
	until("first state", func() bool { return u.shown.agent && u.shown.state.Number == 1 })

	before := len(work)
	for i := range 1000 {
		states <- kiosk.State{Number: uint64(2 + i), Screen: kiosk.ScreenHome, Language: "en"}
	}
	if n := len(work) - before; n > 2 {
		t.Errorf("1000 states queued %d drawings", n)
	}
	until("last state", func() bool { return u.shown.state.Number == 1001 })

	close(states)
	until("waiting page", func() bool { return b.reads(waits) })
	states = <-desk.feed
	states <- kiosk.State{Number: 1, Screen: kiosk.ScreenWelcome, Language: "en"}
	until("state of the new agent", func() bool { return u.shown.agent && u.shown.state.Screen == kiosk.ScreenWelcome })
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not end")
	}
	until("blank at the end", func() bool { return b.reads(waits) })
}

// A window that is dragged while a new state waits to be drawn shows that
// state, not the old one once more.
func TestResizingDoesNotBringBackAnOldState(t *testing.T) {
	b := newBench(t, large)
	var work []func()
	b.do = func(f func()) { work = append(work, f) }
	b.draw(kiosk.State{Number: 1, Screen: kiosk.ScreenHome, Language: "en"})
	b.show(&scene{agent: true, state: kiosk.State{Number: 2, Screen: kiosk.ScreenWelcome, Language: "en"}})
	b.w.Resize(least)
	for _, f := range work {
		f()
	}
	if b.shown.state.Number != 2 {
		t.Errorf("state %d is shown", b.shown.state.Number)
	}
	b.fits()
}

// The officer's pages keep the officer's language.
func TestOfficersLanguage(t *testing.T) {
	b := newBench(t, large)
	b.o.OfficerLanguage = "en"
	b.draw(kiosk.State{Number: 1, Screen: kiosk.ScreenHome, Turn: kiosk.TurnOfficer, Language: "zh"})
	if !b.reads(b.book("en").Title(kiosk.ScreenHome)) {
		t.Error("the officer's page is in the citizen's language")
	}
	b.draw(kiosk.State{Number: 2, Screen: kiosk.ScreenWelcome, Turn: kiosk.TurnCitizen, Language: "zh"})
	if !b.reads(b.book("zh").Title(kiosk.ScreenWelcome)) {
		t.Error("the citizen's page is in the officer's language")
	}
}

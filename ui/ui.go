// Package ui draws the states of the kiosk in a Fyne window and sends back what
// people do. It holds no rule of the enrollment: what can be done, whose turn
// it is and which button is the main one stand in [kiosk.State]; every sentence
// stands in kiosk/words.
//
// Kept throughout: one place hands work to Fyne's goroutine, and only the newest state is ever
// drawn. PINs, access numbers and machine-readable lines are typed into byte
// arrays of ours, wiped when they are sent and when their page goes. The picture
// of a citizen goes with its page. Nothing scrolls: pages are turned with
// buttons, and nothing that can be pressed is smaller than a finger. Everything
// works with the keyboard alone.
//
// The package does not reach fyne/app and builds without cgo; mains that open a
// window import that.
package ui

import (
	"context"
	"image"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// StrikeGuard is how long after one action another is taken for the same finger:
// the second half of a double tap, or a key that repeats, must not press a
// button of the page that the first half brought. Repeats of an action on the
// same state are sent; the agent drops them.
const StrikeGuard = 400 * time.Millisecond

// slowAfter is when a running step is said to take longer than usual.
const slowAfter = 10 * time.Second

// waitAfter is when a window that has nothing to draw yet shows that it waits. An
// agent that runs has answered by then, and its page comes first.
const waitAfter = 250 * time.Millisecond

// retryEvery is how often a window without an agent looks for one.
const retryEvery = time.Second

// tick is how often the clock in the corner is drawn. It also lets Fyne forget
// texts and pictures that are gone: it does so only while it repaints.
const tick = 5 * time.Second

// forgetAfter is when memory that held a picture is collected: Fyne has drawn
// the next page by then and let go of the one before.
const forgetAfter = time.Second

// Options change a window. The zero value is a window for one language.
type Options struct {
	// OfficerLanguage is the language of the officer's pages; "" shows them in
	// the citizen's.
	OfficerLanguage string
	// Waiting is the language of the page that is shown while there is no agent;
	// "" is the first of words.Languages.
	Waiting string
	// Look is how the window looks until somebody changes it.
	Look Look
	// Speaker reads pages aloud to who asks for it; nil: there is none.
	Speaker Speaker
	// Keyboard shows keys for letters even before a finger has opened a field.
	Keyboard bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Do has a function run on the goroutine that the window belongs to; nil is
	// fyne.Do.
	Do func(func())
	// Attend is called when somebody in front of this window is asked something:
	// the keyboard belongs here. nil does nothing.
	Attend func()
	// Closed is called when an officer has closed the kiosk's windows. nil does
	// nothing.
	Closed func()
}

// Stage is the part of a fyne.Window that is drawn on.
type Stage interface {
	Canvas() fyne.Canvas
	SetContent(fyne.CanvasObject)
}

// UI draws one desk in one window. Its methods other than Run belong to Fyne's
// goroutine.
type UI struct {
	desk  kiosk.Desk
	stage Stage
	o     Options
	books map[string]*words.Catalog
	kept  map[string]*canvas.Image // illustrations by name and size
	do    func(func())             // fyne.Do
	after func(time.Duration, func())

	mu        sync.Mutex // guards what Run hands to Fyne's goroutine
	next      *scene
	scheduled bool
	handed    bool // there was something to draw

	side   Side
	front  kiosk.Audience // Turned: who is in front; AudienceBoth: nobody knows
	found  bool           // front was noted once
	raised time.Time      // when a cover was put on
	shown  *scene         // on the stage, once drawn
	drawn  bool           // something is
	local  local          // what was typed and chosen here on the page shown
	page   built          // its objects
	last   strike

	officer, citizen access // what each has changed about the window
	said             string // question, language and sentences read aloud last
	silent           bool   // nothing is being said
}

// scene is one thing to draw: a state with its picture decoded, or none: no
// agent.
type scene struct {
	agent bool
	state kiosk.State
	face  image.Image
}

type strike struct {
	at     time.Time
	number uint64
}

// New makes a UI for desk on stage, usually a fyne.Window, and gives Fyne its
// theme. Nothing is drawn before Run, Draw or Wait. Call it on Fyne's goroutine
// before the window is shown.
func New(desk kiosk.Desk, stage Stage, o Options) *UI {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Waiting == "" {
		o.Waiting = words.Languages()[0]
	}
	if o.Do == nil {
		o.Do = fyne.Do
	}
	u := &UI{desk: desk, stage: stage, o: o, books: map[string]*words.Catalog{}, kept: map[string]*canvas.Image{}, do: o.Do,
		after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
	if settings := fyne.CurrentApp().Settings(); settings.Theme() == nil || !ours(settings.Theme()) {
		settings.SetTheme(Theme())
	}
	if w, ok := stage.(interface{ SetPadded(bool) }); ok {
		w.SetPadded(false)
	}
	u.shown, u.page.root, u.silent = &scene{}, new(fyne.Container), true
	u.officer, u.citizen = access{Look: o.Look}, access{Look: o.Look}
	stage.Canvas().SetOnTypedKey(u.strayKey)
	stage.Canvas().SetOnTypedRune(u.strayRune)
	return u
}

// Run draws states until ctx ends. While the desk has none to give it shows
// that it waits and asks again. Call it on a goroutine of its own.
func (u *UI) Run(ctx context.Context) error {
	clock := time.NewTicker(tick)
	defer clock.Stop()
	defer u.show(&scene{})
	defer time.AfterFunc(waitAfter, func() { u.hand(&scene{}, true) }).Stop()
	var faces faceCache
	for {
		attempt, cancel := context.WithCancel(ctx)
		if states, err := u.desk.States(attempt); err == nil {
			u.follow(attempt, states, clock.C, &faces)
		}
		cancel()
		faces.drop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		u.show(&scene{})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryEvery):
		}
	}
}

// follow draws states until there are no more.
func (u *UI) follow(ctx context.Context, states <-chan kiosk.State, clock <-chan time.Time, faces *faceCache) {
	var current *scene
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-states:
			if !ok {
				return
			}
			current = &scene{agent: true, state: s, face: faces.decode(s.Holder)}
			u.show(current)
		case <-clock:
			if current != nil {
				u.show(current)
			}
		}
	}
}

// show hands a scene to Fyne's goroutine. Scenes that were not drawn yet are
// replaced, so a flood of states costs one drawing. nil draws again what is shown.
func (u *UI) show(s *scene) { u.hand(s, false) }

// hand is all that gives Fyne's goroutine something to draw. first: unless there
// was something before.
func (u *UI) hand(s *scene, first bool) {
	u.mu.Lock()
	if first && u.handed {
		u.mu.Unlock()
		return
	}
	u.handed = true
	if s != nil {
		u.next = s
	}
	queued := u.scheduled
	u.scheduled = true
	u.mu.Unlock()
	if queued {
		return
	}
	u.do(func() {
		u.mu.Lock()
		s := u.next
		u.next, u.scheduled = nil, false
		u.mu.Unlock()
		if s == nil {
			s = u.shown
		}
		u.draw(s)
	})
}

// Draw draws one state at once.
func (u *UI) Draw(s kiosk.State) {
	var f faceCache
	u.draw(&scene{agent: true, state: s, face: f.decode(s.Holder)})
}

// Wait draws at once that there is no agent.
func (u *UI) Wait() { u.draw(&scene{}) }

func (u *UI) draw(s *scene) {
	old, first := u.shown, !u.drawn
	u.drawn = true
	u.meet(s)
	if old.agent && s.agent && s.state.Closed > old.state.Closed && u.o.Closed != nil {
		u.o.Closed()
	}
	if !first && old.agent == s.agent && old.state.Number == s.state.Number && old.state.Screen == s.state.Screen &&
		u.page.size == u.stage.Canvas().Size() && u.page.slow == u.slow(s) && reflect.DeepEqual(visible(old), visible(s)) {
		u.shown = s
		u.settle()
		u.page.tick(u.o.Now())
		return
	}
	asked := !old.agent || old.state.Number != s.state.Number || old.state.Screen != s.state.Screen
	if asked {
		u.local.reset(s.state)
	}
	if !s.agent || between(s.state) {
		u.citizen = access{Look: u.o.Look} // the next person has not asked for it
	}
	u.shown = s
	u.rebuild(asked)
	if old.face != nil && old.face != s.face {
		wipePicture(old.face)
		// What scaled and drew it made copies, which would lie about until memory is
		// short. After the next frame nothing uses them.
		u.after(forgetAfter, debug.FreeOSMemory)
	}
}

// visible is what a page shows of a scene. A page is built anew only when this
// changed: a button that is replaced under a finger loses the tap.
func visible(s *scene) kiosk.State {
	v := s.state
	v.Number, v.Revision = 0, 0
	if v.Screen != kiosk.ScreenHome {
		v.Health = kiosk.Health{}
		if r, ok := s.state.Health.Readers[v.Waiting]; ok {
			v.Health.Readers = map[kiosk.Device]kiosk.ReaderState{v.Waiting: r}
		}
	}
	return v
}

// rebuild draws the page shown from its state and what was typed here. fresh
// says that it is another question than before; otherwise the focus stays, if
// the page still offers the same things: in its place there may be a button by
// now that nobody chose.
func (u *UI) rebuild(fresh bool) {
	if !u.drawn {
		return
	}
	cv := u.stage.Canvas()
	place, offered := -1, 0
	if !fresh {
		before := focusables(u.page.root)
		place, offered = slices.Index(before, cv.Focused()), len(before)
	}
	u.page.forget()
	u.page = u.build(cv.Size())
	u.stage.SetContent(u.page.root)
	u.speak()
	switch all := focusables(u.page.root); {
	case place >= 0 && len(all) == offered:
		cv.Focus(all[place])
	case u.page.focus != nil:
		cv.Focus(u.page.focus)
	default:
		cv.Unfocus()
	}
	if fresh {
		u.raised = u.o.Now()
	}
	if fresh && u.o.Attend != nil && u.Asks() {
		u.o.Attend()
	}
}

// slow says whether the running step of s has taken long.
func (u *UI) slow(s *scene) bool {
	for _, st := range s.state.Steps {
		if st.Status == kiosk.StepRunning {
			return u.local.running(st.Name, st.Done, u.o.Now()) > slowAfter
		}
	}
	return false
}

// act sends an intent for the state shown.
func (u *UI) act(in kiosk.Intent) {
	if !u.shown.agent {
		return
	}
	in.State = u.shown.state.Number
	now := u.o.Now()
	stray := now.Sub(u.last.at) < StrikeGuard && u.last.number != in.State
	u.last.at = now
	if stray {
		in.Wipe()
		return
	}
	u.last.number = in.State
	if err := u.desk.Send(context.Background(), in); err != nil {
		in.Wipe()
	}
}

// strayKey and strayRune take keys that nothing focused wanted.
func (u *UI) strayKey(k *fyne.KeyEvent) {
	switch {
	case u.page.entry != nil:
		u.page.entry.TypedKey(k)
	case u.page.listener != nil && u.page.listener.key(k):
	case k.Name == fyne.KeyReturn || k.Name == fyne.KeyEnter:
		if u.page.main != nil {
			u.page.main.act()
		}
	}
}

func (u *UI) strayRune(r rune) {
	switch {
	case u.page.entry != nil:
		u.page.entry.TypedRune(r)
	case u.page.listener != nil:
		u.page.listener.character(r)
	}
}

// book returns the catalogue of a language, or of the first one.
func (u *UI) book(language string) *words.Catalog {
	if c := u.books[language]; c != nil {
		return c
	}
	c, err := words.Open(language)
	if err != nil {
		if c, err = words.Open(words.Languages()[0]); err != nil {
			panic("ui: " + err.Error()) // embedded, and held complete by its tests
		}
	}
	u.books[language] = c
	return c
}

// focusables lists what can have the focus, in the order of Tab.
func focusables(o fyne.CanvasObject) []fyne.Focusable {
	var all []fyne.Focusable
	visit(o, func(o fyne.CanvasObject) {
		if f, ok := o.(fyne.Focusable); ok && o.Visible() {
			all = append(all, f)
		}
	})
	return all
}

func visit(o fyne.CanvasObject, f func(fyne.CanvasObject)) {
	if o == nil {
		return
	}
	f(o)
	if c, ok := o.(*fyne.Container); ok {
		for _, child := range c.Objects {
			visit(child, f)
		}
	}
}

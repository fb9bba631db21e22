// Package monkey_test lets a monkey loose on the kiosk: it taps and types at random,
// and puts cards in and takes them out, at a window in memory, with the whole
// kiosk behind it.
package monkey_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/simulators/idcard"
	"enrollkiosk/simulators/pcscd"
	"enrollkiosk/simulators/pivtoken"
	"enrollkiosk/simulators/specimen"
	"enrollkiosk/ui"
)

var (
	events = flag.Int("events", 10_000, "what the monkey does")
	seed   = flag.Uint64("seed", rand.Uint64(), "of its moods")

	daemon  *pcscd.Server
	issuers *specimen.Authority
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		started, dir, err := pcscd.Private()
		if err != nil {
			panic(err)
		}
		daemon = started
		defer daemon.Close()
		if issuers, err = specimen.Open(filepath.Join(dir, "issuers")); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// ownPIN is what the monkey chooses when it means to.
const ownPIN = "802469"

// monkey sits at a window. All but its desk belongs to the test's goroutine.
type monkey struct {
	*stage.Stage
	t      *testing.T
	r      *rand.Rand
	w      fyne.Window
	work   chan func() // for the goroutine that the window belongs to
	states <-chan kiosk.State
	state  kiosk.State
	number int // of citizens
	seen   map[kiosk.Screen]int
	did    []string // of late
}

func newMonkey(t *testing.T) *monkey {
	dir, err := os.MkdirTemp("", "monkey") // a path short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	limits := kiosk.DefaultLimits()
	limits.Delivery, limits.Card, limits.Token, limits.Touch = 3*time.Second, 5*time.Second, 5*time.Second, 2*time.Second
	s, err := stage.New(t.Context(), daemon, dir, stage.Options{Prefix: "Monkey", Limits: limits, Issuers: issuers,
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stage: %v", err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := &monkey{Stage: s, t: t, r: rand.New(rand.NewPCG(*seed, 1)), work: make(chan func(), 64), seen: map[kiosk.Screen]int{}}
	test.NewTempApp(t)
	m.w = test.NewTempWindow(t, nil)
	m.w.Resize(fyne.NewSize(1280, 800))
	ctx, cancel := context.WithCancel(t.Context())
	// The window takes what follows at once for the same finger; a monkey is so quick
	// that it would never do a second thing.
	began := time.Now()
	now := func() time.Time { return began.Add(200 * time.Since(began)) }
	u := ui.New(s.Kiosk.Desk(), m.w, ui.Options{Now: now, Do: func(f func()) {
		select {
		case m.work <- f:
		case <-ctx.Done():
		}
	}})
	ended := make(chan error)
	go func() { ended <- u.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	if m.states, err = s.Kiosk.Desk().States(ctx); err != nil {
		t.Fatal(err)
	}
	m.citizen()
	m.officer()
	return m
}

// citizen is another one, with card and token.
func (m *monkey) citizen() {
	m.number++
	who := idcard.SpecimenPerson()
	who.Number, who.GivenNames, who.CAN = fmt.Sprintf("M%08d", m.number), "ANNA "+string(rune('A'+m.number%26)), fmt.Sprintf("%06d", 100000+m.number)
	m.Take(kiosk.DeviceDocument)
	m.Take(kiosk.DeviceToken)
	if err := m.IssueCard(who, idcard.Options{}); err != nil {
		m.t.Fatal(err)
	}
	m.IssueToken(pivtoken.Options{Serial: 20_000_000 + uint32(m.number)})
}

// officer comes with a card whose PIN nobody has mistyped.
func (m *monkey) officer() {
	card, err := issuers.Officers[0].Card(issuers.Tokens, stage.OfficerPIN)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Take(kiosk.DeviceOfficer)
	m.Hold(kiosk.DeviceOfficer, card)
}

// watch draws what there is to draw, and looks at it, for so long.
func (m *monkey) watch(d time.Duration) {
	over := time.After(d)
	for {
		select {
		case f := <-m.work:
			f()
		case s, ok := <-m.states:
			if !ok {
				m.t.Fatalf("the agent has gone, after %q", m.did)
			}
			m.state = s
			m.seen[s.Screen]++
			if s.Turn != kiosk.TurnMachine && len(s.Actions) == 0 && s.Waiting == "" && len(s.Left) == 0 {
				m.t.Fatalf("nothing can be done on %s, after %q", s.Screen, m.did)
			}
		case <-over:
			return
		}
	}
}

// tappable lists what on the page can be tapped, with its middle.
func (m *monkey) tappable() (middles []fyne.Position) {
	walk(m.w.Canvas().Content(), fyne.NewPos(0, 0), func(o fyne.CanvasObject, at fyne.Position) {
		if _, ok := o.(fyne.Tappable); ok {
			middles = append(middles, at.AddXY(o.Size().Width/2, o.Size().Height/2))
		}
	})
	return middles
}

func walk(o fyne.CanvasObject, at fyne.Position, f func(fyne.CanvasObject, fyne.Position)) {
	if o == nil || !o.Visible() {
		return
	}
	at = at.Add(o.Position())
	f(o, at)
	switch x := o.(type) {
	case *fyne.Container:
		for _, c := range x.Objects {
			walk(c, at, f)
		}
	case fyne.Widget:
		for _, c := range test.WidgetRenderer(x).Objects() {
			walk(c, at, f)
		}
	}
}

func (m *monkey) rune(r rune) {
	if f := m.w.Canvas().Focused(); f != nil {
		f.TypedRune(r)
	} else if f := m.w.Canvas().OnTypedRune(); f != nil {
		f(r)
	}
}

func (m *monkey) key(k fyne.KeyName) {
	if f := m.w.Canvas().Focused(); f != nil {
		f.TypedKey(&fyne.KeyEvent{Name: k})
	} else if f := m.w.Canvas().OnTypedKey(); f != nil {
		f(&fyne.KeyEvent{Name: k})
	}
}

var (
	keys  = []fyne.KeyName{fyne.KeyReturn, fyne.KeyEnter, fyne.KeySpace, fyne.KeyBackspace, fyne.KeyDelete, fyne.KeyEscape, fyne.KeyTab, fyne.KeyUp, fyne.KeyF4, fyne.KeyF11}
	runes = []rune("0123456789<ABZaz éß中अ\t\n\x00")
)

// act is one of the monkey's ideas.
func (m *monkey) act() (what string) {
	switch n := m.r.IntN(100); {
	case n < 35:
		places := m.tappable()
		if len(places) == 0 {
			return "look"
		}
		at := places[m.r.IntN(len(places))]
		test.TapCanvas(m.w.Canvas(), at)
		if m.r.IntN(5) == 0 { // at once again
			test.TapCanvas(m.w.Canvas(), at)
		}
		return fmt.Sprint("tap ", at)
	case n < 40:
		at := fyne.NewPos(m.r.Float32()*1280, m.r.Float32()*800)
		test.TapCanvas(m.w.Canvas(), at)
		return fmt.Sprint("tap ", at)
	case n < 48:
		r := runes[m.r.IntN(len(runes))]
		m.rune(r)
		return fmt.Sprintf("type %q", r)
	case n < 54:
		k := keys[m.r.IntN(len(keys))]
		m.key(k)
		return fmt.Sprint("press ", k)
	case n < 57:
		m.w.Canvas().FocusNext()
		return "next"
	case n < 85:
		return m.mean()
	case n < 97:
		devices := []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer}
		d := devices[m.r.IntN(len(devices))]
		if m.r.IntN(4) == 0 {
			m.Take(d)
			return fmt.Sprint("take ", d)
		}
		m.Bring(d)
		return fmt.Sprint("bring ", d)
	case n < 99:
		m.citizen()
		return "another citizen"
	default:
		m.officer()
		return "another card for the officer"
	}
}

// mean does what the page wants.
func (m *monkey) mean() string {
	digits := ""
	switch m.state.Screen {
	case kiosk.ScreenSignOn, kiosk.ScreenApprove, kiosk.ScreenLocked, kiosk.ScreenClose:
		m.Bring(kiosk.DeviceOfficer)
		digits = stage.OfficerPIN
	case kiosk.ScreenAccessNumber:
		digits = m.Chip.CAN()
	case kiosk.ScreenChoosePIN, kiosk.ScreenRepeatPIN:
		digits = ownPIN
	case kiosk.ScreenPlaceCard:
		m.Bring(kiosk.DeviceDocument)
	case kiosk.ScreenInsertToken:
		m.Bring(kiosk.DeviceToken)
	case kiosk.ScreenTakeThings:
		for _, d := range m.state.Left {
			m.Take(d)
		}
	}
	m.w.Canvas().Unfocus() // or Return presses the key that has the focus
	for range 10 * min(len(digits), 1) {
		m.key(fyne.KeyBackspace)
	}
	for _, r := range digits {
		m.rune(r)
	}
	m.key(fyne.KeyReturn)
	return fmt.Sprint("mean it on ", m.state.Screen)
}

// personal says what on a window's page is of a citizen.
func (m *monkey) personal(w fyne.Window) error {
	who := idcard.SpecimenPerson()
	var found []string
	walk(w.Canvas().Content(), fyne.NewPos(0, 0), func(o fyne.CanvasObject, _ fyne.Position) {
		text, ok := o.(*canvas.Text)
		if !ok {
			return
		}
		for _, secret := range []string{who.Surname, "ANNA", fmt.Sprintf("M%08d", m.number), m.Chip.CAN()} {
			if strings.Contains(text.Text, secret) {
				found = append(found, text.Text)
			}
		}
	})
	if len(found) > 0 {
		return fmt.Errorf("%q stands on %s", found, m.state.Screen)
	}
	return nil
}

// empty waits until the desk knows that nothing lies on readers: a card that comes
// back before would be taken for one that has just been torn out.
func (m *monkey) empty(readers ...kiosk.Device) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); ; m.watch(20 * time.Millisecond) {
		if !slices.ContainsFunc(readers, func(d kiosk.Device) bool { return m.state.Health.Readers[d] != kiosk.ReaderEmpty }) {
			return
		}
		if time.Now().After(end) {
			m.t.Fatalf("the desk shows %v", m.state.Health.Readers)
		}
	}
}

// leave ends whatever goes on, as a patient officer would, until nobody is signed on.
func (m *monkey) leave() {
	m.t.Helper()
	m.officer()
	m.empty(kiosk.DeviceOfficer)
	ctx, cancel := context.WithTimeout(m.t.Context(), 4*time.Minute)
	defer cancel()
	script := m.Script()
	errGone := errors.New("nobody is signed on")
	script.Act = func(ctx context.Context, s kiosk.State) (bool, error) {
		m.watch(10 * time.Millisecond)
		if s.Screen == kiosk.ScreenSignOn && !s.Locked {
			return false, errGone
		}
		for _, a := range []kiosk.Action{kiosk.ActionSignOff, kiosk.ActionDone, kiosk.ActionLeave, kiosk.ActionBack, kiosk.ActionStartOver, kiosk.ActionDecline, kiosk.ActionRefuse} {
			if slices.Contains(s.Actions, a) {
				in := kiosk.Intent{State: s.Number, Action: a}
				if s.Consent != nil {
					in.Choice = s.Consent.ID
				}
				return true, m.Kiosk.Desk().Send(ctx, in)
			}
		}
		if s.Screen == kiosk.ScreenLocked {
			m.Officer(0)
			return true, m.Kiosk.Desk().Send(ctx, kiosk.Intent{State: s.Number, Action: kiosk.ActionSignOn, Secret: secret.FromString(stage.OfficerPIN)})
		}
		if s.Screen == kiosk.ScreenSignOn { // an enrollment waits for the officer's card
			m.Officer(0)
		}
		return false, nil
	}
	for {
		try, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err := script.Enroll(try)
		again := try.Err() != nil // a question that was answered before it could be
		cancel()
		if errors.Is(err, errGone) {
			break
		}
		var fault *kiosk.Fault // what the monkey did last
		if !errors.As(err, &fault) && !again || ctx.Err() != nil {
			m.t.Fatalf("no way out of %s: %v, after %q", m.state.Screen, err, m.did)
		}
		m.watch(100 * time.Millisecond)
	}
	readers := []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer}
	for _, d := range readers {
		m.Take(d)
	}
	m.empty(readers...)
}

// quiet waits until no more goroutines run than were said, and says how many do.
func (m *monkey) quiet(most int) int {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		m.watch(200 * time.Millisecond)
		n := runtime.NumGoroutine()
		if n <= most {
			return n
		}
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			m.t.Fatalf("%d goroutines, %d at most:\n%s", n, most, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestMonkey(t *testing.T) {
	t.Logf("-seed %d", *seed)
	m := newMonkey(t)
	m.watch(time.Second)
	goroutines := 0
	for n := range *events {
		m.did = append(m.did[max(0, len(m.did)-20):], m.act())
		m.watch(time.Duration(m.r.IntN(8)) * time.Millisecond)
		if n == *events/5 { // everything that is made once has been made
			m.leave()
			m.watch(2 * time.Second)
			goroutines = m.quiet(1 << 20)
		}
	}
	m.leave()
	m.quiet(goroutines + 5)
	if m.state.Screen != kiosk.ScreenSignOn {
		t.Fatalf("%s is shown, after %q", m.state.Screen, m.did)
	}
	if err := m.personal(m.w); err != nil {
		t.Error(err)
	}
	// It works as if nothing had been.
	m.citizen()
	m.officer()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	script := m.Script()
	looked := false
	other := test.NewTempWindow(t, nil) // whose text nobody has made large
	other.Resize(fyne.NewSize(1280, 800))
	fresh := ui.New(m.Kiosk.Desk(), other, ui.Options{})
	script.Act = func(_ context.Context, s kiosk.State) (bool, error) {
		m.watch(20 * time.Millisecond)
		if s.Screen == kiosk.ScreenCompare { // what must not stand there at other times, is found where it stands
			fresh.Draw(s)
			looked = m.personal(other) != nil
		}
		return false, nil
	}
	if _, err := script.Enroll(ctx); err != nil {
		t.Fatalf("enroll: %v", err)
	}
	if !looked {
		t.Error("no name was seen where the officer compares")
	}
	t.Logf("screens: %v", m.seen)
	for _, s := range []kiosk.Screen{kiosk.ScreenHome, kiosk.ScreenLanguage, kiosk.ScreenWelcome} {
		if m.seen[s] == 0 {
			t.Errorf("the monkey has never seen %s", s)
		}
	}
}

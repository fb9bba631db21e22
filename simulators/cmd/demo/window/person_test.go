package window

import (
	"fmt"
	"image"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/wire"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/simulators/cmd/demo/stage"
	"enrollkiosk/ui"
)

// patience is how long a busy machine may take for anything.
const patience = 60 * time.Second

// alike is the most that a square of the screen may differ from the mirror.
const alike = 9

// person is everybody in front of the kiosk: officer and citizen, with one pair
// of hands. The person acts on a page only when it is on the screen, whole.
type person struct {
	*stage.Stage
	t        testing.TB
	display  *display
	mirror   *mirror
	hands    hands
	width    int // of the window
	height   int
	language string
	numbers  []string                           // typed as card access number, one after the other
	scanner  bool                               // reads the printed lines after these, in place of the card's own number
	refuses  string                             // id of the consent that is not given, if any
	instead  map[kiosk.Screen]func(kiosk.State) // what the person does on a page in place of what it asks for
	pictures string                             // directory for pictures

	onReader int // whose officer card is: 1, the one who signs on; 2, the second one; 0, none
	states   <-chan kiosk.State
	now      kiosk.State
	seen     uint64 // question that there is a picture of
	officers effort // what it has cost them
	citizens effort
	taken    int // pictures
	troubles []kiosk.Code
	receipt  kiosk.ReceiptView
}

// hands work the window.
type hands interface {
	press(p *person, button string)
	enter(p *person, digits, button string)
}

// effort is what somebody did at the window.
type effort struct {
	presses int // of buttons, keys of a pad apart
	keys    int // of a pad
	turns   int // of the presses, those that say to whom the screen is turned
}

// press has the person who is asked press a button.
func (p *person) press(button string) {
	p.t.Helper()
	p.effort().presses++
	p.hands.press(p, button)
}

// enter has the person who is asked enter digits, then press a button.
func (p *person) enter(digits, button string) {
	p.t.Helper()
	p.effort().presses++
	p.effort().keys += len(digits)
	p.hands.enter(p, digits, button)
}

func (p *person) effort() *effort {
	if p.now.Audience() == kiosk.AudienceOfficer {
		return &p.officers
	}
	return &p.citizens
}

// keyboard uses no pointer.
type keyboard struct{}

func (keyboard) press(p *person, button string) {
	p.t.Helper()
	b := p.find(button)
	n := p.mirror.tabs(b)
	if n < 0 {
		p.t.Fatalf("Tab does not reach %q on page %q", button, p.now.Screen)
	}
	if n > 0 {
		p.display.do(p.t, append([]string{"key", "--delay", "40"}, slices.Repeat([]string{"Tab"}, n)...)...)
		p.look()
	}
	p.display.do(p.t, "key", "Return")
	p.mirror.enter()
}

func (keyboard) enter(p *person, digits, _ string) {
	p.t.Helper()
	keys := []string{"key", "--delay", "40"}
	for _, d := range digits {
		keys = append(keys, string(d))
		p.mirror.digit(d)
	}
	p.display.do(p.t, keys...)
	p.look()
	p.display.do(p.t, "key", "Return")
	p.mirror.enter()
}

// mouse uses no keyboard.
type mouse struct{}

func (mouse) click(p *person, b button) {
	p.t.Helper()
	// Away from the buttons afterwards: what is under the pointer looks different.
	p.display.do(p.t, "mousemove", strconv.Itoa(b.at.X), strconv.Itoa(b.at.Y), "click", "1", "mousemove", "3", strconv.Itoa(p.height/2))
	p.mirror.tap(b)
}

func (m mouse) press(p *person, button string) {
	p.t.Helper()
	m.click(p, p.find(button))
}

func (m mouse) enter(p *person, digits, button string) {
	p.t.Helper()
	for _, d := range digits {
		m.click(p, p.find(string(d)))
	}
	p.look()
	m.press(p, button)
}

// meet has the person come to a window of that size whose agent is the stage's.
func (p *person) meet() {
	p.t.Helper()
	p.mirror = newMirror(p.width, p.height)
	p.states, p.now, p.seen = nil, kiosk.State{}, 0
}

// newest waits a moment for another state and returns the newest one.
func (p *person) newest() kiosk.State {
	p.t.Helper()
	for limit := time.Now().Add(patience); p.states == nil; time.Sleep(50 * time.Millisecond) {
		client, err := wire.Dial(p.Config.Kiosk.Socket)
		if err == nil {
			p.states, err = client.States(p.t.Context())
		}
		if err != nil && time.Now().After(limit) {
			p.t.Fatal(err)
		}
	}
	wait := 20 * time.Millisecond
	if p.now.Number == 0 {
		wait = patience
	}
	select {
	case s, ok := <-p.states:
		if !ok {
			p.t.Fatal("the agent has ended")
		}
		p.now = s
	case <-time.After(wait):
	}
	if p.now.Number == 0 {
		p.t.Fatal("the agent shows no state")
	}
	return p.now
}

// look waits until the window shows the newest state, and returns what is on
// the screen.
func (p *person) look() *image.RGBA {
	p.t.Helper()
	return p.compare(func() { p.mirror.draw(p.newest()) })
}

// compare waits until the window looks like the mirror, which draw brings up
// to date.
func (p *person) compare(draw func()) *image.RGBA {
	p.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		draw()
		want, got := p.mirror.capture(), p.display.screen(p.t)
		most, where := differ(got, want)
		if most <= alike {
			return got
		}
		if time.Now().After(limit) {
			p.keep("window", got)
			p.keep("expected", want)
			p.t.Fatalf("the window does not show the page %q as it should: at %v it differs by %d", p.now.Screen, where, most)
		}
	}
}

// keep writes a picture of what is within the window's bounds.
func (p *person) keep(name string, img image.Image) {
	p.t.Helper()
	p.taken++
	if whole, ok := img.(*image.RGBA); ok {
		img = whole.SubImage(image.Rect(0, 0, p.width, p.height))
	}
	write(p.t, filepath.Join(p.pictures, fmt.Sprintf("%02d-%s.png", p.taken, name)), img)
}

func (p *person) find(text string) button {
	p.t.Helper()
	b, ok := p.mirror.button(text)
	if !ok {
		p.t.Fatalf("page %q has no button %q", p.now.Screen, text)
	}
	return b
}

func (p *person) words() *words.Catalog {
	p.t.Helper()
	w, err := words.Open(p.now.Language)
	if err != nil {
		p.t.Fatal(err)
	}
	return w
}

// until does what each page asks for, up to the first page that is wanted. That
// page is on the screen then, and nothing was done on it.
func (p *person) until(wanted func(kiosk.State) bool) *image.RGBA {
	p.t.Helper()
	for limit := time.Now().Add(2 * patience); ; {
		s := p.newest()
		if time.Now().After(limit) {
			p.t.Fatalf("still on page %q", s.Screen)
		}
		if s.Turn == kiosk.TurnMachine && !wanted(s) {
			if s.Number != p.seen && p.catches(s) {
				p.seen = s.Number
			}
			continue
		}
		if !p.ready(s) {
			continue
		}
		img := p.look()
		if p.now.Number != s.Number {
			continue // another page came meanwhile
		}
		if lift := p.covered(); lift != "" {
			p.keep("turned-to-"+string(s.Audience()), img)
			time.Sleep(ui.StrikeGuard) // nobody turns a screen faster
			p.effort().turns++
			p.press(lift)
			continue
		}
		if s.Number != p.seen {
			p.seen = s.Number
			name := string(s.Screen)
			if s.Fault != nil {
				name += "-" + string(s.Fault.Code)
			}
			p.keep(name, img)
		}
		if wanted(s) {
			return img
		}
		p.answer(p.now)
		if p.changes(s.Number) {
			limit = time.Now().Add(2 * patience)
		}
	}
}

// covered is the button on the cover that the page is under until the screen was
// turned to the one whom it is for; "" when there is none.
func (p *person) covered() string {
	p.t.Helper()
	lift := p.words().Label(words.CoverCitizenLift, nil)
	if p.now.Audience() == kiosk.AudienceOfficer {
		lift = p.words().Label(words.CoverOfficerLift, nil)
	}
	if _, ok := p.mirror.button(lift); !ok {
		return ""
	}
	return lift
}

// catches keeps a picture of a page on which the machine works, if it is on the
// screen already and still: such pages come and go.
func (p *person) catches(s kiosk.State) bool {
	p.t.Helper()
	p.mirror.draw(s)
	img := p.display.screen(p.t)
	most, _ := differ(img, p.mirror.capture())
	if most <= alike {
		p.keep(string(s.Screen), img)
	}
	return most <= alike
}

// ready brings what the page waits for, and says whether there is something
// to press.
func (p *person) ready(s kiosk.State) bool {
	switch s.Screen {
	case kiosk.ScreenSignOn, kiosk.ScreenApprove:
		return s.PIN != nil && p.officer(0)
	case kiosk.ScreenSecondOfficer, kiosk.ScreenSecondApprove:
		return s.PIN != nil && p.officer(1)
	}
	return true
}

// officer has the card of an officer lie on the reader, and says whether it did.
func (p *person) officer(i int) bool {
	p.t.Helper()
	if p.onReader == i+1 {
		return p.now.Health.Readers[kiosk.DeviceOfficer] == kiosk.ReaderCard
	}
	p.Take(kiosk.DeviceOfficer)
	p.waits("the officer's card is seen to go", func(s kiosk.State) bool { return s.Health.Readers[kiosk.DeviceOfficer] != kiosk.ReaderCard })
	// A window that lags still shows the page with the other card, which looks as
	// the next one will: what is typed then meets the page between them.
	p.look()
	p.Officer(i)
	p.onReader = i + 1
	return false
}

// waits does nothing until the agent's state is so.
func (p *person) waits(what string, so func(kiosk.State) bool) {
	p.t.Helper()
	for limit := time.Now().Add(patience); !so(p.newest()); {
		if time.Now().After(limit) {
			p.t.Fatalf("%s: not on page %q", what, p.now.Screen)
		}
	}
}

// changes waits until another question is asked. When none comes, the press
// was taken for the second half of a double one, or is still on its way: to
// press again is harmless, since one answer is taken of each question.
func (p *person) changes(number uint64) bool {
	p.t.Helper()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); {
		if p.newest().Number != number {
			return true
		}
	}
	return false
}

// answer does what a page asks for.
func (p *person) answer(s kiosk.State) {
	p.t.Helper()
	time.Sleep(ui.StrikeGuard) // nobody reads faster
	w := p.words()
	if s.Screen == kiosk.ScreenTrouble {
		p.told(*s.Fault)
	}
	if does := p.instead[s.Screen]; does != nil {
		does(s)
		return
	}
	switch s.Screen {
	case kiosk.ScreenSignOn, kiosk.ScreenApprove, kiosk.ScreenSecondOfficer, kiosk.ScreenSecondApprove:
		if s.PIN.Problem != kiosk.PINFine {
			p.t.Fatalf("page %q: %s", s.Screen, s.PIN.Problem)
		}
		p.enter(stage.OfficerPIN, w.Action(s.Main))
	case kiosk.ScreenLanguage:
		other, err := words.Open(p.language)
		if err != nil {
			p.t.Fatal(err)
		}
		p.press(other.Name())
	case kiosk.ScreenPlaceCard:
		p.Bring(kiosk.DeviceDocument)
	case kiosk.ScreenAccessNumber:
		number := p.Chip.CAN()
		if len(p.numbers) > 0 {
			number, p.numbers = p.numbers[0], p.numbers[1:]
		} else if p.scanner {
			p.scan(p.Chip.MRZ())
			break
		}
		p.enter(number, w.Action(s.Main))
	case kiosk.ScreenConsent:
		p.turn()
		a := kiosk.ActionAccept
		if s.Consent.ID == p.refuses {
			a = kiosk.ActionRefuse
		}
		p.press(w.Action(a))
	case kiosk.ScreenInsertToken:
		p.Bring(kiosk.DeviceToken)
	case kiosk.ScreenChoosePIN, kiosk.ScreenRepeatPIN:
		if s.PIN.Problem != kiosk.PINFine {
			p.t.Fatalf("page %q: %s", s.Screen, s.PIN.Problem)
		}
		p.enter("802469", w.Action(s.Main))
	case kiosk.ScreenReview:
		p.turn()
		p.press(w.Action(s.Main))
	case kiosk.ScreenReceipt:
		p.receipt = *s.Receipt
		p.press(w.Action(s.Main))
	case kiosk.ScreenTakeThings:
		for _, d := range s.Left {
			p.Take(d)
			if d == kiosk.DeviceOfficer {
				p.onReader = 0
			}
		}
	case kiosk.ScreenTrouble:
		if s.Main == kiosk.ActionRetry {
			p.Bring(kiosk.DeviceDocument)
		}
		p.press(w.Action(s.Main))
	default:
		p.press(w.Action(s.Main))
	}
}

// told is a page about trouble: it says what is so and what to do.
func (p *person) told(f kiosk.Fault) {
	p.t.Helper()
	p.troubles = append(p.troubles, f.Code)
	if said := p.words().Trouble(f); !p.mirror.reads(said.Headline) || !p.mirror.reads(said.Do) {
		p.t.Errorf("the page about %s does not say %q", f.Code, said.Headline)
	}
}

// scan has a scanner type the lines of a zone of three. Nothing of them may be
// on the screen: the mirror is not told.
func (p *person) scan(zone string) {
	p.t.Helper()
	var keys []string
	for line := range slices.Chunk([]byte(zone), 30) {
		keys = append(keys, "type", "--delay", "12", "--args", "1", string(line), "key", "Return")
	}
	p.display.do(p.t, keys...)
}

// turn turns the pages of a long text to its last one.
func (p *person) turn() {
	p.t.Helper()
	on := p.words().Label(words.PageOn, nil)
	for {
		if _, more := p.mirror.button(on); !more {
			return
		}
		p.press(on)
		p.keep(string(p.now.Screen)+"-on", p.look())
	}
}

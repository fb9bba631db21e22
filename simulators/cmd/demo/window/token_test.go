package window

import (
	"fmt"
	"slices"
	"testing"

	"enrollkiosk/kiosk"
)

// A citizen who has forgotten the token's PIN tries until the token locks. Each
// time the pad says how many tries are left, and of the last one what it costs. Then
// the page says what to do, which is one thing.
func TestTokenBlocked(t *testing.T) {
	t.Parallel()
	p := newPerson(t, "blocked", keyboard{}, 1280, 800, "")
	if _, err := p.Script().Enroll(t.Context()); err != nil { // the citizen was here before
		t.Fatal(err)
	}
	p.onReader = 1
	open(t, p.display, "--socket", p.Config.Kiosk.Socket, "--full-screen=true")
	p.meet()
	before := p.until(at(kiosk.ScreenHome))

	var told []kiosk.PINView
	press := func(a kiosk.Action) func(kiosk.State) {
		return func(kiosk.State) { p.press(p.words().Action(a)) }
	}
	p.instead = map[kiosk.Screen]func(kiosk.State){
		kiosk.ScreenHome:        press(kiosk.ActionServices),
		kiosk.ScreenServices:    press(kiosk.ActionSelfService),
		kiosk.ScreenSelfService: press(kiosk.ActionChangePIN),
		kiosk.ScreenShowToken:   func(kiosk.State) { p.Bring(kiosk.DeviceToken) },
		kiosk.ScreenTokenPIN: func(s kiosk.State) {
			told = append(told, kiosk.PINView{Problem: s.PIN.Problem, Left: s.PIN.Left})
			if said := p.words().Problem(*s.PIN); !p.mirror.reads(said) {
				t.Errorf("the pad does not say %q", said)
			}
			p.enter(fmt.Sprint(999990+len(told)), p.words().Action(s.Main))
		},
	}
	p.until(at(kiosk.ScreenTrouble))
	if want := []kiosk.PINView{{}, {Problem: kiosk.PINOwnWrong, Left: 2}, {Problem: kiosk.PINOwnWrong, Left: 1}}; !slices.Equal(told, want) {
		t.Errorf("told at the pad: %+v, want %+v", told, want)
	}
	if s := p.now; s.Fault.Code != kiosk.CodeOwnBlocked || s.Main != kiosk.ActionStartOver || !slices.Equal(s.Actions, []kiosk.Action{s.Main}) {
		t.Errorf("then %s, to do: %s of %v", s.Fault.Code, s.Main, s.Actions)
	}
	p.until(at(kiosk.ScreenTakeThings))
	p.instead = nil
	p.back(before)
	if len(p.troubles) != 1 {
		t.Errorf("troubles shown: %v", p.troubles)
	}

	// The token stays locked: the PIN that was right is of no use any more.
	p.instead = map[kiosk.Screen]func(kiosk.State){
		kiosk.ScreenHome:        press(kiosk.ActionServices),
		kiosk.ScreenServices:    press(kiosk.ActionSelfService),
		kiosk.ScreenSelfService: press(kiosk.ActionTryToken),
		kiosk.ScreenShowToken:   func(kiosk.State) { p.Bring(kiosk.DeviceToken) },
		kiosk.ScreenTokenPIN:    func(s kiosk.State) { t.Error("the PIN of a locked token is asked for") },
	}
	p.until(func(s kiosk.State) bool { return s.Fault != nil && s.Fault.Code == kiosk.CodeOwnBlocked })
}

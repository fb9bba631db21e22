package window

import (
	"strconv"
	"testing"
	"time"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui"
)

// A finger that wobbles by a few pixels while it is down presses all the same: on
// keys of the pad, on the bar's buttons and on a cover. One that slides off a button
// presses nothing.
func TestFingerWobbles(t *testing.T) {
	t.Parallel()
	d := openDisplay(t, 1280, 800)
	desk, socket := newScript(t)
	open(t, d, "--socket", socket)
	m := newMirror(1280, 800)
	book, err := words.Open("en")
	if err != nil {
		t.Fatal(err)
	}
	shown := func(name string) {
		t.Helper()
		d.shows(t, "60-wobble-"+name, pages{left: m}, nil)
		time.Sleep(ui.StrikeGuard) // nobody reads faster
	}
	// touch puts a finger on a button and moves it in steps, as far as that, before it
	// is lifted.
	touch := func(text string, steps ...string) {
		t.Helper()
		b, ok := m.button(text)
		if !ok {
			t.Fatalf("no button %q", text)
		}
		args := []string{"mousemove", strconv.Itoa(b.at.X), strconv.Itoa(b.at.Y), "mousedown", "1"}
		for i := 0; i < len(steps); i += 2 {
			args = append(args, "mousemove_relative", "--", steps[i], steps[i+1], "sleep", "0.03")
		}
		// Away afterwards: what is under the pointer looks different.
		d.do(t, append(args, "mouseup", "1", "sleep", "0.03", "mousemove", "3", "400")...)
	}

	m.draw(desk.show(choosing()))
	shown("pad")
	const pin = "802469"
	for i, r := range pin {
		wobble := [][]string{{"4", "3"}, {"-6", "0"}, {"0", "6"}, {"2", "-2", "3", "-3"}}[i%4]
		touch(string(r), wobble...)
		m.digit(r)
	}
	shown("digits")
	touch(book.Action(kiosk.ActionPIN), "5", "-4")
	if in := desk.gets(t); in.Action != kiosk.ActionPIN || !in.Secret.Equal(secret.FromString(pin)) {
		t.Errorf("sent %s with %d digits", in.Action, in.Secret.Len())
	}

	m.draw(desk.show(home()))
	shown("cover")
	touch(book.Label(words.CoverOfficerLift, nil), "-3", "5")
	m.key(fyne.KeyReturn)
	shown("home")
	touch(book.Action(kiosk.ActionSignOff), "0", "100", "0", "400") // slides off
	touch(book.Action(kiosk.ActionStart), "6", "6")
	if in := desk.gets(t); in.Action != kiosk.ActionStart {
		t.Errorf("sent %s", in.Action)
	}
}

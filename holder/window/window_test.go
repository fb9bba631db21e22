package window_test

import (
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/widget"

	"enrollkiosk/holder"
	"enrollkiosk/holder/window"
	"enrollkiosk/hsm"
	"enrollkiosk/registry/credential"
)

// person is a window with somebody before it; its test's goroutine is Fyne's.
type person struct {
	*window.Window
	t     *testing.T
	stage fyne.Window
	todo  chan func()
}

func sit(t *testing.T, locale string) *person {
	t.Helper()
	a := test.NewTempApp(t)
	a.Settings().SetTheme(window.Theme(locale))
	p := &person{t: t, stage: test.NewWindow(nil), todo: make(chan func(), 16)}
	p.stage.Resize(window.Size)
	p.Window = window.New(p.stage, locale, func(f func()) { p.todo <- f })
	return p
}

// until draws until a page says something, and everything on it.
func (p *person) until(says string) []string {
	p.t.Helper()
	late := time.After(time.Minute)
	for {
		if all := p.reads(); strings.Contains(strings.Join(all, "\n"), says) {
			return all
		}
		select {
		case f := <-p.todo:
			f()
		case <-late:
			p.t.Fatalf("no %q on %q", says, p.reads())
		}
	}
}

// wait draws until done.
func wait[T any](p *person, done <-chan T) T {
	p.t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case v := <-done:
			return v
		case f := <-p.todo:
			f()
		case <-late:
			p.t.Fatal("no answer")
		}
	}
}

func (p *person) reads() (all []string) {
	for _, o := range test.LaidOutObjects(p.stage.Content()) {
		switch o := o.(type) {
		case *widget.Label:
			all = append(all, o.Text)
		case *canvas.Text: // also the lines that labels are made of
			if strings.ContainsAny(o.Text, "●○") {
				all = append(all, o.Text)
			}
		}
	}
	return all
}

func (p *person) button(name string) *widget.Button {
	p.t.Helper()
	for _, o := range test.LaidOutObjects(p.stage.Content()) {
		if b, ok := o.(*widget.Button); ok && b.Text == name {
			return b
		}
	}
	p.t.Fatalf("no button %q", name)
	return nil
}

type consented struct {
	yes bool
	err error
}

func (p *person) consent(ctx context.Context, a holder.Ask) <-chan consented {
	c := make(chan consented, 1)
	go func() {
		yes, err := p.Consent(ctx, a)
		c <- consented{yes, err}
	}()
	p.until(a.Site)
	return c
}

var plain = holder.Ask{Site: "a.example", Claims: []string{credential.AgeOver18}}

func TestConsent(t *testing.T) {
	for button, want := range map[string]bool{"Sign in": true, "Decline": false} {
		p := sit(t, "")
		c := p.consent(t.Context(), plain)
		all := strings.Join(p.reads(), "\n")
		if !strings.Contains(all, "over 18") || !strings.Contains(all, "pseudonym") || strings.Contains(all, "FAMILY") || !strings.Contains(all, "will not know your name") {
			t.Errorf("it says %s", all)
		}
		test.Tap(p.button(button))
		if got := wait(p, c); got.yes != want || got.err != nil {
			t.Errorf("%s: %+v", button, got)
		}
	}
}

// Return and space on a window that has just come up say no.
func TestFocusSaysNo(t *testing.T) {
	p := sit(t, "")
	c := p.consent(t.Context(), plain)
	p.stage.Canvas().Focused().TypedKey(&fyne.KeyEvent{Name: fyne.KeySpace})
	if got := wait(p, c); got.yes || got.err != nil {
		t.Errorf("%+v", got)
	}
}

func TestNameIsTyped(t *testing.T) {
	p := sit(t, "")
	c := p.consent(t.Context(), holder.Ask{Site: "a.example", Claims: []string{credential.FamilyName}, LegalName: true})
	all := strings.Join(p.reads(), "\n")
	if !strings.Contains(all, "FAMILY NAME") || strings.Contains(all, "will not know your name") {
		t.Errorf("it says %s", all)
	}
	show := p.button("Show my name")
	test.Tap(show) // not enabled
	for _, o := range test.LaidOutObjects(p.stage.Content()) {
		if e, ok := o.(*widget.Entry); ok {
			test.Type(e, "b.example")
			if !show.Disabled() {
				t.Error("another website's name was enough")
			}
			e.SetText("")
			test.Type(e, "a.example")
		}
	}
	select {
	case got := <-c:
		t.Fatalf("answered before: %+v", got)
	default:
	}
	test.Tap(show)
	if got := wait(p, c); !got.yes || got.err != nil {
		t.Errorf("%+v", got)
	}
}

// Closing the window, and nobody there, are no.
func TestClosed(t *testing.T) {
	p := sit(t, "")
	c := p.consent(t.Context(), plain)
	p.stage.Close()
	if got := wait(p, c); got.yes || !errors.Is(got.err, holder.ErrDeclined) {
		t.Errorf("%+v", got)
	}
	p = sit(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	c = p.consent(ctx, plain)
	cancel()
	if got := wait(p, c); got.yes || !errors.Is(got.err, context.Canceled) {
		t.Errorf("%+v", got)
	}
}

func TestForeignLetters(t *testing.T) {
	p := sit(t, "")
	c := p.consent(t.Context(), holder.Ask{Site: "www.xn--80ak6aa92e.example"})
	if !strings.Contains(strings.Join(p.reads(), "\n"), "foreign letters") {
		t.Error("no word of them")
	}
	test.Tap(p.button("Decline"))
	wait(p, c)
}

type entered struct {
	pin string
	err error
}

func TestPIN(t *testing.T) {
	p := sit(t, "")
	c := make(chan entered, 1)
	go func() {
		pin, err := p.PIN(t.Context(), &hsm.WrongPIN{Left: 2})
		c <- entered{string(pin.Reveal()), err}
	}()
	all := strings.Join(p.until("PIN of your token"), "\n")
	if !strings.Contains(all, "Tries left: 2") {
		t.Errorf("it says %s", all)
	}
	for _, key := range []string{"2", "7", "1", "9", "Delete", "8", "OK"} {
		test.Tap(p.button(key))
	}
	for _, r := range "2 8é" { // neither space nor what is no ASCII
		p.stage.Canvas().OnTypedRune()(r)
	}
	if all := strings.Join(p.reads(), "\n"); !strings.Contains(all, "●●●●●●○○") || strings.Contains(all, "271828") {
		t.Errorf("it shows %s", all)
	}
	p.stage.Canvas().OnTypedKey()(&fyne.KeyEvent{Name: fyne.KeyReturn})
	if got := wait(p, c); got.pin != "271828" || got.err != nil {
		t.Errorf("%+v", got)
	}
	for len(p.todo) > 0 { // PIN has left the next page behind
		(<-p.todo)()
	}
	if p.stage.Canvas().OnTypedRune() != nil {
		t.Error("the next page still takes digits")
	}
}

func TestEnds(t *testing.T) {
	seen := map[string]bool{}
	for e := window.Done; e <= window.Failed; e++ {
		p := sit(t, "")
		done := make(chan struct{})
		go func() { p.Show(t.Context(), e, "holder-code"); close(done) }()
		all := p.until("holder-code")
		if seen[all[0]] || all[0] == "" || len(all) != 2 {
			t.Errorf("%d says %q, as another", e, all)
		}
		seen[all[0]] = true
		test.Tap(p.button("Close"))
		wait(p, done)
	}
	p := sit(t, "")
	p.Touch()
	p.until("Touch your token")
}

// In each language every sentence is there, and another than the others'.
func TestLanguages(t *testing.T) {
	seen := map[string]bool{}
	for locale, word := range map[string]string{"en_GB.UTF-8": "pseudonym", "es_MX": "seudónimo", "hi": "छद्म", "zh_CN.UTF-8": "假名", "fr_FR": "pseudonym", "C": "pseudonym"} {
		p := sit(t, locale)
		c := p.consent(t.Context(), holder.Ask{Site: "a.example", Claims: []string{credential.RealNameVerified, credential.AgeOver14, credential.AgeOver16, credential.AgeOver18}})
		all := p.reads()
		if len(all) != 9 || !strings.Contains(strings.Join(all, "\n"), word) {
			t.Errorf("%s: %q", locale, all)
		}
		for _, s := range all {
			if s == "" {
				t.Errorf("%s: an empty line in %q", locale, all)
			}
		}
		seen[all[1]] = true
		p.stage.Close()
		wait(p, c)
	}
	if len(seen) != 4 {
		t.Errorf("%d languages", len(seen))
	}
}

// The pages, to be looked at: with PICTURES=DIR they are written there.
func TestPicturesFit(t *testing.T) {
	for _, locale := range []string{"en", "es", "hi", "zh"} {
		for name, ask := range map[string]holder.Ask{
			"plain": {Site: "forum.example", Claims: []string{credential.AgeOver18, credential.RealNameVerified}},
			"name": {Site: "a-rather-long-name-of-a-website.ministry-of-transport.example", LegalName: true,
				Claims: []string{credential.FamilyName, credential.GivenName, credential.NameLocal, credential.RealNameVerified}},
		} {
			p := sit(t, locale)
			c := p.consent(t.Context(), ask)
			p.keep(fmt.Sprintf("%s-%s", name, locale))
			p.stage.Close()
			wait(p, c)
		}
		p := sit(t, locale)
		c := make(chan entered, 1)
		go func() { _, err := p.PIN(t.Context(), &hsm.WrongPIN{Left: 2}); c <- entered{err: err} }()
		p.until("○○○○○○○○")
		p.keep("pin-" + locale)
		p.stage.Close()
		wait(p, c)
	}
}

// keep holds a page to the window's size: nothing stands outside.
func (p *person) keep(name string) {
	p.t.Helper()
	if m := p.stage.Content().MinSize(); m.Width > window.Size.Width || m.Height > window.Size.Height {
		p.t.Errorf("%s needs %v", name, m)
	}
	if dir := os.Getenv("PICTURES"); dir != "" {
		img := p.stage.Canvas().Capture()
		f, err := os.Create(filepath.Join(dir, name+".png"))
		if err != nil {
			p.t.Fatal(err)
		}
		defer f.Close()
		if err := png.Encode(f, img); err != nil {
			p.t.Fatal(err)
		}
	}
}

package ui

import (
	"fmt"
	"strconv"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// Speaker reads sentences aloud. Its methods return at once: speech that hangs
// holds up no frame.
type Speaker interface {
	// Say stops what is being said and says text in a language ("en").
	Say(language, text string)
	// Stop ends what is being said.
	Stop()
}

// access is what a person changed about the window. The citizen's goes with the
// visit, the officer's with the window.
type access struct {
	Look
	aloud bool
}

// chosen is that of the person whose page s is.
func (u *UI) chosen(s *scene) *access {
	if s.agent && s.state.Turn == kiosk.TurnOfficer {
		return &u.officer
	}
	return &u.citizen
}

// between says that no citizen is being enrolled.
func between(s kiosk.State) bool {
	return s.Screen == kiosk.ScreenHome || s.Screen == kiosk.ScreenSignOn && !s.Locked
}

// speak reads a page aloud to who asked for it, once, and stops when another is
// shown. What it says stands in kiosk/words, or in a purpose's public text.
func (u *UI) speak() {
	if u.o.Speaker == nil {
		return
	}
	language, text := u.page.language, ""
	if u.chosen(u.shown).aloud {
		text = u.page.spoken
	}
	if said := fmt.Sprint(u.shown.state.Number, language, text); said != u.said {
		quiet := text == "" && u.silent
		u.said, u.silent = said, text == ""
		if quiet {
			return
		}
		if text == "" {
			u.o.Speaker.Stop()
		} else {
			u.o.Speaker.Say(language, text)
		}
	}
}

// accessible is the page where people change the window: size of text, contrast,
// colours, reading aloud, and the language.
func (d *drawing) accessible() page {
	chosen := d.u.chosen(d.u.shown)
	var focus *button
	option := func(text string, on bool, set func(*access)) fyne.CanvasObject {
		b := newButton(text, either(on, mainButton, plainButton), func() {
			set(chosen)
			d.u.rebuild(false)
		})
		if on {
			b.icon = "chosen"
		}
		if focus == nil && on {
			focus = b
		}
		return b
	}
	row := func(name words.Label, options ...fyne.CanvasObject) fyne.CanvasObject {
		shares := make([]float32, 1+len(options))
		shares[0] = 1
		return besideMiddle(gap, shares, append([]fyne.CanvasObject{body(d.w.Label(name, nil)).bold()}, options...)...)
	}
	say := func(l words.Label) string { return d.w.Label(l, nil) }
	var sizes []fyne.CanvasObject
	for _, percent := range sizesIn(d.u.stage.Canvas().Size()) {
		sizes = append(sizes, option(strconv.Itoa(percent)+" %", percent == max(d.look.Text, 100), func(a *access) { a.Text = percent }))
	}
	rows := []fyne.CanvasObject{
		row(words.TextSize, sizes...),
		row(words.Contrast, option(say(words.ContrastUsual), !chosen.Contrast, func(a *access) { a.Contrast = false }),
			option(say(words.ContrastHigh), chosen.Contrast, func(a *access) { a.Contrast = true })),
		row(words.Colours, option(say(words.ColoursLight), !chosen.Dark, func(a *access) { a.Dark = false }),
			option(say(words.ColoursDark), chosen.Dark, func(a *access) { a.Dark = true })),
	}
	if d.u.o.Speaker != nil {
		rows = append(rows, row(words.ReadAloud, option(say(words.SpeechOff), !chosen.aloud, func(a *access) { a.aloud = false }),
			option(say(words.SpeechOn), chosen.aloud, func(a *access) { a.aloud = true })))
	}
	p := page{title: say(words.Access), body: panel(stack(4, rows...)), focus: focus}
	if chosen == &d.u.citizen { // an officer's choices stay
		p.lead = say(words.AccessInstruction)
	}
	if d.can(kiosk.ActionChoose) && len(d.s.Languages) > 1 {
		b := d.localButton(d.u.book(d.s.Language).Name(), plainButton, func(l *local) { l.access, l.books, l.page = false, true, 0 })
		b.icon = "globe"
		p.buttons = append(p.buttons, b)
	}
	p.buttons = append(p.buttons, d.localButton(d.w.Action(kiosk.ActionBack), mainButton, func(l *local) { l.access, l.page = false, 0 }))
	return p
}

// Valid says why a look cannot be had.
func (l Look) Valid() error {
	for _, size := range TextSizes() {
		if l.Text == size || l.Text == 0 {
			return nil
		}
	}
	return fmt.Errorf("text size %d: want one of %v", l.Text, TextSizes())
}

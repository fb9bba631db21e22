// Package window asks a person in a small window: who wants to know, what they will
// know, and the PIN. It has the kiosk's typefaces and colours.
//
// Invariants: what is not a clear yes is a no, and closing the window is one. The
// button that has the focus says no. The PIN's digits are in an array of this package
// until they are handed over.
//
// Non-goals: collecting credentials, which the terminal does.
package window

import (
	"context"
	"fmt"
	"image/color"
	"slices"
	"strings"
	"sync"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/layout"
	"fyne.io/fyne/v2/theme"
	"fyne.io/fyne/v2/widget"

	"enrollkiosk/holder"
	"enrollkiosk/hsm"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/typeface"
	"enrollkiosk/ui"
)

// Stage is what a window needs of fyne.Window.
type Stage interface {
	Canvas() fyne.Canvas
	SetContent(fyne.CanvasObject)
	SetOnClosed(func())
}

// Window is a holder.Person. Its methods may be called from any goroutine but Fyne's.
type Window struct {
	stage  Stage
	do     func(func()) // on Fyne's goroutine
	w      sentences
	closed chan struct{}
}

// New draws the first page. locale is as in LANG; do is fyne.Do. It belongs to Fyne's
// goroutine.
func New(stage Stage, locale string, do func(func())) *Window {
	w := &Window{stage: stage, do: do, w: wordsOf(locale), closed: make(chan struct{})}
	stage.SetOnClosed(sync.OnceFunc(func() { close(w.closed) }))
	w.show(w.page(text(w.w.connecting)))
	return w
}

// Title is the window's.
func (w *Window) Title() string { return w.w.title }

// Size holds every page in every language.
var Size = fyne.NewSize(560, 640)

// Theme is the kiosk's, in a size for a PC, with the typeface of a locale's language.
func Theme(locale string) fyne.Theme {
	t := pc{Theme: ui.Theme()}
	if face := typeface.Of(wordsOf(locale).pseudonym); face != typeface.Han { // the kiosk's own has the others
		for i := range t.fonts {
			f := face.Font(i == 1)
			t.fonts[i] = fyne.NewStaticResource(f.Name, f.Data)
		}
	}
	return t
}

type pc struct {
	fyne.Theme
	fonts [2]fyne.Resource // common and bold; nil is the kiosk's
}

func (t pc) Font(s fyne.TextStyle) fyne.Resource {
	if f := t.fonts[either(s.Bold, 1, 0)]; f != nil {
		return f
	}
	return t.Theme.Font(s)
}

func either(yes bool, a, b int) int {
	if yes {
		return a
	}
	return b
}

func (t pc) Color(n fyne.ThemeColorName, v fyne.ThemeVariant) color.Color {
	switch n {
	case theme.ColorNameButton:
		return key
	case theme.ColorNameFocus:
		return pale
	case theme.ColorNameInputBackground:
		return white
	case theme.ColorNameInputBorder, theme.ColorNameDisabled:
		return edge
	}
	return t.Theme.Color(n, v)
}

func (t pc) Size(n fyne.ThemeSizeName) float32 {
	switch n {
	case theme.SizeNameText:
		return 16
	case theme.SizeNameInnerPadding: // of each label, above and below
		return 5
	case theme.SizeNameSubHeadingText:
		return 23
	}
	return t.Theme.Size(n)
}

// Colours of the kiosk's light palette.
var (
	navy  = color.NRGBA{0x10, 0x29, 0x4A, 0xFF}
	white = color.NRGBA{0xFF, 0xFF, 0xFF, 0xFF}
	key   = color.NRGBA{0xDC, 0xE4, 0xEE, 0xFF}
	edge  = color.NRGBA{0x6B, 0x7A, 0x89, 0xFF}
	pale  = color.NRGBA{0x9F, 0xC4, 0xE8, 0xFF}
)

// page is a header with what stands below it; the last object sits at the bottom.
func (w *Window) page(objects ...fyne.CanvasObject) fyne.CanvasObject {
	title := canvas.NewText(w.w.title, white)
	title.TextSize, title.TextStyle = 17, fyne.TextStyle{Bold: true}
	header := container.NewStack(canvas.NewRectangle(navy), container.NewPadded(container.NewPadded(title)))
	last := len(objects) - 1
	return container.NewBorder(header, nil, nil, nil, container.NewPadded(container.NewPadded(
		container.NewBorder(nil, objects[last], nil, nil, container.NewVBox(objects[:last]...)))))
}

func text(s string) *widget.Label {
	l := widget.NewLabel(s)
	l.Wrapping = fyne.TextWrapWord
	return l
}

func strong(s string) *widget.Label {
	l := text(s)
	l.TextStyle.Bold = true
	return l
}

func heading(s string) *widget.Label {
	l := strong(s)
	l.SizeName = theme.SizeNameSubHeadingText
	l.Wrapping = fyne.TextWrapBreak // a long name is seen whole, never cut
	return l
}

// show replaces the page, and whatever listened to its keys.
func (w *Window) show(page fyne.CanvasObject) {
	c := w.stage.Canvas()
	c.SetOnTypedRune(nil)
	c.SetOnTypedKey(nil)
	w.stage.SetContent(page)
}

// ask shows a page until somebody answers, or nobody can any more.
func ask[T any](ctx context.Context, w *Window, draw func(answer func(T))) (T, error) {
	c := make(chan T, 1)
	w.do(func() {
		draw(func(v T) {
			select {
			case c <- v:
			default: // a second press
			}
		})
	})
	var none T
	select {
	case v := <-c:
		return v, nil
	case <-w.closed:
		return none, holder.ErrDeclined
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// Consent shows the website's name as its certificate has it, and what it will know.
func (w *Window) Consent(ctx context.Context, a holder.Ask) (bool, error) {
	yes, err := ask(ctx, w, func(answer func(bool)) {
		list := []fyne.CanvasObject{heading(a.Site), text(w.w.asks), strong(w.w.willKnow), text("•  " + w.w.pseudonym)}
		for i, name := range claimNames {
			if slices.Contains(a.Claims, name) {
				list = append(list, text("•  "+w.w.claims[i]))
			}
		}
		if strings.HasPrefix(a.Site, "xn--") || strings.Contains(a.Site, ".xn--") {
			list = append(list, strong(w.w.foreign))
		}
		no := widget.NewButton(w.w.no, func() { answer(false) })
		yes := widget.NewButton(w.w.yes, func() { answer(true) })
		if a.LegalName {
			yes.SetText(w.w.showName)
			yes.Disable()
			entry := widget.NewEntry()
			entry.OnChanged = func(s string) {
				if strings.EqualFold(strings.TrimSpace(s), a.Site) {
					yes.Enable()
				} else {
					yes.Disable()
				}
			}
			list = append(list, strong(w.w.forGood), text(w.w.typeSite), entry)
		} else {
			list = append(list, text(w.w.willNot))
		}
		yes.Importance = widget.HighImportance
		w.show(w.page(append(list, container.NewHBox(no, layout.NewSpacer(), yes))...))
		w.stage.Canvas().Focus(no)
	})
	if yes && err == nil {
		w.do(func() { w.show(w.page(text(""), text(""))) })
	}
	return yes, err
}

// high gives a key a finger's height.
func high(b *widget.Button) fyne.CanvasObject {
	r := canvas.NewRectangle(color.Transparent)
	r.SetMinSize(fyne.NewSize(0, 56))
	return container.NewStack(r, b)
}

// maxPIN and minPIN are SP 800-73-4's.
const minPIN, maxPIN = 6, 8

// pinPad holds what was typed.
type pinPad struct {
	typed [maxPIN]byte
	n     int
	dots  *canvas.Text
	ok    *widget.Button
}

func (p *pinPad) put(c byte) {
	if p.n < maxPIN {
		p.typed[p.n] = c
		p.n++
	}
	p.draw()
}

func (p *pinPad) erase() {
	if p.n > 0 {
		p.n--
		p.typed[p.n] = 0
	}
	p.draw()
}

func (p *pinPad) draw() {
	p.dots.Text = strings.Repeat("●", p.n) + strings.Repeat("○", maxPIN-p.n)
	p.dots.Refresh()
	if p.n >= minPIN {
		p.ok.Enable()
	} else {
		p.ok.Disable()
	}
}

// take hands the digits over and keeps none.
func (p *pinPad) take() secret.Text {
	b := append(make([]byte, 0, maxPIN), p.typed[:p.n]...)
	clear(p.typed[:])
	p.n = 0
	p.draw()
	return secret.New(b)
}

// PIN has keys on the screen, and takes those of the keyboard.
func (w *Window) PIN(ctx context.Context, wrong *hsm.WrongPIN) (secret.Text, error) {
	p := &pinPad{dots: canvas.NewText("", navy)}
	pin, err := ask(ctx, w, func(answer func(secret.Text)) {
		p.dots.TextSize = 28
		p.ok = widget.NewButton(w.w.ok, func() {
			if p.n >= minPIN {
				answer(p.take())
			}
		})
		p.ok.Importance = widget.HighImportance
		keys := container.NewGridWithColumns(3)
		for _, c := range []byte("123456789") {
			keys.Add(high(widget.NewButton(string(c), func() { p.put(c) })))
		}
		keys.Add(high(widget.NewButton(w.w.erase, p.erase)))
		keys.Add(high(widget.NewButton("0", func() { p.put('0') })))
		keys.Add(high(p.ok))
		list := []fyne.CanvasObject{strong(w.w.pin), container.NewCenter(p.dots), text(w.w.shield)}
		if wrong != nil {
			list = slices.Insert(list, 0, fyne.CanvasObject(strong(fmt.Sprintf(w.w.wrong, wrong.Left))))
		}
		w.show(w.page(append(list, keys)...))
		p.draw()
		w.stage.Canvas().SetOnTypedRune(func(r rune) {
			if r > ' ' && r < 0x7F {
				p.put(byte(r))
			}
		})
		w.stage.Canvas().SetOnTypedKey(func(e *fyne.KeyEvent) {
			switch e.Name {
			case fyne.KeyBackspace:
				p.erase()
			case fyne.KeyReturn, fyne.KeyEnter:
				p.ok.OnTapped()
			}
		})
	})
	w.do(func() { // whatever comes next, the digits are gone
		clear(p.typed[:])
		p.n = 0
		w.show(w.page(text(""), text("")))
	})
	return pin, err
}

// Touch says that the token waits.
func (w *Window) Touch() { w.do(func() { w.show(w.page(heading(w.w.touch), text(""))) }) }

// End is how a sign-in ended, in the person's words.
type End int

// Ends.
const (
	Done     End = iota
	Declined     // by the person
	Refused      // by a check
	Hardware     // the token
	Network
	Failed
)

// Show says how it ended, with a code for whoever helps, until the window is closed.
func (w *Window) Show(ctx context.Context, e End, code string) {
	ask(ctx, w, func(answer func(struct{})) {
		says := map[End]string{Done: w.w.done, Declined: w.w.declined, Refused: w.w.refused, Hardware: w.w.hardware, Network: w.w.network}
		sentence, known := says[e]
		if !known {
			sentence = w.w.failed
		}
		shut := widget.NewButton(w.w.shut, func() { answer(struct{}{}) })
		w.show(w.page(heading(sentence), text(code), container.NewHBox(layout.NewSpacer(), shut)))
		w.stage.Canvas().Focus(shut)
	})
}

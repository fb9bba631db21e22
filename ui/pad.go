package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// padding describes a page with a digit pad.
type padding struct {
	action kiosk.Action
	hidden bool // dots, and the reminder to cover the keys
	above  fyne.CanvasObject
	extra  []*button
}

// pad is a page with a digit pad in telephone order. The digits go into
// d.l.typed and from there into the intent; nothing here keeps them.
func (d *drawing) pad(o padding) page {
	view := kiosk.PINView{}
	if d.s.PIN != nil {
		view = *d.s.PIN
	}
	if view.Max == 0 {
		view.Max = 8
	}
	entry := newCells(&d.u.local.typed, o.hidden, view.Max, digit)
	submit := func() { d.submitPIN(o.action, view) }
	entry.submit = submit

	hint := d.w.Label(words.DigitsRange, words.Args{"min": view.Min, "max": view.Max})
	if view.Min == view.Max {
		hint = d.w.Label(words.DigitsExact, words.Args{"min": view.Min})
	}
	var problem, shield fyne.CanvasObject
	text := d.l.problem
	if text == "" {
		text = d.w.Problem(view)
	}
	if text != "" {
		problem = notice(badPale, bad, beside(14, []float32{0, 1}, sign("failed"), body(text).sized(22)))
	}
	if o.hidden && d.s.Turn == kiosk.TurnCitizen {
		shield = label(d.w.Label(words.Shield, nil))
	}
	left := stack(16, o.above, label(hint), container.New(startLayout{}, entry), problem, shield)
	p := page{
		title:   d.w.Title(d.s.Screen),
		lead:    d.w.Instruction(d.s.Screen),
		body:    beside(32, []float32{1, 0}, left, container.New(startLayout{}, d.digits(entry))),
		buttons: append(d.buttons(), append(o.extra, newButton(d.w.Action(o.action), mainButton, submit))...),
		entry:   entry,
		focus:   entry,
	}
	return p
}

// submitPIN sends what was typed, unless it is too short to be meant.
func (d *drawing) submitPIN(a kiosk.Action, v kiosk.PINView) {
	l := &d.u.local
	if l.typed.n < max(v.Min, 1) {
		v.Problem = kiosk.PINTooShort
		l.problem = d.w.Problem(v)
		d.u.rebuild(true)
		return
	}
	d.u.act(kiosk.Intent{Action: a, Secret: l.typed.take()})
	d.u.rebuild(true) // without the digits
}

func (d *drawing) digits(e *cells) *fyne.Container {
	var keys []place
	for _, r := range "123456789" {
		keys = append(keys, place{d.character(r, e), 1})
	}
	keys = append(keys, place{d.key(d.w.Label(words.KeyClear, nil), e, e.clear), 1}, place{d.character('0', e), 1}, place{d.deleteKey(e), 1})
	return keyRows(104, touch+2*ringGap, 3, keys...)
}

func (d *drawing) character(r rune, e *cells) *button {
	return d.key(string(r), e, func() { e.TypedRune(r) })
}

func (d *drawing) deleteKey(e *cells) *button {
	return d.key(d.w.Label(words.KeyDelete, nil), e, func() { e.TypedKey(&fyne.KeyEvent{Name: fyne.KeyBackspace}) })
}

// key is a key of a pad; digits typed while it has the focus go to e.
func (d *drawing) key(text string, e *cells, act func()) *button {
	b := newButton(text, keyButton, act)
	b.typed = e.TypedRune
	b.pressed = e.TypedKey
	return b
}

// startLayout gives one object its own size at the top left.
type startLayout struct{}

func (startLayout) heightFor(objects []fyne.CanvasObject, _ float32) float32 {
	return objects[0].MinSize().Height
}
func (startLayout) MinSize(objects []fyne.CanvasObject) fyne.Size { return objects[0].MinSize() }
func (startLayout) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	m := objects[0].MinSize()
	objects[0].Resize(fyne.NewSize(min(m.Width, size.Width), m.Height))
	objects[0].Move(fyne.NewPos(0, 0))
}

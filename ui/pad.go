package ui

import (
	"strings"

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
	below  fyne.CanvasObject
	tight  bool // much stands above: what was wrong, and below, get the page's whole width
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
	if o.hidden && d.s.Turn == kiosk.TurnCitizen {
		o.below = label(d.w.Label(words.Shield, nil))
	}
	keys, problem := container.New(startLayout{}, d.digits(entry)), d.problem(d.w.Problem(view))
	var whole *fyne.Container
	rest := stack(10, o.above, label(hint), o.below)
	if o.tight {
		left := stack(10, o.above, besideMiddle(16, []float32{0, 1}, entry, label(hint)))
		whole = stack(8, beside(32, []float32{1, 0}, left, keys), remark(badPale, bad, "failed", problem), o.below)
	} else {
		left := stack(16, o.above, label(hint), container.New(startLayout{}, entry), mistake(problem, 22), o.below)
		whole = beside(32, []float32{1, 0}, left, keys)
	}
	title, lead := d.w.Heading(d.s)
	p := page{
		title:   title,
		lead:    lead,
		body:    whole,
		buttons: append(d.buttons(), append(o.extra, newButton(d.w.Action(o.action), mainButton, submit))...),
		entry:   entry,
		focus:   entry,
		say:     strings.TrimSpace(problem + " " + hint),
		wrong:   mistake(problem, 22),
		field:   container.New(startLayout{}, entry),
		keys:    keys,
		rest:    rest,
	}
	return p
}

// submitPIN sends what was typed, unless it is too short to be meant.
func (d *drawing) submitPIN(a kiosk.Action, v kiosk.PINView) {
	l := &d.u.local
	l.unclear, l.scanned = false, false
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
	keys = append(keys, place{newButton(d.w.Label(words.KeyClear, nil), keyButton, e.clear), 1}, place{d.character('0', e), 1}, place{d.deleteKey(e), 1})
	return keyRows(104, touch+2*ringGap, 3, keys...)
}

func (d *drawing) character(r rune, e *cells) *button {
	return newButton(string(r), keyButton, func() { e.put(r) })
}

func (d *drawing) deleteKey(e *cells) *button {
	return newButton(d.w.Label(words.KeyDelete, nil), keyButton, func() { e.press(fyne.KeyBackspace) })
}

// problem says why something typed or scanned here was not taken, or else what
// the agent says of it.
func (d *drawing) problem(agents string) string {
	switch {
	case d.l.problem != "":
		return d.l.problem
	case d.l.unclear:
		return d.w.Label(words.ScanUnclear, nil)
	}
	return agents
}

// mistake is a notice of what was wrong with an entry; nil when nothing was.
func mistake(text string, size float32) *fyne.Container {
	if text == "" {
		return nil
	}
	return notice(badPale, bad, beside(14, []float32{0, 1}, sign("failed"), body(text).sized(size)))
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

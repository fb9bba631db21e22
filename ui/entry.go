package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"fyne.io/fyne/v2/widget"

	"enrollkiosk/kiosk/secret"
)

// longest is the most characters that any entry takes: a cancel code has 28,
// document numbers up to 22 (ICAO 9303-5 4.2.2), PINs fewer.
const (
	longest    = 28
	mrzLongest = 22
)

// entry is what a person typed and nobody has sent yet. Its bytes live in this
// one array: no string of them is ever made, nothing can undo a deletion, and
// wipe leaves nothing. Fyne's entry keeps an undo history instead.
type entry struct {
	b   [longest]byte
	n   int
	max int
}

func (e *entry) add(c byte) bool {
	if e.n >= min(e.max, longest) {
		return false
	}
	e.b[e.n] = c
	e.n++
	return true
}

func (e *entry) back() {
	if e.n > 0 {
		e.n--
		e.b[e.n] = 0
	}
}

func (e *entry) wipe() {
	clear(e.b[:])
	e.n = 0
}

// take hands the bytes over and forgets them.
func (e *entry) take() secret.Text {
	b := make([]byte, e.n)
	copy(b, e.b[:e.n])
	e.wipe()
	return secret.New(b)
}

// cells shows an entry as a row of boxes, one character each: a dot, or the
// character where it is no secret to the person who copies it from a card.
// Texts are single characters, so that no cache of Fyne's holds the whole.
type cells struct {
	widget.BaseWidget
	e       *entry
	hidden  bool
	boxes   int // shown at least
	accepts func(rune) (byte, bool)
	changed func() // after each key
	submit  func()
	tapped  func()   // nil: takes the focus itself
	scanner *scanner // nil: none is expected here
	focused bool
	active  bool // where the screen's keys go
	look    Look
}

var _ fyne.Focusable = (*cells)(nil)

func newCells(e *entry, hidden bool, boxes int, accepts func(rune) (byte, bool)) *cells {
	c := &cells{e: e, hidden: hidden, boxes: boxes, accepts: accepts, changed: func() {}, submit: func() {}}
	c.ExtendBaseWidget(c)
	return c
}

// digit accepts 0 to 9.
func digit(r rune) (byte, bool) { return byte(r), r >= '0' && r <= '9' }

// mrzLetter accepts the characters of a machine-readable zone (ICAO 9303-3 4.3).
func mrzLetter(r rune) (byte, bool) {
	if r >= 'a' && r <= 'z' {
		r -= 'a' - 'A'
	}
	return byte(r), r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r == '<'
}

func (c *cells) TypedRune(r rune) {
	if c.scanner == nil || !c.scanner.character(r) {
		c.put(r)
	}
}

func (c *cells) TypedKey(k *fyne.KeyEvent) {
	if c.scanner == nil || !c.scanner.key(k) {
		c.press(k.Name)
	}
}

// put and press are TypedRune and TypedKey for the keys on the screen.
func (c *cells) put(r rune) {
	if b, ok := c.accepts(r); ok && c.e.add(b) {
		c.Refresh()
		c.changed()
	}
}

func (c *cells) press(k fyne.KeyName) {
	switch k {
	case fyne.KeyBackspace, fyne.KeyDelete:
		c.e.back()
		c.Refresh()
		c.changed()
	case fyne.KeyReturn, fyne.KeyEnter:
		c.submit()
	}
}

func (c *cells) clear() {
	c.e.wipe()
	c.Refresh()
	c.changed()
}

func (c *cells) Tapped(*fyne.PointEvent) {
	if c.tapped != nil {
		c.tapped()
		return
	}
	if cv := fyne.CurrentApp().Driver().CanvasForObject(c); cv != nil {
		cv.Focus(c)
	}
}

func (c *cells) FocusGained() { c.focused = true; c.Refresh() }
func (c *cells) FocusLost()   { c.focused = false; c.Refresh() }

const (
	cellWide float32 = 40
	cellHigh float32 = 54
	cellGap  float32 = 6
)

func (c *cells) shown() int { return max(c.boxes, c.e.n) }

// box is the size of one box. Boxes grow with the text, by half as much.
func (c *cells) box() fyne.Size {
	k := 1 + (c.look.times()-1)/2
	return fyne.NewSize(cellWide*k, cellHigh*k)
}

func (c *cells) MinSize() fyne.Size {
	n, b := float32(max(c.boxes, 1)), c.box()
	return fyne.NewSize(n*b.Width+(n-1)*cellGap+2*ringGap, b.Height+2*ringGap)
}

func (c *cells) CreateRenderer() fyne.WidgetRenderer {
	r := &cellsRenderer{c: c, ring: canvas.NewRectangle(color.Transparent)}
	r.ring.StrokeWidth, r.ring.CornerRadius = 4, rounded+2
	return r
}

type cellsRenderer struct {
	c       *cells
	ring    *canvas.Rectangle
	objects []fyne.CanvasObject
}

func (r *cellsRenderer) Layout(size fyne.Size) {
	c := r.c
	r.ring.StrokeColor = color.Transparent
	if c.focused {
		r.ring.StrokeColor = c.look.color(ring)
	}
	r.ring.Resize(size)
	r.objects = []fyne.CanvasObject{r.ring}
	n := c.shown()
	high := c.box().Height
	w := min(c.box().Width, (size.Width-2*ringGap-float32(n-1)*cellGap)/float32(max(n, 1)))
	for i := range n {
		x := ringGap + float32(i)*(w+cellGap)
		box := canvas.NewRectangle(c.look.color(sheet))
		if c.active {
			box.FillColor = c.look.color(accentPale)
		}
		box.StrokeWidth, box.StrokeColor, box.CornerRadius = 2, c.look.color(edge), 5
		box.Move(fyne.NewPos(x, ringGap))
		box.Resize(fyne.NewSize(w, high))
		r.objects = append(r.objects, box)
		if i >= c.e.n {
			continue
		}
		if c.hidden {
			d := high * 20 / cellHigh
			dot := canvas.NewCircle(c.look.color(ink))
			dot.Move(fyne.NewPos(x+(w-d)/2, ringGap+(high-d)/2))
			dot.Resize(fyne.NewSize(d, d))
			r.objects = append(r.objects, dot)
			continue
		}
		t := newText(string(rune(c.e.b[i])), min(c.look.size(28), w*0.95), fyne.TextStyle{Bold: true}, c.look.color(ink))
		t.Alignment = fyne.TextAlignCenter
		h := t.MinSize().Height
		t.Move(fyne.NewPos(x, ringGap+(high-h)/2))
		t.Resize(fyne.NewSize(w, h))
		r.objects = append(r.objects, t)
	}
}

func (r *cellsRenderer) MinSize() fyne.Size           { return r.c.MinSize() }
func (r *cellsRenderer) Objects() []fyne.CanvasObject { return r.objects }
func (r *cellsRenderer) Destroy()                     {}
func (r *cellsRenderer) Refresh() {
	r.Layout(r.c.Size())
	canvas.Refresh(r.c)
}

// place is a key and how many places of its row it takes.
type place struct {
	key  *button
	span int
}

// keyRows arranges keys in rows, in the order of Tab.
func keyRows(wide, high float32, across int, keys ...place) *fyne.Container {
	k := keyLayout{wide: wide, high: high, across: across}
	var all []fyne.CanvasObject
	for _, p := range keys {
		all = append(all, p.key)
		k.spans = append(k.spans, p.span)
	}
	return container.New(k, all...)
}

type keyLayout struct {
	wide, high float32
	across     int
	spans      []int
}

func (k keyLayout) rows() int {
	total := 0
	for _, s := range k.spans {
		total += s
	}
	return (total + k.across - 1) / k.across
}

func (k keyLayout) MinSize([]fyne.CanvasObject) fyne.Size {
	return fyne.NewSize(float32(k.across)*k.wide, float32(k.rows())*k.high)
}

func (k keyLayout) Layout(objects []fyne.CanvasObject, _ fyne.Size) {
	at := 0
	for i, o := range objects {
		o.Move(fyne.NewPos(float32(at%k.across)*k.wide, float32(at/k.across)*k.high))
		o.Resize(fyne.NewSize(float32(k.spans[i])*k.wide, k.high))
		at += k.spans[i]
	}
}

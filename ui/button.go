package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/driver/desktop"
	"fyne.io/fyne/v2/widget"
)

// kind is how a button looks.
type kind int

const (
	mainButton   kind = iota // filled: the one thing to do
	plainButton              // outlined
	headerButton             // small, on the header
	keyButton                // of a pad
)

// button acts on release of a tap, and on Space, Return and the keypad's Enter
// when it has the focus, which a ring around it shows. Fyne's own button knows
// no Return (fyne-io/fyne#2997) and hides its focus.
type button struct {
	widget.BaseWidget
	text     string
	icon     string // a drawing before the text, "" for none
	bare     bool   // the drawing says it without the text
	kind     kind
	wide     float32 // at least; 0 for what the text needs
	act      func()
	typed    func(rune)           // keys it has no use for
	pressed  func(*fyne.KeyEvent) // likewise
	scanner  *scanner             // nil: none is expected on its page
	listener *listener            // likewise
	focused  bool
	over     bool
	look     Look
}

var (
	_ fyne.Tappable     = (*button)(nil)
	_ fyne.Focusable    = (*button)(nil)
	_ desktop.Hoverable = (*button)(nil)
)

func newButton(text string, k kind, act func()) *button {
	b := &button{text: text, kind: k, act: act}
	b.ExtendBaseWidget(b)
	return b
}

func (b *button) Tapped(*fyne.PointEvent) { b.act() }

func (b *button) TypedKey(e *fyne.KeyEvent) {
	if b.scanner != nil && b.scanner.key(e) || b.listener != nil && b.listener.key(e) {
		return
	}
	switch e.Name {
	case fyne.KeySpace, fyne.KeyReturn, fyne.KeyEnter:
		b.act()
	default:
		if b.pressed != nil {
			b.pressed(e)
		}
	}
}

func (b *button) TypedRune(r rune) {
	if b.typed != nil {
		b.typed(r)
	}
}

func (b *button) FocusGained()                   { b.focused = true; b.Refresh() }
func (b *button) FocusLost()                     { b.focused = false; b.Refresh() }
func (b *button) MouseIn(*desktop.MouseEvent)    { b.over = true; b.Refresh() }
func (b *button) MouseMoved(*desktop.MouseEvent) {}
func (b *button) MouseOut()                      { b.over = false; b.Refresh() }

func (b *button) textSize() float32 {
	if b.kind == keyButton && len([]rune(b.text)) > 1 {
		return labelText // a word on a key that keeps its size
	}
	return b.look.size(b.commonSize())
}

func (b *button) commonSize() float32 {
	switch b.kind {
	case headerButton:
		return labelText
	case keyButton:
		return 30
	}
	return bodyText
}

// padding is the distance between the text and the button's edge.
func (b *button) padding() fyne.Size {
	switch b.kind {
	case headerButton:
		return fyne.NewSize(18, 10)
	case keyButton:
		return fyne.NewSize(8, 8)
	}
	return fyne.NewSize(32, 18)
}

const iconGap float32 = 10

// iconSide is the size of the drawing on a button.
func (b *button) iconSide() float32 {
	if b.bare {
		return 36
	}
	return max(24, b.textSize())
}

// inner is the room that text and drawing take.
func (b *button) inner() fyne.Size {
	if b.bare {
		return fyne.NewSquareSize(b.iconSide())
	}
	t := measure(b.text, b.textSize(), fyne.TextStyle{Bold: true})
	if b.icon != "" {
		t.Width += b.iconSide() + iconGap
	}
	return t
}

func (b *button) MinSize() fyne.Size {
	t, p := b.inner(), b.padding()
	s := fyne.NewSize(max(b.wide-2*ringGap, t.Width+2*p.Width), t.Height+2*p.Height)
	switch b.kind {
	case mainButton, plainButton:
		s = s.Max(fyne.NewSize(160, touch))
	case headerButton:
		s = s.Max(fyne.NewSize(touch, 48))
	case keyButton:
		if b.bare {
			s = s.Max(fyne.NewSquareSize(touch))
		}
	}
	return s.AddWidthHeight(2*ringGap, 2*ringGap)
}

func (b *button) colors() (back, border, text, ringed tone) {
	switch {
	case b.kind == mainButton && b.over:
		return accentDeep, accentDeep, onAccent, ring
	case b.kind == mainButton:
		return accent, accent, onAccent, ring
	case b.kind == headerButton:
		return navy, white, white, ringNavy
	case b.kind == keyButton:
		return sheet, edge, ink, ring
	}
	return sheet, accent, accent, ring
}

func (b *button) CreateRenderer() fyne.WidgetRenderer {
	r := &buttonRenderer{b: b, ring: canvas.NewRectangle(color.Transparent), face: canvas.NewRectangle(sheet), text: newText(b.text, b.textSize(), fyne.TextStyle{Bold: true}, ink)}
	r.ring.StrokeWidth, r.ring.CornerRadius = 4, rounded+4
	r.face.StrokeWidth, r.face.CornerRadius = 2, rounded
	r.text.Alignment = fyne.TextAlignCenter
	if b.icon != "" {
		r.icon = drawn(b.icon)
		b.look.recolor(r.icon)
	}
	r.paint()
	return r
}

type buttonRenderer struct {
	b    *button
	ring *canvas.Rectangle
	face *canvas.Rectangle
	text *canvas.Text
	icon *canvas.Image // nil: none
}

func (r *buttonRenderer) paint() {
	back, border, text, ringed := r.b.colors()
	l := r.b.look
	r.face.FillColor, r.face.StrokeColor, r.text.Color = l.color(back), l.color(border), l.color(text)
	r.ring.StrokeColor = color.Transparent
	if r.b.focused {
		r.ring.StrokeColor = l.color(ringed)
	}
}

func (r *buttonRenderer) Layout(size fyne.Size) {
	r.ring.Resize(size)
	r.face.Move(fyne.NewPos(ringGap, ringGap))
	r.face.Resize(size.SubtractWidthHeight(2*ringGap, 2*ringGap))
	r.paint()
	side := r.b.iconSide()
	if r.b.bare {
		r.icon.Resize(fyne.NewSquareSize(side))
		r.icon.Move(fyne.NewPos((size.Width-side)/2, (size.Height-side)/2))
		return
	}
	left := float32(0)
	if r.icon != nil {
		left = side + iconGap
	}
	// Keys keep their size, and the window is only so wide; a long word gets smaller.
	for r.text.TextSize = r.b.textSize(); r.text.TextSize > 12 && r.text.MinSize().Width > size.Width-left-2*ringGap-6; {
		r.text.TextSize--
	}
	h := r.text.MinSize().Height
	if r.icon != nil {
		r.icon.Resize(fyne.NewSquareSize(side))
		r.icon.Move(fyne.NewPos((size.Width-left-r.text.MinSize().Width)/2, (size.Height-side)/2))
	}
	r.text.Move(fyne.NewPos(left, (size.Height-h)/2))
	r.text.Resize(fyne.NewSize(size.Width-left, h))
}

func (r *buttonRenderer) MinSize() fyne.Size { return r.b.MinSize() }

func (r *buttonRenderer) Objects() []fyne.CanvasObject {
	all := []fyne.CanvasObject{r.ring, r.face}
	if !r.b.bare {
		all = append(all, r.text)
	}
	if r.icon != nil {
		all = append(all, r.icon)
	}
	return all
}

func (r *buttonRenderer) Refresh() {
	r.paint()
	r.ring.Refresh()
	r.face.Refresh()
	r.text.Refresh()
}

func (r *buttonRenderer) Destroy() {}

package ui

import (
	"image/color"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/widget"

	"enrollkiosk/kiosk/typeface"
)

// newText is a line of text in the face that has its letters.
func newText(s string, size float32, style fyne.TextStyle, c color.Color) *canvas.Text {
	t := canvas.NewText(s, c)
	t.TextSize, t.TextStyle, t.FontSource = size, style, face(s, style)
	return t
}

// measure is the size of a line of text in the face that has its letters.
func measure(s string, size float32, style fyne.TextStyle) fyne.Size {
	return newText(s, size, style, ink).MinSize()
}

// paragraph is text that wraps to the width it gets and knows its height for
// any width. Fyne's own label wraps Chinese only where Latin words end.
type paragraph struct {
	widget.BaseWidget
	text  string
	size  float32
	color color.Color
	style fyne.TextStyle
	align fyne.TextAlign
	look  Look
}

func newParagraph(text string, size float32, c color.Color) *paragraph {
	p := &paragraph{text: text, size: size, color: c}
	p.ExtendBaseWidget(p)
	return p
}

// heading, body and label are the three voices of a page.
func heading(s string) *paragraph { return newParagraph(s, headText, ink).bold() }
func body(s string) *paragraph    { return newParagraph(s, bodyText, ink) }
func label(s string) *paragraph   { return newParagraph(s, labelText, faint) }

func (p *paragraph) bold() *paragraph { p.style.Bold = true; return p }
func (p *paragraph) center() *paragraph {
	p.align = fyne.TextAlignCenter
	return p
}
func (p *paragraph) in(c color.Color) *paragraph { p.color = c; return p }
func (p *paragraph) sized(s float32) *paragraph  { p.size = s; return p }

// oneLine sets the type smaller, never below least, for the text to need no
// second line.
func (p *paragraph) oneLine(width, least float32) *paragraph {
	for p.size > least && p.MinSize().Width > width {
		p.size -= 2
	}
	return p
}

// dressed is p in the look of the window, for measuring it.
func (d *drawing) dressed(p *paragraph) *paragraph { p.look = d.look; return p }

// set is the size that the text is set in.
func (p *paragraph) set() float32 { return p.look.size(p.size) }

// step is the distance between baselines.
func (p *paragraph) step() float32 { return p.set() * 1.4 }

func (p *paragraph) heightFor(width float32) float32 {
	return float32(len(p.lines(width))) * p.step()
}

func (p *paragraph) lines(width float32) []string {
	return typeface.Wrap(p.text, width, func(s string) float32 { return measure(s, p.set(), p.style).Width })
}

// MinSize is that of the text on one line: a paragraph shrinks only where a
// layout asks heightFor.
func (p *paragraph) MinSize() fyne.Size {
	var w float32
	lines := strings.Split(p.text, "\n")
	for _, l := range lines {
		w = max(w, measure(l, p.set(), p.style).Width)
	}
	return fyne.NewSize(w, float32(len(lines))*p.step())
}

func (p *paragraph) CreateRenderer() fyne.WidgetRenderer { return &paragraphRenderer{p: p} }

type paragraphRenderer struct {
	p     *paragraph
	texts []fyne.CanvasObject
}

func (r *paragraphRenderer) Layout(size fyne.Size) {
	r.texts = nil
	for i, l := range r.p.lines(size.Width) {
		t := newText(l, r.p.set(), r.p.style, r.p.look.color(r.p.color))
		t.Alignment = r.p.align
		natural := t.MinSize().Height
		t.Resize(fyne.NewSize(size.Width, natural))
		t.Move(fyne.NewPos(0, float32(i)*r.p.step()-(natural-r.p.step())/2))
		r.texts = append(r.texts, t)
	}
}

func (r *paragraphRenderer) MinSize() fyne.Size           { return r.p.MinSize() }
func (r *paragraphRenderer) Objects() []fyne.CanvasObject { return r.texts }
func (r *paragraphRenderer) Refresh()                     { r.Layout(r.p.Size()) }
func (r *paragraphRenderer) Destroy()                     {}

package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
)

// A tall layout knows its height for a width, which Fyne's MinSize cannot say
// of text that wraps.
type tall interface {
	heightFor(objects []fyne.CanvasObject, width float32) float32
}

func heightFor(o fyne.CanvasObject, width float32) float32 {
	switch o := o.(type) {
	case *paragraph:
		return o.heightFor(width)
	case *fyne.Container:
		if t, ok := o.Layout.(tall); ok {
			return t.heightFor(o.Objects, width)
		}
	}
	return o.MinSize().Height
}

// column stacks objects, each as wide as the column and as high as it needs.
type column struct{ gap float32 }

func stack(gap float32, objects ...fyne.CanvasObject) *fyne.Container {
	return container.New(column{gap}, present(objects)...)
}

// present drops nil objects, so that callers can leave things out.
func present(objects []fyne.CanvasObject) []fyne.CanvasObject {
	var out []fyne.CanvasObject
	for _, o := range objects {
		switch p := o.(type) {
		case nil:
			continue
		case *fyne.Container:
			if p == nil {
				continue
			}
		case *paragraph:
			if p == nil {
				continue
			}
		}
		out = append(out, o)
	}
	return out
}

func (c column) heightFor(objects []fyne.CanvasObject, width float32) float32 {
	var h float32
	for i, o := range objects {
		if i > 0 {
			h += c.gap
		}
		h += heightFor(o, width)
	}
	return h
}

func (c column) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	var y float32
	for _, o := range objects {
		h := heightFor(o, size.Width)
		o.Move(fyne.NewPos(0, y))
		o.Resize(fyne.NewSize(size.Width, h))
		y += h + c.gap
	}
}

func (c column) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var s fyne.Size
	for i, o := range objects {
		m := o.MinSize()
		s.Width = max(s.Width, m.Width)
		s.Height += m.Height
		if i > 0 {
			s.Height += c.gap
		}
	}
	return s
}

// columns places objects side by side. A share of 0 is the object's own width;
// the rest is divided by shares.
type columns struct {
	gap    float32
	shares []float32
	middle bool // centre each in the height
}

func beside(gap float32, shares []float32, objects ...fyne.CanvasObject) *fyne.Container {
	return container.New(columns{gap: gap, shares: shares}, objects...)
}

func besideMiddle(gap float32, shares []float32, objects ...fyne.CanvasObject) *fyne.Container {
	return container.New(columns{gap: gap, shares: shares, middle: true}, objects...)
}

func (c columns) widths(objects []fyne.CanvasObject, width float32) []float32 {
	free := width - c.gap*float32(len(objects)-1)
	var total float32
	w := make([]float32, len(objects))
	for i, o := range objects {
		if c.shares[i] == 0 {
			w[i] = o.MinSize().Width
			free -= w[i]
		}
		total += c.shares[i]
	}
	for i := range objects {
		if c.shares[i] > 0 {
			w[i] = max(0, free*c.shares[i]/total)
		}
	}
	return w
}

func (c columns) heightFor(objects []fyne.CanvasObject, width float32) float32 {
	var h float32
	for i, w := range c.widths(objects, width) {
		h = max(h, heightFor(objects[i], w))
	}
	return h
}

func (c columns) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	var x float32
	for i, w := range c.widths(objects, size.Width) {
		h, y := size.Height, float32(0)
		if c.middle {
			h = heightFor(objects[i], w)
			y = (size.Height - h) / 2
		}
		objects[i].Move(fyne.NewPos(x, y))
		objects[i].Resize(fyne.NewSize(w, h))
		x += w + c.gap
	}
}

func (c columns) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var s fyne.Size
	for i, o := range objects {
		m := o.MinSize()
		s.Width += m.Width
		if i > 0 {
			s.Width += c.gap
		}
		s.Height = max(s.Height, m.Height)
	}
	return s
}

// inset keeps a distance around one object. backgrounds come first and fill.
type inset struct{ x, y float32 }

func (n inset) heightFor(objects []fyne.CanvasObject, width float32) float32 {
	return heightFor(objects[len(objects)-1], width-2*n.x) + 2*n.y
}

func (n inset) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	for _, o := range objects[:len(objects)-1] {
		o.Move(fyne.NewPos(0, 0))
		o.Resize(size)
	}
	last := objects[len(objects)-1]
	last.Move(fyne.NewPos(n.x, n.y))
	last.Resize(size.SubtractWidthHeight(2*n.x, 2*n.y))
}

func (n inset) MinSize(objects []fyne.CanvasObject) fyne.Size {
	return objects[len(objects)-1].MinSize().AddWidthHeight(2*n.x, 2*n.y)
}

// panelPad is the room at the sides of a panel.
const panelPad = 22

// panel is a white sheet around o.
func panel(o fyne.CanvasObject) *fyne.Container {
	r := canvas.NewRectangle(sheet)
	r.CornerRadius, r.StrokeWidth, r.StrokeColor = rounded, 1, line
	return container.New(inset{panelPad, 18}, r, o)
}

// notice is a tinted sheet with a bar in the colour of what it says.
func notice(back, bar tone, o fyne.CanvasObject) *fyne.Container {
	r := canvas.NewRectangle(back)
	r.CornerRadius, r.StrokeWidth, r.StrokeColor = rounded, 2, bar
	return container.New(inset{20, 14}, r, o)
}

// remark is a notice of few words among much else; nil when there is none.
func remark(back, bar tone, name, text string) *fyne.Container {
	if text == "" {
		return nil
	}
	n := notice(back, bar, besideMiddle(14, []float32{0, 1}, sign(name), body(text).sized(20)))
	n.Layout = inset{20, 9}
	return n
}

// fixed gives one object a size.
type fixed struct{ size fyne.Size }

func sized(w, h float32, o fyne.CanvasObject) *fyne.Container {
	return container.New(fixed{fyne.NewSize(w, h)}, o)
}

func (f fixed) heightFor([]fyne.CanvasObject, float32) float32 { return f.size.Height }
func (f fixed) MinSize([]fyne.CanvasObject) fyne.Size          { return f.size }
func (f fixed) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	s := fyne.NewSize(min(f.size.Width, size.Width), f.size.Height)
	for _, o := range objects {
		o.Move(fyne.NewPos((size.Width-s.Width)/2, (size.Height-s.Height)/2))
		o.Resize(s)
	}
}

package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
)

// The heights of the frame around every page.
const (
	headerHigh float32 = 76
	bannerHigh float32 = 40
	footerHigh float32 = 34
	barHigh    float32 = touch + 2*ringGap + 16
	pageTop    float32 = 22
)

// frame is the one fixed layout: header, banner of a training installation,
// page, bar of buttons, footer. It tells when it got another size, since pages
// are cut for the size they were built for.
type frame struct {
	built                       fyne.Size
	header, banner, bar, footer float32 // heights
	resized                     func()
}

// room is what the frame leaves for a page.
func (f frame) room() fyne.Size {
	return fyne.NewSize(f.built.Width-2*margin, f.built.Height-f.header-f.banner-pageTop-f.bar-f.footer)
}

func (f frame) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	header, banner, page, bar, footer := objects[0], objects[1], objects[2], objects[3], objects[4]
	y := float32(0)
	place := func(o fyne.CanvasObject, x, w, h float32) {
		o.Move(fyne.NewPos(x, y))
		o.Resize(fyne.NewSize(w, h))
		y += h
	}
	place(header, 0, size.Width, f.header)
	if f.banner > 0 {
		place(banner, 0, size.Width, f.banner)
	}
	y += pageTop
	place(page, margin, size.Width-2*margin, size.Height-y-f.bar-f.footer)
	place(bar, margin-ringGap, size.Width-2*margin+2*ringGap, f.bar)
	place(footer, 0, size.Width, f.footer)
	if size != f.built && f.resized != nil {
		f.resized()
	}
}

func (frame) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.NewSize(800, 600) }

// bar lays buttons out: the last (the main one) at the right, the others from
// the left, so that the main button of every page is at the same place. Where
// they are too wide for one row the others get rows of their own above it.
type bar struct{ minor bool } // there is no main one

// rows says in which row each button stands, and how many there are.
func (b bar) rows(objects []fyne.CanvasObject, width float32) (at []int, rows int) {
	var x float32
	row := 0
	for i, o := range objects {
		w := min(width, o.MinSize().Width)
		if x > 0 && x+w > width+0.5 {
			row, x = row+1, 0
		}
		at = append(at, row)
		if x += w; i < len(objects)-1 {
			x += gap
		}
	}
	return at, row + 1
}

const barPad = barHigh - touch - 2*ringGap

func (b bar) heightFor(objects []fyne.CanvasObject, width float32) float32 {
	_, rows := b.rows(objects, width)
	return float32(rows)*b.row(objects) + barPad
}

// row is the height of a row.
func (b bar) row(objects []fyne.CanvasObject) float32 {
	high := touch + 2*ringGap
	for _, o := range objects {
		high = max(high, o.MinSize().Height)
	}
	return high
}

func (b bar) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	at, rows := b.rows(objects, size.Width)
	high := b.row(objects)
	y := (size.Height - float32(rows)*high) / 2
	var x float32
	for i, o := range objects {
		if i > 0 && at[i] != at[i-1] {
			x, y = 0, y+high
		}
		m := o.MinSize()
		m.Width = min(m.Width, size.Width)
		o.Resize(m)
		if i == len(objects)-1 && !b.minor {
			x = size.Width - m.Width
		}
		o.Move(fyne.NewPos(x, y+(high-m.Height)/2))
		x += m.Width + gap
	}
}

func (b bar) MinSize(objects []fyne.CanvasObject) fyne.Size {
	s := fyne.NewSize(0, b.row(objects)+barPad)
	for _, o := range objects {
		s.Width += o.MinSize().Width + gap
	}
	return s
}

// pair gives two buttons the same size, side by side in the middle: a question
// whose answers weigh the same.
type pair struct{}

func (pair) heightFor(objects []fyne.CanvasObject, _ float32) float32 {
	return bar{}.row(objects) + barPad
}

func (pair) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	var w float32
	for _, o := range objects {
		w = max(w, o.MinSize().Width)
	}
	n := float32(len(objects))
	w = min(w, (size.Width-gap*(n-1))/n)
	x := (size.Width - w*n - gap*(n-1)) / 2
	for _, o := range objects {
		h := o.MinSize().Height
		o.Move(fyne.NewPos(x, (size.Height-h)/2))
		o.Resize(fyne.NewSize(w, h))
		x += w + gap
	}
}

func (pair) MinSize(objects []fyne.CanvasObject) fyne.Size { return bar{}.MinSize(objects) }

// headerRows is a header of large text: whose turn it is above, buttons below.
type headerRows struct{}

func (headerRows) MinSize(objects []fyne.CanvasObject) fyne.Size {
	var high float32
	for _, o := range objects[1:] {
		high = max(high, o.MinSize().Height)
	}
	return fyne.NewSize(0, objects[0].MinSize().Height+high+12)
}

func (headerRows) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	turn := objects[0]
	turn.Resize(turn.MinSize())
	turn.Move(fyne.NewPos(margin-8, 6))
	x := size.Width - margin + 8
	for i := len(objects) - 1; i > 0; i-- {
		o := objects[i]
		m := o.MinSize()
		if over := m.Width - (x - margin + 8); i == 1 && over > 0 {
			m.Width -= over // the last at the left has what is left
		}
		x -= m.Width
		o.Resize(m)
		o.Move(fyne.NewPos(x, size.Height-m.Height-2))
		x -= 6
	}
}

// strip is a filled band with objects from the left and from the right.
type strip struct {
	left int // how many objects stand at the left
	gap  float32
	pad  float32
}

func newStrip(back *canvas.Rectangle, gap, pad float32, left, right []fyne.CanvasObject) *fyne.Container {
	left, right = present(left), present(right)
	inner := container.New(strip{len(left), gap, pad}, append(left, right...)...)
	return container.New(inset{0, 0}, back, inner)
}

func (s strip) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	x := s.pad
	for _, o := range objects[:s.left] {
		m := o.MinSize()
		o.Resize(m)
		o.Move(fyne.NewPos(x, (size.Height-m.Height)/2))
		x += m.Width + s.gap
	}
	x = size.Width - s.pad
	for i := len(objects) - 1; i >= s.left; i-- {
		m := objects[i].MinSize()
		x -= m.Width
		objects[i].Resize(m)
		objects[i].Move(fyne.NewPos(x, (size.Height-m.Height)/2))
		x -= s.gap
	}
}

func (s strip) MinSize(objects []fyne.CanvasObject) fyne.Size {
	size := fyne.NewSize(2*s.pad, 0)
	for _, o := range objects {
		m := o.MinSize()
		size.Width += m.Width + s.gap
		size.Height = max(size.Height, m.Height)
	}
	return size
}

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
	banner  bool
	built   fyne.Size
	resized func()
}

// room is what the frame leaves for a page.
func (f frame) room() fyne.Size {
	h := f.built.Height - headerHigh - footerHigh - barHigh - pageTop
	if f.banner {
		h -= bannerHigh
	}
	return fyne.NewSize(f.built.Width-2*margin, h)
}

func (f frame) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	header, banner, page, bar, footer := objects[0], objects[1], objects[2], objects[3], objects[4]
	y := float32(0)
	place := func(o fyne.CanvasObject, x, w, h float32) {
		o.Move(fyne.NewPos(x, y))
		o.Resize(fyne.NewSize(w, h))
		y += h
	}
	place(header, 0, size.Width, headerHigh)
	if f.banner {
		place(banner, 0, size.Width, bannerHigh)
	}
	y += pageTop
	place(page, margin, size.Width-2*margin, size.Height-y-barHigh-footerHigh)
	place(bar, margin-ringGap, size.Width-2*margin+2*ringGap, barHigh)
	place(footer, 0, size.Width, footerHigh)
	if size != f.built && f.resized != nil {
		f.resized()
	}
}

func (frame) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.NewSize(800, 600) }

// bar lays buttons out: the last (the main one) at the right, the others from
// the left, so that the main button of every page is at the same place.
type bar struct{ minor bool } // there is no main one

func (b bar) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	var x float32
	for i, o := range objects {
		m := o.MinSize()
		y := (size.Height - m.Height) / 2
		o.Resize(m)
		if i == len(objects)-1 && !b.minor {
			o.Move(fyne.NewPos(size.Width-m.Width, y))
			continue
		}
		o.Move(fyne.NewPos(x, y))
		x += m.Width + gap
	}
}

func (bar) MinSize(objects []fyne.CanvasObject) fyne.Size {
	s := fyne.NewSize(0, barHigh)
	for _, o := range objects {
		s.Width += o.MinSize().Width + gap
	}
	return s
}

// pair gives two buttons the same size, side by side in the middle: a question
// whose answers weigh the same.
type pair struct{}

func (pair) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	var w float32
	for _, o := range objects {
		w = max(w, o.MinSize().Width)
	}
	total := w*float32(len(objects)) + gap*float32(len(objects)-1)
	x := (size.Width - total) / 2
	for _, o := range objects {
		h := o.MinSize().Height
		o.Move(fyne.NewPos(x, (size.Height-h)/2))
		o.Resize(fyne.NewSize(w, h))
		x += w + gap
	}
}

func (pair) MinSize(objects []fyne.CanvasObject) fyne.Size { return bar{}.MinSize(objects) }

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

package ui

import (
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
)

// Larger text needs other pages: what stood side by side stands below each
// other (reflow), and what is higher than the window is cut into pages that are
// turned with buttons (cut). Nothing scrolls.

// narrow is the least width of a column, in times the size of its text.
const narrow = 9

// reflow gives columns whose text would become too narrow rows of their own.
func (l Look) reflow(o fyne.CanvasObject, width float32) fyne.CanvasObject {
	c, ok := o.(*fyne.Container)
	if !ok {
		return o
	}
	switch lay := c.Layout.(type) {
	case column:
		var all []fyne.CanvasObject
		for _, o := range c.Objects {
			all = append(all, l.reflow(o, width))
		}
		return container.New(lay, all...)
	case inset:
		last := len(c.Objects) - 1
		all := append(c.Objects[:last:last], l.reflow(c.Objects[last], width-2*lay.x))
		return container.New(lay, all...)
	case columns:
		return l.rows(c.Objects, lay, width)
	}
	return o
}

// rows puts as many columns beside each other as have the width they need.
func (l Look) rows(objects []fyne.CanvasObject, lay columns, width float32) fyne.CanvasObject {
	var rows []fyne.CanvasObject
	for len(objects) > 0 {
		n := 1
		for n < len(objects) && l.wide(objects[:n+1], columns{gap: lay.gap, shares: lay.shares[:n+1]}, width) {
			n++
		}
		if n == 1 && lay.shares[0] == 0 && len(objects) > 1 && objects[0].MinSize().Width < width/4 {
			n = 2 // a sign is no row of its own
		}
		row := columns{lay.gap, lay.shares[:n:n], lay.middle}
		if n == 1 && row.shares[0] == 0 && flexible(objects[0]) {
			row.shares = []float32{1} // it has the row for itself
		}
		var all []fyne.CanvasObject
		for i, w := range row.widths(objects[:n], width) {
			all = append(all, l.reflow(objects[i], w))
		}
		rows = append(rows, container.New(row, all...))
		objects, lay.shares = objects[n:], lay.shares[n:]
	}
	if len(rows) == 1 {
		return rows[0]
	}
	return stack(max(4, lay.gap/2), rows...)
}

// wide says whether columns of shares have room for their text beside those
// that have a width of their own.
func (l Look) wide(objects []fyne.CanvasObject, lay columns, width float32) bool {
	for i, w := range lay.widths(objects, width) {
		if lay.shares[i] > 0 && w < min(objects[i].MinSize().Width, narrow*l.size(bodyText)) {
			return false
		}
	}
	used := lay.gap * float32(len(objects)-1)
	for i, w := range lay.widths(objects, width) {
		if lay.shares[i] == 0 {
			used += w
		}
	}
	return used <= width
}

// flexible says whether an object is text, which takes any width.
func flexible(o fyne.CanvasObject) bool {
	found := false
	visit(o, func(o fyne.CanvasObject) {
		if _, ok := o.(*paragraph); ok {
			found = true
		}
	})
	return found
}

// cut cuts o into pieces, the first at most first high and the others rest. A
// piece of nil means that nothing fits there. What cannot be cut stays whole.
func cut(o fyne.CanvasObject, width, first, rest float32) []fyne.CanvasObject {
	if heightFor(o, width) <= first+0.5 {
		return []fyne.CanvasObject{o}
	}
	switch o := o.(type) {
	case *paragraph:
		return o.cut(width, first, rest)
	case *fyne.Container:
		switch lay := o.Layout.(type) {
		case column:
			if lay.gap < 0 && heightFor(o, width) <= rest+0.5 { // lines that are pulled together are one thing
				return []fyne.CanvasObject{nil, o}
			}
			return cutColumn(o.Objects, lay, width, first, rest)
		case inset:
			return cutInset(o.Objects, lay, width, first, rest)
		case columns:
			return cutColumns(o.Objects, lay, width, first, rest)
		}
	}
	return []fyne.CanvasObject{nil, o}
}

func (p *paragraph) cut(width, first, rest float32) []fyne.CanvasObject {
	lines := p.lines(width)
	fit := max(0, int((first+0.5)/p.step()))
	var pieces []fyne.CanvasObject
	for len(lines) > 0 {
		n := min(fit, len(lines))
		if n == 0 {
			pieces = append(pieces, nil)
		} else {
			part := newParagraph(strings.Join(lines[:n], "\n"), p.size, p.color)
			part.style, part.align, part.look = p.style, p.align, p.look
			pieces = append(pieces, part)
		}
		lines, fit = lines[n:], max(1, int((rest+0.5)/p.step()))
	}
	return pieces
}

func cutColumn(objects []fyne.CanvasObject, lay column, width, first, rest float32) []fyne.CanvasObject {
	var pieces []fyne.CanvasObject
	var here []fyne.CanvasObject
	left := first
	close := func() {
		if len(here) == 0 {
			pieces = append(pieces, nil)
		} else {
			pieces = append(pieces, container.New(lay, here...))
		}
		here, left = nil, rest
	}
	for _, o := range objects {
		room := left
		if len(here) > 0 {
			room -= lay.gap
		}
		for i, piece := range cut(o, width, room, rest) {
			if i > 0 {
				close()
			}
			if piece != nil {
				if len(here) > 0 {
					left -= lay.gap
				}
				here = append(here, piece)
				left -= heightFor(piece, width)
			}
		}
	}
	if len(here) > 0 {
		close()
	}
	return pieces
}

func cutInset(objects []fyne.CanvasObject, lay inset, width, first, rest float32) []fyne.CanvasObject {
	last := len(objects) - 1
	pieces := cut(objects[last], width-2*lay.x, first-2*lay.y, rest-2*lay.y)
	for i, piece := range pieces {
		if piece == nil {
			continue
		}
		all := []fyne.CanvasObject{}
		for _, back := range objects[:last] {
			if r, ok := back.(*canvas.Rectangle); ok {
				again := *r
				back = &again
			}
			all = append(all, back)
		}
		pieces[i] = container.New(lay, append(all, piece)...)
	}
	return pieces
}

// cutColumns cuts text beside what cannot be cut, which stands on the first
// page.
func cutColumns(objects []fyne.CanvasObject, lay columns, width, first, rest float32) []fyne.CanvasObject {
	widths := lay.widths(objects, width)
	for i, o := range objects {
		if high := heightFor(o, widths[i]); first < rest && !flexible(o) && high > first && high <= rest {
			return append([]fyne.CanvasObject{nil}, cut(container.New(lay, objects...), width, rest, rest)...)
		}
	}
	parts, n := make([][]fyne.CanvasObject, len(objects)), 0
	for i, o := range objects {
		if parts[i] = []fyne.CanvasObject{o}; flexible(o) {
			parts[i] = cut(o, widths[i], first, rest)
		}
		n = max(n, len(parts[i]))
		if parts[i][0] == nil && first < rest { // together or not at all
			return append([]fyne.CanvasObject{nil}, cut(container.New(lay, objects...), width, rest, rest)...)
		}
	}
	var pieces []fyne.CanvasObject
	for page := range n {
		row := make([]fyne.CanvasObject, len(objects))
		for i := range objects {
			if row[i] = stack(0); lay.shares[i] == 0 {
				row[i] = sized(widths[i], 0, stack(0))
			}
			if page < len(parts[i]) && parts[i][page] != nil {
				row[i] = parts[i][page]
			}
		}
		pieces = append(pieces, container.New(columns{lay.gap, lay.shares, lay.middle && n == 1}, row...))
	}
	return pieces
}

// pages sets a page in the room there is: at the common size of text as it was
// made, smaller by steps where sentences are long; else on as many pages as it
// takes. more is the width that buttons for turning take.
func (d *drawing) pages(p page, room fyne.Size, more float32) []fyne.CanvasObject {
	titles := func() *fyne.Container { return stack(6, heading(p.title), lead(p.lead)) }
	whole := stack(bodyGap, titles(), p.body)
	d.look.dress(whole)
	if d.look.times() == 1 && (heightFor(whole, room.Width) <= room.Height || !p.whole && tighten(whole, room)) {
		return []fyne.CanvasObject{whole}
	}
	if p.keys != nil {
		return d.besideKeys(p, room, more)
	}
	flowed := d.look.reflow(stack(bodyGap, titles(), p.body), room.Width)
	d.look.dress(flowed)
	if heightFor(flowed, room.Width) <= room.Height {
		return []fyne.CanvasObject{flowed}
	}
	width := room.Width - more
	top := titles()
	d.look.dress(top)
	if high := room.Height - bodyGap - heightFor(top, width); high > room.Height*0.6 { // every page says what it is about
		pieces := present(cut(d.look.reflow(p.body, width), width, high, high))
		fit := true
		for i, piece := range pieces {
			fit = fit && heightFor(piece, width) <= high+0.5
			top := titles()
			d.look.dress(top)
			pieces[i] = stack(bodyGap, top, piece)
		}
		if fit {
			return pieces
		}
	}
	return present(cut(d.look.reflow(stack(bodyGap, top, p.body), width), width, room.Height, room.Height))
}

// besideKeys keeps the field and the keys of a page in their place and turns
// the rest.
func (d *drawing) besideKeys(p page, room fyne.Size, more float32) []fyne.CanvasObject {
	const between = 24
	field, keys := stack(8, p.field), container.New(startLayout{}, p.keys)
	d.look.dress(field)
	d.look.dress(keys)
	width := room.Width - keys.MinSize().Width - between
	high := room.Height - heightFor(field, width) - 8
	flow := func(width float32) []fyne.CanvasObject {
		text := d.look.reflow(stack(14, p.wrong, stack(6, heading(p.title), lead(p.lead)), p.rest), width)
		d.look.dress(text)
		return present(cut(text, width, high, high))
	}
	parts := flow(width)
	if len(parts) > 1 {
		parts = flow(width - more)
	}
	for i, part := range parts {
		parts[i] = beside(between, []float32{1, 0}, container.New(above{}, part, field), keys)
	}
	return parts
}

// above gives the second object its height at the bottom, the first the rest.
type above struct{}

func (above) heightFor(objects []fyne.CanvasObject, width float32) float32 {
	return heightFor(objects[0], width) + 8 + heightFor(objects[1], width)
}

func (above) MinSize(objects []fyne.CanvasObject) fyne.Size { return column{8}.MinSize(objects) }

func (above) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	low := heightFor(objects[1], size.Width)
	objects[0].Move(fyne.NewPos(0, 0))
	objects[0].Resize(size.SubtractWidthHeight(0, low+8))
	objects[1].Move(fyne.NewPos(0, size.Height-low))
	objects[1].Resize(fyne.NewSize(size.Width, low))
}

package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk/words"
)

// review: everything that leaves the kiosk, who can read it, and what was
// agreed to. The citizen signs on the last page.
func (d *drawing) review() page {
	p := d.standard(nil)
	r := d.s.Review
	if r == nil {
		return p
	}
	p.body = stack(16, beside(24, []float32{1, 1}, panel(d.items(words.Sealed, r.Sealed)), panel(d.items(words.RegistrySees, r.Open))), d.agreed())
	p.whole = true
	return p
}

// agreed is what the citizen agreed to, and the identifier it is for.
func (d *drawing) agreed() *fyne.Container {
	rows := []fyne.CanvasObject{label(d.w.Label(words.Agreed, nil)).bold().in(ink).sized(21)}
	for _, c := range d.s.Review.Consents {
		rows = append(rows, beside(12, []float32{0, 1}, sign("done"), body(c.Title)))
	}
	return stack(16, panel(stack(12, rows...)),
		panel(stack(6, label(d.w.Label(words.Identifier, nil)).bold().in(ink).sized(21), label(d.s.Review.DID))))
}

// items explains a list of items under a heading.
func (d *drawing) items(l words.Label, names []string) *fyne.Container {
	rows := []fyne.CanvasObject{label(d.w.Label(l, nil)).bold().in(ink).sized(21)}
	for _, name := range names {
		rows = append(rows, beside(10, []float32{0, 1}, bullet(), label(d.w.Item(name)).in(ink)))
	}
	return stack(3, rows...)
}

func bullet() *fyne.Container {
	c := container.New(fixed{fyne.NewSize(8, 8)}, canvas.NewCircle(accent))
	return sized(8, label("x").step(), c)
}

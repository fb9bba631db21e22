package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk/words"
)

// day: the day in figures, and what is to do before going.
func (d *drawing) day() page {
	p := d.printable()
	v := d.s.Day
	if v == nil {
		return p
	}
	const between = 8
	figure := 84 * d.look.times()
	right := []fyne.CanvasObject{d.outcome(v.Printed, v.File), body(d.w.Label(words.DayToDo, nil)).bold()}
	name := "done"
	if v.Waiting > 0 || v.SetAside > 0 || len(v.Alarms) > 0 {
		name = "warning"
	}
	for _, todo := range d.w.ToDo(*v) {
		right = append(right, beside(12, []float32{0, 1}, picture(name, 22, 22), label(todo).in(ink)))
	}
	cell := func(p *paragraph) fyne.CanvasObject { return sized(figure, d.look.size(labelText)*1.4, p) }
	row := func(name *paragraph, own, all string) fyne.CanvasObject {
		return beside(between, []float32{1, 0, 0}, name, cell(label(own).in(ink).oneLine(84, 11)), cell(label(all).in(ink).oneLine(84, 11)))
	}
	const share = 1.25
	wide := (d.room.Width-24)*share/(share+1) - 2*16 - 2*(figure+between)
	high := d.below(p.title, p.lead) - 2*9
	head := row(label(" "), d.w.Label(words.DayOwn, nil), d.w.Label(words.DayAll, nil))
	if d.look.times() > 1 { // turned with all else on the page
		rows := []fyne.CanvasObject{head}
		for _, r := range d.w.Day(*v) {
			rows = append(rows, row(label(r.Name).in(either(r.Sum, ink, faint)), r.Own, r.All))
		}
		p.body = stack(12, append(right, tight(stack(0, rows...)))...)
		return p
	}
	var pages [][]fyne.CanvasObject
	used := high // a new page
	for _, r := range d.w.Day(*v) {
		name := label(r.Name).in(faint)
		if r.Sum {
			name = label(r.Name).in(ink).bold()
		}
		need := name.heightFor(wide)
		if used+need > high {
			pages, used = append(pages, []fyne.CanvasObject{head}), label(" ").step()
		}
		last := len(pages) - 1
		pages[last], used = append(pages[last], row(name, r.Own, r.All)), used+need
	}
	n := min(d.l.page, len(pages)-1)
	d.leaf(&p, n, len(pages))
	p.body = beside(24, []float32{share, 1}, tight(stack(0, pages[n]...)), stack(12, right...))
	return p
}

// outcome says what has become of a page that was to be printed or written; nil when
// nothing was.
func (d *drawing) outcome(printed bool, file string) *fyne.Container {
	switch hint := d.hint(); {
	case hint != nil:
		return hint
	case printed:
		return remark(goodPale, good, "done", d.w.Label(words.PagePrinted, nil))
	case file != "":
		return remark(goodPale, good, "done", d.w.Label(words.PageWritten, words.Args{"name": file}))
	}
	return nil
}

// leaf adds the buttons that turn pages, before the others.
func (d *drawing) leaf(p *page, n, pages int) {
	turn := func(w words.Label, to int) *button {
		return d.localButton(d.w.Label(w, nil), plainButton, func(l *local) { l.page = to })
	}
	var turns []*button
	if n > 0 {
		turns = append(turns, turn(words.PageBack, n-1))
	}
	if n < pages-1 {
		turns = append(turns, turn(words.PageOn, n+1))
	}
	p.buttons = append(turns, p.buttons...)
}

package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
)

// chooseLanguage: each language by its own name, asked for in each language.
func (d *drawing) chooseLanguage() page {
	p := page{title: d.w.Title(kiosk.ScreenLanguage), lead: d.w.Instruction(kiosk.ScreenLanguage), buttons: d.buttons()}
	const inRows = 3 // more stand in two columns
	many := len(d.s.Languages) > inRows
	var all []fyne.CanvasObject
	for _, l := range d.s.Languages {
		b := d.languageButton(l, either(l == d.s.Language, mainButton, plainButton))
		if p.focus == nil || l == d.s.Language {
			p.focus = b
		}
		w := d.u.book(l)
		ask := stack(2, body(w.Title(kiosk.ScreenLanguage)).bold(), label(w.Instruction(kiosk.ScreenLanguage)))
		if d.look.times() > 1 { // the names of the languages matter most
			all = append(all, b)
		} else if many {
			all = append(all, panel(stack(8, ask, b)))
		} else {
			all = append(all, panel(besideMiddle(24, []float32{1, 0}, ask, sized(280, touch+2*ringGap, b))))
		}
	}
	if !many {
		p.body = stack(16, all...)
		return p
	}
	var rows []fyne.CanvasObject
	for len(all) > 0 {
		n := min(2, len(all))
		row := all[:n:n]
		if n == 1 {
			row = append(row, stack(0))
		}
		rows, all = append(rows, beside(16, []float32{1, 1}, row...)), all[n:]
	}
	p.body = stack(16, rows...)
	return p
}

// otherLanguage is chooseLanguage in the middle of an enrollment, over the page
// that it goes back to.
func (d *drawing) otherLanguage() page {
	p := d.chooseLanguage()
	p.buttons = []*button{d.localButton(d.w.Action(kiosk.ActionBack), plainButton, func(l *local) { l.books = false })}
	return p
}

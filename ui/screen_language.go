package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
)

// chooseLanguage: each language by its own name, asked for in each language.
func (d *drawing) chooseLanguage() page {
	p := page{title: d.w.Title(kiosk.ScreenLanguage), lead: d.w.Instruction(kiosk.ScreenLanguage), buttons: d.buttons()}
	var rows []fyne.CanvasObject
	for _, l := range d.s.Languages {
		b := d.languageButton(l, either(l == d.s.Language, mainButton, plainButton))
		if p.focus == nil || l == d.s.Language {
			p.focus = b
		}
		w := d.u.book(l)
		ask := stack(2, body(w.Title(kiosk.ScreenLanguage)).bold(), label(w.Instruction(kiosk.ScreenLanguage)))
		rows = append(rows, panel(besideMiddle(24, []float32{1, 0}, ask, sized(280, touch+2*ringGap, b))))
	}
	p.body = stack(16, rows...)
	return p
}

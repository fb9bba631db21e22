package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"enrollkiosk/kiosk"
)

// selfService: what a citizen can do without an officer, each on a button of the
// same size.
func (d *drawing) selfService() page { return d.menu() }

// menu offers every action but leaving, and starting over, on a button of the same size.
func (d *drawing) menu() page {
	p := page{title: d.w.Title(d.s.Screen), lead: d.w.Instruction(d.s.Screen), minor: true}
	var all []fyne.CanvasObject
	for _, a := range d.s.Actions {
		switch {
		case a == kiosk.ActionLeave, a == kiosk.ActionStartOver:
			p.buttons = append(p.buttons, d.button(a, plainButton))
		case a != kiosk.ActionChoose && a != kiosk.ActionSignOff:
			all = append(all, d.button(a, plainButton))
		}
	}
	var rows []fyne.CanvasObject
	for ; len(all) > 1; all = all[2:] {
		rows = append(rows, beside(24, []float32{1, 1}, all[0], all[1]))
	}
	if len(all) > 0 { // as wide as the others
		rows = append(rows, beside(24, []float32{1, 1}, all[0], canvas.NewRectangle(color.Transparent)))
	}
	p.body = stack(24, rows...)
	return p
}

package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk/words"
)

// confirmCancel: what a cancel code does, before it does it.
func (d *drawing) confirmCancel() page {
	var rows []fyne.CanvasObject
	for i, l := range []words.Label{words.Cancel1, words.Cancel2, words.Cancel3} {
		rows = append(rows, besideMiddle(20, []float32{0, 1}, numeral(i+1), body(d.w.Label(l, nil))))
	}
	return d.standard(panel(stack(20, rows...)))
}

package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk/words"
)

// confirmCancel: what a cancel code does, before it does it.
func (d *drawing) confirmCancel() page { return d.told(words.Cancel1, words.Cancel2, words.Cancel3) }

// told is a page of numbered sentences to read before one goes on.
func (d *drawing) told(all ...words.Label) page {
	var rows []fyne.CanvasObject
	for i, l := range all {
		rows = append(rows, besideMiddle(20, []float32{0, 1}, numeral(i+1), body(d.w.Label(l, nil))))
	}
	return d.standard(panel(stack(20, rows...)))
}

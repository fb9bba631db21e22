package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk/words"
)

// noToken: who has no token may leave the key in this kiosk. What that means
// stands here before anybody chooses it.
func (d *drawing) noToken() page {
	var rows []fyne.CanvasObject
	for i, l := range []words.Label{words.CustodyPlace, words.CustodySites, words.CustodyLater, words.CustodyLost} {
		rows = append(rows, besideMiddle(20, []float32{0, 1}, numeral(i+1), body(d.w.Label(l, nil))))
	}
	return d.standard(panel(stack(20, rows...)))
}

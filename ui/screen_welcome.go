package ui

import (
	"strconv"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk/words"
)

// welcome: what happens, and the right to stop.
func (d *drawing) welcome() page {
	var rows []fyne.CanvasObject
	for i, l := range []words.Label{words.Welcome1, words.Welcome2, words.Welcome3, words.Welcome4} {
		rows = append(rows, besideMiddle(20, []float32{0, 1}, numeral(i+1), body(d.w.Label(l, nil))))
	}
	return d.standard(panel(stack(20, rows...)))
}

// numeral is a number in a disc.
func numeral(n int) *fyne.Container {
	t := newText(strconv.Itoa(n), 22, fyne.TextStyle{Bold: true}, onAccent)
	t.Alignment = fyne.TextAlignCenter
	return sized(44, 44, container.New(inset{0, 0}, canvas.NewCircle(accent), t))
}

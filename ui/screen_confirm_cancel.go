package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk/words"
)

// confirmCancel: what a cancel code does, before it does it.
func (d *drawing) confirmCancel() page { return d.told(words.Cancel1, words.Cancel2, words.Cancel3) }

// told is a page of numbered sentences to read before one goes on.
func (d *drawing) told(all ...words.Label) page {
	var texts []string
	for _, l := range all {
		texts = append(texts, d.w.Label(l, nil))
	}
	return d.numbered(texts)
}

// numbered is a page of sentences, each with its number.
func (d *drawing) numbered(texts []string) page {
	var rows []fyne.CanvasObject
	for i, text := range texts {
		rows = append(rows, besideMiddle(20, []float32{0, 1}, numeral(i+1), body(text)))
	}
	return d.standard(panel(stack(20, rows...)))
}

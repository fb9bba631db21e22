package ui

import (
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
)

// noteLetter accepts the characters of a note, in either case.
func noteLetter(r rune) (byte, bool) {
	switch r {
	case ' ', '-', '.', '/':
		return byte(r), true
	case '<':
		return 0, false
	}
	return mrzLetter(r)
}

// guardianNote: which paper it was that showed who the guardian is.
func (d *drawing) guardianNote() page {
	view := kiosk.PINView{Max: kiosk.NoteSize}
	if d.s.PIN != nil {
		view = *d.s.PIN
	}
	entry := newCells(&d.u.local.typed, false, view.Max, noteLetter)
	submit := func() {
		l := &d.u.local
		if l.typed.n < view.Min {
			l.problem = d.w.Problem(kiosk.PINView{Problem: kiosk.PINNoNote})
		} else {
			d.u.act(kiosk.Intent{Action: kiosk.ActionNote, Secret: l.typed.take()})
		}
		d.u.rebuild(true)
	}
	entry.submit = submit
	var keys []place
	for _, r := range "1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ-/" {
		keys = append(keys, place{d.character(r, entry), 1})
	}
	keys = append(keys, place{d.deleteKey(entry), 2})
	title, lead := d.w.Heading(d.s)
	return page{
		title: title,
		lead:  lead,
		body: stack(14, entry, beside(32, []float32{1, 0}, stack(16, mistake(d.problem(d.w.Problem(view)), 22)),
			container.New(startLayout{}, keyRows(66, 62, 10, keys...)))),
		buttons: append(d.buttons(), newButton(d.w.Action(kiosk.ActionNote), mainButton, submit)),
		entry:   entry,
		focus:   entry,
	}
}

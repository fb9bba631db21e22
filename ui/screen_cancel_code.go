package ui

import (
	"strings"

	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// cancelLetters are the characters of a cancel code (docs/revocation.md).
const cancelLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// cancelLetter accepts them in either case, with the letters that look like one.
func cancelLetter(r rune) (byte, bool) {
	if r >= 'a' && r <= 'z' {
		r -= 'a' - 'A'
	}
	switch r {
	case 'I', 'L':
		r = '1'
	case 'O':
		r = '0'
	}
	return byte(r), r < 0x80 && strings.ContainsRune(cancelLetters, r)
}

// cancelCode: the cancel code from the paper, letter by letter.
func (d *drawing) cancelCode() page {
	view := kiosk.PINView{}
	if d.s.PIN != nil {
		view = *d.s.PIN
	}
	entry := newCells(&d.u.local.typed, false, view.Max, cancelLetter)
	submit := func() {
		l := &d.u.local
		if l.typed.n < view.Min {
			v := view
			v.Problem = kiosk.PINNoCode
			l.problem = d.w.Problem(v)
		} else {
			d.u.act(kiosk.Intent{Action: kiosk.ActionGiveCode, Secret: l.typed.take()})
		}
		d.u.rebuild(true)
	}
	entry.submit = submit
	var keys []place
	for _, r := range cancelLetters {
		keys = append(keys, place{d.character(r, entry), 1})
	}
	keys = append(keys, place{newButton(d.w.Label(words.KeyClear, nil), keyButton, entry.clear), 4}, place{d.deleteKey(entry), 4})
	hint := stack(16, label(d.w.Label(words.LettersExact, words.Args{"min": view.Min})), mistake(d.problem(d.w.Problem(view)), 22))
	return page{
		title:   d.w.Title(d.s.Screen),
		lead:    d.w.Instruction(d.s.Screen),
		body:    stack(14, entry, beside(32, []float32{1, 0}, hint, container.New(startLayout{}, keyRows(66, 62, 8, keys...)))),
		buttons: append(d.buttons(), newButton(d.w.Action(kiosk.ActionGiveCode), mainButton, submit)),
		entry:   entry,
		focus:   entry,
	}
}

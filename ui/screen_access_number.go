package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// accessNumber: the number that opens the chip, or three things of the printed
// lines where a card has none. A scanner types all of these lines, on either page.
func (d *drawing) accessNumber() page {
	p := d.access()
	if d.can(kiosk.ActionScanMRZ) {
		p.scanner = &scanner{d.u}
	}
	return p
}

func (d *drawing) access() page {
	lines, number := d.can(kiosk.ActionEnterMRZ), d.can(kiosk.ActionEnterCAN)
	if d.l.lines && lines || !number {
		return d.printedLines(number)
	}
	o := padding{action: kiosk.ActionEnterCAN, below: d.scanHint()}
	if lines {
		o.extra = append(o.extra, d.localButton(d.w.Label(words.UseMRZ, nil), plainButton, func(l *local) {
			l.typed.wipe()
			l.lines, l.problem, l.unclear = true, "", false
		}))
	}
	return d.pad(o)
}

// printedLines takes document number, birth and expiry as printed in the
// machine-readable zone.
func (d *drawing) printedLines(number bool) page {
	l := &d.u.local
	accepts := []func(rune) (byte, bool){mrzLetter, digit, digit}
	names := []words.Label{words.MRZNumber, words.MRZBirth, words.MRZExpiry}
	boxes := []int{9, 6, 6}
	fields := make([]*cells, len(names))
	var left []fyne.CanvasObject
	for i := range fields {
		c := newCells(&l.mrz[i], false, boxes[i], accepts[i])
		c.active = i == l.field
		c.tapped = func() {
			d.u.local.touched = true
			d.field(i)
		}
		c.submit = func() { d.fieldDone(i) }
		fields[i] = c
		left = append(left, stack(2, label(d.w.Label(names[i], nil)), container.New(startLayout{}, c)))
	}
	var agents string
	if d.s.PIN != nil && d.s.PIN.Problem != kiosk.PINFine {
		agents = d.w.Label(words.MRZIncomplete, nil) // the agent took the lines for malformed
	}
	if problem := mistake(d.problem(agents), 20); problem != nil {
		left = append(left, problem)
	} else {
		left = append(left, d.scanHint())
	}
	active := fields[l.field]
	rest := stack(0, d.scanHint())
	if !d.keyboard() {
		left = append(left, label(d.w.Label(words.TouchToType, nil)))
	}
	title, _ := d.w.Heading(d.s)
	p := page{
		title: title,
		lead:  d.w.Label(words.MRZInstruction, nil),
		body:  stack(10, left...),
		entry: active,
		focus: active,
	}
	if d.keyboard() {
		p.keys = d.letters(active)
		p.body = beside(24, []float32{1, 0}, p.body, container.New(startLayout{}, p.keys))
		p.wrong, p.rest = mistake(d.problem(agents), 20), rest
		p.field = stack(2, label(d.w.Label(names[l.field], nil)), container.New(startLayout{}, active))
	}
	p.buttons = d.buttons()
	if number {
		p.buttons = append(p.buttons, d.localButton(d.w.Label(words.UseCAN, nil), plainButton, func(l *local) {
			l.lines, l.problem, l.unclear, l.field = false, "", false, 0
		}))
	}
	p.buttons = append(p.buttons, newButton(d.w.Action(kiosk.ActionEnterMRZ), mainButton, d.submitLines))
	return p
}

// scanHint says that a scanner works as well.
func (d *drawing) scanHint() fyne.CanvasObject {
	if !d.can(kiosk.ActionScanMRZ) {
		return nil
	}
	return label(d.w.Label(words.ScanHint, nil))
}

// field moves the keys to the nth field.
func (d *drawing) field(n int) {
	d.u.local.field = n
	d.u.rebuild(true)
}

func (d *drawing) fieldDone(n int) {
	if n < len(d.u.local.mrz)-1 {
		d.field(n + 1)
		return
	}
	d.submitLines()
}

func (d *drawing) submitLines() {
	l := &d.u.local
	l.unclear, l.scanned = false, false
	for i, least := range []int{1, 6, 6} {
		if l.mrz[i].n < least {
			l.problem, l.field = d.w.Label(words.MRZIncomplete, nil), i
			d.u.rebuild(true)
			return
		}
	}
	d.u.act(kiosk.Intent{Action: kiosk.ActionEnterMRZ, MRZ: &kiosk.MRZKey{Number: l.mrz[0].take(), Birth: l.mrz[1].take(), Expiry: l.mrz[2].take()}})
	l.field, l.problem = 0, ""
	d.u.rebuild(true)
}

// keyboard says whether keys for letters are shown: at a machine with a keyboard
// of its own they would be in the way of who types on that.
func (d *drawing) keyboard() bool { return d.l.touched || d.u.o.Keyboard }

// letters is a pad with the characters of a machine-readable zone.
func (d *drawing) letters(e *cells) *fyne.Container {
	var keys []place
	for _, r := range "1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ<" {
		keys = append(keys, place{d.character(r, e), 1})
	}
	next := newButton(d.w.Label(words.NextField, nil), keyButton, func() { d.field((d.u.local.field + 1) % len(d.u.local.mrz)) })
	return keyRows(66, 62, 7, append(keys, place{d.deleteKey(e), 2}, place{next, 3})...)
}

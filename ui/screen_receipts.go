package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
)

// receipts: one is found by its code, by how its number begins, or among the newest.
func (d *drawing) receipts() page {
	const between, across, keyHigh = 24, 6, 62
	entry := newCells(&d.u.local.typed, false, 8, hexDigit)
	find := func() { d.findTyped() }
	entry.submit = find
	var keys []place
	for _, r := range "123456789abcdef0" {
		keys = append(keys, place{d.character(r, entry), 1})
	}
	keys = append(keys, place{d.deleteKey(entry), 2})
	pad := container.New(startLayout{}, keyRows(touch+2*ringGap, keyHigh, across, keys...))
	wide := d.room.Width - between - pad.MinSize().Width
	problem := ""
	if d.s.PIN != nil {
		problem = d.w.Problem(*d.s.PIN)
	}
	below := d.hint()
	if below == nil {
		below = remark(badPale, bad, "failed", d.problem(problem))
	}
	if below == nil {
		below = stack(0, label(d.w.Label(words.ScanReceipt, nil)))
	}
	p := page{title: d.w.Title(d.s.Screen), lead: d.w.Instruction(d.s.Screen), buttons: d.buttons(), entry: entry, focus: entry, scanner: &scanner{d.u}}
	high := d.below(p.title, p.lead) - 12
	left := stack(4, label(d.w.Label(words.Newest, nil)),
		d.records(wide, high-30, func(r kiosk.RecordView) string { return d.w.Standing(r.Standing) }, &p))
	field := besideMiddle(10, []float32{0, 1}, entry, label(d.w.Label(words.NumberBegins, nil)))
	p.body = beside(between, []float32{wide, pad.MinSize().Width}, left, stack(8, field, pad, below))
	p.field, p.keys, p.rest = container.New(startLayout{}, entry), pad, stack(12, below, label(d.w.Label(words.NumberBegins, nil)), left)
	p.buttons = append(p.buttons, newButton(d.w.Action(kiosk.ActionFind), mainButton, find))
	return p
}

// hexDigit accepts a digit of a record's number.
func hexDigit(r rune) (byte, bool) {
	if r >= 'A' && r <= 'F' {
		r += 'a' - 'A'
	}
	return byte(r), r >= '0' && r <= '9' || r >= 'a' && r <= 'f'
}

// findTyped looks for what was typed, unless it is too short to be meant.
func (d *drawing) findTyped() {
	l := &d.u.local
	l.unclear, l.scanned = false, false
	if v := d.s.PIN; v != nil && l.typed.n < v.Min {
		l.problem = d.w.Problem(kiosk.PINView{Min: v.Min, Max: v.Max, Problem: kiosk.PINTooShort})
		d.u.rebuild(true)
		return
	}
	d.u.act(kiosk.Intent{Action: kiosk.ActionFind, Secret: l.typed.take()})
	d.u.rebuild(true) // without the digits
}

// recordRow is the height of a record in a list.
const recordRow = 60 + ringGap

// records is a list of records, each a button that opens it; what says what stands
// beside its number and time. Pages are turned with buttons of p.
func (d *drawing) records(width, high float32, what func(kiosk.RecordView) string, p *page) fyne.CanvasObject {
	all := d.s.Records
	if len(all) == 0 {
		return label(d.w.Label(words.NoRecords, nil))
	}
	each := max(1, int(high/recordRow))
	large := d.look.times() > 1
	if large { // turned with all else on the page, by arrows at its right
		each, width = len(all), width-arrowsWide
	}
	pages := (len(all) + each - 1) / each
	n := min(d.l.page, pages-1)
	var keys []place
	var rows []fyne.CanvasObject
	for _, r := range all[n*each : min(len(all), (n+1)*each)] {
		row := newButton(r.ID[:min(8, len(r.ID))]+" · "+r.Saved.Local().Format("01-02 15:04")+" · "+what(r), keyButton, func() {
			d.u.act(kiosk.Intent{Action: kiosk.ActionFind, Secret: secret.FromString(r.ID)})
		})
		row.icon = standingSign(r.Standing)
		keys = append(keys, place{row, 1})
		rows = append(rows, keyRows(width, recordRow, 1, place{row, 1}))
	}
	if large {
		return stack(0, rows...)
	}
	d.leaf(p, n, pages)
	return keyRows(width, recordRow, 1, keys...)
}

// standingSign is the drawing for how a record stands; its word stands beside it.
func standingSign(s kiosk.Standing) string {
	switch s {
	case kiosk.StandingActive:
		return "done"
	case kiosk.StandingReceipted:
		return "running"
	case kiosk.StandingRefused, kiosk.StandingRevoked:
		return "failed"
	case kiosk.StandingSetAside, kiosk.StandingSuspended:
		return "warning"
	}
	return "pending"
}

package ui

import "enrollkiosk/kiosk"

// setAside: the records that were not accepted, each with its reason in words.
func (d *drawing) setAside() page {
	p := d.standard(nil)
	p.buttons = nil
	if d.can(kiosk.ActionLock) {
		p.buttons = append(p.buttons, d.button(kiosk.ActionLock, plainButton))
	}
	high := d.below(p.title, p.lead) - 12
	p.body = d.records(d.room.Width, high, func(r kiosk.RecordView) string { return d.w.Rejection(kiosk.RejectionOf(r.Code)) }, &p)
	p.buttons = append(p.buttons, d.button(kiosk.ActionBack, mainButton))
	return p
}

package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// trouble: what is so, what to do, what is safe; below, for the officer, the
// cause and the code. The main button is the remedy.
func (d *drawing) trouble() page {
	f := kiosk.Fault{Code: kiosk.CodeInternal}
	if d.s.Fault != nil {
		f = *d.s.Fault
	}
	t := d.w.Trouble(f)
	staff := stack(4, label(d.w.Label(words.ForOfficer, nil)+" · "+string(f.Code)).bold().sized(17), label(t.Staff).in(ink))
	p := d.standard(stack(20,
		notice(cautPale, caution, beside(18, []float32{0, 1}, fyne.CanvasObject(sign("warning")), stack(8, body(t.Do).bold(), body(t.Safe)))),
		panel(staff)))
	p.title, p.lead = t.Headline, ""
	return p
}

package ui

import (
	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// secondOfficer: where the document cannot prove everything, another officer
// holds the person against picture and data, and agrees with card and PIN.
func (d *drawing) secondOfficer() page {
	if d.s.Holder == nil {
		p := d.officerPIN(kiosk.ActionApprove)
		if d.officerCardIn(kiosk.ActionApprove) {
			p = d.pad(padding{action: kiosk.ActionApprove, hidden: true, tight: true, above: d.lacks(), below: remark(cautPale, caution, "warning", d.hintText())})
		}
		return p
	}
	var holder fyne.CanvasObject = stack(8, d.summary(), label(d.w.Label(words.NoPhoto, nil)).sized(18))
	var images []*canvas.Image
	if d.face != nil {
		var face fyne.CanvasObject
		w := float32(int(min(150, d.room.Width/8.6)))
		face, images = d.portrait(w, float32(int(w*1.3)))
		holder = beside(18, []float32{0, 1}, stack(0, face), d.summary())
	}
	var p page
	if d.officerCardIn(kiosk.ActionApprove) {
		p = d.pad(padding{action: kiosk.ActionApprove, hidden: true, tight: true, above: stack(10, d.lacks(), holder), below: remark(cautPale, caution, "warning", d.hintText())})
	} else {
		status := d.hint()
		if status == nil {
			status = d.bringStatus()
		}
		p = d.standard(beside(32, []float32{1, 0}, stack(14, d.lacks(), holder, status), stack(0, d.illustration("officer-card", 312, 234))))
		p.minor = true
	}
	p.photos = images
	return p
}

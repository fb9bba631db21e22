package ui

import (
	"slices"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
)

// bring is a page that waits for a card or token: a drawing of what to do, and a
// line about what the reader sees now or what was wrong with the last card.
func (d *drawing) bring(drawing string) page {
	if d.s.Waiting == kiosk.DeviceToken && d.s.Health.Readers[kiosk.DeviceToken] != kiosk.ReaderMute {
		d.s.Fault = nil // a token brings its own reader: that there is none yet is no fault
	}
	status := d.bringStatus()
	if hint := d.hint(); status == nil || hint != nil && d.s.Health.Readers[d.s.Waiting] == kiosk.ReaderEmpty {
		status = hint
	}
	p := d.standard(besideMiddle(40, []float32{0, 1}, d.illustration(drawing, 440, 330), stack(20, status)))
	p.minor = true // the card or token is what the page is for
	return p
}

// bringStatus is the line about the reader that the person should look at.
func (d *drawing) bringStatus() *fyne.Container {
	state, ok := d.s.Health.Readers[d.s.Waiting]
	if !ok {
		state = kiosk.ReaderMissing
	}
	if slices.Contains(d.s.Left, d.s.Waiting) { // another one lies there
		return notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"), body(d.w.Take(d.s.Waiting))))
	}
	text := d.w.Bring(d.s.Waiting, state)
	if text == "" {
		return nil
	}
	switch state {
	case kiosk.ReaderCard:
		return notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), body(text)))
	case kiosk.ReaderMute, kiosk.ReaderMissing:
		if d.s.Waiting != kiosk.DeviceToken || state == kiosk.ReaderMute {
			return notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"), body(text)))
		}
	}
	return notice(sheet, line, beside(14, []float32{0, 1}, sign("pending"), body(text)))
}

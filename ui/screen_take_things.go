package ui

import (
	"slices"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
)

// takeThings: what still lies on a reader, before anybody leaves.
func (d *drawing) takeThings() page {
	var rows []fyne.CanvasObject
	for _, dev := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		if slices.Contains(d.s.Left, dev) {
			rows = append(rows, notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"), body(d.w.Take(dev)))))
		}
	}
	return d.standard(besideMiddle(40, []float32{0, 1}, d.illustration("take-things", 360, 270), stack(14, rows...)))
}

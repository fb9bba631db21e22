package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// home: the officer starts an enrollment and sees how the machine does.
func (d *drawing) home() page {
	h := d.s.Health
	var machine []fyne.CanvasObject
	machine = append(machine, body(d.w.Label(words.Machine, nil)).bold())
	for _, dev := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		r, ok := h.Readers[dev]
		if !ok {
			continue
		}
		name := "done"
		switch {
		case r == kiosk.ReaderMissing && dev == kiosk.DeviceToken:
			name = "pending" // a token brings its own reader
		case r == kiosk.ReaderMissing || r == kiosk.ReaderMute:
			name = "warning"
		}
		machine = append(machine, d.fact(name, d.w.Device(dev), d.w.Reader(r)))
	}
	machine = append(machine, d.fact(either(h.TPM, "done", "failed"), d.w.Device(kiosk.DeviceTPM),
		d.w.Label(either(h.TPM, words.Working, words.NotWorking), nil)))

	registry := []fyne.CanvasObject{body(d.w.Device(kiosk.DeviceRegistry)).bold()}
	registry = append(registry, d.fact(either(h.Registry, "done", "warning"), d.w.Label(words.Connection, nil),
		d.w.Label(either(h.Registry, words.Reached, words.NotReached), nil)))
	if !h.Registry && h.RegistryNote != "" {
		why := d.w.Trouble(kiosk.Fault{Code: h.RegistryNote}).Staff + " " + string(h.RegistryNote)
		if h.Inspector != "" {
			why += " · " + d.w.Label(words.InspectedBy, words.Args{"name": h.Inspector})
		}
		if h.Stopped { // nobody waits this one out
			registry = append(registry, notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"), label(why).in(ink))))
		} else {
			registry = append(registry, label(why))
		}
	}
	alarms := h.Alarms
	if h.LogFault != "" {
		alarms = append([]kiosk.Code{h.LogFault}, alarms...)
	}
	if len(alarms) > 0 { // nor these; there is room for one sentence, doctor tells the others
		why := d.w.Trouble(kiosk.Fault{Code: alarms[0]}).Staff
		for _, code := range alarms {
			why += " " + string(code)
		}
		registry = append(registry, notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"), label(why).in(ink))))
	}
	waiting := d.w.Label(words.NothingWaiting, nil)
	if h.Queued > 0 {
		waiting = d.w.Label(words.WaitingRecords, words.Args{"count": h.Queued})
	}
	registry = append(registry, label(waiting).in(ink))
	if h.Queued > 0 && !h.Oldest.IsZero() {
		since := d.w.Label(words.Oldest, words.Args{"time": h.Oldest.Local().Format("2006-01-02 15:04")})
		if !h.NextTry.IsZero() {
			since += " · " + d.w.Label(words.NextTry, words.Args{"time": h.NextTry.Local().Format("15:04:05")})
		}
		registry = append(registry, label(since))
	}
	if !h.Delivered.IsZero() {
		registry = append(registry, label(d.w.Label(words.Delivered, words.Args{"time": h.Delivered.Local().Format("2006-01-02 15:04")})))
	}
	if h.Quarantined > 0 {
		registry = append(registry, notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"),
			label(d.w.Label(words.SetAside, words.Args{"count": h.Quarantined})).in(ink))))
	}
	return d.standard(beside(24, []float32{1, 1}, panel(stack(12, machine...)), panel(stack(8, registry...))))
}

// fact is one line of the machine's health: sign, name, word.
func (d *drawing) fact(name, what, how string) fyne.CanvasObject {
	return beside(12, []float32{0, 1, 0}, sign(name), label(what).in(ink).sized(21), label(how).sized(21))
}

func either[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}

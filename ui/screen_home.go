package ui

import (
	"strconv"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// home: the officer starts an enrollment, sees how the day goes and how the machine
// does, and finds everything else that is done between two citizens.
func (d *drawing) home() page {
	const between = 20
	half := (d.room.Width - between) / 2
	rows := []fyne.CanvasObject{beside(between, []float32{1, 1}, stack(0, d.machine()), stack(12, d.today(), d.delivery()))}
	p := page{title: d.w.Title(kiosk.ScreenHome), body: stack(12, append(append(rows, d.alarms()...), d.errands())...)}
	for _, a := range d.s.Actions {
		if a == kiosk.ActionLock {
			p.buttons = append(p.buttons, d.button(a, plainButton))
		}
	}
	start := d.button(d.s.Main, mainButton)
	start.wide = half // the one thing that this page is for
	p.buttons = append(p.buttons, start)
	return p
}

// errands are what else the officer can do, side by side.
func (d *drawing) errands() *fyne.Container {
	var keys []place
	for _, a := range d.s.Actions {
		if a != d.s.Main && a != kiosk.ActionLock && !elsewhere(a) {
			keys = append(keys, place{d.button(a, keyButton), 1})
		}
	}
	across, wide := min(4, max(1, len(keys))), d.room.Width
	if d.look.times() > 1 { // pages that are turned have their arrows at the right
		across, wide = min(2, across), wide-arrowsWide
	}
	return keyRows(wide/float32(across), 64, across, keys...)
}

// today is what has become of today's enrollments, in figures.
func (d *drawing) today() fyne.CanvasObject {
	h := d.s.Health
	figure := func(l words.Label, n int) fyne.CanvasObject {
		return besideMiddle(10, []float32{0, 1}, body(strconv.Itoa(n)).bold(), label(d.w.Label(l, nil)))
	}
	return tight(stack(4, label(d.w.Label(words.TodayTitle, nil)).in(ink).bold(),
		beside(16, []float32{1, 1}, figure(words.DayEnrolled, h.Today.Enrolled), figure(words.DayDelivered, h.Today.Delivered)),
		beside(16, []float32{1, 1}, figure(words.DayWaiting, h.Queued), figure(words.DayRefused, h.Today.Refused))))
}

// tight is a panel on a page that has little room.
func tight(o fyne.CanvasObject) *fyne.Container {
	p := panel(o)
	p.Layout = inset{16, 9}
	return p
}

// delivery says in words how delivery to the registry stands, and what to do about it.
func (d *drawing) delivery() fyne.CanvasObject {
	h := d.s.Health
	waiting := d.w.Label(words.NothingWaiting, nil)
	if h.Queued > 0 {
		waiting = d.w.Label(words.WaitingRecords, words.Args{"count": h.Queued})
	}
	lines := []fyne.CanvasObject{d.fact(either(h.Registry, "done", "warning"), d.w.Device(kiosk.DeviceRegistry), d.w.Label(either(h.Registry, words.Reached, words.NotReached), nil)),
		label(waiting).in(ink)}
	if h.Queued > 0 && !h.Oldest.IsZero() {
		since := d.w.Label(words.Oldest, words.Args{"time": h.Oldest.Local().Format("2006-01-02 15:04")})
		if !h.NextTry.IsZero() {
			since += " · " + d.w.Label(words.NextTry, words.Args{"time": h.NextTry.Local().Format("15:04:05")})
		}
		lines = append(lines, label(since))
	}
	if !h.Delivered.IsZero() {
		lines = append(lines, label(d.w.Label(words.Delivered, words.Args{"time": h.Delivered.Local().Format("2006-01-02 15:04")})))
	}
	if h.Queued > 0 && !h.Stopped && h.Clock == "" && h.Disk == "" {
		lines = append(lines, label(d.w.Label(words.QueueGoesOn, nil)))
	}
	if h.Quarantined > 0 {
		lines = append(lines, beside(10, []float32{0, 1}, picture("warning", 22, 22), label(d.w.Label(words.SetAside, words.Args{"count": h.Quarantined})).in(ink)))
	}
	return tight(stack(2, lines...))
}

// alarms are what somebody has to see to.
func (d *drawing) alarms() (all []fyne.CanvasObject) {
	h := d.s.Health
	warn := func(text string) {
		n := notice(cautPale, caution, besideMiddle(12, []float32{0, 1}, picture("warning", 22, 22), label(text).in(ink)))
		n.Layout = inset{14, 7}
		all = append(all, n)
	}
	if !h.Registry && h.RegistryNote != "" {
		why := d.w.Trouble(kiosk.Fault{Code: h.RegistryNote}).Staff + " " + string(h.RegistryNote)
		if h.Inspector != "" {
			why += " · " + d.w.Label(words.InspectedBy, words.Args{"name": h.Inspector})
		}
		if h.Stopped { // nobody waits this one out
			warn(why)
		} else {
			all = append(all, label(why))
		}
	}
	codes := h.Alarms
	if h.LogFault != "" {
		codes = append([]kiosk.Code{h.LogFault}, codes...)
	}
	if len(codes) > 0 { // nor these; there is room for one sentence, doctor tells the others
		why := d.w.Trouble(kiosk.Fault{Code: codes[0]}).Staff
		for _, code := range codes {
			why += " " + string(code)
		}
		warn(why)
	}
	return all
}

// machine is how everything in this place does that an enrollment needs.
func (d *drawing) machine() fyne.CanvasObject {
	h := d.s.Health
	rows := []fyne.CanvasObject{label(d.w.Label(words.Machine, nil)).in(ink).bold()}
	for _, dev := range []kiosk.Device{kiosk.DeviceDocument, kiosk.DeviceToken, kiosk.DeviceOfficer} {
		r, ok := h.Readers[dev]
		if !ok {
			r = kiosk.ReaderMissing
		}
		name := "done"
		switch {
		case r == kiosk.ReaderMissing && dev == kiosk.DeviceToken:
			name = "pending" // a token brings its own reader
		case r == kiosk.ReaderMissing || r == kiosk.ReaderMute:
			name = "warning"
		}
		rows = append(rows, d.fact(name, d.w.Device(dev), d.w.Reader(r)))
	}
	line := func(dev kiosk.Device, well bool, amiss string, yes, no words.Label) {
		rows = append(rows, d.fact(either(well, "done", amiss), d.w.Device(dev), d.w.Label(either(well, yes, no), nil)))
	}
	line(kiosk.DeviceTPM, h.TPM, "failed", words.Working, words.NotWorking)
	line(kiosk.DeviceClock, h.Clock == "", "failed", words.ClockRight, words.ClockWrong)
	line(kiosk.DeviceDisk, h.Disk == "", "failed", words.DiskRoom, words.DiskFull)
	if h.Printer == kiosk.PrinterNone {
		rows = append(rows, d.fact("pending", d.w.Device(kiosk.DevicePrinter), d.w.Label(words.NoPrinter, nil)))
	} else {
		line(kiosk.DevicePrinter, h.Printer == kiosk.PrinterReady, "warning", words.Working, words.NotWorking)
	}
	return tight(stack(4, rows...))
}

// fact is one line of the machine's health: sign, name, word.
func (d *drawing) fact(name, what, how string) fyne.CanvasObject {
	return besideMiddle(12, []float32{0, 1, 0}, picture(name, 22, 22), label(what).in(ink), label(how))
}

func either[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}

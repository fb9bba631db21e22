package ui

import "enrollkiosk/kiosk/words"

// cancelled: the registry has the code; whether it is a right one it tells nobody.
func (d *drawing) cancelled() page {
	if d.s.Ended == nil {
		return d.standard(nil)
	}
	at := words.Args{"time": d.s.Ended.At.Local().Format("2006-01-02 15:04")}
	return d.standard(stack(20,
		notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), body(d.w.Label(words.CancelledAt, at)))),
		notice(sheet, line, body(d.w.Label(words.CancelledNext, nil)))))
}

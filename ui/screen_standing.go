package ui

import (
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// standing: what a receipt proves by itself, and what has become of its record.
func (d *drawing) standing() page {
	v := d.s.Proof
	if v == nil {
		return d.standard(nil)
	}
	proves := notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), body(d.w.Receipt(v.Kind))))
	if v.Kind == kiosk.ReceiptOther {
		proves = notice(sheet, line, beside(14, []float32{0, 1}, sign("pending"), body(d.w.Receipt(v.Kind))))
	}
	text := body(d.w.Outcome(v.Standing))
	became := notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"), text))
	switch v.Standing {
	case kiosk.StandingActive:
		became = notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), text))
	case kiosk.StandingWaiting, kiosk.StandingReceipted:
		became = notice(sheet, accent, beside(14, []float32{0, 1}, sign("running"), text))
	case kiosk.StandingRefused, kiosk.StandingSetAside, kiosk.StandingRevoked:
		became = notice(badPale, bad, beside(14, []float32{0, 1}, sign("failed"), text))
	}
	number := kiosk.ReceiptView{RecordID: v.RecordID}.Number()
	return d.standard(stack(20, proves, became, stack(0, label(d.w.Label(words.Record, nil)), label(number).in(ink))))
}

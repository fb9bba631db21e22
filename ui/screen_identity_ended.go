package ui

import (
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// identityEnded: the record that ends an identity is saved, and its number.
func (d *drawing) identityEnded() page {
	if d.s.Ended == nil {
		return d.standard(nil)
	}
	about := d.w.Label(words.Record, nil) + " · " + d.w.Label(words.Saved, nil) + " " + d.s.Ended.At.Local().Format("2006-01-02 15:04")
	return d.standard(stack(0, label(about), label(kiosk.ReceiptView{RecordID: d.s.Ended.RecordID}.Number()).in(ink)))
}

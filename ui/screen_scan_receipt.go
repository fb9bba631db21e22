package ui

import (
	"time"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
)

// scanReceipt: a scanner types the QR code of a receipt.
func (d *drawing) scanReceipt() page {
	said := d.hint()
	if said == nil {
		said = notice(sheet, accent, beside(14, []float32{0, 1}, sign("running"), body(d.w.Label(words.ScanNow, nil))))
	}
	if d.l.unclear {
		t := d.w.Trouble(kiosk.Fault{Code: kiosk.CodeNoReceipt})
		said = mistake(t.Headline+" "+t.Do, 22)
	}
	p := d.standard(said)
	p.minor = true // the receipt is what the page is for
	p.listener = &listener{d.u}
	return p
}

// Of a receipt's QR code.
const (
	receiptMost  = 16 << 10 // bytes: receipt.MaxSize
	receiptLeast = 64       // any shorter text is a slip
)

// listener takes what a scanner types of a QR code: any text, in lines. What a
// person presses it leaves alone: that never comes at a scanner's pace.
type listener struct{ u *UI }

func (c *listener) character(r rune) bool {
	l := &c.u.local
	if len(l.heard) < receiptMost {
		l.heard = append(l.heard, string(r)...)
	}
	l.heardAt = c.u.o.Now()
	c.u.listen()
	return true
}

// key says whether k is a scanner's: a space or the end of a line in a text.
func (c *listener) key(k *fyne.KeyEvent) bool {
	c.u.settle()
	l := &c.u.local
	if len(l.heard) == 0 || c.u.o.Now().Sub(l.heardAt) > scanPace {
		return false
	}
	if k.Name == fyne.KeyReturn || k.Name == fyne.KeyEnter {
		c.character('\n')
	}
	return true
}

// heard sends what was scanned when nothing more comes.
func (u *UI) heard(now time.Time) {
	l := &u.local
	if len(l.heard) == 0 || now.Sub(l.heardAt) <= scanQuiet {
		return
	}
	text := l.heard
	l.heard, l.unclear = nil, len(text) < receiptLeast
	if l.unclear {
		clear(text)
		u.rebuild(true)
		return
	}
	u.act(kiosk.Intent{Action: kiosk.ActionScan, Secret: secret.New(text)})
}

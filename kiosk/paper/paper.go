// Package paper sets what people take home, and an officer's summary of the day, as
// PDF: one page of A4, in every language that the kiosk speaks. It prints nothing. The cancel code is the only
// secret that ever stands on paper; there is no name on it.
package paper

import (
	"errors"
	"fmt"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/qr"
	"enrollkiosk/kiosk/words"
)

// ErrTooLong means that a receipt is more than a QR code holds.
var ErrTooLong = errors.New("the receipt is too long for a QR code")

const (
	left  = 22 * mm
	inner = pageWidth - 2*left
)

// Receipt is a citizen's receipt with its QR code. The cancel code stands below a
// line to cut along; without one the page is a copy, and says so.
func Receipt(c *words.Catalog, r kiosk.ReceiptView, kioskID string, training bool) ([]byte, error) {
	bits := qr.Encode(r.QR)
	if bits == nil {
		return nil, fmt.Errorf("receipt of %d bytes: %w", len(r.QR), ErrTooLong)
	}
	d := newDocument(c.Label(words.App, nil), c.Code())
	s, y := d.headed(c, training)
	title := c.Title(kiosk.ScreenReceipt)
	if r.CancelCode.Len() == 0 {
		title = c.Label(words.PaperCopy, nil)
	}
	y = s.paragraph(left, y, inner, title, 20, true, black) + 2
	said := words.ReceiptWaiting
	if r.Final != "" {
		said = words.ReceiptFinal
	}
	y = s.paragraph(left, y, inner, c.Label(said, nil), 12, false, black) + 2*mm

	const side, between = 76 * mm, 8 * mm
	s.modules(left, y, side, bits)
	x, wide := left+side+between, inner-side-between
	at := y + 10
	field := func(name words.Label, value string, size float64) {
		s.text(x, at, c.Label(name, nil), 10, false, grey)
		at = s.paragraph(x, at+size*1.35, wide, value, size, true, black) + 5
	}
	field(words.Record, r.Number(), 11)
	if !r.Saved.IsZero() {
		field(words.Saved, r.Saved.Local().Format("2006-01-02 15:04"), 12)
	}
	field(words.Machine, kioskID, 12)
	if r.Custody != "" {
		field(words.CustodyNumber, r.Custody, 18)
		at = s.paragraph(x, at, wide, c.Label(words.CustodyHint, nil), 10, false, grey)
	}
	y = max(y+side, at) + 10*mm
	y = s.paragraph(left, y, inner, c.Label(words.PaperKeep, nil), 12, false, black)
	if r.CancelCode.Len() == 0 {
		return d.bytes()
	}
	y += 4 * mm
	s.rule(0, y, pageWidth, grey, dashed)
	s.text(left, y+14, c.Label(words.PaperCut, nil), 9, false, grey)
	y += 14 * mm
	s.text(left, y, c.Label(words.CancelCode, nil), 12, false, grey)
	y += 11 * mm
	s.text(left, y, string(r.CancelCode.Reveal()), 22, true, black)
	y = s.paragraph(left, y+9*mm, inner, c.Label(words.CancelHint, nil), 12, false, black)
	if code := r.ClaimCode(); code != "" {
		s.text(left, y+6*mm, c.Label(words.ClaimCode, nil), 12, false, grey)
		s.text(left, y+15*mm, code, 18, true, black)
		s.paragraph(left, y+22*mm, inner, c.Label(words.ClaimHint, nil), 12, false, black)
	}
	return d.bytes()
}

// headed begins a page: whose it is, and whether it is of a training installation.
// y is where its title stands.
func (d *document) headed(c *words.Catalog, training bool) (s *sheet, y float64) {
	s = d.page()
	s.rectangle(0, 0, pageWidth, 22*mm, navy)
	s.text(left, 14*mm, c.Label(words.App, nil), 20, true, white)
	y = 34 * mm
	if training {
		s.rectangle(0, 22*mm, pageWidth, 10*mm, alarm)
		s.text(left, 28.5*mm, c.Label(words.Training, nil), 12, true, white)
		y += 10 * mm
	}
	return s, y
}

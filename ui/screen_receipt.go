package ui

import (
	"image"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk/qr"
	"enrollkiosk/kiosk/words"
)

// receipt: what the citizen takes away. A code to photograph, the record's
// number, the cancel code, and the number of a key that stays here.
func (d *drawing) receipt() page {
	p := d.standard(nil)
	r := d.s.Receipt
	if r == nil {
		return p
	}
	state := notice(sheet, accent, beside(14, []float32{0, 1}, sign("running"), body(d.w.Label(words.ReceiptWaiting, nil)).sized(20)))
	if r.Final != "" {
		state = notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), body(d.w.Label(words.ReceiptFinal, nil)).sized(20)))
	}
	const between = 28
	square := stack(0, code(r.QR, min(400, max(280, d.below(p.title, p.lead)))))
	right := []fyne.CanvasObject{state}
	switch hint := d.hint(); {
	case hint != nil:
		right = []fyne.CanvasObject{hint} // that it is saved stands in the title
	case r.Printed:
		right = append(right, label(d.w.Label(words.Printed, nil)).in(good))
	}
	if r.CancelCode.Len() > 0 {
		width := d.room.Width - between - square.MinSize().Width - 2*panelPad
		right = append(right, panel(stack(0, label(d.w.Label(words.CancelCode, nil)), d.dressed(body(reveal(r.CancelCode)).bold().sized(32)).oneLine(width, 22),
			label(d.w.Label(words.CancelHint, nil)))))
		if claim := r.ClaimCode(); claim != "" {
			right = append(right, stack(0, label(d.w.Label(words.ClaimCode, nil)+" · "+claim).in(ink)))
		}
	}
	if r.Custody != "" {
		right = append(right, panel(stack(0, label(d.w.Label(words.CustodyNumber, nil)), body(custodyNumber(r.Custody)).bold().sized(32),
			label(d.w.Label(words.CustodyHint, nil)))))
	}
	about := d.w.Label(words.Record, nil)
	if !r.Saved.IsZero() {
		about += " · " + d.w.Label(words.Saved, nil) + " " + r.Saved.Local().Format("2006-01-02 15:04")
	}
	right = append(right, stack(0, label(about), label(r.Number()).in(ink)))
	p.body = beside(between, []float32{0, 1}, square, stack(12, right...))
	return p
}

// code is a QR code with its quiet zone of four modules, dark on white. Each
// module is the same whole number of pixels, so that cameras see an even grid.
func code(text string, side float32) fyne.CanvasObject {
	back := canvas.NewRectangle(white)
	bits := qr.Encode(text)
	if bits == nil {
		return sized(side, side, back)
	}
	pixels := modules(bits, int(side))
	img := canvas.NewImageFromImage(pixels)
	img.ScaleMode, img.FillMode = canvas.ImageScalePixels, canvas.ImageFillContain
	w := float32(pixels.Rect.Dx())
	return sized(w, w, container.New(inset{0, 0}, back, img))
}

// modules draws a bitmap with four modules of white around, as large as fits
// into side.
func modules(bits [][]bool, side int) *image.Gray {
	const quiet = 4
	n := len(bits) + 2*quiet
	k := max(1, side/n)
	img := image.NewGray(image.Rect(0, 0, n*k, n*k))
	for i := range img.Pix {
		x, y := i%img.Stride/k-quiet, i/img.Stride/k-quiet
		if x < 0 || y < 0 || x >= len(bits) || y >= len(bits) || !bits[y][x] {
			img.Pix[i] = 0xFF
		}
	}
	return img
}

package ui

import (
	"image"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"
	"github.com/skip2/go-qrcode"

	"enrollkiosk/kiosk/words"
)

// receipt: what the citizen takes away. A code to photograph, the record's
// number, and the cancel code.
func (d *drawing) receipt() page {
	p := d.standard(nil)
	r := d.s.Receipt
	if r == nil {
		return p
	}
	state := notice(sheet, accent, beside(14, []float32{0, 1}, sign("running"), body(d.w.Label(words.ReceiptWaiting, nil)).sized(21)))
	if r.Final != "" {
		state = notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), body(d.w.Label(words.ReceiptFinal, nil)).sized(21)))
	}
	right := []fyne.CanvasObject{state}
	if r.CancelCode.Len() > 0 {
		right = append(right, panel(stack(0, label(d.w.Label(words.CancelCode, nil)), body(reveal(r.CancelCode)).bold().sized(32),
			label(d.w.Label(words.CancelHint, nil)))))
	}
	right = append(right, stack(0, label(d.w.Label(words.Record, nil)), label(grouped(r.RecordID)).in(ink)))
	if !r.Saved.IsZero() {
		right = append(right, label(d.w.Label(words.Saved, nil)+" "+r.Saved.Local().Format("2006-01-02 15:04")))
	}
	p.body = beside(28, []float32{0, 1}, stack(0, code(r.QR, 300)), stack(14, right...))
	return p
}

// grouped sets a hexadecimal number in groups of eight.
func grouped(hex string) string {
	var b strings.Builder
	for i, r := range hex {
		if i > 0 && i%8 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// code is a QR code with its quiet zone of four modules, dark on white.
func code(text string, side float32) fyne.CanvasObject {
	back := canvas.NewRectangle(white)
	q, err := qrcode.New(text, qrcode.Medium)
	if text == "" || err != nil {
		return sized(side, side, back)
	}
	q.DisableBorder = true
	img := canvas.NewImageFromImage(modules(q.Bitmap()))
	img.ScaleMode, img.FillMode = canvas.ImageScalePixels, canvas.ImageFillContain
	return sized(side, side, container.New(inset{0, 0}, back, img))
}

// modules draws a bitmap, one pixel a module, with four modules of white around.
func modules(bits [][]bool) image.Image {
	const quiet = 4
	n := len(bits) + 2*quiet
	img := image.NewGray(image.Rect(0, 0, n, n))
	for i := range img.Pix {
		img.Pix[i] = 0xFF
	}
	for y, row := range bits {
		for x, dark := range row {
			if dark {
				img.Pix[(y+quiet)*img.Stride+x+quiet] = 0
			}
		}
	}
	return img
}

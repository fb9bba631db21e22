// Package qr makes the QR codes of window and paper (ISO/IEC 18004).
package qr

import "github.com/skip2/go-qrcode"

// Encode returns the modules of a code for text, row by row, without the quiet zone
// of four modules, with as much error correction as fits. It is nil when text is
// empty or too long for any code.
func Encode(text string) [][]bool {
	if text == "" {
		return nil
	}
	for _, level := range []qrcode.RecoveryLevel{qrcode.Medium, qrcode.Low} {
		if len(text) > 600 && level == qrcode.Medium {
			continue // smaller modules harm more than less correction
		}
		if q, err := qrcode.New(text, level); err == nil {
			q.DisableBorder = true
			return q.Bitmap()
		}
	}
	return nil
}

package prcid

import (
	"bytes"
	"context"
	"fmt"
	"image"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/portrait"

	"golang.org/x/image/bmp"
)

// Decoder is a configured program that knows the photo's format, WLT. It gets
// the photo on its standard input and writes a BMP or JPEG image to its standard
// output, in the same confinement as the decoder of JPEG 2000: bounded time,
// memory and output, no environment, no network, no file but the system's and
// those named, and nothing of the photo on a disk.
type Decoder portrait.Program

// maxPhoto bounds the image, whose usual size is 102 by 126 pixels.
const (
	maxPhoto     = 1 << 20 // bytes
	maxPhotoSide = 1024    // pixels
)

// Decode runs the program. Without one it fails with [portrait.ErrNoDecoder],
// otherwise with an error of portrait or that of ctx.
func (d Decoder) Decode(ctx context.Context, photo secret.Text) (image.Image, error) {
	if d.Path == "" {
		return nil, fmt.Errorf("decode photo: %w: none configured", portrait.ErrNoDecoder)
	}
	b, err := portrait.Program(d).Run(ctx, photo.Reveal(), maxPhoto)
	if err != nil {
		return nil, fmt.Errorf("decode photo: %w", err)
	}
	if !bytes.HasPrefix(b, []byte("BM")) {
		return portrait.Decoder{}.Decode(ctx, b)
	}
	config, err := bmp.DecodeConfig(bytes.NewReader(b))
	if err == nil && (config.Width > maxPhotoSide || config.Height > maxPhotoSide) {
		err = portrait.ErrTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("decode photo: %w: %w", portrait.ErrFormat, err)
	}
	m, err := bmp.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decode photo: %w: %w", portrait.ErrFormat, err)
	}
	return m, nil
}

package ui

import (
	"bytes"
	"image"
	"image/color"
	"image/png"

	"enrollkiosk/kiosk"
)

// The agent draws the picture as PNG, whatever the card has. maxFace bounds what
// is decoded all the same: the encoded bytes and the pixels of one side.
const (
	maxFaceBytes = 1 << 20
	maxFaceSide  = 4096
)

// faceCache decodes a citizen's picture once, off Fyne's goroutine.
type faceCache struct {
	encoded []byte
	picture image.Image
}

// decode returns the picture of h, or nil when there is none that can be shown.
func (c *faceCache) decode(h *kiosk.HolderView) image.Image {
	if h == nil || h.Face.Len() == 0 {
		c.drop()
		return nil
	}
	b := h.Face.Reveal()
	if c.encoded != nil && bytes.Equal(c.encoded, b) {
		return c.picture
	}
	c.drop()
	c.encoded = bytes.Clone(b)
	c.picture = decodeFace(b)
	return c.picture
}

func decodeFace(b []byte) image.Image {
	if len(b) > maxFaceBytes {
		return nil
	}
	cfg, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil || cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxFaceSide || cfg.Height > maxFaceSide {
		return nil
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	if n, ok := img.(*image.NRGBA); ok {
		return n
	}
	// Pixels of a known kind, so that they can be overwritten.
	n := image.NewNRGBA(img.Bounds())
	for y := n.Rect.Min.Y; y < n.Rect.Max.Y; y++ {
		for x := n.Rect.Min.X; x < n.Rect.Max.X; x++ {
			n.SetNRGBA(x, y, color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA))
		}
	}
	return n
}

// drop forgets the encoded picture. Its pixels may be on the screen still; the
// page wipes them when it goes.
func (c *faceCache) drop() {
	clear(c.encoded)
	*c = faceCache{}
}

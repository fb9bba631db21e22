package lds

import (
	"bytes"
	"fmt"

	"enrollkiosk/smartcard/tlv"
)

// Image is a picture in its own file format. It refuses to print and to
// marshal.
type Image struct {
	private
	Data []byte
	MIME string // as in [Face]
}

// imageType goes by the image itself: the field of a record is often wrong.
func imageType(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte{0xFF, 0xD8, 0xFF}):
		return "image/jpeg"
	case bytes.HasPrefix(b, []byte("\x00\x00\x00\x0CjP  \r\n\x87\n")):
		return "image/jp2"
	case bytes.HasPrefix(b, []byte{0xFF, 0x4F, 0xFF, 0x51}):
		return "image/j2c"
	}
	return ""
}

func newImage(b []byte) (Image, error) {
	mime := imageType(b)
	switch {
	case len(b) == 0:
		return Image{}, fmt.Errorf("%w: empty image", ErrMalformed)
	case mime == "":
		return Image{}, fmt.Errorf("%w: image format", ErrUnsupported)
	}
	return Image{Data: bytes.Clone(b), MIME: mime}, nil
}

// ParseDG5 reads the displayed portraits of DG5 (Doc 9303-10 4.7.5).
func ParseDG5(file []byte) ([]Image, error) { return parseImages(DG5, 0x5F40, file) }

// ParseDG7 reads the displayed signatures or usual marks of DG7 (Doc 9303-10
// 4.7.7).
func ParseDG7(file []byte) ([]Image, error) { return parseImages(DG7, 0x5F43, file) }

func parseImages(f File, tag tlv.Tag, file []byte) ([]Image, error) {
	outer, err := tlv.ParseOne(file, f.Tag())
	if err != nil {
		return nil, malformed(f.String(), err)
	}
	c := outer.Cursor()
	count := c.Next(0x02).Value
	var images []Image
	for c.More() {
		image, err := newImage(c.Next(tag).Value)
		if err != nil {
			return nil, malformed(f.String(), err)
		}
		images = append(images, image)
	}
	if err := c.Done(); err != nil {
		return nil, malformed(f.String(), err)
	}
	if len(images) == 0 || !counts(count, len(images)) {
		return nil, malformed(f.String(), fmt.Errorf("%w: %d images", ErrMalformed, len(images)))
	}
	return images, nil
}

// counts says whether a number of one byte, as "number of instances" is
// written, is n.
func counts(number []byte, n int) bool { return len(number) == 1 && int(number[0]) == n }

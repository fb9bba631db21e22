package portrait

import (
	"bytes"
	"fmt"
	"image"
)

// maxPPMHeader bounds the text before the samples: OpenJPEG puts its version
// into a comment.
const maxPPMHeader = 256

// maxPPM is the largest file that an image of these dimensions can be.
func maxPPM(width, height int) int64 { return maxPPMHeader + 3*int64(width)*int64(height) }

// parsePPM reads one binary PGM or PPM image with 8 bits a sample (pgm(5),
// ppm(5)) and nothing after it.
func parsePPM(b []byte) (image.Image, error) {
	malformed := func(what string) (image.Image, error) {
		return nil, fmt.Errorf("%w: ppm: %s", ErrDecoder, what)
	}
	if len(b) < 2 || b[0] != 'P' || b[1] != '5' && b[1] != '6' {
		return malformed("magic number")
	}
	channels := 1
	if b[1] == '6' {
		channels = 3
	}
	rest := b[2:]
	var numbers [3]int
	for i := range numbers {
		var ok bool
		if numbers[i], rest, ok = ppmNumber(rest); !ok || len(b)-len(rest) > maxPPMHeader {
			return malformed("header")
		}
	}
	width, height := numbers[0], numbers[1]
	if numbers[2] != 255 {
		return malformed("depth")
	}
	if err := within(width, height); err != nil {
		return nil, err
	}
	if len(rest) == 0 || !blank(rest[0]) || len(rest)-1 != width*height*channels {
		return malformed("length")
	}
	rest = rest[1:]
	if channels == 1 {
		return &image.Gray{Pix: rest, Stride: width, Rect: image.Rect(0, 0, width, height)}, nil
	}
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(m.Pix[4*i:4*i+3], rest[3*i:])
		m.Pix[4*i+3] = 255
	}
	return m, nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// ppmNumber skips blanks and comments, of which there must be one, and takes a
// number of up to five digits.
func ppmNumber(b []byte) (n int, rest []byte, ok bool) {
	start := len(b)
	for len(b) > 0 && (blank(b[0]) || b[0] == '#') {
		if b[0] != '#' {
			b = b[1:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return 0, nil, false
		}
		b = b[end+1:]
	}
	digits := 0
	for digits < len(b) && digits < 6 && b[digits] >= '0' && b[digits] <= '9' {
		n = 10*n + int(b[digits]-'0')
		digits++
	}
	return n, b[digits:], len(b) < start && digits > 0 && digits < 6
}

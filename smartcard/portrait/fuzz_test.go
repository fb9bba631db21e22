package portrait

import (
	"errors"
	"os"
	"testing"
)

func FuzzPPM(f *testing.F) {
	f.Add([]byte("P5\n#OpenJPEG-2.5.0\n2 2\n255\nabcd"))
	f.Add([]byte("P6 1 2 255 abcdef"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parsePPM(b)
		switch {
		case err == nil:
			if w, h := m.Bounds().Dx(), m.Bounds().Dy(); w < 1 || h < 1 || w*h > len(b) {
				t.Errorf("%v out of %d bytes", m.Bounds(), len(b))
			}
			m.At(m.Bounds().Max.X-1, m.Bounds().Max.Y-1).RGBA()
		case !errors.Is(err, ErrDecoder) && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge):
			t.Errorf("untyped error: %v", err)
		}
	})
}

// FuzzImageHeader takes any bytes as far as this process reads them: JPEG to
// its pixels, JPEG 2000 to what decides whether a child may have it.
func FuzzImageHeader(f *testing.F) {
	for _, name := range []string{"colour.jp2", "colour.j2k", "grey.jp2"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:200])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		var err error
		if isJPEG2000(b) {
			var w, h int
			if w, h, err = sizeJPEG2000(b); err == nil && within(w, h) != nil {
				t.Errorf("accepts %d by %d", w, h)
			}
		} else {
			_, err = Decoder{}.decodeJPEG(t.Context(), b)
		}
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("untyped error: %v", err)
		}
	})
}

func TestPPMRefuses(t *testing.T) {
	for name, file := range map[string]string{
		"empty":          "",
		"text":           "P3 1 1 255 0",
		"one byte short": "P5 2 2 255 abc",
		"one byte long":  "P5 2 2 255 abcde",
		"16 bits":        "P5 1 1 65535 ab",
		"no width":       "P5 0 2 255 ",
		"huge":           "P5 99999 99999 255 ",
		"overflow":       "P5 4294967297 1 255 a",
		"minus":          "P5 -1 -1 255 a",
		"no blank":       "P52 2 255 abcd",
		"open comment":   "P5 #",
	} {
		if m, err := parsePPM([]byte(file)); err == nil {
			t.Errorf("%s: accepted as %v", name, m.Bounds())
		}
	}
}

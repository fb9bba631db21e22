package portrait_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"testing"
	"time"

	"enrollkiosk/smartcard/portrait"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// waves is what the images of testdata show.
func waves(x, y, c int) float64 { return float64(x*y*(c+1)) / 900 }

func encodeJPEG(t testing.TB, w, h int) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = byte(i)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecode(t *testing.T) {
	for name, want := range map[string]struct {
		image []byte
		size  image.Point
	}{
		"JP2, colour":       {read(t, "colour.jp2"), image.Pt(120, 160)},
		"codestream":        {read(t, "colour.j2k"), image.Pt(120, 160)},
		"JP2, grey":         {read(t, "grey.jp2"), image.Pt(120, 160)},
		"JP2, grey 16 bits": {read(t, "grey16.jp2"), image.Pt(64, 48)},
		"JP2, subsampled":   {read(t, "subsampled.jp2"), image.Pt(64, 48)},
		"JPEG":              {encodeJPEG(t, 33, 44), image.Pt(33, 44)},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := portrait.Decoder{}.Decode(t.Context(), want.image)
			if err != nil {
				t.Fatal(err)
			}
			if m.Bounds().Size() != want.size {
				t.Errorf("%v, want %v", m.Bounds(), want.size)
			}
		})
	}
}

// The lossless image comes back exactly, so that no conversion lies between.
func TestDecodeExactly(t *testing.T) {
	m, err := portrait.Decoder{}.Decode(t.Context(), read(t, "grey.jp2"))
	if err != nil {
		t.Fatal(err)
	}
	for y := range 160 {
		for x := range 120 {
			if got := color.GrayModel.Convert(m.At(x, y)).(color.Gray).Y; got != byte(x*y) {
				t.Fatalf("pixel %d,%d is %d, want %d", x, y, got, byte(x*y))
			}
		}
	}
}

// Colours are those of the picture, not of its components.
func TestDecodeColours(t *testing.T) {
	m, err := portrait.Decoder{}.Decode(t.Context(), read(t, "colour.jp2"))
	if err != nil {
		t.Fatal(err)
	}
	// Near the left edge every wave begins at 127.
	c := color.RGBAModel.Convert(m.At(2, 2)).(color.RGBA)
	for i, v := range []byte{c.R, c.G, c.B} {
		if want := 127 + 100*waves(2, 2, i); float64(v) < want-12 || float64(v) > want+12 {
			t.Errorf("channel %d is %d, want about %.0f", i, v, want)
		}
	}
}

// siz replaces four bytes of the SIZ segment, counted from its length field.
func siz(b []byte, at int, value uint32) []byte {
	b = bytes.Clone(b)
	start := bytes.Index(b, []byte{0xFF, 0x4F, 0xFF, 0x51}) + 4
	binary.BigEndian.PutUint32(b[start+at:], value)
	return b
}

func TestHostileImages(t *testing.T) {
	jp2, j2k, grey := read(t, "colour.jp2"), read(t, "colour.j2k"), read(t, "grey.jp2")
	bomb := siz(siz(siz(siz(j2k, 4, 1<<31), 8, 1<<31), 20, 1<<31), 24, 1<<31)
	jpg := encodeJPEG(t, 16, 16)
	wide := bytes.Clone(jpg)
	sof := bytes.Index(wide, []byte{0xFF, 0xC0})
	binary.BigEndian.PutUint32(wide[sof+5:], 0xFFFFFFFF) // height and width
	scans := append(bytes.Clone(jpg[:len(jpg)-2]), bytes.Repeat([]byte{0xFF, 0xDA, 0, 2}, 100)...)
	for name, want := range map[string]struct {
		image []byte
		err   error
	}{
		"nothing":               {nil, portrait.ErrFormat},
		"text":                  {[]byte("a face"), portrait.ErrFormat},
		"bytes beyond bound":    {make([]byte, portrait.MaxInput+1), portrait.ErrTooLarge},
		"JPEG 65535 by 65535":   {wide, portrait.ErrTooLarge},
		"JPEG cut off":          {jpg[:len(jpg)/2], portrait.ErrFormat},
		"JPEG of 100 scans":     {scans, portrait.ErrTooLarge},
		"2^31 by 2^31":          {bomb, portrait.ErrTooLarge},
		"4096 by 4096":          {siz(siz(siz(siz(j2k, 4, 4096), 8, 4096), 20, 4096), 24, 4096), portrait.ErrTooLarge},
		"no height":             {siz(j2k, 8, 0), portrait.ErrFormat},
		"offset beyond image":   {siz(j2k, 12, 1<<20), portrait.ErrFormat},
		"19,200 tiles":          {siz(siz(j2k, 20, 1), 24, 1), portrait.ErrTooLarge},
		"tiles of no width":     {siz(j2k, 20, 0), portrait.ErrFormat},
		"codestream marker":     {j2k[:4], portrait.ErrFormat},
		"JP2 signature":         {jp2[:12], portrait.ErrFormat},
		"JP2 box of 2^32 bytes": {append(bytes.Clone(jp2[:12]), 0xFF, 0xFF, 0xFF, 0xFF, 'j', 'p', '2', 'c'), portrait.ErrFormat},
		"main header only":      {j2k[:100], portrait.ErrDecoder},
		"half a JP2":            {grey[:len(grey)/2], portrait.ErrFormat},
		"half a codestream":     {j2k[:len(j2k)/2], portrait.ErrDecoder},
		"garbage in the tile":   {append(bytes.Clone(j2k[:90]), bytes.Repeat([]byte{0xA5}, 4000)...), portrait.ErrDecoder},
	} {
		t.Run(name, func(t *testing.T) {
			started := time.Now()
			m, err := portrait.Decoder{}.Decode(t.Context(), want.image)
			if !errors.Is(err, want.err) || m != nil {
				t.Errorf("%v, want %v", err, want.err)
			}
			if took := time.Since(started); took > 15*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestNormalise(t *testing.T) {
	for name, b := range map[string][]byte{"JP2": read(t, "colour.jp2"), "JPEG": encodeJPEG(t, 300, 400)} {
		t.Run(name, func(t *testing.T) {
			small, err := portrait.Decoder{}.Normalise(t.Context(), b, 4800)
			if err != nil {
				t.Fatal(err)
			}
			m, err := png.Decode(bytes.NewReader(small))
			if err != nil {
				t.Fatal(err)
			}
			if size := m.Bounds().Size(); size.X*size.Y > 4800 || size.X < 58 || size.Y < 78 {
				t.Errorf("%v, want about 60 by 80", size)
			}
		})
	}
	if _, err := (portrait.Decoder{}).Normalise(t.Context(), []byte("no"), 100); !errors.Is(err, portrait.ErrFormat) {
		t.Error(err)
	}
}

// A small image stays as it is; one of a single row keeps it.
func TestNormaliseExtremes(t *testing.T) {
	for _, v := range []struct{ w, h, pixels, wantW, wantH int }{
		{20, 30, 600, 20, 30}, {4000, 1, 100, 100, 1}, {1, 4000, 100, 1, 100}, {30, 30, 0, 1, 1},
	} {
		b, err := portrait.Decoder{}.Normalise(t.Context(), encodeJPEG(t, v.w, v.h), v.pixels)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := png.DecodeConfig(bytes.NewReader(b)); err != nil || c.Width != v.wantW || c.Height != v.wantH {
			t.Errorf("%d by %d in %d pixels: %d by %d, %v", v.w, v.h, v.pixels, c.Width, c.Height, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, b := range map[string][]byte{"JP2": read(t, "colour.jp2"), "JPEG": encodeJPEG(t, 30, 40)} {
		if _, err := (portrait.Decoder{}).Decode(ctx, b); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Time bounds a JPEG as well: one whose scans are repeated takes seconds.
func TestJPEGTimeout(t *testing.T) {
	d := portrait.Decoder{Limits: portrait.Limits{Timeout: time.Microsecond}}
	if _, err := d.Decode(t.Context(), encodeJPEG(t, 1000, 1000)); !errors.Is(err, portrait.ErrLimits) {
		t.Error(err)
	}
}

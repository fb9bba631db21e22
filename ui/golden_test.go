package ui

import (
	"bytes"
	"flag"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
)

var update = flag.Bool("update", false, "write the golden pictures anew")

// goldenWide is the width of a golden picture: small enough for hundreds of
// them, large enough that a digit that changed shows.
const goldenWide = 240

// Type, colours and places do not change unnoticed: every screen in both common
// palettes and two sizes, in every language, and with what people may change.
//
//	go test ./ui -run TestGolden -update
func TestGolden(t *testing.T) {
	sets := []struct {
		name     string
		size     fyne.Size
		look     Look
		language string
	}{
		{"light", large, Look{}, "en"},
		{"light-full", full, Look{}, "en"},
		{"dark", large, Look{Dark: true}, "en"},
		{"dark-full", full, Look{Dark: true}, "en"},
		{"contrast-150", large, Look{Contrast: true, Text: 150}, "en"},
		{"dark-contrast-200", large, Look{Dark: true, Contrast: true, Text: 200}, "en"},
	}
	for _, l := range words.Languages()[1:] {
		sets = append(sets, sets[0])
		sets[len(sets)-1].name, sets[len(sets)-1].language = l, l
	}
	for _, set := range sets {
		t.Run(set.name, func(t *testing.T) {
			b := newBench(t, set.size)
			b.look(set.look)
			dir := filepath.Join("testdata", "golden", set.name)
			want := map[string]bool{}
			for _, s := range samples.All(set.language) {
				b.draw(s.State)
				want[s.Name+".png"] = true
				b.golden(t, filepath.Join(dir, s.Name+".png"))
			}
			for i, c := range covers {
				s := c.state
				s.Number, s.Language, s.Simulated = uint64(i+1), set.language, true
				b.Serve(c.side)
				b.front, b.found = c.front, true
				b.draw(s)
				want["cover-"+c.name+".png"] = true
				b.golden(t, filepath.Join(dir, "cover-"+c.name+".png"))
			}
			have, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range have {
				if want[f.Name()] {
					continue
				}
				if path := filepath.Join(dir, f.Name()); !*update {
					t.Errorf("%s is of no screen", path)
				} else if err := os.Remove(path); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// golden compares what is shown with a picture.
func (b *bench) golden(t *testing.T, path string) {
	t.Helper()
	shown := b.w.Canvas().Capture()
	small := shrink(shown)
	old, err := os.ReadFile(path)
	var want image.Image
	if err == nil {
		want, err = png.Decode(bytes.NewReader(old))
	}
	if err == nil && !differs(small, want) {
		return
	}
	if !*update {
		failed := filepath.Join("testdata", "failed", filepath.Base(filepath.Dir(path))+"-"+filepath.Base(path))
		write(t, failed, shown)
		t.Errorf("%s looks different (%v): see %s; if it should, run with -update", path, err, failed)
		return
	}
	write(t, path, small)
}

func write(t *testing.T, path string, img image.Image) {
	t.Helper()
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, img); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shrink makes a picture goldenWide, each pixel the mean of those it covers, in
// sixteen steps a channel.
func shrink(img image.Image) image.Image {
	from := img.(*image.NRGBA)
	w, h := from.Rect.Dx(), from.Rect.Dy()
	high := h * goldenWide / w
	var colors color.Palette
	index := map[color.NRGBA]uint8{}
	all := make([]color.NRGBA, 0, goldenWide*high)
	for y := range high {
		for x := range goldenWide {
			var sum [3]int
			n := 0
			for v := y * h / high; v < (y+1)*h/high; v++ {
				for u := x * w / goldenWide; u < (x+1)*w/goldenWide; u++ {
					p := from.Pix[v*from.Stride+4*u:]
					for c := range sum {
						sum[c] += int(p[c])
					}
					n++
				}
			}
			step := func(s int) uint8 { return uint8((s/n+8)/17) * 17 }
			c := color.NRGBA{step(sum[0]), step(sum[1]), step(sum[2]), 0xFF}
			if _, ok := index[c]; !ok && len(colors) < 256 {
				index[c] = uint8(len(colors))
				colors = append(colors, c)
			}
			all = append(all, c)
		}
	}
	small := image.NewPaletted(image.Rect(0, 0, goldenWide, high), colors)
	for i, c := range all {
		k, ok := index[c]
		if !ok { // a photo has more
			k = uint8(colors.Index(c))
		}
		small.Pix[i] = k
	}
	return small
}

// differs says whether two pictures differ by more than two renderings of the
// same page do.
func differs(a, b image.Image) bool {
	if a.Bounds() != b.Bounds() {
		return true
	}
	far := func(x, y uint32) bool { return max(x, y)-min(x, y) > 24*0x101 }
	n := 0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r, g, bl, _ := a.At(x, y).RGBA()
			q, h, cl, _ := b.At(x, y).RGBA()
			if far(r, q) || far(g, h) || far(bl, cl) {
				n++
			}
		}
	}
	return n > 2
}

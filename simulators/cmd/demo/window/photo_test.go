package window

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
)

// skin is the colour that the photo of this test is full of and nothing else.
var skin = color.NRGBA{0xA1, 0x5C, 0xE3, 0xFF}

// photo is a picture of the size that cards hold.
func photo(t testing.TB) secret.Text {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 480, 600))
	draw.Draw(img, img.Bounds(), image.NewUniform(skin), image.Point{}, draw.Src)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return secret.New(b.Bytes())
}

// A photo is nowhere in the window's memory once its page was left: neither as it
// was decoded, nor as it was scaled, nor as it was drawn.
func TestPhotoIsGoneFromMemory(t *testing.T) {
	t.Parallel()
	d := openDisplay(t, 1280, 800)
	desk, socket := newScript(t)
	p := open(t, d, "--socket", socket)
	m := newMirror(1280, 800)
	officers := func() {
		t.Helper()
		s := comparing()
		s.Holder.Face = photo(t)
		m.draw(desk.show(s))
		d.shows(t, "30-photo", pages{left: m}, nil)
		if found := p.finds(t); len(found) == 0 {
			t.Fatal("the photo that is on the screen is not found: this test would find nothing later")
		}
	}
	for range 3 {
		officers()
		next := home()
		m.draw(desk.show(next))
		d.shows(t, "31-left", pages{left: m}, nil)
		for limit := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			found := p.finds(t)
			if len(found) == 0 {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("the photo is still in memory: %s", strings.Join(found, ", "))
			}
		}
	}
}

// finds lists where in the window's memory a row of the photo lies, in either
// order of colours.
func (p *program) finds(t testing.TB) (where []string) {
	t.Helper()
	const row = 16 // pixels
	patterns := [][]byte{bytes.Repeat([]byte{skin.R, skin.G, skin.B, skin.A}, row), bytes.Repeat([]byte{skin.B, skin.G, skin.R, skin.A}, row)}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	buf := make([]byte, 1<<20)
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode[:2] != "rw" {
			continue
		}
		for at := from; at < to; at += int64(len(buf)) - 4*row {
			n, err := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			if err != nil && err != io.EOF && n == 0 {
				break // a mapping of a device
			}
			for i, pattern := range patterns {
				if bytes.Contains(buf[:n], pattern) {
					where = append(where, fmt.Sprintf("order %d at %x in %s", i, at, strings.Join(strings.Fields(line), " ")))
				}
			}
		}
	}
	return where
}

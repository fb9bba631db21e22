package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"enrollkiosk/ui"
	"enrollkiosk/ui/monitor"
)

// edid is the base block of a monitor of that many pixels and millimetres.
func edid(wide, high, mmWide, mmHigh int) []byte {
	b := make([]byte, 128)
	copy(b, "\x00\xff\xff\xff\xff\xff\xff\x00")
	b[18], b[19], b[21], b[22] = 1, 4, byte(mmWide/10), byte(mmHigh/10)
	t := b[54:]
	t[0], t[1] = 0x02, 0x3A
	t[2], t[4] = byte(wide), byte(wide>>4&0xF0)
	t[5], t[7] = byte(high), byte(high>>4&0xF0)
	t[12], t[13], t[14] = byte(mmWide), byte(mmHigh), byte(mmWide>>4&0xF0|mmHigh>>8&0x0F)
	return seal(b)
}

// seal gives a block its checksum.
func seal(b []byte) []byte {
	var sum byte
	for _, c := range b[:127] {
		sum += c
	}
	b[127] = -sum
	return b
}

func drm(monitors ...[]byte) fstest.MapFS {
	f := fstest.MapFS{"card0-VGA-1/status": {Data: []byte("disconnected\n")}, "card0-VGA-1/edid": {Data: edid(3840, 2160, 344, 194)}}
	for i, m := range monitors {
		dir := "card0-HDMI-A-" + string(rune('1'+i))
		f[dir+"/status"] = &fstest.MapFile{Data: []byte("connected\n")}
		f[dir+"/edid"] = &fstest.MapFile{Data: m}
	}
	return f
}

// Keys have 20 mm on every monitor that says how large it is, and as much as
// there is room for on one that is too small.
func TestScale(t *testing.T) {
	for _, c := range []struct {
		what  string
		look  look
		drm   fstest.MapFS
		scale float64
		small bool
	}{
		{"23 inch, full HD", look{}, drm(edid(1920, 1080, 510, 287)), 1.1, false},
		{"24 inch, full HD", look{}, drm(edid(1920, 1080, 531, 299)), 1, false},
		{"15.6 inch, full HD", look{}, drm(edid(1920, 1080, 344, 194)), 1.4, true}, // 141 dpi would be 1.6
		{"27 inch, 4K", look{}, drm(edid(3840, 2160, 597, 336)), 1.8, false},
		{"42 inch, full HD", look{}, drm(edid(1920, 1080, 930, 523)), 1, false},
		{"10 inch, 1280x800", look{}, drm(edid(1280, 800, 217, 136)), 1, true},
		{"the denser of two", look{}, drm(edid(1920, 1080, 531, 299), edid(3840, 2160, 597, 336)), 1.8, false},
		{"configured", look{DPI: 138}, drm(edid(3840, 2160, 931, 523)), 1.5, false},
		{"configured, nothing known", look{DPI: 138}, drm(), 1.5, false},
		{"nothing connected", look{}, drm(), 0, false},
		{"no such folder", look{}, fstest.MapFS{}, 0, false},
		{"a projector", look{}, drm(edid(1920, 1080, 0, 0)), 0, false},
		{"a ratio for a size", look{}, drm(edid(1920, 1080, 160, 90)), 0, false},
		{"square dots that are not", look{}, drm(edid(1920, 1080, 531, 500)), 0, false},
		{"cut", look{}, drm(edid(1920, 1080, 510, 287)[:100]), 0, false},
	} {
		if scale, small := c.look.scale(c.drm); scale != c.scale || small != c.small {
			t.Errorf("%s: %v, too small %v; want %v, %v", c.what, scale, small, c.scale, c.small)
		}
	}
	m := monitor.Densest(drm(edid(1920, 1080, 510, 287)))
	scale, _ := look{}.scale(drm(edid(1920, 1080, 510, 287)))
	if mm := 72 * scale / m.DPI * 25.4; mm < 20-0.2 {
		t.Errorf("a key has %.1f mm", mm)
	}
}

func TestWindowConfiguration(t *testing.T) {
	read := func(window string) (options, int, string) {
		t.Helper()
		t.Setenv("FYNE_SCALE", "")
		t.Setenv("FYNE_DISABLE_DPI_DETECTION", "")
		p := filepath.Join(t.TempDir(), "kiosk.toml")
		if err := os.WriteFile(p, []byte("[kiosk]\nstate = \"state\"\n[window]\n"+window), 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		o, code := parse([]string{"--config", p}, &out)
		return o, code, out.String()
	}
	o, code, _ := read("text = 150\ncontrast = true\ndark = true\nspeech = \"off\"\nkeyboard = \"always\"\ndpi = 138\n")
	if want := (ui.Look{Dark: true, Contrast: true, Text: 150}); code != -1 || o.ui.Look != want || !o.ui.Keyboard || o.speech != "off" {
		t.Errorf("read as %+v, code %d", o, code)
	}
	if s := os.Getenv("FYNE_SCALE"); s != "1.5" {
		t.Errorf("scale %q", s)
	}
	if o, code, _ = read(""); code != -1 || o.ui.Look != (ui.Look{}) || o.ui.Keyboard || o.speech != "" {
		t.Errorf("read as %+v, code %d", o, code)
	}
	for text, says := range map[string]string{"text = 120": "text size", "keyboard = \"no\"": "window.keyboard", "dpi = 1": "window.dpi"} {
		if _, code, out := read(text + "\n"); code != exitUsage || !strings.Contains(out, says) {
			t.Errorf("%s: code %d, says %q", text, code, out)
		}
	}
}

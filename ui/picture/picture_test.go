package picture

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"enrollkiosk/kiosk"
	"enrollkiosk/ui/internal/samples"
)

var now = time.Date(2026, 5, 4, 10, 42, 0, 0, time.UTC)

func welcome(t *testing.T) kiosk.State {
	t.Helper()
	for _, s := range samples.All("zh") {
		if s.State.Screen == kiosk.ScreenWelcome {
			return s.State
		}
	}
	t.Fatal("no sample")
	return kiosk.State{}
}

// The same state gives the same bytes, another one gives others, and the file
// is a whole picture of the size asked for.
func TestPictures(t *testing.T) {
	s := welcome(t)
	dir := t.TempDir()
	read := func(name string, s kiosk.State) ([]byte, image.Image) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := Write(path, s, 1024, 768, now); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		return b, img
	}
	a, img := read("a.png", s)
	if img.Bounds() != image.Rect(0, 0, 1024, 768) {
		t.Errorf("size %v", img.Bounds())
	}
	if again, _ := read("b.png", s); !bytes.Equal(a, again) {
		t.Error("the same state gives two pictures")
	}
	s.Language = "en"
	if other, _ := read("c.png", s); bytes.Equal(a, other) {
		t.Error("another language gives the same picture")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".picture-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := Write(filepath.Join(dir, "no", "folder.png"), s, 100, 100, now); err == nil {
		t.Error("wrote into a folder that is not there")
	}
}

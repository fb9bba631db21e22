// Package picture draws states as the window would, without a display: through
// Fyne's software driver, into PNG files. It is for demonstrations and contact
// sheets. Importing it installs Fyne's driver for tests in the process, so a
// process that opens a window must not.
package picture

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"sync"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"

	"enrollkiosk/kiosk"
	"enrollkiosk/ui"
)

// drawing is held while a picture is drawn: Fyne's driver for tests knows one
// thread.
var drawing sync.Mutex

// Render draws one state at the given size in pixels. now stands on the clock.
func Render(s kiosk.State, width, height int, now time.Time) image.Image {
	return RenderIn(ui.Look{}, s, width, height, now)
}

// RenderIn is Render in another look than the common one.
func RenderIn(look ui.Look, s kiosk.State, width, height int, now time.Time) image.Image {
	drawing.Lock()
	defer drawing.Unlock()
	w := test.NewWindow(nil)
	defer w.Close()
	w.SetPadded(false)
	w.Resize(fyne.NewSize(float32(width), float32(height)))
	u := ui.New(nobody{}, w, ui.Options{Look: look, Now: func() time.Time { return now }})
	u.Draw(s)
	return w.Canvas().Capture()
}

// Write renders a state into a PNG file. It is complete or absent.
func Write(path string, s kiosk.State, width, height int, now time.Time) error {
	return Save(path, Render(s, width, height, now))
}

// Save writes a picture as PNG. The file is complete or absent.
func Save(path string, img image.Image) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".picture-*")
	if err != nil {
		return fmt.Errorf("write picture: %w", err)
	}
	defer os.Remove(f.Name())
	err = png.Encode(f, img)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write picture: %w", err)
	}
	return nil
}

// nobody is a desk without an agent: a picture has no buttons to press.
type nobody struct{}

func (nobody) States(ctx context.Context) (<-chan kiosk.State, error) {
	ch := make(chan kiosk.State)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch, nil
}

func (nobody) Send(context.Context, kiosk.Intent) error { return nil }

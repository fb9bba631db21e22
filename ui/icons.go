package ui

import (
	"embed"
	"fmt"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"enrollkiosk/kiosk"
)

//go:embed icons/*.svg
var drawings embed.FS

// picture is a small drawing of ours at a fixed size.
func picture(name string, w, h float32) *fyne.Container {
	return sized(w, h, drawn(name))
}

// illustration is a large drawing, one on a page. The object is kept for the
// next page: drawing it anew would take longer than all the rest of a page.
func (d *drawing) illustration(name string, w, h float32) *fyne.Container {
	key := fmt.Sprintf("%s %.0fx%.0f", name, w, h)
	img := d.u.kept[key]
	if img == nil {
		img = drawn(name)
		d.u.kept[key] = img
	}
	return sized(w, h, img)
}

func drawn(name string) *canvas.Image {
	b, err := drawings.ReadFile("icons/" + name + ".svg")
	if err != nil {
		panic("ui: no drawing " + name) // a name in this package, held by tests
	}
	img := canvas.NewImageFromResource(fyne.NewStaticResource(name+".svg", b))
	img.FillMode = canvas.ImageFillContain
	return img
}

func sign(name string) *fyne.Container { return picture(name, 28, 28) }

func statusSign(s kiosk.StepStatus) string {
	switch s {
	case kiosk.StepDone:
		return "done"
	case kiosk.StepFailed:
		return "failed"
	case kiosk.StepRunning:
		return "running"
	}
	return "pending"
}

func verdictSign(v kiosk.Verdict) string {
	switch v {
	case kiosk.Passed:
		return "done"
	case kiosk.Failed:
		return "failed"
	case kiosk.Warned:
		return "warning"
	}
	return "unknown"
}

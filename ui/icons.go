package ui

import (
	"embed"
	"fmt"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

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
	w, h = w*d.look.room(), h*d.look.room()
	key := fmt.Sprintf("%s %s %.0fx%.0f", name, d.look.name(), w, h)
	img := d.u.kept[key]
	if img == nil {
		img = drawn(name)
		d.u.kept[key] = img
	}
	return sized(w, h, img)
}

// pageDrawing begins the name of a drawing that has the colours of its page.
const pageDrawing = "page-"

// onHeader are the drawings for the header, which looks the same in every
// palette.
func onHeader(name string) bool {
	switch name {
	case "emblem", "officer", "citizen", "machine", "languages", "access":
		return true
	}
	return false
}

func drawn(name string) *canvas.Image {
	b, err := drawings.ReadFile("icons/" + name + ".svg")
	if err != nil {
		panic("ui: no drawing " + name) // a name in this package, held by tests
	}
	img := canvas.NewImageFromResource(fyne.NewStaticResource(either(onHeader(name), "", pageDrawing)+name+".svg", b))
	img.FillMode = canvas.ImageFillContain
	return img
}

// sign is a small drawing beside text, which it grows with.
func sign(name string) *fyne.Container { return container.New(&mark{side: 28}, drawn(name)) }

// mark is a square that grows with the text of its window, by half as much.
type mark struct {
	side float32
	look Look
}

func (m *mark) MinSize([]fyne.CanvasObject) fyne.Size {
	return fyne.NewSquareSize(m.side * (1 + (m.look.times()-1)/2))
}

func (m *mark) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	s := m.MinSize(nil)
	for _, o := range objects {
		o.Move(fyne.NewPos((size.Width-s.Width)/2, (size.Height-s.Height)/2))
		o.Resize(s)
	}
}

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

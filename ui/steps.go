package ui

import (
	"image/color"
	"strconv"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// waiting is a page on which the machine works: the list of its steps, each
// with a sign and a word, beside a drawing of what should stay where it is.
// Nothing moves: a step list says more than a spinner.
func (d *drawing) waiting(drawing string) page {
	var rows []fyne.CanvasObject
	for _, s := range d.s.Steps {
		rows = append(rows, d.step(s))
	}
	right := []fyne.CanvasObject{container.New(startLayout{}, d.illustration(drawing, 320, 240))}
	if d.slow {
		right = append(right, sized(320, heightFor(body(d.w.Label(words.Slow, nil)).sized(21), 280)+30,
			notice(cautPale, caution, body(d.w.Label(words.Slow, nil)).sized(21))))
	}
	return d.standard(beside(32, []float32{1, 0}, panel(stack(either[float32](len(rows) > 6, 8, 14), rows...)), stack(16, right...)))
}

func (d *drawing) step(s kiosk.Step) fyne.CanvasObject {
	name := body(d.w.Step(s.Name)).sized(either[float32](len(d.s.Steps) > 6, 21, 23))
	status := label(d.w.Status(s.Status))
	switch s.Status {
	case kiosk.StepRunning:
		name.bold()
		if s.Total > 0 {
			status.text = strconv.Itoa(min(100, 100*s.Done/s.Total)) + " %"
		}
	case kiosk.StepPending:
		name.in(faint)
	case kiosk.StepFailed:
		status.in(bad)
	}
	row := besideMiddle(14, []float32{0, 1, 0}, sign(statusSign(s.Status)), name, status)
	if s.Status == kiosk.StepRunning && s.Total > 0 {
		return stack(6, row, meter(float32(s.Done)/float32(s.Total)))
	}
	return row
}

// meter is a bar filled to a share.
func meter(share float32) *fyne.Container {
	return container.New(meterLayout{min(1, max(0, share))}, bandOf(line), bandOf(accent))
}

func bandOf(c color.Color) *canvas.Rectangle {
	r := canvas.NewRectangle(c)
	r.CornerRadius = 4
	return r
}

type meterLayout struct{ share float32 }

func (m meterLayout) Layout(objects []fyne.CanvasObject, size fyne.Size) {
	objects[0].Resize(size)
	objects[1].Resize(fyne.NewSize(size.Width*m.share, size.Height))
}
func (meterLayout) MinSize([]fyne.CanvasObject) fyne.Size { return fyne.NewSize(80, 8) }

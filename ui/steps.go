package ui

import (
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
	list := panel(stack(either[float32](len(rows) > 6, 8, 14), rows...))
	return d.standard(beside(32, []float32{1, 0}, stack(12, list, d.late()), container.New(startLayout{}, d.illustration(drawing, 320, 240))))
}

// late says that a step takes longer than usual; nil while none does.
func (d *drawing) late() *fyne.Container {
	if !d.slow {
		return nil
	}
	return remark(cautPale, caution, "warning", d.w.Label(words.Slow, nil))
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
	return container.New(meterLayout{min(1, max(0, share))}, bandOf(shade), bandOf(accent))
}

func bandOf(c tone) *canvas.Rectangle {
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

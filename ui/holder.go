package ui

import (
	"image"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/kiosk/words"
)

// portrait is the picture of the chip, or a sentence in its place.
func (d *drawing) portrait(w, h float32) (fyne.CanvasObject, []*canvas.Image) {
	back := canvas.NewRectangle(sheet)
	back.StrokeWidth, back.StrokeColor, back.CornerRadius = 1, edge, 4
	if d.face == nil {
		w = min(w*d.look.times(), 420)
		none := label(d.w.Label(words.NoPhoto, nil)).center()
		return sized(w, max(h, d.high(none, w-32)+80), container.New(inset{16, 40}, back, none)), nil
	}
	img := canvas.NewImageFromImage(d.face)
	img.FillMode = canvas.ImageFillContain
	img.ScaleMode = canvas.ImageScaleSmooth
	return sized(w, h, container.New(inset{6, 6}, back, img)), []*canvas.Image{img}
}

// wipePicture overwrites the pixels of a picture that is no longer shown.
func wipePicture(img image.Image) {
	if n, ok := img.(*image.NRGBA); ok {
		clear(n.Pix)
	}
}

// data lists what the card says about its holder.
func (d *drawing) data() *fyne.Container {
	h := d.s.Holder
	sex := words.SexOther
	switch h.Sex {
	case "F":
		sex = words.SexFemale
	case "M":
		sex = words.SexMale
	}
	return stack(10,
		d.datum(words.Surname, reveal(h.Surname)),
		d.datum(words.GivenNames, reveal(h.GivenNames)),
		beside(20, []float32{1, 1}, d.datum(words.Birth, reveal(h.Birth)), d.datum(words.Sex, d.w.Label(sex, nil))),
		beside(20, []float32{1, 1}, d.datum(words.Number, reveal(h.Number)), d.datum(words.Expiry, reveal(h.Expiry))),
		beside(20, []float32{1, 1}, d.datum(words.Nationality, h.Nationality), d.datum(words.Issuer, h.Issuer)),
	)
}

// summary is what a second officer compares, a line each.
func (d *drawing) summary() *fyne.Container {
	h := d.s.Holder
	var rows []fyne.CanvasObject
	for _, r := range []struct {
		label words.Label
		value string
	}{{words.Surname, reveal(h.Surname)}, {words.GivenNames, reveal(h.GivenNames)}, {words.Birth, reveal(h.Birth)},
		{words.Number, reveal(h.Number)}, {words.Expiry, reveal(h.Expiry)}} {
		rows = append(rows, beside(12, []float32{2, 3}, label(d.w.Label(r.label, nil)).sized(18), body(r.value).bold().sized(18)))
	}
	return stack(2, rows...)
}

// lacks says what the document cannot prove, and more; nil when it proves all.
func (d *drawing) lacks(more ...string) *fyne.Container {
	if len(d.s.Lacks) == 0 {
		return nil
	}
	var said []string
	for _, l := range d.s.Lacks {
		said = append(said, d.w.Lack(l))
	}
	return remark(cautPale, caution, "warning", strings.Join(append(said, more...), " "))
}

func reveal(t secret.Text) string { return string(t.Reveal()) }

func (d *drawing) datum(l words.Label, value string) *fyne.Container {
	if value == "" {
		value = "–"
	}
	return stack(-2, label(d.w.Label(l, nil)).sized(17), body(value).bold().sized(23))
}

// proofs lists each check with its verdict, in sign and word.
func (d *drawing) proofs() *fyne.Container {
	rows := []fyne.CanvasObject{label(d.w.Label(words.Proofs, nil)).sized(17)}
	for _, c := range d.s.Checks {
		rows = append(rows, beside(10, []float32{0, 1}, sign(verdictSign(c.Verdict)),
			stack(-4, label(d.w.Check(c.Name)).in(ink).sized(20), label(d.w.Verdict(c.Verdict)).sized(17))))
	}
	return stack(either[float32](len(d.s.Lacks) > 0, 3, 6), rows...)
}

package paper

import (
	"fmt"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// Day is the summary of a day, for the officer: figures, and what is to do before
// going. Nothing in it is about one citizen, and nobody has signed it.
func Day(c *words.Catalog, v kiosk.DayView, kioskID string, training bool) ([]byte, error) {
	d := newDocument(c.Title(kiosk.ScreenDay), c.Code())
	s, y := d.headed(c, training)
	y = s.paragraph(left, y, inner, c.Title(kiosk.ScreenDay), 20, true, black) + 2
	at := v.At.Local()
	y = s.paragraph(left, y, inner, fmt.Sprintf("%s · %s %s · %s", at.Format("2006-01-02 15:04"), c.Label(words.Machine, nil), kioskID,
		c.Label(words.SignedOn, words.Args{"number": v.Officer})), 12, false, grey) + 3*mm

	const own, all = left + inner - 60*mm, left + inner - 22*mm
	s.text(own, y, c.Label(words.DayOwn, nil), 10, false, grey)
	s.text(all, y, c.Label(words.DayAll, nil), 10, false, grey)
	y += 3 * mm
	const size = 11
	row := func(name, mine, everybodys string, heavy bool) {
		s.rule(left, y, inner, line, solid)
		y += 4.4 * mm
		s.text(own, y, mine, size, heavy, black)
		s.text(all, y, everybodys, size, heavy, black)
		y = s.paragraph(left, y, own-left-6*mm, name, size, heavy, black) - size*1.45 + 1.8*mm
	}
	for _, r := range c.Day(v) {
		row(r.Name, r.Own, r.All, r.Sum)
	}
	s.rule(left, y, inner, line, solid)
	y += 10 * mm
	y = s.paragraph(left, y, inner, c.Label(words.DayToDo, nil), 14, true, black) + 2
	for _, todo := range c.ToDo(v) {
		y = s.paragraph(left, y, inner, todo, 12, false, black) + 3
	}
	return d.bytes()
}

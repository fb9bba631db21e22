package ui

import (
	"strings"

	"fyne.io/fyne/v2/container"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// trouble: what is so, what to do, what is safe; below, for the officer, the
// cause and the code. The main button is the remedy.
func (d *drawing) trouble() page {
	f := kiosk.Fault{Code: kiosk.CodeInternal}
	if d.s.Fault != nil {
		f = *d.s.Fault
	}
	t := d.w.Trouble(f)
	staff := stack(4, label(d.w.Label(words.ForOfficer, nil)+" · "+string(f.Code)).bold().sized(17), label(t.Staff).in(ink))
	text := stack(20,
		notice(cautPale, caution, beside(18, []float32{0, 1}, sign("warning"), stack(8, body(t.Do).bold(), body(t.Safe)))),
		panel(staff))
	p := d.standard(text)
	if name := about(f.Code); name != "" {
		p.body = beside(32, []float32{1, 0}, text, container.New(startLayout{}, d.illustration(name, 320, 240)))
	}
	p.title, p.lead, p.say = t.Headline, "", t.Do+" "+t.Safe
	return p
}

// about is the drawing of the thing that a code is about, or none.
func about(c kiosk.Code) string {
	switch {
	case c == kiosk.CodeServiceMissing, c == kiosk.CodeReaderMissing:
		return ""
	case strings.HasPrefix(string(c), "K-CARD-"), strings.HasPrefix(string(c), "K-GUARDIAN-"):
		return "place-card"
	case strings.HasPrefix(string(c), "K-TOKEN-"):
		return "insert-token"
	case strings.HasPrefix(string(c), "K-OFFICER-"):
		return "officer-card"
	}
	return ""
}

package ui

import (
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// consent: one purpose, its exact text, and two answers of the same weight. A
// text that is too long for a page is turned with buttons, and answered on its
// last page.
func (d *drawing) consent() page {
	c := d.s.Consent
	p := d.standard(nil)
	if c == nil {
		return p
	}
	p.lead = ""
	purpose := d.w.Label(words.PurposeOf, words.Args{"index": c.Index, "count": c.Count})
	title := body(c.Title).bold().sized(28)
	needed := label(d.w.Label(either(c.Required, words.Required, words.Optional), nil)).in(ink)

	p.body = panel(stack(12, label(purpose), title, body(c.Text), needed))
	p.whole, p.equal = true, true
	for _, b := range p.buttons {
		b.kind = plainButton
	}
	p.say = c.Title + " " + c.Text
	return p
}

// turnable adds the buttons that turn pages. Until the last page, turning is
// the main thing to do and the answers that agree wait.
func (d *drawing) turnable(p *page, n, pages int) {
	if pages < 2 {
		return
	}
	p.equal = false
	turn := func(l words.Label, k kind, by int) *button {
		return d.localButton(d.w.Label(l, nil), k, func(l *local) { l.page = n + by })
	}
	var bar []*button
	if n > 0 {
		bar = append(bar, turn(words.PageBack, plainButton, -1))
	}
	if n < pages-1 {
		for _, b := range p.buttons {
			if b.text != d.w.Action(kiosk.ActionAccept) && b.text != d.w.Action(kiosk.ActionSign) {
				b.kind = plainButton
				bar = append(bar, b)
			}
		}
		p.buttons = append(bar, turn(words.PageOn, mainButton, 1))
		return
	}
	p.buttons = append(bar, p.buttons...)
}

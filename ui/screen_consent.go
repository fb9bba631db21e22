package ui

import (
	"slices"
	"strings"

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

	const between, around = 12, 18
	text := body(c.Text)
	width := d.room.Width - 2*panelPad
	others := heightFor(label(purpose), width) + heightFor(title, width) + heightFor(needed, width) + 3*between + 2*around
	pages := split(text, width, d.below(p.title, "")-others)
	n := min(d.l.page, len(pages)-1)
	text.text = pages[n]
	p.body = panel(stack(between, label(purpose+d.pageOf(n, len(pages))), title, text, needed))
	d.turnable(&p, n, len(pages))
	if n == len(pages)-1 {
		for _, b := range p.buttons {
			b.kind = plainButton
		}
	}
	p.equal = len(pages) == 1
	return p
}

// pageOf says which page of several this is.
func (d *drawing) pageOf(n, pages int) string {
	if pages < 2 {
		return ""
	}
	return " · " + d.w.Label(words.PageOf, words.Args{"page": n + 1, "pages": pages})
}

// split cuts a paragraph into pages of at most high.
func split(p *paragraph, width, high float32) []string {
	lines := p.lines(width)
	fit := max(1, int(high/p.step()))
	var pages []string
	for part := range slices.Chunk(lines, fit) {
		pages = append(pages, strings.Join(part, "\n"))
	}
	return pages
}

// turnable adds the buttons that turn pages. Until the last page, turning is
// the main thing to do and the answers that agree wait.
func (d *drawing) turnable(p *page, n, pages int) {
	if pages < 2 {
		return
	}
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

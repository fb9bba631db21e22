package ui

import (
	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// record: one record, how it stands, the code of its receipt to photograph, and, where
// it was not accepted, why and the one thing to do.
func (d *drawing) record() page {
	p := d.printable()
	r := d.s.Record
	if r == nil {
		return p
	}
	const between = 28
	right := []fyne.CanvasObject{d.outcome(r.Printed, r.File)}
	about := d.w.Label(words.Record, nil)
	if !r.Saved.IsZero() {
		about += " · " + d.w.Label(words.Saved, nil) + " " + r.Saved.Local().Format("2006-01-02 15:04")
	}
	right = append(right, stack(0, label(about), label(r.Number()).in(ink)))
	if r.Standing != "" {
		right = append(right, panel(beside(14, []float32{0, 1}, sign(standingSign(r.Standing)),
			stack(4, body(d.w.Standing(r.Standing)).bold(), body(d.w.Means(r.Standing)).sized(20)))))
	}
	if r.Code != "" {
		why := kiosk.RejectionOf(r.Code)
		right = append(right, stack(0, label(d.w.Label(words.Why, nil)), body(d.w.Rejection(why)+" "+r.Code).sized(20)))
		if r.Standing == kiosk.StandingSetAside || r.Standing == kiosk.StandingRefused {
			right = append(right, notice(cautPale, caution, beside(14, []float32{0, 1}, sign("warning"),
				stack(0, label(d.w.Label(words.WhatToDo, nil)).in(ink), body(d.w.Advice(why.Advice())).sized(22)))))
		}
	}
	if r.QR == "" {
		p.body = stack(12, right...)
		return p
	}
	p.body = beside(between, []float32{0, 1}, stack(0, code(r.QR, min(400, d.below(p.title, p.lead)))), stack(12, right...))
	return p
}

// printable is standard for a page that may be printed or written, in the language that
// it is read in.
func (d *drawing) printable() page {
	p := d.standard(nil)
	p.buttons = nil
	for _, a := range append(without(d.s.Actions, d.s.Main), d.s.Main) {
		if a == "" || elsewhere(a) {
			continue
		}
		b := d.button(a, either(a == d.s.Main, mainButton, plainButton))
		if a == kiosk.ActionPrint || a == kiosk.ActionWrite {
			b.act = func() { d.u.act(kiosk.Intent{Action: a, Choice: d.language()}) }
		}
		p.buttons = append(p.buttons, b)
	}
	return p
}

func without(all []kiosk.Action, a kiosk.Action) (rest []kiosk.Action) {
	for _, o := range all {
		if o != a {
			rest = append(rest, o)
		}
	}
	return rest
}

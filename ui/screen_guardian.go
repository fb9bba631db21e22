package ui

import (
	"enrollkiosk/kiosk"
	"enrollkiosk/kiosk/words"
)

// guardian: the officer reads why a guardian is needed, and who can be one.
func (d *drawing) guardian() page {
	v := kiosk.GuardianView{}
	if d.s.Guardian != nil {
		v = *d.s.Guardian
	}
	said := []string{d.w.Label(words.GuardianWhy, words.Args{"below": v.Below}), d.w.Label(words.GuardianWho, words.Args{"from": v.From}),
		d.w.Label(words.GuardianPaper, nil)}
	if d.can(kiosk.ActionOfAge) {
		said = append(said, d.w.Label(words.GuardianAge, nil))
	}
	return d.numbered(said)
}

package ui

import "enrollkiosk/kiosk/words"

// tokenResult: what came of a visit with the own token.
func (d *drawing) tokenResult() page {
	said := words.OwnTried
	if d.s.Token != nil && d.s.Token.Changed {
		said = words.OwnChanged
	}
	return d.standard(notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), body(d.w.Label(said, nil)))))
}

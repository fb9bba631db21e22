package ui

import "enrollkiosk/kiosk/words"

// custodyKey: the person has shown that the key is theirs, and may move to a
// token.
func (d *drawing) custodyKey() page {
	c := d.s.Custody
	if c == nil {
		return d.standard(nil)
	}
	next := notice(sheet, accent, beside(14, []float32{0, 1}, sign("running"), body(d.w.Label(words.CustodyMove, nil))))
	if c.Moving {
		next = notice(goodPale, good, beside(14, []float32{0, 1}, sign("done"), body(d.w.Label(words.CustodyMoving, nil))))
	}
	number := panel(stack(0, label(d.w.Label(words.CustodyNumber, nil)), body(custodyNumber(c.Number)).bold().sized(32)))
	return d.standard(stack(20, number, next))
}

// custodyNumber sets a custody number in two groups of four.
func custodyNumber(n string) string {
	if len(n) != 8 {
		return n
	}
	return n[:4] + " " + n[4:]
}

package ui

import "enrollkiosk/kiosk/words"

// compare: the officer holds the person against the picture and sees what was
// proven about the card and what was not.
func (d *drawing) compare() page {
	if d.s.Holder == nil {
		return d.standard(nil)
	}
	w := min(240, d.room.Width/4.6)
	face, images := d.portrait(w, w*1.3)
	p := d.standard(nil)
	facts := beside(20, []float32{0, 6, 5}, stack(0, face), panel(d.data()), panel(d.proofs()))
	lacks := d.lacks(d.w.Label(words.SecondNeeded, nil))
	p.body, p.photos = stack(12, facts, lacks), images
	if d.look.times() >= 2 { // the picture stands beside the facts on the first page: the sentence comes after
		p.body = stack(12, facts, lacks, stack(-1, lead(p.lead)))
		p.lead, p.say = "", p.lead
	}
	return p
}

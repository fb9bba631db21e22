package ui

// compare: the officer holds the person against the picture and sees what was
// proven about the card and what was not.
func (d *drawing) compare() page {
	if d.s.Holder == nil {
		return d.standard(nil)
	}
	face, images := d.portrait(240, 312)
	p := d.standard(beside(24, []float32{0, 3, 2}, stack(0, face), panel(d.data()), panel(d.proofs())))
	p.photos = images
	return p
}

package ui

// confirmData: the citizen reads what the card says.
func (d *drawing) confirmData() page {
	if d.s.Holder == nil {
		return d.standard(nil)
	}
	face, images := d.portrait(240, 312)
	p := d.standard(beside(24, []float32{0, 1}, stack(0, face), panel(d.data())))
	p.photos = images
	return p
}

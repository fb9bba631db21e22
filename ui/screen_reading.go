package ui

// reading: the ID card is read and proven; everybody waits.
func (d *drawing) reading() page { return d.waiting("leave-card") }

package ui

// printing: the receipt is on its way to paper; everybody waits.
func (d *drawing) printing() page { return d.waiting("leave-things") }

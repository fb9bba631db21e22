package ui

// saving: the record is signed and saved; everybody waits.
func (d *drawing) saving() page { return d.waiting("leave-things") }

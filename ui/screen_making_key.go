package ui

// makingKey: the key is made and bound to the card; everybody waits.
func (d *drawing) makingKey() page { return d.waiting("leave-things") }

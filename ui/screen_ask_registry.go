package ui

// askRegistry: the registry is asked; everybody waits.
func (d *drawing) askRegistry() page { return d.waiting("leave-things") }

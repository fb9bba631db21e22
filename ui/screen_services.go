package ui

// services: what an officer does for citizens beside enrolling them.
func (d *drawing) services() page { return d.menu() }

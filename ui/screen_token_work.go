package ui

// tokenWork: the machine works with the citizen's token.
func (d *drawing) tokenWork() page { return d.waiting("touch-token") }

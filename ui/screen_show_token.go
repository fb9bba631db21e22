package ui

// showToken: the citizen puts the own token in.
func (d *drawing) showToken() page { return d.bring("insert-token") }

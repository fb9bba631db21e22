package ui

// insertToken: the citizen puts the token in.
func (d *drawing) insertToken() page { return d.bring("insert-token") }

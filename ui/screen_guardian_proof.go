package ui

// guardianProof: the officer says what has shown who the guardian is.
func (d *drawing) guardianProof() page { return d.menu() }

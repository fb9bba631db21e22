package ui

// guardianCard: the guardian puts the own ID card in the place of the citizen's.
func (d *drawing) guardianCard() page { return d.bring("place-card") }

package ui

// cardBack: the citizen's ID card comes back to sign.
func (d *drawing) cardBack() page { return d.bring("place-card") }

package ui

// placeCard: the citizen puts the ID card on the reader.
func (d *drawing) placeCard() page { return d.bring("place-card") }

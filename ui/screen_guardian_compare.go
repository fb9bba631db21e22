package ui

// guardianCompare: the officer holds the guardian against the picture, as the citizen
// before.
func (d *drawing) guardianCompare() page { return d.compare() }

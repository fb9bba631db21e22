package ui

// endIdentity: with the token, or with the receipt.
func (d *drawing) endIdentity() page { return d.menu() }

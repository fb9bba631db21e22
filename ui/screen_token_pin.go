package ui

import "enrollkiosk/kiosk"

// tokenPIN: the PIN of the citizen's own token.
func (d *drawing) tokenPIN() page { return d.pad(padding{action: kiosk.ActionPIN, hidden: true}) }

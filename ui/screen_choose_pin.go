package ui

import "enrollkiosk/kiosk"

// choosePIN: the citizen chooses the token's PIN.
func (d *drawing) choosePIN() page { return d.pad(padding{action: kiosk.ActionPIN, hidden: true}) }

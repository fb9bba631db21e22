package ui

import "enrollkiosk/kiosk"

// custodyPIN: the PIN of a key that is kept here.
func (d *drawing) custodyPIN() page { return d.pad(padding{action: kiosk.ActionPIN, hidden: true}) }

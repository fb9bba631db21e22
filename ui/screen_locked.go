package ui

import "enrollkiosk/kiosk"

// locked: nothing of the desk is shown until an officer's card and PIN open it.
func (d *drawing) locked() page { return d.officerPIN(kiosk.ActionSignOn) }

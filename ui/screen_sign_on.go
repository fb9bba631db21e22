package ui

import "enrollkiosk/kiosk"

// signOn: the officer's card and PIN open the kiosk.
func (d *drawing) signOn() page { return d.officerPIN(kiosk.ActionSignOn) }

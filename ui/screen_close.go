package ui

import "enrollkiosk/kiosk"

// closing: the officer's card and PIN end the windows.
func (d *drawing) closing() page { return d.officerPIN(kiosk.ActionApprove) }

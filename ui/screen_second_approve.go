package ui

import "enrollkiosk/kiosk"

// secondApprove: the second officer signs too, with card and PIN.
func (d *drawing) secondApprove() page { return d.officerPIN(kiosk.ActionApprove) }

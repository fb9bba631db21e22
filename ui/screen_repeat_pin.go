package ui

import "enrollkiosk/kiosk"

// repeatPIN: the same PIN once more, on a page of its own.
func (d *drawing) repeatPIN() page { return d.pad(padding{action: kiosk.ActionPIN, hidden: true}) }

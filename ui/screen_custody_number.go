package ui

import "enrollkiosk/kiosk"

// custodyNumber: the number on the receipt of somebody whose key is kept here.
func (d *drawing) custodyNumber() page { return d.pad(padding{action: kiosk.ActionNumber}) }

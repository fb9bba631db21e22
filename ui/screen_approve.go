package ui

import "enrollkiosk/kiosk"

// approve: the officer signs with card and PIN.
func (d *drawing) approve() page { return d.officerPIN(kiosk.ActionApprove) }

// officerPIN is a page that waits for the officer's card and then takes its PIN.
func (d *drawing) officerPIN(a kiosk.Action) page {
	if !d.can(a) || d.s.PIN == nil {
		return d.bring("officer-card")
	}
	return d.pad(padding{action: a, hidden: true, above: d.bringStatus()})
}

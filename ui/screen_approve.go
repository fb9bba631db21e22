package ui

import "enrollkiosk/kiosk"

// approve: the officer signs with card and PIN.
func (d *drawing) approve() page { return d.officerPIN(kiosk.ActionApprove) }

// officerPIN is a page that waits for the officer's card and, once it is in,
// takes its PIN.
func (d *drawing) officerPIN(a kiosk.Action) page {
	if !d.officerCardIn(a) {
		return d.bring("officer-card")
	}
	above := d.hint()
	if above == nil && d.s.PIN.Problem == kiosk.PINFine {
		above = d.bringStatus()
	}
	return d.pad(padding{action: a, hidden: true, above: above})
}

// officerCardIn says whether the PIN of an officer's card can be taken.
func (d *drawing) officerCardIn(a kiosk.Action) bool {
	reader, known := d.s.Health.Readers[kiosk.DeviceOfficer]
	return d.can(a) && d.s.PIN != nil && (!known || reader == kiosk.ReaderCard)
}

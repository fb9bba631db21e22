package idcard

import "fmt"

// Fault is a way in which a card is wrong, or merely unusual.
type Fault string

// The faults. Each names what is different about the card; the rest of it is in order.
const (
	NotEMRTD    Fault = "not-emrtd"    // no eMRTD application and no EF.CardAccess
	TamperedDG1 Fault = "tampered-dg1" // given names in DG1 altered after the SOD was signed
	Clone       Fault = "clone"        // all files of the genuine card, but neither of its private keys
	NoChipKeys  Fault = "no-chip-keys" // neither Chip nor Active Authentication: no DG14, no DG15
	UnknownCSCA Fault = "unknown-csca" // signed under another, freshly made authority
	Expired     Fault = "expired"      // expired the day before it was made
	BACOnly     Fault = "bac-only"     // no PACE, no EF.CardAccess
	PACEOnly    Fault = "pace-only"    // no Basic Access Control
	WrongMAC    Fault = "wrong-mac"    // protected answers to READ BINARY carry a wrong MAC
	DropSM      Fault = "drop-sm"      // secure messaging is lost at the eighth READ BINARY of a session
	ShortOnly   Fault = "short-only"   // extended length is answered 6700 outside secure messaging, and the session is lost
	Hang        Fault = "hang"         // protected READ BINARY never ends until the card is pulled
	EndlessFile Fault = "endless-file" // EF.DG2 claims 2 GiB and never ends
	OneByte     Fault = "one-byte"     // READ BINARY answers one byte at a time
)

// Faults lists every fault.
func Faults() []Fault {
	return []Fault{NotEMRTD, TamperedDG1, Clone, NoChipKeys, UnknownCSCA, Expired, BACOnly, PACEOnly,
		WrongMAC, DropSM, ShortOnly, Hang, EndlessFile, OneByte}
}

// ParseFault takes a fault's name.
func ParseFault(name string) (Fault, error) {
	for _, f := range Faults() {
		if string(f) == name {
			return f, nil
		}
	}
	return "", fmt.Errorf("idcard: no fault is called %q", name)
}

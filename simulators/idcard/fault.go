package idcard

import "fmt"

// Fault is a way in which a card is wrong, or merely unusual.
type Fault string

// Faults of the document, which Personalise puts into its files and keys. Each
// names what is different about the card; the rest of it is in order.
const (
	NotEMRTD      Fault = "not-emrtd"      // no eMRTD application and no EF.CardAccess
	TamperedDG1   Fault = "tampered-dg1"   // given names in DG1 altered after the SOD was signed
	SwappedDG     Fault = "swapped-dg"     // DG2 of another person under this card's SOD
	Clone         Fault = "clone"          // all files of the genuine card, but neither of its private keys
	NoChipKeys    Fault = "no-chip-keys"   // neither Chip nor Active Authentication: no DG14, no DG15
	UnknownCSCA   Fault = "unknown-csca"   // signed under another, freshly made authority
	RevokedSigner Fault = "revoked-signer" // signed by a document signer that the authority's CRL lists
	ExpiredSigner Fault = "expired-signer" // signed by a document signer whose certificate has run out
	SelfMadeSOD   Fault = "self-made-sod"  // signed with a certificate that has the signer's names and signed itself
	SHA1SOD       Fault = "sha1-sod"       // data groups are hashed, and the SOD is signed, with SHA-1
	IndefiniteSOD Fault = "indefinite-sod" // the SOD is BER with indefinite lengths
	TrailingSOD   Fault = "trailing-sod"   // bytes follow the SOD in its file
	Expired       Fault = "expired"        // expired the day before it was made
	BACOnly       Fault = "bac-only"       // no PACE, no EF.CardAccess
	PACEOnly      Fault = "pace-only"      // no Basic Access Control
)

// Faults of the chip. Each was met on cards in the field, or is what an attacker's card would do.
const (
	WrongMAC          Fault = "wrong-mac"            // protected answers to READ BINARY carry a wrong MAC
	DropSM            Fault = "drop-sm"              // secure messaging is lost at the eighth READ BINARY of a session
	PlainErrors       Fault = "plain-errors"         // an error under secure messaging comes in the clear and ends the session
	Hang              Fault = "hang"                 // protected READ BINARY never ends until the card is pulled
	ShortOnly         Fault = "short-only"           // extended length is answered 6700 outside secure messaging, and the session is lost
	ExtendedLost      Fault = "extended-lost"        // the reader swallows extended length: Direct fails, and the card is dead until Reset
	Le256Refused      Fault = "le256-refused"        // protected READ BINARY with a short Le of 256 is answered 6B00, and the session is lost
	Most192           Fault = "most-192"             // READ BINARY of more than 192 bytes is answered 6282 without data
	MoreThanAsked     Fault = "more-than-asked"      // protected READ BINARY with a short Le of 256 is answered with 256 bytes of the file, which make a longer answer
	OneByte           Fault = "one-byte"             // READ BINARY answers one byte at a time
	EndlessFile       Fault = "endless-file"         // EF.DG2 claims 2 GiB and never ends
	EndOfFile6282     Fault = "end-of-file-6282"     // a read past the end of a file is answered 6282 with what is left, whatever Le was
	EndOfFile6B00     Fault = "end-of-file-6b00"     // a read past the end of a file is answered 6B00 without data, whatever Le was
	EndOfFile6Cxx     Fault = "end-of-file-6cxx"     // a read past the end of a file is answered 6Cxx with the length that is left
	MirrorPACE        Fault = "mirror-pace"          // PACE sends the terminal's own public keys back
	NeedsDomainObject Fault = "needs-domain-object"  // PACE's MSE:Set AT is refused without DO'84'
	RefusesLeInMSE    Fault = "refuses-le-in-mse"    // MSE or SELECT with an Le field is answered 6700, and PACE is refused until Reset
	CardAccess6283    Fault = "card-access-6283"     // EF.CardAccess is answered 6283 with the data
	DIRDenied         Fault = "dir-denied"           // EF.DIR is answered 6982 before access control
	SelectMFNeeds3F00 Fault = "select-mf-needs-3f00" // the master file is selected by its identifier only, 6A87 otherwise
	SelectMFFails     Fault = "select-mf-fails"      // every SELECT of the master file is answered 6A86
)

// Faults lists every fault.
func Faults() []Fault {
	return []Fault{NotEMRTD, TamperedDG1, SwappedDG, Clone, NoChipKeys, UnknownCSCA, RevokedSigner, ExpiredSigner,
		SelfMadeSOD, SHA1SOD, IndefiniteSOD, TrailingSOD, Expired, BACOnly, PACEOnly,
		WrongMAC, DropSM, PlainErrors, Hang, ShortOnly, ExtendedLost, Le256Refused, Most192, MoreThanAsked, OneByte,
		EndlessFile, EndOfFile6282, EndOfFile6B00, EndOfFile6Cxx, MirrorPACE, NeedsDomainObject, RefusesLeInMSE,
		CardAccess6283, DIRDenied, SelectMFNeeds3F00, SelectMFFails}
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

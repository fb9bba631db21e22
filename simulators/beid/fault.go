package beid

import "fmt"

// Fault is a way in which a card is wrong.
type Fault string

// The faults. Each names what is different about the card; the rest of it is in order.
const (
	NotBelgian       Fault = "not-belgian"       // no such application, an answer to reset of another card
	AlteredIdentity  Fault = "altered-identity"  // first names altered after signing
	AlteredAddress   Fault = "altered-address"   // street altered after signing
	AlteredPhoto     Fault = "altered-photo"     // one bit of the photo altered after signing
	SwappedSignature Fault = "swapped-signature" // the two signatures have changed places
	ForeignAddress   Fault = "foreign-address"   // address and its signature are of another citizen's genuine card
	ForeignPhoto     Fault = "foreign-photo"     // the photo is of another citizen's genuine card
	SelfMadeSigner   Fault = "self-made-signer"  // all signed under another, freshly made root of the same name
	CitizenSigner    Fault = "citizen-signer"    // all signed by a citizen's own key, which has a genuine certificate
	Clone            Fault = "clone"             // all files of the genuine card, but not its basic key
	Expired          Fault = "expired"           // expired the day before it was made
	TruncatedFile    Fault = "truncated-file"    // the identity file breaks off
	EndlessFile      Fault = "endless-file"      // the photo never ends
	Hang             Fault = "hang"              // READ BINARY never ends until the card is pulled
	OneByte          Fault = "one-byte"          // READ BINARY answers one byte at a time
	Exhausted        Fault = "exhausted"         // the basic key wants the PIN first: it has answered 5000 times without
)

// Faults lists every fault.
func Faults() []Fault {
	return []Fault{NotBelgian, AlteredIdentity, AlteredAddress, AlteredPhoto, SwappedSignature, ForeignAddress, ForeignPhoto,
		SelfMadeSigner, CitizenSigner, Clone, Expired, TruncatedFile, EndlessFile, Hang, OneByte, Exhausted}
}

// ParseFault takes a fault's name.
func ParseFault(name string) (Fault, error) {
	for _, f := range Faults() {
		if string(f) == name {
			return f, nil
		}
	}
	return "", fmt.Errorf("beid: no fault is called %q", name)
}

package lds

import (
	"encoding/asn1"
	"math/big"

	"enrollkiosk/kiosk/secret"
)

// ActiveAuthentication is a challenge and the chip's answer to INTERNAL
// AUTHENTICATE (Doc 9303-11 6.1).
type ActiveAuthentication struct {
	Challenge [8]byte
	Signature []byte
}

// ChipAuthentication holds what is needed to compute a run of Chip
// Authentication again (Doc 9303-11 6.2): there is no flag that could be
// forged. Whoever holds it holds the session's keys: it proves nothing to a
// third party, and it must not outlive the session unsealed.
type ChipAuthentication struct {
	Protocol    asn1.ObjectIdentifier // id-CA-...
	KeyID       *big.Int              // of the chip's key, nil if the card gave none
	TerminalKey secret.Text           // ephemeral private scalar, as long as the group's order
	Command     []byte                // first command under the new keys, as sent
	Response    []byte                // the answer as received, status bytes included
	SSC         []byte                // send sequence counter before Command: 8 bytes (3DES) or 16 (AES)
}

// ChipMapping holds what PACE with Chip Authentication Mapping leaves behind
// (Doc 9303-11 4.4.3.5). The chip used the private key to MappingKey in a run
// that ended well, and Data is the factor between that key and its static one:
// KA(Data, static key of EF.CardSecurity) = MappingKey. As with Chip
// Authentication it proves nothing to a third party, who could choose Data first.
type ChipMapping struct {
	Protocol    asn1.ObjectIdentifier // id-PACE-ECDH-CAM-...
	ParameterID int                   // standardized domain parameters of the run
	MappingKey  []byte                // PK_Map,IC as the card sent it
	Data        []byte                // CA_IC, decrypted
}

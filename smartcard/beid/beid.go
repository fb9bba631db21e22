// Package beid reads the Belgian identity card (Belpic applet 1.0 to 1.8)
// without a PIN, and verifies what it read.
//
// [Read] gives a [Document]: what the card said. [Verify] turns it into a
// [Holder]: identity, address and photo that the National Register signed, under
// a root which the caller trusts. Only the photo's hash is signed, inside the
// identity; the address is signed together with the identity's signature, so
// that nothing of one card fits another.
//
// Files can be copied. That this is the card itself only applet 1.8 can prove,
// with its basic key ([AuthenticateChip]); of older cards the report says
// [Impossible]. There is no revocation list for the National Register's
// certificates, and whether this card was reported stolen is known to the
// issuer's DocStop service alone.
//
// Checked against: OpenSC's eidenv, openssl and this package read and verify the
// same simulated card; a test card that the Belgian administration published (Fedict's
// eid-test-cards). The file system, the tags and what is signed follow OpenSC
// and Fedict's eid-mw and commons-eid; the basic key follows eid-mw's viewer and
// the Dart package eid_belgium. No real card was at hand.
//
// Not here: the holder's certificates beyond their bytes, PIN and signatures.
package beid

import (
	"errors"
	"fmt"

	"enrollkiosk/kiosk/secret"
)

// What can go wrong while reading, by what a person can do about it. An error of
// the transport comes as it came; a card's status is wrapped beside.
var (
	// ErrNotBelgianEID: no Belpic application. Use another card.
	ErrNotBelgianEID = errors.New("beid: not a Belgian identity card")
	// ErrRefused: the card answered a step with an error status.
	ErrRefused = errors.New("beid: card refused")
	// ErrMalformed: a file or an answer is not what the card's description allows.
	ErrMalformed = errors.New("beid: malformed")
	// ErrTooLarge: a file exceeds MaxFile.
	ErrTooLarge = errors.New("beid: file too large")
	// ErrNoBasicKey: the card has no key to prove itself with; it is older than
	// applet 1.8.
	ErrNoBasicKey = errors.New("beid: the card has no basic key")
)

// File is an elementary file of the card.
type File uint16

// Files. Those of 40xx are in DF01 (identity), those of 50xx in DF00 (Belpic).
const (
	IdentityFile              File = 0x4031
	IdentitySignature         File = 0x4032
	AddressFile               File = 0x4033
	AddressSignature          File = 0x4034
	PhotoFile                 File = 0x4035 // a JPEG of some 3 kB
	BasicKey                  File = 0x4040 // public key, from applet 1.8 on
	AuthenticationCertificate File = 0x5038
	SigningCertificate        File = 0x5039
	CACertificate             File = 0x503A
	RootCertificate           File = 0x503B
	RegisterCertificate       File = 0x503C // of the National Register (RRN), which signs the data
)

var fileNames = map[File]string{
	IdentityFile: "identity", IdentitySignature: "identity signature", AddressFile: "address", AddressSignature: "address signature",
	PhotoFile: "photo", BasicKey: "basic key", AuthenticationCertificate: "authentication certificate",
	SigningCertificate: "signing certificate", CACertificate: "authority's certificate", RootCertificate: "root certificate",
	RegisterCertificate: "National Register's certificate",
}

func (f File) String() string {
	if name, ok := fileNames[f]; ok {
		return name
	}
	return fmt.Sprintf("EF %04X", uint16(f))
}

// path leads from the master file to f.
func (f File) path() []byte {
	directory := byte(0x00)
	if f>>8 == 0x40 {
		directory = 0x01
	}
	return []byte{0x3F, 0x00, 0xDF, directory, byte(f >> 8), byte(f)}
}

// certificate says whether f holds one certificate, filled with zeros.
func (f File) certificate() bool { return f >= AuthenticationCertificate && f <= RegisterCertificate }

// Files lists what Verify looks at, in the order in which it is best read.
func Files() []File {
	return []File{IdentityFile, IdentitySignature, RegisterCertificate, AddressFile, AddressSignature, PhotoFile, BasicKey}
}

// Document is everything a card said: untrusted until Verify has verified it.
// It refuses to print and to marshal.
type Document struct {
	private
	Files map[File][]byte     // raw content; of certificates without the filling
	Chip  *ChipAuthentication // evidence, nil if not run
}

// ChipAuthentication is a challenge and the card's signature over it, by its
// basic key. Nothing in it is secret.
type ChipAuthentication struct {
	Challenge [32]byte
	Signature [96]byte // r and s, 48 bytes each
}

// atrs are the answers to reset of Belgian cards: pattern and mask. The bytes
// left out are the speed, the waiting time, the chip and the version.
var atrs = [][2]string{
	{"\x3B\x98\x00\x40\x00\x00\x00\x00\x01\x01\xAD\x13\x10", "\xFF\xFF\x00\xFF\x00\x00\x00\x00\xFF\xFF\xFF\xFF\xF0"}, // to applet 1.7
	{"\x3B\x7F\x96\x00\x00\x80\x31\x80\x65\xB0\x85\x04\x01\x20\x12\x0F\xFF\x82\x90\x00",
		"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"}, // applet 1.8
}

// Recognise says whether a card with this answer to reset may be a Belgian
// identity card. Other cards share the answer of applet 1.8's platform: Read
// tells for certain.
func Recognise(atr []byte) bool {
next:
	for _, known := range atrs {
		if len(atr) != len(known[0]) {
			continue
		}
		for i := range atr {
			if atr[i]&known[1][i] != known[0][i] {
				continue next
			}
		}
		return true
	}
	return false
}

// private makes the type that embeds it refuse to print and to marshal.
type private = secret.Private

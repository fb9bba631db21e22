// Package lds reads the files of an eMRTD's Logical Data Structure (ICAO Doc
// 9303-10): the machine readable zone, EF.COM, data groups, security infos and
// the document security object.
//
// It does no I/O and verifies nothing: whatever it returns is what a card said.
// Package smartcard/trust turns it into something to rely on. Parsing copies
// what it keeps, bounds what it accepts and never changes the raw bytes, which
// stay with the caller as the thing that hashes and signatures speak of.
//
// Types that hold personal data refuse to print and to marshal, as
// [secret.Text] does. That a struct holding one in an unexported field prints
// it by reflection is beyond a type's reach: do not print those.
package lds

import (
	"errors"
	"fmt"
	"log/slog"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/tlv"
)

// Errors of parsing. Each is wrapped with what was being read.
var (
	ErrMalformed = errors.New("lds: malformed")
	// ErrUnsupported marks well-formed content in a form this package does not
	// interpret. The raw bytes are as good as any for passive authentication.
	ErrUnsupported = errors.New("lds: not supported")
	// ErrIndefinite marks BER with indefinite lengths, which some states use in EF.SOD.
	ErrIndefinite = fmt.Errorf("%w: indefinite length encoding", ErrUnsupported)
	// ErrISO39794 marks a face in ISO/IEC 39794-5 encoding.
	ErrISO39794 = fmt.Errorf("%w: ISO/IEC 39794-5 face", ErrUnsupported)
	// ErrCheckDigit marks a machine readable zone with a wrong check digit.
	ErrCheckDigit = errors.New("lds: check digit")
)

// File is a file identifier (Doc 9303-10 3.9 to 3.11).
type File uint16

// Files of an eMRTD. EFCardAccess lies in the master file, the others in the
// eMRTD application.
const (
	DG1          File = 0x0101
	DG2          File = 0x0102
	DG3          File = 0x0103
	DG4          File = 0x0104
	DG5          File = 0x0105
	DG6          File = 0x0106
	DG7          File = 0x0107
	DG8          File = 0x0108
	DG9          File = 0x0109
	DG10         File = 0x010A
	DG11         File = 0x010B
	DG12         File = 0x010C
	DG13         File = 0x010D
	DG14         File = 0x010E
	DG15         File = 0x010F
	DG16         File = 0x0110
	EFCardAccess File = 0x011C
	EFSOD        File = 0x011D
	EFCOM        File = 0x011E
)

// groupTags are the outer tags of DG1 to DG16 (Doc 9303-10 table 35).
var groupTags = [17]tlv.Tag{0, 0x61, 0x75, 0x63, 0x76, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x6F, 0x70}

// DataGroup returns the file of data group n, 1 to 16.
func DataGroup(n int) (File, bool) {
	if n < 1 || n > 16 {
		return 0, false
	}
	return DG1 + File(n-1), true
}

// Group is the number of the data group, 0 for other files.
func (f File) Group() int {
	if f < DG1 || f > DG16 {
		return 0
	}
	return int(f - DG1 + 1)
}

// SFI is the short file identifier, 0 for an unknown file.
func (f File) SFI() byte {
	if f.Group() != 0 || f == EFCardAccess || f == EFSOD || f == EFCOM {
		return byte(f)
	}
	return 0
}

// Tag is the tag that the file's content begins with, 0 for an unknown file.
func (f File) Tag() tlv.Tag {
	switch f {
	case EFCardAccess:
		return 0x31
	case EFSOD:
		return 0x77
	case EFCOM:
		return 0x60
	}
	return groupTags[f.Group()]
}

func (f File) String() string {
	switch f {
	case EFCardAccess:
		return "EF.CardAccess"
	case EFSOD:
		return "EF.SOD"
	case EFCOM:
		return "EF.COM"
	}
	if n := f.Group(); n != 0 {
		return fmt.Sprintf("DG%d", n)
	}
	return fmt.Sprintf("EF %04X", uint16(f))
}

// Document is everything a card said: untrusted until smartcard/trust has
// verified it. It refuses to print and to marshal.
type Document struct {
	private
	Files  map[File][]byte       // raw content, outer tag included
	Access string                // how the chip was opened: "PACE", "BAC", or "none" for a chip without access control
	CAM    *ChipMapping          // evidence, nil if PACE was without Chip Authentication Mapping
	Chip   *ChipAuthentication   // evidence, nil if not run
	Active *ActiveAuthentication // evidence, nil if not run
}

// private makes the type that embeds it refuse to print and to marshal.
type private struct{}

// Format prints [secret.Redacted] for every verb.
func (private) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

func (private) String() string               { return secret.Redacted }
func (private) GoString() string             { return secret.Redacted }
func (private) LogValue() slog.Value         { return slog.StringValue(secret.Redacted) }
func (private) MarshalJSON() ([]byte, error) { return nil, secret.ErrMarshal }
func (private) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }
func (private) GobEncode() ([]byte, error)   { return nil, secret.ErrMarshal }

func (private) MarshalBinary() ([]byte, error) { return nil, secret.ErrMarshal }

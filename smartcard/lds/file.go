package lds

import (
	"fmt"
	"strings"

	"enrollkiosk/smartcard/tlv"
)

// File names a file of an eMRTD (Doc 9303-10 3.9 to 3.11): its identifier, and
// whether it lies in the master file or in the eMRTD application. Identifiers
// repeat: 011D is EF.CardSecurity in the one and EF.SOD in the other.
type File uint16

// inMaster marks a file of the master file.
const inMaster File = 0x8000

// Files of the eMRTD application.
const (
	DG1   File = 0x0101
	DG2   File = 0x0102
	DG3   File = 0x0103
	DG4   File = 0x0104
	DG5   File = 0x0105
	DG6   File = 0x0106
	DG7   File = 0x0107
	DG8   File = 0x0108
	DG9   File = 0x0109
	DG10  File = 0x010A
	DG11  File = 0x010B
	DG12  File = 0x010C
	DG13  File = 0x010D
	DG14  File = 0x010E
	DG15  File = 0x010F
	DG16  File = 0x0110
	EFSOD File = 0x011D
	EFCOM File = 0x011E
)

// Files of the master file.
const (
	EFCardAccess   = inMaster | 0x011C
	EFCardSecurity = inMaster | 0x011D
	EFDIR          = inMaster | 0x2F00
	EFATRInfo      = inMaster | 0x2F01
)

// names of the files that are not data groups.
var names = map[File]string{
	EFCOM: "EF.COM", EFSOD: "EF.SOD",
	EFCardAccess: "EF.CardAccess", EFCardSecurity: "EF.CardSecurity", EFDIR: "EF.DIR", EFATRInfo: "EF.ATR/INFO",
}

// groupTags are the outer tags of DG1 to DG16 (Doc 9303-10 table 35).
var groupTags = [17]tlv.Tag{0, 0x61, 0x75, 0x63, 0x76, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x6B, 0x6C, 0x6D, 0x6E, 0x6F, 0x70}

// DataGroup returns the file of data group n, 1 to 16.
func DataGroup(n int) (File, bool) {
	if n < 1 || n > 16 {
		return 0, false
	}
	return DG1 + File(n-1), true
}

// ParseFile finds a file by its name, as [File.String] gives it; case and the
// prefix "EF." do not matter.
func ParseFile(name string) (File, error) {
	plain := func(s string) string { return strings.TrimPrefix(strings.ToUpper(s), "EF.") }
	for f, s := range names {
		if plain(name) == plain(s) {
			return f, nil
		}
	}
	for f := DG1; f <= DG16; f++ {
		if plain(name) == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("file name: %w", ErrMalformed)
}

// FID is the file identifier within its directory.
func (f File) FID() uint16 { return uint16(f &^ inMaster) }

// Master says whether the file lies in the master file.
func (f File) Master() bool { return f&inMaster != 0 }

// Group is the number of the data group, 0 for other files.
func (f File) Group() int {
	if f < DG1 || f > DG16 {
		return 0
	}
	return int(f - DG1 + 1)
}

// SFI is the short file identifier within its directory, 0 for an unknown file.
func (f File) SFI() byte {
	switch f {
	case EFDIR:
		return 0x1E
	case EFATRInfo:
		return 0x01
	}
	if _, ok := names[f]; ok || f.Group() != 0 {
		return byte(f)
	}
	return 0
}

// Tag is the tag of the one data object that the file is. It is 0 for an
// unknown file, and for EF.DIR and EF.ATR/INFO: they are series of objects, which
// end where the file ends.
func (f File) Tag() tlv.Tag {
	switch f {
	case EFCardAccess:
		return 0x31
	case EFCardSecurity:
		return 0x30
	case EFSOD:
		return 0x77
	case EFCOM:
		return 0x60
	}
	return groupTags[f.Group()]
}

func (f File) String() string {
	if s, ok := names[f]; ok {
		return s
	}
	if n := f.Group(); n != 0 {
		return fmt.Sprintf("DG%d", n)
	}
	return fmt.Sprintf("EF %04X", uint16(f))
}

package lds

import (
	"fmt"
	"slices"

	"enrollkiosk/smartcard/tlv"
)

// COM is EF.COM (Doc 9303-10 4.6.1): a table of contents that nobody signs.
type COM struct {
	LDSVersion     string // "0107"
	UnicodeVersion string // "040000"
	Groups         []File // in the card's order
	Unknown        []tlv.Tag
}

// ParseCOM reads EF.COM, of whatever version.
func ParseCOM(file []byte) (COM, error) {
	outer, err := tlv.ParseOne(file, EFCOM.Tag())
	if err != nil {
		return COM{}, malformed("EF.COM", err)
	}
	c := outer.Cursor()
	com := COM{LDSVersion: string(c.Next(0x5F01).Value), UnicodeVersion: string(c.Next(0x5F36).Value)}
	list := c.Next(0x5C).Value
	if err := c.Done(); err != nil {
		return COM{}, malformed("EF.COM", err)
	}
	if !digits(com.LDSVersion, 4) || !digits(com.UnicodeVersion, 6) || len(list) > 64 {
		return COM{}, malformed("EF.COM", ErrMalformed)
	}
	for _, b := range list {
		if n := slices.Index(groupTags[1:], tlv.Tag(b)); n >= 0 {
			com.Groups = append(com.Groups, DG1+File(n))
		} else {
			com.Unknown = append(com.Unknown, tlv.Tag(b))
		}
	}
	return com, nil
}

// check holds EF.COM to the versions that exist and to the groups that no
// document may lack.
func (com COM) check(f *findings) {
	switch com.LDSVersion {
	case "0107", "0108":
	case "0106": // Doc 9303-11 appendix D.4 shows it
		f.warn(WarnLDSVersion)
	default:
		f.broken("LDS version")
	}
	if com.UnicodeVersion != "040000" {
		f.broken("Unicode version")
	}
	for i, g := range com.Groups {
		if slices.Contains(com.Groups[:i], g) {
			f.broken(fmt.Sprintf("%v listed twice", g))
		}
	}
	for _, g := range []File{DG1, DG2} {
		if !slices.Contains(com.Groups, g) {
			f.broken(fmt.Sprintf("%v not listed", g))
		}
	}
	if com.Unknown != nil {
		f.warn(WarnUnknownObject)
	}
}

func digits(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

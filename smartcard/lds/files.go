package lds

import "enrollkiosk/smartcard/tlv"

// COM is EF.COM (Doc 9303-10 4.6.1): a table of contents that nobody signs.
type COM struct {
	LDSVersion     string // "0107"
	UnicodeVersion string // "040000"
	Groups         []File // in the card's order
	Unknown        []tlv.Tag
}

// Face is one facial image of DG2, in its own file format. It refuses to print
// and to marshal.
type Face struct {
	private
	Image []byte
	MIME  string // "image/jpeg" or "image/jp2"
}

// ParseCOM reads EF.COM.
func ParseCOM(file []byte) (COM, error) { return COM{}, ErrMalformed }

// ParseDG1 reads the machine readable zone of DG1; see [ParseMRZ] for a wrong
// check digit.
func ParseDG1(file []byte) (MRZ, error) { return MRZ{}, ErrMalformed }

// ParseDG2 reads the faces of DG2 (ISO/IEC 19794-5). It fails with ErrISO39794
// for the newer encoding.
func ParseDG2(file []byte) ([]Face, error) { return nil, ErrMalformed }

package lds

import (
	"bytes"
	"encoding/binary"
	"errors"
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

// Face is one facial image of DG2, in its own file format. It refuses to print
// and to marshal.
type Face struct {
	private
	Image []byte
	MIME  string // "image/jpeg", "image/jp2", "image/j2c" (a bare JPEG 2000 codestream)
}

// maxFaces bounds the faces of one DG2.
const maxFaces = 16

// malformed says what was being read; parser errors of lower layers become
// ErrMalformed or ErrIndefinite.
func malformed(what string, err error) error {
	switch {
	case errors.Is(err, tlv.ErrIndefinite):
		return fmt.Errorf("%s: %w", what, ErrIndefinite)
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrUnsupported):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %v", what, ErrMalformed, err)
}

// ParseCOM reads EF.COM.
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

// ParseDG1 reads the machine readable zone of DG1; see [ParseMRZ] for a wrong
// check digit.
func ParseDG1(file []byte) (MRZ, error) {
	outer, err := tlv.ParseOne(file, DG1.Tag())
	if err != nil {
		return MRZ{}, malformed("DG1", err)
	}
	c := outer.Cursor()
	text := c.Next(0x5F1F).Value
	if err := c.Done(); err != nil {
		return MRZ{}, malformed("DG1", err)
	}
	m, err := ParseMRZ(string(text))
	if err != nil {
		return m, fmt.Errorf("DG1: %w", err)
	}
	return m, nil
}

// ParseDG2 reads the faces of DG2 (Doc 9303-10 4.7.2, ISO/IEC 19794-5). It
// fails with ErrISO39794 for the newer encoding.
func ParseDG2(file []byte) ([]Face, error) {
	outer, err := tlv.ParseOne(file, DG2.Tag())
	if err != nil {
		return nil, malformed("DG2", err)
	}
	c := outer.Cursor()
	group := c.Next(0x7F61)
	if err := c.Done(); err != nil {
		return nil, malformed("DG2", err)
	}
	c = group.Cursor()
	count := c.Next(0x02).Value
	var faces []Face
	for n := 0; c.More(); n++ {
		template := c.Next(0x7F60)
		if n == maxFaces {
			return nil, malformed("DG2", fmt.Errorf("%w: too many biometric templates", ErrMalformed))
		}
		t := template.Cursor()
		t.Next(0xA1)
		block := t.Any()
		if err := t.Done(); err != nil {
			return nil, malformed("DG2", err)
		}
		found, err := parseFacialRecord(block)
		if err != nil {
			return nil, malformed("DG2", err)
		}
		faces = append(faces, found...)
	}
	if err := c.Done(); err != nil {
		return nil, malformed("DG2", err)
	}
	if len(count) != 1 || len(faces) == 0 || len(faces) > maxFaces {
		return nil, malformed("DG2", fmt.Errorf("%w: %d faces", ErrMalformed, len(faces)))
	}
	return faces, nil
}

// Sizes in a facial record (ISO/IEC 19794-5:2005 5.4 to 5.7).
const (
	facialHeader    = 14
	facialInfo      = 20
	featurePoint    = 8
	imageInfo       = 12
	facialLeniency  = 8 // states have stated lengths off by as much
	offFeatureCount = 4
)

// parseFacialRecord reads one biometric data block.
func parseFacialRecord(block tlv.Node) ([]Face, error) {
	b := block.Value
	isFAC := bytes.HasPrefix(b, []byte("FAC\x00"))
	switch {
	case block.Tag != 0x5F2E && block.Tag != 0x7F2E:
		return nil, fmt.Errorf("%w: no biometric data block", ErrMalformed)
	case block.Tag == 0x7F2E && !isFAC:
		return nil, ErrISO39794
	case !isFAC || len(b) < facialHeader:
		return nil, fmt.Errorf("%w: no facial record", ErrMalformed)
	}
	count := int(binary.BigEndian.Uint16(b[12:]))
	if count == 0 || count > maxFaces {
		return nil, fmt.Errorf("%w: facial record of %d faces", ErrMalformed, count)
	}
	b = b[facialHeader:]
	var faces []Face
	for i := range count {
		if len(b) < facialInfo {
			return nil, fmt.Errorf("%w: facial record truncated", ErrMalformed)
		}
		length := int64(binary.BigEndian.Uint32(b))
		start := facialInfo + featurePoint*int(binary.BigEndian.Uint16(b[offFeatureCount:])) + imageInfo
		left := int64(len(b))
		if last := i == count-1; last && length-left <= facialLeniency && left-length <= facialLeniency {
			length = left
		}
		if length > left || int64(start) >= length {
			return nil, fmt.Errorf("%w: facial record length", ErrMalformed)
		}
		image := bytes.Clone(b[start:length])
		mime := imageType(image)
		if mime == "" {
			return nil, fmt.Errorf("%w: image format of the face", ErrUnsupported)
		}
		faces = append(faces, Face{Image: image, MIME: mime})
		b = b[length:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: bytes after the facial record", ErrMalformed)
	}
	return faces, nil
}

// imageType goes by the image itself: the record's own field is often wrong.
func imageType(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte{0xFF, 0xD8, 0xFF}):
		return "image/jpeg"
	case bytes.HasPrefix(b, []byte("\x00\x00\x00\x0CjP  \r\n\x87\n")):
		return "image/jp2"
	case bytes.HasPrefix(b, []byte{0xFF, 0x4F, 0xFF, 0x51}):
		return "image/j2c"
	}
	return ""
}

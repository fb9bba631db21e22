package lds

import (
	"bytes"
	"fmt"

	"enrollkiosk/smartcard/tlv"
)

// Face is one facial image of DG2, in its own file format. It refuses to print
// and to marshal.
type Face struct {
	private
	Image []byte
	MIME  string // "image/jpeg", "image/jp2", "image/j2c" (a bare JPEG 2000 codestream)
}

// maxFaces bounds the faces of one DG2.
const maxFaces = 16

// ParseDG2 reads the faces of DG2 (Doc 9303-10 4.7.2) in either encoding,
// ISO/IEC 19794-5 or 39794-5. It shows what can be shown: whether the file is
// as its standard asks is for [Check] to say.
func ParseDG2(file []byte) ([]Face, error) {
	return readDG2(file, new(findings))
}

func readDG2(file []byte, f *findings) ([]Face, error) {
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
	templates := 0
	for ; c.More(); templates++ {
		template := c.Next(0x7F60)
		if templates == maxFaces {
			return nil, malformed("DG2", fmt.Errorf("%w: too many biometric templates", ErrMalformed))
		}
		t := template.Cursor()
		header, block := t.Next(0xA1), t.Any()
		if err := t.Done(); err != nil {
			return nil, malformed("DG2", err)
		}
		found, format, err := readFaces(block, f)
		if err != nil {
			return nil, malformed("DG2", err)
		}
		checkBiometricHeader(header, format, f)
		faces = append(faces, found...)
	}
	if err := c.Done(); err != nil {
		return nil, malformed("DG2", err)
	}
	if len(count) != 1 || len(faces) == 0 || len(faces) > maxFaces {
		return nil, malformed("DG2", fmt.Errorf("%w: %d faces", ErrMalformed, len(faces)))
	}
	if !counts(count, templates) {
		f.broken("number of biometric templates")
	}
	return faces, nil
}

// CBEFF owner and types of the data blocks (Doc 9303-10 4.7.2, registered by
// ISO/IEC JTC 1/SC 37).
var (
	ownerSC37       = []byte{0x01, 0x01}
	format19794Face = []byte{0x00, 0x08}
	format39794Face = []byte{0x00, 0x2A}
)

// checkBiometricHeader checks a biometric header template (Doc 9303-10 table
// 38): owner and type of the format must stand there and be right.
func checkBiometricHeader(header tlv.Node, format []byte, f *findings) {
	elements, err := header.Children()
	if err != nil {
		f.broken("biometric header")
		return
	}
	if owner, _ := tlv.Find(elements, 0x87); !bytes.Equal(owner.Value, ownerSC37) {
		f.broken("format owner")
	}
	if kind, _ := tlv.Find(elements, 0x88); !bytes.Equal(kind.Value, format) {
		f.broken("format type")
	}
	// The type is optional, of one to three bytes. 02 is a face; "no information"
	// and the three-byte codes are of earlier editions of CBEFF.
	if kind, ok := tlv.Find(elements, 0x81); ok {
		switch string(kind.Value) {
		case "\x02":
		case "\x00", "\x00\x00\x00", "\x00\x02", "\x00\x00\x02":
			f.warn(WarnBiometricType)
		default:
			f.broken("biometric type")
		}
	}
}

// readFaces reads one biometric data block and says which format it is of.
func readFaces(block tlv.Node, f *findings) (faces []Face, format []byte, err error) {
	switch {
	case block.Tag != 0x5F2E && block.Tag != 0x7F2E:
		return nil, nil, fmt.Errorf("%w: no biometric data block", ErrMalformed)
	case bytes.HasPrefix(block.Value, facialMagic):
		if block.Tag != 0x5F2E {
			f.broken("facial record in a constructed data block")
		}
		faces, err = readFacialRecord(block.Value, f)
		return faces, format19794Face, err
	case block.Tag == 0x5F2E:
		return nil, nil, fmt.Errorf("%w: no facial record", ErrMalformed)
	}
	faces, err = readFace39794(block, f)
	return faces, format39794Face, err
}

func newFace(image []byte) (Face, error) {
	i, err := newImage(image)
	return Face{Image: i.Data, MIME: i.MIME}, err
}

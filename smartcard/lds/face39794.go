package lds

import (
	"fmt"

	"enrollkiosk/smartcard/tlv"
)

// readFace39794 reads a face image data block of ISO/IEC 39794-5 in tagged
// binary encoding, as ICAO's application profile for eMRTDs has it: DO'7F2E'
// holds DO'A1', which holds FaceImageDataBlock ::= [APPLICATION 5] SEQUENCE {
// versionBlock [0], representationBlocks [1], ... }. Everything after the image
// and its format may be absent or of a later version, and is left alone.
func readFace39794(block tlv.Node, f *findings) ([]Face, error) {
	standard, ok := only(block, 0xA1)
	if !ok {
		return nil, ErrISO39794
	}
	c := standard.Cursor()
	face := c.Next(0x65)
	if err := c.Done(); err != nil {
		return nil, err
	}
	c = face.Cursor()
	version, blocks := c.Next(0xA0), c.Next(0xA1)
	for c.More() {
		c.Any()
	}
	if err := c.Done(); err != nil {
		return nil, err
	}
	checkVersion39794(version, f)

	representations, err := blocks.Children()
	if err != nil {
		return nil, err
	}
	if len(representations) > 1 {
		f.warn(WarnManyFaces)
	}
	var faces []Face
	for _, r := range representations {
		face, err := readRepresentation39794(r, f)
		if err != nil {
			return nil, err
		}
		faces = append(faces, face)
	}
	return faces, nil
}

// checkVersion39794 checks VersionBlock (ISO/IEC 39794-1): the third generation
// of formats, and a year since the first of them.
func checkVersion39794(version tlv.Node, f *findings) {
	c := version.Cursor()
	generation, year := c.Next(0x80).Value, c.Next(0x81).Value
	for c.More() {
		c.Any()
	}
	if c.Done() != nil || len(generation) != 1 || len(year) != 2 {
		f.broken("version of the face")
		return
	}
	if generation[0] < 3 || int(year[0])<<8|int(year[1]) < 2019 {
		f.warn(WarnFaceVersion)
	}
}

// readRepresentation39794 reads RepresentationBlock ::= SEQUENCE {
// representationId [0], imageRepresentation [1] CHOICE { base [0] CHOICE {
// imageRepresentation2DBlock [0] } }, ... }. A choice within a tagged field keeps
// its own tag.
func readRepresentation39794(r tlv.Node, f *findings) (Face, error) {
	if r.Tag != 0x30 {
		return Face{}, fmt.Errorf("%w: representation of a face", ErrMalformed)
	}
	c := r.Cursor()
	c.Next(0x80)
	choice := c.Next(0xA1)
	for c.More() {
		c.Any()
	}
	if err := c.Done(); err != nil {
		return Face{}, err
	}
	// An extension in place of a base is a shape in three dimensions, or newer.
	base, ok := only(choice, 0xA0)
	image, ok2 := only(base, 0xA0)
	if !ok || !ok2 {
		return Face{}, ErrISO39794
	}
	c = image.Cursor()
	data, about := c.Next(0x80).Value, c.Next(0xA1)
	for c.More() {
		c.Any()
	}
	if err := c.Done(); err != nil {
		return Face{}, err
	}
	face, err := newFace(data)
	if err != nil {
		return Face{}, err
	}
	checkFormat39794(about, face.MIME, f)
	return face, nil
}

// checkFormat39794 compares imageDataFormat with the image: 2 is JPEG, 3 and 4
// are JPEG 2000.
func checkFormat39794(about tlv.Node, mime string, f *findings) {
	c := about.Cursor()
	format := c.Next(0xA0).Cursor()
	code := format.Next(0x80).Value
	if format.Done() != nil || len(code) != 1 {
		f.broken("format of the face's image")
		return
	}
	if isJPEG := mime == "image/jpeg"; code[0] < 2 || code[0] > 4 || isJPEG != (code[0] == 2) {
		f.warn(WarnFaceFormat)
	}
}

// only is the one child of n, if it has the given tag.
func only(n tlv.Node, tag tlv.Tag) (tlv.Node, bool) {
	children, err := n.Children()
	if err != nil || len(children) != 1 || children[0].Tag != tag {
		return tlv.Node{}, false
	}
	return children[0], true
}

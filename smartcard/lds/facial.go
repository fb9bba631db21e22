package lds

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Facial record of ISO/IEC 19794-5:2005, the edition that Doc 9303-9 asks for.
var (
	facialMagic   = []byte("FAC\x00")
	facialVersion = []byte("010\x00")
)

// Sizes in a facial record (ISO/IEC 19794-5:2005 5.4 to 5.7).
const (
	facialHeader   = 14
	facialInfo     = 20
	featurePoint   = 8
	imageInfo      = 12
	facialLeniency = 8 // states have stated lengths off by as much
)

// facialBlock is the fixed part of one face (ISO/IEC 19794-5:2005 tables 5 and 11).
type facialBlock struct {
	Length                        uint32
	Points                        uint16
	Gender, EyeColour, HairColour uint8
	Properties                    [3]uint8
	Expression                    uint16
	Pose, PoseUncertainty         [3]uint8 // yaw, pitch, roll
	ImageType, DataType           uint8
	Width, Height                 uint16
	ColourSpace, Source           uint8
	Device, Quality               uint16
}

// readFacialRecord reads a biometric data block that begins with facialMagic.
func readFacialRecord(b []byte, f *findings) ([]Face, error) {
	if len(b) < facialHeader {
		return nil, fmt.Errorf("%w: facial record truncated", ErrMalformed)
	}
	if !bytes.Equal(b[4:8], facialVersion) {
		return nil, fmt.Errorf("%w: version of the facial record", ErrMalformed) // Doc 9303-10 4.7.2 knows one
	}
	stated, total := int64(binary.BigEndian.Uint32(b[8:])), int64(len(b))
	count := int(binary.BigEndian.Uint16(b[12:]))
	if count == 0 || count > maxFaces {
		return nil, fmt.Errorf("%w: facial record of %d faces", ErrMalformed, count)
	}
	b = b[facialHeader:]
	var faces []Face
	points := 0
	for i := range count {
		block, rest, err := cutFacialBlock(b, i == count-1, f)
		if err != nil {
			return nil, err
		}
		face, err := newFace(block.image)
		if err != nil {
			return nil, err
		}
		block.check(face.MIME, f)
		faces = append(faces, face)
		points += int(block.Points)
		b = rest
	}
	switch off := total - stated; {
	case off == 0:
	case tolerable(off, points):
		f.warn(WarnFaceLength)
	default:
		f.broken("length of the facial record")
	}
	return faces, nil
}

// tolerable says whether a length that is off by so much is a known slip: the
// feature points forgotten, or a few bytes.
func tolerable(off int64, points int) bool {
	return off == int64(featurePoint*points) || -facialLeniency <= off && off <= facialLeniency
}

// cutFacialBlock takes the first face off b. The last one ends where b ends,
// when its own length is nearly that.
func cutFacialBlock(b []byte, last bool, f *findings) (face struct {
	facialBlock
	image []byte
}, rest []byte, err error) {
	if len(b) < facialInfo {
		return face, nil, fmt.Errorf("%w: facial record truncated", ErrMalformed)
	}
	points := int(binary.BigEndian.Uint16(b[4:]))
	start := facialInfo + featurePoint*points + imageInfo
	length, left := int64(binary.BigEndian.Uint32(b)), int64(len(b))
	if off := left - length; last && off != 0 && tolerable(off, points) {
		f.warn(WarnFaceLength)
		length = left
	}
	if length > left || int64(start) >= length {
		return face, nil, fmt.Errorf("%w: length of a face", ErrMalformed)
	}
	if last && length != left {
		return face, nil, fmt.Errorf("%w: bytes after the facial record", ErrMalformed)
	}
	fixed := append(b[:facialInfo:facialInfo], b[start-imageInfo:start]...)
	if _, err := binary.Decode(fixed, binary.BigEndian, &face.facialBlock); err != nil {
		return face, nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	face.image = b[start:length]
	return face, b[length:], nil
}

// check looks for codes that the standard does not define (tables 6 to 15).
func (b facialBlock) check(mime string, f *findings) {
	const unknown = 0xFF
	undefined := b.Gender > 2 && b.Gender != unknown ||
		b.EyeColour > 7 && b.EyeColour != unknown ||
		b.HairColour > 9 && b.HairColour != unknown ||
		b.ImageType > 3
	for i := range 3 { // 0 is unspecified, 1 to 181 are angles in steps of two degrees
		undefined = undefined || b.Pose[i] > 181 || b.PoseUncertainty[i] > 181
	}
	if undefined {
		f.warn(WarnFaceCode)
	}
	if isJPEG := mime == "image/jpeg"; b.DataType > 1 || isJPEG != (b.DataType == 0) {
		f.warn(WarnFaceFormat)
	}
}

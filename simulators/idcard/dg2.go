package idcard

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"image/jpeg"
	"slices"
)

// FaceGroup chooses how DG2 is written. The zero value is one face of ISO/IEC
// 19794-5, which is Options.Face.
type FaceGroup struct {
	Images    [][]byte // JPEG or JPEG 2000, in place of Options.Face
	OneRecord bool     // all images in one facial record; otherwise a template for each
	Points    int      // feature points before each image, up to 255
	ISO39794  bool     // ISO/IEC 39794-5 in ICAO's application profile
	Size      int      // of the whole file in bytes, which the last image is filled up to; 0: as it comes
}

//go:embed portrait.jp2
var portraitJP2 []byte

// PortraitJP2 is a portrait like Portrait's in JPEG 2000: the specimen person's,
// written once by opj_compress (OpenJPEG).
func PortraitJP2() []byte { return slices.Clone(portraitJP2) }

// encode writes DG2 (9303-10 4.7.2).
func (f FaceGroup) encode(sex string) ([]byte, error) {
	if f.Points < 0 || f.Points > 255 {
		return nil, errors.New("up to 255 feature points")
	}
	if f.Size == 0 {
		return f.write(f.Images, sex)
	}
	images := slices.Clone(f.Images)
	last := len(images) - 1
	for pad := 0; ; {
		var err error
		if images[last], err = padded(f.Images[last], pad); err != nil {
			return nil, err
		}
		group, err := f.write(images, sex)
		if err != nil || len(group) == f.Size {
			return group, err
		}
		more := f.Size - len(group)
		if pad+more < 0 || pad > 0 && more > 0 { // length fields have jumped over it
			return nil, fmt.Errorf("DG2 cannot be of %d bytes", f.Size)
		}
		pad += more
	}
}

func (f FaceGroup) write(images [][]byte, sex string) ([]byte, error) {
	header := func(format ...byte) []byte {
		return tlv(0xA1,
			tlv(0x80, []byte{0x01, 0x01}), // version of the CBEFF header
			tlv(0x81, []byte{0x02}),       // facial features
			tlv(0x82, []byte{0x00}),
			tlv(0x87, []byte{0x01, 0x01}), // owner of the format: ISO/IEC JTC 1/SC 37
			tlv(0x88, format))
	}
	var templates []byte
	count := 0
	add := func(head, block []byte) {
		templates = append(templates, tlv(0x7F60, head, block)...)
		count++
	}
	var faces [][]byte
	for _, b := range images {
		p, err := pictureOf(b)
		if err != nil {
			return nil, err
		}
		if f.ISO39794 {
			add(header(0x00, 0x2A), tlv(0x7F2E, p.faceImageDataBlock(sex)))
			continue
		}
		faces = append(faces, p.facialData(sex, f.Points))
		if !f.OneRecord {
			add(header(0x00, 0x08), tlv(0x5F2E, facialRecord(faces)))
			faces = nil
		}
	}
	if len(faces) > 0 {
		add(header(0x00, 0x08), tlv(0x5F2E, facialRecord(faces)))
	}
	return tlv(0x75, tlv(0x7F61, small(count), templates)), nil
}

// picture is an image with what records say of it.
type picture struct {
	data          []byte
	jp2           bool
	width, height int
}

func pictureOf(b []byte) (picture, error) {
	p := picture{data: b, jp2: isJP2(b)}
	if p.jp2 {
		head := b[:min(len(b), 256)]
		at := bytes.Index(head, []byte("ihdr")) // ISO/IEC 15444-1 I.5.3.1: height, width
		if at < 0 || len(head) < at+12 {
			return picture{}, errors.New("read face: no image header in JPEG 2000")
		}
		p.height = int(binary.BigEndian.Uint32(head[at+4:]))
		p.width = int(binary.BigEndian.Uint32(head[at+8:]))
		return p, nil
	}
	size, err := jpeg.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return picture{}, fmt.Errorf("read face: %w", err)
	}
	p.width, p.height = size.Width, size.Height
	return p, nil
}

func isJP2(b []byte) bool {
	return bytes.HasPrefix(b, []byte("\x00\x00\x00\x0CjP  \r\n\x87\n"))
}

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// facialRecord is the record of ISO/IEC 19794-5:2005 5.4.
func facialRecord(faces [][]byte) []byte {
	all := bytes.Join(faces, nil)
	return bytes.Join([][]byte{[]byte("FAC\x00010\x00"), u32(14 + len(all)), u16(len(faces)), all}, nil)
}

// facialData is one face of a record (ISO/IEC 19794-5:2005 5.5 to 5.7).
func (p picture) facialData(sex string, points int) []byte {
	gender := map[string]byte{"M": 1, "F": 2}[sex]
	kind := byte(0)
	if p.jp2 {
		kind = 1
	}
	image := bytes.Join([][]byte{
		{0x01, kind}, // full frontal
		u16(p.width), u16(p.height),
		{0x01, 0x00, 0x00, 0x00, 0x00, 0x00}, // sRGB, unspecified source, device and quality
		p.data,
	}, nil)
	var features []byte
	for i := range points { // MPEG-4 points 3.1, 3.2 and so on, in the image
		features = append(features, 0x01, byte(3<<4|i%14+1))
		features = append(features, u16(p.width/4+i)...)
		features = append(features, u16(p.height/2)...)
		features = append(features, 0, 0)
	}
	return bytes.Join([][]byte{
		u32(20 + len(features) + len(image)), u16(points),
		{gender, 0x00, 0x00}, make([]byte, 3), // eyes, hair, features unspecified
		make([]byte, 2+3+3), // expression, pose
		features, image,
	}, nil)
}

// faceImageDataBlock is the block of ISO/IEC 39794-5:2019 with the tags of ICAO's
// application profile: mandatory fields, kind and size of the image.
func (p picture) faceImageDataBlock(sex string) []byte {
	format := byte(2)
	if p.jp2 {
		format = 3 // lossy
	}
	gender := map[string]byte{"M": 2, "F": 3}[sex]
	if gender == 0 {
		gender = 1 // other
	}
	number := func(tag, n int) []byte {
		b := small(n)
		b[0] = byte(tag)
		return b
	}
	information := tlv(0xA1,
		tlv(0xA0, tlv(0x80, []byte{format})),
		tlv(0xA1, tlv(0xA1, tlv(0x80, []byte{0}))), // kind: of a travel document
		tlv(0xA7, number(0x80, p.width), number(0x81, p.height)))
	representation := tlv(0x30,
		tlv(0x80, []byte{0}), // number of the representation
		tlv(0xA1, tlv(0xA0, tlv(0xA0, tlv(0x80, p.data), information))),
		tlv(0xA8, tlv(0xA0, tlv(0xA1, tlv(0x80, []byte{gender})))))
	version := tlv(0xA0, number(0x80, 3), number(0x81, 2019))
	return tlv(0xA1, tlv(0x65, version, tlv(0xA1, representation)))
}

// padded fills a picture with n bytes that no decoder shows: comments in JPEG, a
// free box in JPEG 2000.
func padded(b []byte, n int) ([]byte, error) {
	if n == 0 {
		return b, nil
	}
	if isJP2(b) {
		if n < 8 {
			return nil, fmt.Errorf("no box of JPEG 2000 is of %d bytes", n)
		}
		return slices.Concat(b, u32(n), []byte("free"), make([]byte, n-8)), nil
	}
	if n < 4 {
		return nil, fmt.Errorf("no comment of JPEG is of %d bytes", n)
	}
	out := slices.Clone(b[:2])
	for n > 0 {
		size := min(n, 60_000)
		if n-size > 0 && n-size < 4 {
			size -= 4
		}
		out = append(out, 0xFF, 0xFE)
		out = append(out, u16(size-2)...)
		out = append(out, make([]byte, size-4)...)
		n -= size
	}
	return append(out, b[2:]...), nil
}

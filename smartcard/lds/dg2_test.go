package lds_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// faceOptions are what is odd about a facial record.
type faceOptions struct {
	image  []byte
	magic  string
	points int          // feature points
	slack  int          // by which the length of the block is off
	total  int          // by which the length of the record is off
	codes  map[int]byte // by place among the fixed bytes of the block
}

func (o faceOptions) record() []byte {
	if o.magic == "" {
		o.magic = "FAC\x00010\x00"
	}
	block := 20 + 8*o.points + 12 + len(o.image)
	fixed := binary.BigEndian.AppendUint32(nil, uint32(block+o.slack))
	fixed = append(binary.BigEndian.AppendUint16(fixed, uint16(o.points)), make([]byte, 14+12)...)
	for at, code := range o.codes {
		fixed[at] = code
	}
	r := binary.BigEndian.AppendUint32([]byte(o.magic), uint32(block+14+o.total))
	return slices.Concat(r, []byte{0, 1}, fixed[:20], make([]byte, 8*o.points), fixed[20:], o.image)
}

func facialRecord(image []byte, slack, points int) []byte {
	return faceOptions{image: image, slack: slack, points: points}.record()
}

func dg2(tag tlv.Tag, records ...[]byte) []byte {
	group := tlv.Encode(0x02, []byte{byte(len(records))})
	for _, r := range records {
		group = append(group, tlv.Encode(0x7F60, tlv.Encode(0xA1, tlv.Encode(0x88, []byte{0, 8})), tlv.Encode(tag, r))...)
	}
	return tlv.Encode(0x75, tlv.Encode(0x7F61, group))
}

func TestFaces(t *testing.T) {
	jpeg := []byte{0xFF, 0xD8, 0xFF, 0xE0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	jp2 := []byte("\x00\x00\x00\x0CjP  \r\n\x87\n\x00\x00\x00")
	for name, c := range map[string]struct {
		file  []byte
		mimes []string
		err   error
	}{
		"jpeg":                  {dg2(0x5F2E, facialRecord(jpeg, 0, 0)), []string{"image/jpeg"}, nil},
		"jpeg 2000, points":     {dg2(0x5F2E, facialRecord(jp2, 0, 3)), []string{"image/jp2"}, nil},
		"two templates":         {dg2(0x5F2E, facialRecord(jp2, 0, 0), facialRecord(jpeg, 0, 0)), []string{"image/jp2", "image/jpeg"}, nil},
		"length 8 too long":     {dg2(0x5F2E, facialRecord(jpeg, 8, 0)), []string{"image/jpeg"}, nil},
		"length 8 too short":    {dg2(0x5F2E, facialRecord(jpeg, -8, 0)), []string{"image/jpeg"}, nil},
		"length 9 too long":     {dg2(0x5F2E, facialRecord(jpeg, 9, 0)), nil, lds.ErrMalformed},
		"length 9 too short":    {dg2(0x5F2E, facialRecord(jpeg, -9, 0)), nil, lds.ErrMalformed},
		"unknown image":         {dg2(0x5F2E, facialRecord([]byte("GIF89a"), 0, 0)), nil, lds.ErrUnsupported},
		"ISO 39794-5":           {dg2(0x7F2E, []byte{0x65, 0x00}), nil, lds.ErrISO39794},
		"no template":           {dg2(0x5F2E), nil, lds.ErrMalformed},
		"empty record":          {dg2(0x5F2E, nil), nil, lds.ErrMalformed},
		"record cut":            {dg2(0x5F2E, facialRecord(jpeg, 0, 0)[:40]), nil, lds.ErrMalformed},
		"no block":              {dg2(0x81, facialRecord(jpeg, 0, 0)), nil, lds.ErrMalformed},
		"bytes after the group": {append(dg2(0x5F2E, facialRecord(jpeg, 0, 0)), 0), nil, lds.ErrMalformed},
	} {
		faces, err := lds.ParseDG2(c.file)
		var mimes []string
		for _, f := range faces {
			mimes = append(mimes, f.MIME)
		}
		if !slices.Equal(mimes, c.mimes) || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, mimes, err)
		}
	}
}

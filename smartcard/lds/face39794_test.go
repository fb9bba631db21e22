package lds_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// face39794 writes DO'7F2E' as the schema of ICAO's application profile of
// ISO/IEC 39794-5 (github ICAO-TRIP-ISO-WG3/39794-5-AP) has it, with fields that
// a reader need not know.
func face39794(format byte, images ...[]byte) []byte {
	return face39794Of([]byte{0x80, 1, 3, 0x81, 2, 0x07, 0xE3}, format, images...) // third generation, 2019
}

func face39794Of(version []byte, format byte, images ...[]byte) []byte {
	e := tlv.Encode
	var blocks []byte
	for i, image := range images {
		about := e(0xA1,
			e(0xA0, e(0x80, []byte{format})),                // imageDataFormat
			e(0xA1, e(0xA1, e(0x80, []byte{0}))),            // faceImageKind2D: mrtd
			e(0xA7, e(0x80, []byte{8}), e(0x81, []byte{8}))) // imageSizeBlock
		blocks = append(blocks, e(0x30,
			e(0x80, []byte{byte(i)}), // representationId
			e(0xA1, e(0xA0, e(0xA0, e(0x80, image), about))),
			e(0xA2, e(0x80, []byte{0x07, 0xEA})), // captureDateTimeBlock
			e(0xA8, e(0xA0, e(0xA1, e(0x80, []byte{3})))))...)
	}
	return e(0x7F2E, e(0xA1, e(0x65, e(0xA0, version), e(0xA1, blocks))))
}

// inDG2 puts data blocks into a DG2 with the header of the newer encoding.
func inDG2(blocks ...[]byte) []byte {
	group := tlv.Encode(0x02, []byte{byte(len(blocks))})
	header := tlv.Encode(0xA1, tlv.Encode(0x81, []byte{2}), tlv.Encode(0x87, []byte{1, 1}), tlv.Encode(0x88, []byte{0, 0x2A}))
	for _, b := range blocks {
		group = append(group, tlv.Encode(0x7F60, header, b)...)
	}
	return tlv.Encode(0x75, tlv.Encode(0x7F61, group))
}

func TestFace39794(t *testing.T) {
	jpeg := []byte{0xFF, 0xD8, 0xFF, 0xE0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	jp2 := []byte("\x00\x00\x00\x0CjP  \r\n\x87\n\x00\x00\x00")
	j2c := []byte{0xFF, 0x4F, 0xFF, 0x51, 0, 41}
	good := inDG2(face39794(2, jpeg))
	swap := func(old, new string) []byte {
		b := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(b, good) {
			t.Fatalf("%x is not in the file", old)
		}
		return b
	}
	version := func(v string) []byte { return inDG2(face39794Of([]byte(v), 2, jpeg)) }
	for name, c := range map[string]struct {
		file  []byte
		mimes []string // nil: nothing to show
		want  outcome
		err   error
	}{
		"JPEG":                   {good, []string{"image/jpeg"}, accept, nil},
		"JPEG 2000":              {inDG2(face39794(3, jp2)), []string{"image/jp2"}, accept, nil},
		"codestream, lossless":   {inDG2(face39794(4, j2c)), []string{"image/j2c"}, accept, nil},
		"two templates":          {inDG2(face39794(3, jp2), face39794(2, jpeg)), []string{"image/jp2", "image/jpeg"}, accept, nil},
		"two representations":    {inDG2(face39794(2, jpeg, jpeg)), []string{"image/jpeg", "image/jpeg"}, outcome(lds.WarnManyFaces), nil},
		"another format stated":  {inDG2(face39794(3, jpeg)), []string{"image/jpeg"}, outcome(lds.WarnFaceFormat), nil},
		"format of no image":     {inDG2(face39794(5, jp2)), []string{"image/jp2"}, outcome(lds.WarnFaceFormat), nil},
		"format before JPEG":     {inDG2(face39794(1, jp2)), []string{"image/jp2"}, outcome(lds.WarnFaceFormat), nil},
		"year before the first":  {version("\x80\x01\x03\x81\x02\x07\xE2"), []string{"image/jpeg"}, outcome(lds.WarnFaceVersion), nil},
		"second generation":      {version("\x80\x01\x02\x81\x02\x07\xE3"), []string{"image/jpeg"}, outcome(lds.WarnFaceVersion), nil},
		"later version":          {version("\x80\x01\x04\x81\x02\x08\x00\x82\x01\x01"), []string{"image/jpeg"}, accept, nil},
		"no year":                {version("\x80\x01\x03"), []string{"image/jpeg"}, reject, nil},
		"year of one byte":       {version("\x80\x01\x03\x81\x01\x13"), []string{"image/jpeg"}, reject, nil},
		"empty generation":       {version("\x80\x00\x81\x02\x07\xE3"), []string{"image/jpeg"}, reject, nil},
		"type of the old format": {swap("\x88\x02\x00\x2A", "\x88\x02\x00\x08"), []string{"image/jpeg"}, reject, nil},
		"no representation":      {inDG2(face39794(2)), nil, reject, lds.ErrMalformed},
		"too many":               {inDG2(face39794(2, slices.Repeat([][]byte{jpeg}, 17)...)), nil, reject, lds.ErrMalformed},
		"empty image":            {inDG2(face39794(2, nil)), nil, reject, lds.ErrMalformed},
		"another image":          {inDG2(face39794(2, []byte("GIF89a"))), nil, reject, lds.ErrUnsupported},
		"without DO'A1'":         {inDG2(tlv.Encode(0x7F2E, []byte{0x65, 0})), nil, reject, lds.ErrISO39794},
		"a finger":               {swap("\x65", "\x64"), nil, reject, lds.ErrMalformed},
		"image of an extension":  {swap("\xA0\x27\xA0\x25\x80", "\xA1\x27\xA0\x25\x80"), nil, reject, lds.ErrISO39794},
		"nothing":                {inDG2(tlv.Encode(0x7F2E)), nil, reject, lds.ErrISO39794},
		"representation cut":     {swap("\x80\x0D\xFF\xD8", "\x80\x7D\xFF\xD8"), nil, reject, lds.ErrMalformed},
	} {
		row{name, c.file, c.want}.run(t, lds.DG2)
		faces, err := lds.ParseDG2(c.file)
		var mimes []string
		for _, f := range faces {
			mimes = append(mimes, f.MIME)
		}
		if !slices.Equal(mimes, c.mimes) || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, mimes, err)
		}
	}
	faces, err := lds.ParseDG2(good)
	if err != nil || !bytes.Equal(faces[0].Image, jpeg) {
		t.Errorf("image: %v", err)
	}
}

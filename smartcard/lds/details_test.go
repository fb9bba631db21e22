package lds_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

var jpegImage = []byte{0xFF, 0xD8, 0xFF, 0xE0, 1, 2, 3}

// details writes DG11 or DG12: objects and a list of their tags.
func details(f lds.File, objects ...[]byte) []byte {
	var list []byte
	for _, o := range objects {
		n := 2
		if o[0] == 0xA0 {
			n = 1
		}
		list = append(list, o[:n]...)
	}
	return tlv.Encode(f.Tag(), tlv.Encode(0x5C, list), bytes.Join(objects, nil))
}

func object(tag tlv.Tag, value string) []byte { return tlv.Encode(tag, []byte(value)) }

func TestDG11(t *testing.T) {
	all := details(lds.DG11,
		object(0x5F0E, "MÜLLER<<JÜRGEN<KARL"),
		tlv.Encode(0xA0, object(0x02, "\x02"), object(0x5F0F, "MUELLER<<JUERGEN"), object(0x5F0F, "KARL")),
		object(0x5F10, "1234<567"),
		object(0x5F2B, "19740812"),
		object(0x5F11, "BENNELONG<UTOPIA"),
		object(0x5F42, "1 MAIN ST<ZENITH<UTOPIA"),
		object(0x5F12, "+1 555 0100"),
		object(0x5F13, "BAKER"),
		object(0x5F14, "DR"),
		object(0x5F15, "tall"),
		tlv.Encode(0x5F16, jpegImage),
		object(0x5F17, "AB123<CD456"),
		object(0x5F18, "none"))
	d, err := lds.ParseDG11(all)
	if err != nil || d.Unread != nil {
		t.Fatalf("unread %X, %v", d.Unread, err)
	}
	for what, c := range map[string][2]string{
		"full name":       {join(d.FullName), "MÜLLER<<JÜRGEN<KARL"},
		"other names":     {join(d.OtherNames...), "MUELLER<<JUERGEN; KARL"},
		"personal number": {reveal(d.PersonalNumber), "1234 567"},
		"birth":           {reveal(d.Birth), "19740812"},
		"place of birth":  {parts(d.PlaceOfBirth), "BENNELONG<UTOPIA"},
		"address":         {parts(d.Address), "1 MAIN ST<ZENITH<UTOPIA"},
		"telephone":       {reveal(d.Telephone), "+1 555 0100"},
		"profession":      {reveal(d.Profession), "BAKER"},
		"title":           {reveal(d.Title), "DR"},
		"summary":         {reveal(d.Summary), "tall"},
		"citizenship":     {d.Citizenship.MIME, "image/jpeg"},
		"other documents": {parts(d.OtherDocuments), "AB123<CD456"},
		"custody":         {reveal(d.Custody), "none"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", what, c[0], c[1])
		}
	}
	row{"all fields", all, accept}.run(t, lds.DG11)

	// What cannot be read is told and hides nothing else.
	fullName := object(0x5F0E, "ERIKSSON<<ANNA")
	for name, c := range map[string]struct {
		objects [][]byte
		unread  []tlv.Tag
		want    outcome
	}{
		"date in BCD":           {[][]byte{object(0x5F2B, "\x19\x74\x08\x12")}, nil, accept},
		"date partly unknown":   {[][]byte{object(0x5F2B, "197408<<")}, nil, accept},
		"date of zeros":         {[][]byte{object(0x5F2B, "19740000")}, nil, accept},
		"31 April":              {[][]byte{object(0x5F2B, "19740431")}, []tlv.Tag{0x5F2B}, outcome(lds.WarnFieldUnread)},
		"29 February 1900":      {[][]byte{object(0x5F2B, "19000229")}, []tlv.Tag{0x5F2B}, outcome(lds.WarnFieldUnread)},
		"29 February 2000":      {[][]byte{object(0x5F2B, "20000229")}, nil, accept},
		"a sign for a year":     {[][]byte{object(0x5F2B, "+9740812")}, []tlv.Tag{0x5F2B}, outcome(lds.WarnFieldUnread)},
		"31 April in BCD":       {[][]byte{object(0x5F2B, "\x19\x74\x04\x31")}, []tlv.Tag{0x5F2B}, outcome(lds.WarnFieldUnread)},
		"BCD of letters":        {[][]byte{object(0x5F2B, "\x19\x74\x0A\x31")}, []tlv.Tag{0x5F2B}, outcome(lds.WarnFieldUnread)},
		"date of 6 digits":      {[][]byte{object(0x5F2B, "740812")}, []tlv.Tag{0x5F2B}, outcome(lds.WarnFieldUnread)},
		"not UTF-8":             {[][]byte{object(0x5F11, "Z\xFCRICH")}, []tlv.Tag{0x5F11}, outcome(lds.WarnFieldUnread)},
		"control character":     {[][]byte{object(0x5F13, "BAK\x1BER")}, []tlv.Tag{0x5F13}, outcome(lds.WarnFieldUnread)},
		"no image":              {[][]byte{object(0x5F16, "")}, []tlv.Tag{0x5F16}, outcome(lds.WarnFieldUnread)},
		"another image":         {[][]byte{object(0x5F16, "GIF89a")}, []tlv.Tag{0x5F16}, outcome(lds.WarnFieldUnread)},
		"profession twice":      {[][]byte{object(0x5F13, "BAKER"), object(0x5F13, "COOK")}, []tlv.Tag{0x5F13}, outcome(lds.WarnFieldUnread)},
		"unknown object":        {[][]byte{object(0x5F7A, "x")}, []tlv.Tag{0x5F7A}, outcome(lds.WarnUnknownObject)},
		"names miscounted":      {[][]byte{tlv.Encode(0xA0, object(0x02, "\x02"), object(0x5F0F, "A"))}, []tlv.Tag{0xA0}, outcome(lds.WarnFieldUnread)},
		"names not counted":     {[][]byte{tlv.Encode(0xA0, object(0x5F0F, "A"))}, []tlv.Tag{0xA0}, outcome(lds.WarnFieldUnread)},
		"names cut":             {[][]byte{tlv.Encode(0xA0, []byte{0x02, 1, 1, 0x5F, 0x0F, 9})}, []tlv.Tag{0xA0}, outcome(lds.WarnFieldUnread)},
		"other names, no DO A0": {[][]byte{object(0x5F0F, "A"), object(0x5F0F, "B")}, nil, accept},
	} {
		content := details(lds.DG11, append([][]byte{fullName}, c.objects...)...)
		row{name, content, c.want}.run(t, lds.DG11)
		d, err := lds.ParseDG11(content)
		if err != nil || join(d.FullName) != "ERIKSSON<<ANNA" || !slices.Equal(d.Unread, c.unread) {
			t.Errorf("%s: %q, unread %X, %v", name, join(d.FullName), d.Unread, err)
		}
	}
	for name, r := range map[string]row{
		"not listed":    {content: tlv.Encode(0x6B, object(0x5C, ""), fullName), want: outcome(lds.WarnTagList)},
		"not there":     {content: tlv.Encode(0x6B, object(0x5C, "\x5F\x0E\x5F\x10"), fullName), want: outcome(lds.WarnTagList)},
		"names by tag":  {content: tlv.Encode(0x6B, object(0x5C, "\x5F\x0F"), tlv.Encode(0xA0, object(0x02, "\x01"), object(0x5F0F, "A"))), want: accept},
		"names missed":  {content: tlv.Encode(0x6B, object(0x5C, ""), tlv.Encode(0xA0, object(0x02, "\x01"), object(0x5F0F, "A"))), want: outcome(lds.WarnTagList)},
		"names, no job": {content: tlv.Encode(0x6B, object(0x5C, "\xA0\x5F\x13"), tlv.Encode(0xA0, object(0x02, "\x01"), object(0x5F0F, "A"))), want: outcome(lds.WarnTagList)},
		"list cut":      {content: tlv.Encode(0x6B, object(0x5C, "\x5F\x0E\x5F"), fullName), want: reject},
		"no list":       {content: tlv.Encode(0x6B, fullName), want: reject},
		"another tag":   {content: withTag(all, 0x6C), want: reject},
		"long":          {content: withLength(all, +1), want: reject},
		"short":         {content: withLength(all, -1), want: reject},
		"empty":         {want: reject},
		"nothing in it": {content: tlv.Encode(0x6B, object(0x5C, "")), want: accept},
	} {
		r.id = name
		r.run(t, lds.DG11)
	}
}

func TestDG12(t *testing.T) {
	all := details(lds.DG12,
		object(0x5F19, "UTOPIAN<POLICE"),
		object(0x5F26, "20260131"),
		tlv.Encode(0xA0, object(0x02, "\x01"), object(0x5F1A, "ERIKSSON<<KID")),
		object(0x5F1B, "wears glasses"),
		object(0x5F1C, "none"),
		tlv.Encode(0x5F1D, jpegImage),
		tlv.Encode(0x5F1E, []byte{0xFF, 0x4F, 0xFF, 0x51}),
		object(0x5F55, "20260131235960"),
		object(0x5F56, "N-4962"))
	d, err := lds.ParseDG12(all)
	if err != nil || d.Unread != nil {
		t.Fatalf("unread %X, %v", d.Unread, err)
	}
	for what, c := range map[string][2]string{
		"authority":       {reveal(d.Authority), "UTOPIAN POLICE"},
		"issued":          {reveal(d.Issued), "20260131"},
		"other persons":   {join(d.OtherPersons...), "ERIKSSON<<KID"},
		"endorsements":    {reveal(d.Endorsements), "wears glasses"},
		"tax and exit":    {reveal(d.TaxExit), "none"},
		"front":           {d.Front.MIME, "image/jpeg"},
		"rear":            {d.Rear.MIME, "image/j2c"},
		"personalized":    {reveal(d.Personalized), "20260131235960"},
		"personalization": {reveal(d.Personalization), "N-4962"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %q, want %q", what, c[0], c[1])
		}
	}
	row{"all fields", all, accept}.run(t, lds.DG12)
	bcd := details(lds.DG12, object(0x5F26, "\x20\x26\x01\x31"), object(0x5F55, "\x20\x26\x01\x31\x23\x59\x00"))
	if d, err := lds.ParseDG12(bcd); err != nil || reveal(d.Issued) != "20260131" || reveal(d.Personalized) != "20260131235900" {
		t.Errorf("dates in BCD: %q, %q, %v", reveal(d.Issued), reveal(d.Personalized), err)
	}
	for _, text := range []string{"20260131245900", "20260131236000", "20260131235961", "2026013123590", "202601312359<<", "20260231235900"} {
		if d, err := lds.ParseDG12(details(lds.DG12, object(0x5F55, text), object(0x5F56, "N-1"))); err != nil ||
			!slices.Equal(d.Unread, []tlv.Tag{0x5F55}) || reveal(d.Personalization) != "N-1" {
			t.Errorf("time %s: unread %X, %v", text, d.Unread, err)
		}
	}
}

func TestDG16(t *testing.T) {
	person := func(tag tlv.Tag) []byte { return tlv.Encode(tag, object(0x5F51, "SMITH<<CHARLES")) }
	file := func(parts ...[]byte) []byte { return tlv.Encode(0x70, parts...) }
	good := file(object(0x02, "\x02"), person(0xA1), person(0xA2))
	many := [][]byte{object(0x02, "\x10")}
	for n := range tlv.Tag(16) {
		many = append(many, person(0xA1+n))
	}
	for _, r := range []row{
		{"plain", good, accept},
		{"nobody", file(object(0x02, "\x00")), accept},
		{"another tag", withTag(good, 0x6F), reject},
		{"short", withLength(good, -1), reject},
		{"long", withLength(good, +1), reject},
		{"not counted", file(person(0xA1)), reject},
		{"miscounted", file(object(0x02, "\x02"), person(0xA1)), reject},
		{"first missing", file(object(0x02, "\x01"), person(0xA2)), reject},
		{"person cut", file(object(0x02, "\x01"), tlv.Encode(0xA1, []byte{0x5F, 0x51, 9})), reject},
		{"sixteen", file(many...), reject},
		{"field of no sense", file(object(0x02, "\x01"), tlv.Encode(0xA1, object(0x5F50, "2002"))), outcome(lds.WarnFieldUnread)},
		{"unknown field", file(object(0x02, "\x01"), tlv.Encode(0xA1, object(0x5F54, "x"))), outcome(lds.WarnUnknownObject)},
	} {
		r.run(t, lds.DG16)
	}
}

func TestDisplayedImages(t *testing.T) {
	file := func(f lds.File, tag tlv.Tag, count byte, images ...[]byte) []byte {
		parts := [][]byte{{2, 1, count}}
		for _, i := range images {
			parts = append(parts, tlv.Encode(tag, i))
		}
		return tlv.Encode(f.Tag(), parts...)
	}
	for f, tag := range map[lds.File]tlv.Tag{lds.DG5: 0x5F40, lds.DG7: 0x5F43} {
		good := file(f, tag, 2, jpegImage, []byte{0xFF, 0x4F, 0xFF, 0x51})
		for _, r := range []row{
			{"plain", good, accept},
			{"another tag", withTag(good, 0x75), reject},
			{"short", withLength(good, -1), reject},
			{"long", withLength(good, +1), reject},
			{"no image", file(f, tag, 0), reject},
			{"miscounted", file(f, tag, 2, jpegImage), reject},
			{"empty image", file(f, tag, 1, nil), reject},
			{"unknown image", file(f, tag, 1, []byte("GIF89a")), reject},
			{"object of another group", file(f, 0x5F44, 1, jpegImage), reject},
			{"not counted", tlv.Encode(f.Tag(), tlv.Encode(tag, jpegImage)), reject},
		} {
			r.run(t, f)
		}
	}
	images, err := lds.ParseDG7(file(lds.DG7, 0x5F43, 1, jpegImage))
	if err != nil || len(images) != 1 || !bytes.Equal(images[0].Data, jpegImage) || images[0].MIME != "image/jpeg" {
		t.Errorf("%d images, %v", len(images), err)
	}
	if _, err := lds.ParseDG7(file(lds.DG7, 0x5F43, 1, []byte("GIF89a"))); !errors.Is(err, lds.ErrUnsupported) {
		t.Errorf("unknown image: %v", err)
	}
}

func TestDIR(t *testing.T) {
	application := tlv.Encode(0x61, object(0x4F, "\xA0\x00\x00\x02\x47\x10\x01"))
	labelled := tlv.Encode(0x61, object(0x4F, "\xA0\x00\x00\x00\x18"), object(0x50, "eID"))
	for _, r := range []row{
		{"plain", application, accept},
		{"label, padding", slices.Concat(labelled, []byte{0, 0}, application, make([]byte, 9)), accept},
		{"empty", nil, accept},
		{"no identifier", tlv.Encode(0x61, object(0x50, "eID")), reject},
		{"short identifier", tlv.Encode(0x61, object(0x4F, "\xA0\x00\x00\x02")), reject},
		{"long identifier", tlv.Encode(0x61, tlv.Encode(0x4F, make([]byte, 17))), reject},
		{"another template", tlv.Encode(0x62, object(0x4F, "\xA0\x00\x00\x02\x47")), reject},
		{"cut", application[:8], reject},
		{"too many", bytes.Repeat(application, tlv.MaxNodes+1), reject},
	} {
		r.run(t, lds.EFDIR)
	}
}

// An image of more than 65,535 bytes has a length field of three; a hostile file
// takes no more memory than the reader has given for it already.
func TestMemory(t *testing.T) {
	image := append(bytes.Clone(jpegImage), make([]byte, 100_000)...)
	for name, file := range map[string][]byte{
		"19794-5": dg2(0x5F2E, facialRecord(image, 0, 0)),
		"39794-5": inDG2(face39794(2, image)),
	} {
		faces, err := lds.ParseDG2(file)
		if err != nil || len(faces) != 1 || !bytes.Equal(faces[0].Image, image) {
			t.Errorf("%s: %d faces, %v", name, len(faces), err)
		}
	}
	object := tlv.Encode(0x5F0F, []byte("A"))
	for name, c := range map[string]struct {
		file lds.File
		b    []byte
	}{
		"a length beyond the file": {lds.DG2, []byte{0x75, 0x84, 0x7F, 0xFF, 0xFF, 0xFF}},
		"many faces of nothing":    {lds.DG2, dg2(0x5F2E, slices.Repeat([][]byte{facialRecord(image[:4], 0, 0)}, 200)...)},
		"65535 faces":              {lds.DG2, dg2(0x5F2E, append([]byte("FAC\x00010\x00\x00\x00\x00\x00\xFF\xFF"), make([]byte, 60_000)...))},
		"65535 feature points":     {lds.DG2, dg2(0x5F2E, faceOptions{image: image[:4], codes: map[int]byte{4: 0xFF, 5: 0xFF}}.record())},
		"objects without end":      {lds.EFDIR, bytes.Repeat([]byte{0x61, 0}, 30_000)},
		"names without end":        {lds.DG11, tlv.Encode(0x6B, tlv.Encode(0x5C), bytes.Repeat(object, 15_000))},
		"names of A0 without end":  {lds.DG11, tlv.Encode(0x6B, tlv.Encode(0x5C), tlv.Encode(0xA0, bytes.Repeat(object, 15_000)))},
		"a tag list without end":   {lds.DG12, tlv.Encode(0x6C, tlv.Encode(0x5C, make([]byte, 60_000)))},
		"fillers without end":      {lds.DG11, tlv.Encode(0x6B, tlv.Encode(0x5C), tlv.Encode(0x5F42, bytes.Repeat([]byte("A<"), 30_000)))},
		"a zone without end":       {lds.DG1, tlv.Encode(0x61, tlv.Encode(0x5F1F, bytes.Repeat([]byte("<"), 60_000)))},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		lds.Check(c.file, c.b)
		runtime.ReadMemStats(&after)
		used := after.TotalAlloc - before.TotalAlloc
		if limit := uint64(64*len(c.b) + 300_000); used > limit {
			t.Errorf("%s: %d bytes for a file of %d", name, used, len(c.b))
		}
	}
}

// What a data group says of a person stays inside.
func TestDetailsNeverPrint(t *testing.T) {
	d11, err := lds.ParseDG11(details(lds.DG11, object(0x5F0E, "ERIKSSON<<ANNA"), object(0x5F2B, "19740812")))
	if err != nil {
		t.Fatal(err)
	}
	d12, err := lds.ParseDG12(details(lds.DG12, tlv.Encode(0xA0, object(0x02, "\x01"), object(0x5F1A, "ERIKSSON<<ANNA"))))
	if err != nil {
		t.Fatal(err)
	}
	d16, err := lds.ParseDG16(tlv.Encode(0x70, object(0x02, "\x01"), tlv.Encode(0xA1, object(0x5F51, "ERIKSSON<<ANNA"))))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{d11, &d11, d11.FullName, d12, d12.OtherPersons, d16, lds.Image{Data: []byte("ERIKSSON")}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			out := fmt.Sprintf(verb, v)
			for _, canary := range []string{"ERIKSSON", "19740812", fmt.Sprintf("%x", "ERIKSSON"), "69 82 73"} {
				if strings.Contains(out, canary) {
					t.Errorf("%s of %T prints %s", verb, v, canary)
				}
			}
		}
		if _, err := json.Marshal(v); !errors.Is(err, secret.ErrMarshal) {
			t.Errorf("%T marshals: %v", v, err)
		}
	}
}

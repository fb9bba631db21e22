package lds_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// vectors are worked examples of ICAO Doc 9303; each names its source.
type vector struct {
	Kind, Name, File, Bytes string
	Input                   string `json:"input_text"`
	CheckDigit              string `json:"check_digit_text"`
	Format                  string
	Lines                   []string          `json:"lines_text"`
	Fields                  map[string]string `json:"fields_text"`
	Content                 map[string]string `json:"content_text"`
	Information             string            `json:"mrz_information_text"`
	Composite               string            `json:"composite_computed_text"`
	NameField               string            `json:"name_field_text"`
	Primary                 string            `json:"primary_text"`
	Secondary               string            `json:"secondary_text"`
	Truncated               bool              `json:"possibly_truncated"`
	HeaderBytes             string            `json:"header_bytes"`
	ImageBlock              int               `json:"image_block_length"`
}

func load(t testing.TB, file string) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Vectors []vector }
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Vectors) == 0 {
		t.Fatal("no vectors in " + file)
	}
	return f.Vectors
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func reveal(s interface{ Reveal() []byte }) string { return string(s.Reveal()) }

func TestCheckDigits(t *testing.T) {
	for _, v := range load(t, "mrz.json") {
		if v.Kind == "check digit" {
			if got := lds.CheckDigit(v.Input); got != v.CheckDigit {
				t.Errorf("%s: %s, want %s", v.Name, got, v.CheckDigit)
			}
		}
	}
}

func TestMRZ(t *testing.T) {
	n := 0
	for _, v := range load(t, "mrz.json") {
		if v.Kind != "mrz" {
			continue
		}
		n++
		m, err := lds.ParseMRZ(strings.Join(v.Lines, "\n"))
		// One printed example has a wrong composite digit; the zone is read all the same.
		if wrong := v.Composite != "" && v.Composite != v.Fields["composite_check"]; errors.Is(err, lds.ErrCheckDigit) != wrong || err != nil && !wrong {
			t.Errorf("%s: %v", v.Name, err)
		}
		for field, got := range map[string]string{
			"document_code": m.DocumentCode, "issuing_state": m.Issuer, "sex": string(m.Sex),
			"document_number": reveal(m.Number), "nationality": reveal(m.Nationality),
			"birth": reveal(m.Birth.Text()), "expiry": reveal(m.Expiry.Text()),
			"primary": reveal(m.Primary), "secondary": reveal(m.Secondary),
			"optional": reveal(m.Optional), "optional_2": reveal(m.Optional2),
		} {
			if want := v.Fields[field]; got != want {
				t.Errorf("%s: %s = %q, want %q", v.Name, field, got, want)
			}
		}
		if m.Format != v.Format {
			t.Errorf("%s: format %s", v.Name, m.Format)
		}
		info, err := m.Information()
		if err != nil || reveal(info) != v.Information {
			t.Errorf("%s: information %q, %v", v.Name, reveal(info), err)
		}
		typed, err := lds.MRZInformation(strings.ToLower(v.Fields["document_number"]), v.Fields["birth"], v.Fields["expiry"])
		if err != nil || !typed.Equal(info) {
			t.Errorf("%s: typed information %q, %v", v.Name, reveal(typed), err)
		}
	}
	if n < 10 {
		t.Fatalf("only %d zones in the test data", n)
	}
}

func TestNames(t *testing.T) {
	n := 0
	for _, v := range load(t, "mrz.json") {
		if v.Kind != "name" {
			continue
		}
		n++
		var zone string
		switch v.Format {
		case "TD1":
			zone = "I<UTOD231458907<<<<<<<<<<<<<<<7408122F1204159UTO<<<<<<<<<<<6" + v.NameField
		case "TD2":
			zone = "I<UTO" + v.NameField + "D231458907UTO7408122F1204159<<<<<<<6"
		case "TD3":
			zone = "P<UTO" + v.NameField + "L898902C36UTO7408122F1204159ZE184226B<<<<<10"
		}
		m, err := lds.ParseMRZ(zone)
		if err != nil || reveal(m.Primary) != v.Primary || reveal(m.Secondary) != v.Secondary || m.Truncated != v.Truncated {
			t.Errorf("%s %s: %q, %q, truncated %v, %v", v.Format, v.Name, reveal(m.Primary), reveal(m.Secondary), m.Truncated, err)
		}
	}
	if n < 30 {
		t.Fatalf("only %d names in the test data", n)
	}
}

const specimen = "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<L898902C36UTO7408122F1204159ZE184226B<<<<<10"

func TestEveryWrongDigitIsFound(t *testing.T) {
	if _, err := lds.ParseMRZ(specimen); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{53, 63, 71, 86, 87} { // the five check digits
		b := []byte(specimen)
		b[at] = '0' + (b[at]-'0'+1)%10
		if _, err := lds.ParseMRZ(string(b)); !errors.Is(err, lds.ErrCheckDigit) {
			t.Errorf("digit at %d: %v", at, err)
		}
	}
}

func TestMalformedZones(t *testing.T) {
	for name, zone := range map[string]string{
		"empty":          "",
		"short":          specimen[:87],
		"long":           specimen + "<",
		"very long":      strings.Repeat("<", 500),
		"lower case":     strings.ToLower(specimen),
		"digit in state": strings.Replace(specimen, "P<UTO", "P<U7O", 1),
		"no number":      strings.Replace(specimen, "L898902C36", "<<<<<<<<<0", 1),
		"half a date":    strings.Replace(specimen, "7408122F", "7408<22F", 1),
		"letter in date": strings.Replace(specimen, "7408122F", "74O8122F", 1),
		"sex":            strings.Replace(specimen, "7408122F", "7408122Q", 1),
	} {
		if _, err := lds.ParseMRZ(zone); !errors.Is(err, lds.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, in := range [][3]string{
		{"", "740812", "120415"}, {"L898902C3", "7408", "120415"}, {"L898902C3", "741312", "120415"},
		{"L898902C3", "740812", "<<0415"}, {"L89*902C3", "740812", "120415"}, {strings.Repeat("A", 23), "740812", "120415"},
	} {
		if _, err := lds.MRZInformation(in[0], in[1], in[2]); !errors.Is(err, lds.ErrMalformed) {
			t.Errorf("typed %q: %v", in, err)
		}
	}
}

func day(s string) time.Time {
	d, err := time.Parse("2006-01-02", s)
	if err != nil {
		panic(err)
	}
	return d
}

func TestCenturies(t *testing.T) {
	withDates := func(birth, expiry string) lds.MRZ {
		zone := specimen[:44] + "L898902C36UTO" + birth + lds.CheckDigit(birth) + "F" + expiry + lds.CheckDigit(expiry) + "ZE184226B<<<<<1"
		line := zone[44:]
		m, err := lds.ParseMRZ(zone + lds.CheckDigit(line[:10]+line[13:20]+line[21:43]))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct{ text, at, birth, expiry string }{
		{"740812", "2026-11-22", "1974-08-12", "2074-08-12"},
		{"261122", "2026-11-22", "2026-11-22", "2026-11-22"}, // today
		{"261123", "2026-11-22", "1926-11-23", "2026-11-23"}, // not born yet: a century older
		{"990101", "2001-06-01", "1999-01-01", "1999-01-01"}, // expired before the turn of the century
		{"050101", "1998-06-01", "1905-01-01", "2005-01-01"},
		{"000229", "2026-11-22", "2000-02-29", "2000-02-29"},
		{"74<<<<", "2026-11-22", "", "2074-12-31"},
		{"7408<<", "2026-11-22", "", "2074-08-31"},
		{"740800", "2026-11-22", "", "2074-08-31"},
		{"<<<<<<", "2026-11-22", "", ""},
		{"741312", "2026-11-22", "", ""},
		{"750229", "2026-11-22", "", ""},
	} {
		m := withDates(c.text, c.text)
		check := func(what, want string, got time.Time, ok bool) {
			if ok != (want != "") || ok && got.Format("2006-01-02") != want {
				t.Errorf("%s %s at %s: %v %v, want %q", what, c.text, c.at, got, ok, want)
			}
		}
		got, ok := m.Birth.Birth(day(c.at))
		check("birth", c.birth, got, ok)
		got, ok = m.Expiry.Expiry(day(c.at))
		check("expiry", c.expiry, got, ok)
	}
	if _, ok := (lds.Date{}).Expiry(day("2026-11-22")); ok {
		t.Error("the zero date expires")
	}
}

func TestFiles(t *testing.T) {
	for _, v := range load(t, "lds.json") {
		switch {
		case v.File == "EF.COM":
			com, err := lds.ParseCOM(unhex(t, v.Bytes))
			var groups []string
			for _, g := range com.Groups {
				groups = append(groups, strings.TrimPrefix(g.String(), "DG"))
			}
			if err != nil || com.LDSVersion != v.Content["lds_version"] || com.UnicodeVersion != v.Content["unicode_version"] ||
				strings.Join(groups, " ") != v.Content["data_groups"] || com.Unknown != nil {
				t.Errorf("%s: %+v, %v", v.Name, com, err)
			}
		case v.File == "EF.DG1":
			m, err := lds.ParseDG1(unhex(t, v.Bytes))
			// The composite digit of the TD1 example is misprinted in the standard.
			if wrong := strings.HasSuffix(v.Name, "TD1"); errors.Is(err, lds.ErrCheckDigit) != wrong || !wrong && err != nil || m.Primary.Len() == 0 {
				t.Errorf("%s: %v", v.Name, err)
			}
		case v.File == "EF.DG2":
			// The standard prints the headers of a DG2 and leaves the image out.
			image := append([]byte{0xFF, 0xD8, 0xFF}, make([]byte, v.ImageBlock-14-20-12-3)...)
			record := append([]byte("FAC\x00010\x00"), 0, 0, byte(v.ImageBlock>>8), byte(v.ImageBlock), 0, 1)
			record = append(record, 0, 0, byte((v.ImageBlock-14)>>8), byte(v.ImageBlock-14))
			record = append(record, make([]byte, 16+12)...)
			faces, err := lds.ParseDG2(slices.Concat(unhex(t, v.HeaderBytes), record, image))
			if err != nil || len(faces) != 1 || !slices.Equal(faces[0].Image, image) || faces[0].MIME != "image/jpeg" {
				t.Errorf("%s: %d faces, %v", v.Name, len(faces), err)
			}
		case v.File == "EF.CardAccess":
			infos, err := lds.ParseCardAccess(unhex(t, v.Bytes))
			if err != nil || len(infos.PACE) != 1 || infos.PACE[0].Version != 2 || infos.PACE[0].ParameterID != 13 ||
				!infos.PACE[0].Protocol.Equal(append(slices.Clone(lds.OIDPACEECDHGM), 2)) {
				t.Errorf("%s: %+v, %v", v.Name, infos, err)
			}
		default:
			t.Errorf("%s: unexpected file %s", v.Name, v.File)
		}
	}
}

func facialRecord(image []byte, slack, points int) []byte {
	block := 20 + 8*points + 12 + len(image)
	r := append([]byte("FAC\x00010\x00"), 0, 0, byte((block+14)>>8), byte(block+14), 0, 1)
	r = append(r, 0, 0, byte((block+slack)>>8), byte(block+slack), 0, byte(points))
	r = append(r, make([]byte, 14+8*points+12)...)
	return append(r, image...)
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

func TestFileNames(t *testing.T) {
	for f, want := range map[lds.File]struct {
		name string
		sfi  byte
		tag  tlv.Tag
	}{
		lds.DG1: {"DG1", 1, 0x61}, lds.DG2: {"DG2", 2, 0x75}, lds.DG14: {"DG14", 14, 0x6E}, lds.DG15: {"DG15", 15, 0x6F}, lds.DG16: {"DG16", 16, 0x70},
		lds.EFCOM: {"EF.COM", 0x1E, 0x60}, lds.EFSOD: {"EF.SOD", 0x1D, 0x77}, lds.EFCardAccess: {"EF.CardAccess", 0x1C, 0x31},
		0x2F00: {"EF 2F00", 0, 0},
	} {
		if f.String() != want.name || f.SFI() != want.sfi || f.Tag() != want.tag {
			t.Errorf("%v: SFI %X, tag %X", f, f.SFI(), f.Tag())
		}
	}
}

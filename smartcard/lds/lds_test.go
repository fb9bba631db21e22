package lds_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/kiosk/secret"
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

func TestSecurityInfos(t *testing.T) {
	files := loadFiles(t)
	infos, err := lds.ParseDG14(files["DG14"])
	if err != nil || len(infos.PACE) != 1 || len(infos.ChipAuthentication) != 1 || len(infos.ChipAuthenticationKeys) != 1 ||
		len(infos.ActiveAuthentication) != 1 || len(infos.Raw) != 4 || infos.Others != nil {
		t.Fatalf("%+v, %v", infos, err)
	}
	if _, ok := infos.ChipAuthenticationKeys[0].Key.(*ecdsa.PublicKey); !ok || infos.ChipAuthenticationKeys[0].KeyID != nil {
		t.Errorf("key of the chip: %T", infos.ChipAuthenticationKeys[0].Key)
	}

	seq := func(parts ...[]byte) []byte { return tlv.Encode(0x30, parts...) }
	oid := func(prefix asn1.ObjectIdentifier, arcs ...int) []byte {
		b, err := asn1.Marshal(append(slices.Clone(prefix), arcs...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	integer := func(n byte) []byte { return tlv.Encode(0x02, []byte{n}) }
	numbered := seq(seq(oid(asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 2}), integer(12)),
		tlv.Encode(0x03, append([]byte{0, 4}, pointOnP256()...)))
	brainpool := seq(seq(oid(asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 2}), integer(13)),
		tlv.Encode(0x03, append([]byte{0, 4}, pointOnP256()...)))
	infos, err = lds.ParseCardAccess(tlv.Encode(0x31,
		seq(oid(lds.OIDPACEECDHIM, 4), integer(2)),
		seq(oid(lds.OIDPACEDHGM), seq(oid(lds.OIDAA)), integer(0)),
		seq(oid(lds.OIDCAECDH, 2), integer(1), integer(5)),
		seq(oid(lds.OIDPKECDH), numbered, integer(5)),
		seq(oid(lds.OIDPKECDH), brainpool, integer(6)),
		seq(oid(lds.OIDTA), integer(1), seq(tlv.Encode(0x04, []byte{1, 0x1C}))),
		seq(oid(asn1.ObjectIdentifier{1, 2, 3}), seq())))
	switch {
	case err != nil:
		t.Fatal(err)
	case infos.PACE[0].ParameterID != -1 || infos.PACEDomains[0].ParameterID != 0:
		t.Error("parameter ids")
	case infos.ChipAuthentication[0].KeyID.Int64() != 5 || infos.ChipAuthenticationKeys[0].KeyID.Int64() != 5:
		t.Error("key ids")
	case infos.ChipAuthenticationKeys[0].Key == nil:
		t.Error("numbered curve")
	case infos.ChipAuthenticationKeys[1].Key != nil || infos.ChipAuthenticationKeys[1].SPKI == nil:
		t.Error("a key of another curve hides the rest")
	case len(infos.TerminalAuthentication) != 1 || len(infos.Others) != 1:
		t.Error("terminal authentication, others")
	}

	for name, b := range map[string][]byte{
		"no set":        seq(),
		"not a list":    tlv.Encode(0x31, integer(1)),
		"no protocol":   tlv.Encode(0x31, seq(integer(1))),
		"no version":    tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2))),
		"huge version":  tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2), tlv.Encode(0x02, []byte{1, 0, 0}))),
		"negative":      tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2), integer(0xFF))),
		"trailing info": tlv.Encode(0x31, seq(oid(lds.OIDPACEECDHGM, 2), integer(2), integer(12), integer(0))),
		"too many":      tlv.Encode(0x31, slices.Repeat(seq(oid(lds.OIDAA)), 65)),
		"trailing byte": append(tlv.Encode(0x31), 0),
	} {
		if _, err := lds.ParseCardAccess(b); !errors.Is(err, lds.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func pointOnP256() []byte {
	p := elliptic.P256().Params()
	return append(p.Gx.FillBytes(make([]byte, 32)), p.Gy.FillBytes(make([]byte, 32))...)
}

func TestPublicKeys(t *testing.T) {
	files := loadFiles(t)
	if key, err := lds.ParseDG15(files["DG15"]); err != nil {
		t.Error(err)
	} else if _, ok := key.(*ecdsa.PublicKey); !ok {
		t.Errorf("DG15 is %T", key)
	}
	if key, err := lds.ParseDG15(files["DG15 RSA"]); err != nil {
		t.Error(err)
	} else if key, ok := key.(*rsa.PublicKey); !ok || key.Size() != 256 {
		t.Errorf("DG15 is %T", key)
	}
	off := slices.Clone(files["DG15"])
	off[len(off)-1] ^= 1
	if _, err := lds.ParseDG15(off); !errors.Is(err, lds.ErrMalformed) {
		t.Errorf("point off the curve: %v", err)
	}
	ed25519 := tlv.Encode(0x6F, tlv.Encode(0x30, tlv.Encode(0x30, []byte{6, 3, 0x2B, 0x65, 0x70}), tlv.Encode(0x03, make([]byte, 33))))
	if _, err := lds.ParseDG15(ed25519); !errors.Is(err, lds.ErrUnsupported) {
		t.Errorf("another algorithm: %v", err)
	}
}

func TestSOD(t *testing.T) {
	files := loadFiles(t)
	sod, err := lds.ParseSOD(files["EF.SOD"])
	if err != nil {
		t.Fatal(err)
	}
	if sod.Version != 0 || sod.Digest != crypto.SHA256 || len(sod.Certificates) != 1 || sod.Signer.Serial.Int64() != 4711 ||
		sod.Signer.Attributes[0] != 0x31 || len(sod.Signer.Signature) == 0 {
		t.Errorf("%+v", sod)
	}
	for _, f := range []lds.File{lds.DG1, lds.DG2, lds.DG14, lds.DG15} {
		if hash := sha256.Sum256(files[f.String()]); !slices.Equal(hash[:], sod.Hashes[f]) {
			t.Errorf("hash of %v", f)
		}
	}
	if len(sod.Hashes) != 4 {
		t.Errorf("%d hashes", len(sod.Hashes))
	}

	// The object itself, in other shapes.
	object := func(parts ...[]byte) []byte { return tlv.Encode(0x30, parts...) }
	sha := object([]byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1})
	hash := func(n byte) []byte { return object([]byte{2, 1, n}, tlv.Encode(0x04, make([]byte, 32))) }
	versions := object(tlv.Encode(0x13, []byte("0108")), tlv.Encode(0x13, []byte("040000")))
	version := func(n byte) []byte { return []byte{2, 1, n} }
	for name, c := range map[string]struct {
		content []byte
		err     error
	}{
		"version 1":              {object(version(1), sha, object(hash(1)), versions), nil},
		"no hashes":              {object(version(0), sha, object()), nil},
		"version 1, no versions": {object(version(1), sha, object(hash(1))), lds.ErrMalformed},
		"version 0 and versions": {object(version(0), sha, object(hash(1)), versions), lds.ErrMalformed},
		"version 2":              {object(version(2), sha, object(hash(1))), lds.ErrUnsupported},
		"group twice":            {object(version(0), sha, object(hash(1), hash(1))), lds.ErrMalformed},
		"group 0":                {object(version(0), sha, object(hash(0))), lds.ErrMalformed},
		"group 17":               {object(version(0), sha, object(hash(17))), lds.ErrMalformed},
		"short hash":             {object(version(0), sha, object(object([]byte{2, 1, 1}, tlv.Encode(0x04, make([]byte, 31))))), lds.ErrMalformed},
		"MD5":                    {object(version(0), object([]byte{6, 8, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 2, 5}), object(hash(1))), lds.ErrUnsupported},
		"empty":                  {nil, lds.ErrMalformed},
	} {
		b, err := lds.ParseSOD(withContent(t, files["EF.SOD"], c.content))
		if !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "version 1" && (b.Version != 1 || b.LDSVersion != "0108" || b.UnicodeVersion != "040000") {
			t.Errorf("%s: %+v", name, b)
		}
	}
	if _, err := lds.ParseSOD([]byte{0x77, 0x80, 0x30, 0x80, 0, 0, 0, 0}); !errors.Is(err, lds.ErrIndefinite) || !errors.Is(err, lds.ErrUnsupported) {
		t.Errorf("indefinite length: %v", err)
	}
	for n := range files["EF.SOD"] {
		if _, err := lds.ParseSOD(files["EF.SOD"][:n]); !errors.Is(err, lds.ErrMalformed) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
}

// withContent puts another LDS security object into an SOD.
func withContent(t *testing.T, sod, content []byte) []byte {
	t.Helper()
	children := func(n tlv.Node) []tlv.Node {
		nodes, err := n.Children()
		if err != nil {
			t.Fatal(err)
		}
		return nodes
	}
	outer, err := tlv.ParseOne(sod, 0x77)
	if err != nil {
		t.Fatal(err)
	}
	info := children(children(outer)[0])
	data := children(children(info[1])[0])
	data[2].Raw = tlv.Encode(0x30, children(data[2])[0].Raw, tlv.Encode(0xA0, tlv.Encode(0x04, content)))
	var body []byte
	for _, n := range data {
		body = append(body, n.Raw...)
	}
	return tlv.Encode(0x77, tlv.Encode(0x30, info[0].Raw, tlv.Encode(0xA0, tlv.Encode(0x30, body))))
}

// Personal data stays inside, whatever is done to the types that hold it.
func TestNeverPrints(t *testing.T) {
	m, err := lds.ParseMRZ(specimen)
	if err != nil {
		t.Fatal(err)
	}
	doc := lds.Document{Files: map[lds.File][]byte{lds.DG1: []byte(specimen)}, Access: "PACE"}
	face := lds.Face{Image: []byte("ERIKSSON"), MIME: "image/jpeg"}
	type record struct {
		M lds.MRZ
		D *lds.Document
		m lds.MRZ
	}
	for _, v := range []any{m, &m, doc, &doc, face, []lds.Face{face}, m.Birth, record{m, &doc, m}, map[string]lds.MRZ{"k": m}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			out := fmt.Sprintf(verb, v)
			for _, canary := range []string{"ERIKSSON", "L898902C3", "740812", fmt.Sprintf("%x", "ERIKSSON"), "69 82 73"} {
				if strings.Contains(out, canary) {
					t.Errorf("%s of %T prints %s", verb, v, canary)
				}
			}
		}
		if _, err := json.Marshal(v); !errors.Is(err, secret.ErrMarshal) && fmt.Sprintf("%T", v) != "lds.Date" {
			t.Errorf("%T marshals: %v", v, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		if strings.Contains(log.String(), "ERIKSSON") || strings.Contains(log.String(), "RVJJS1NTT0") {
			t.Errorf("log of %T: %s", v, log.String())
		}
	}
}

package lds_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// row is a test of BSI TR-03105 part 5.1, as far as a file by itself can meet
// it: what is odd about the file stands in the part's title of the same id.
type row struct {
	id      string
	content []byte
	want    outcome
}

// outcome is accept, reject, or the warning of an accepted file.
type outcome string

const (
	accept outcome = "accept"
	reject outcome = "reject"
)

func (r row) run(t *testing.T, f lds.File) {
	t.Run(r.id, func(t *testing.T) {
		warnings, err := lds.Check(f, r.content)
		got := accept
		switch {
		case errors.Is(err, lds.ErrMalformed), errors.Is(err, lds.ErrCheckDigit), errors.Is(err, lds.ErrUnsupported):
			got = reject
		case err != nil:
			t.Fatalf("untyped error: %v", err)
		case len(warnings) == 1:
			got = outcome(warnings[0])
		case len(warnings) > 1:
			t.Fatalf("warnings %v", warnings)
		}
		if got != r.want {
			t.Errorf("got %s (%v), want %s", got, err, r.want)
		}
	})
}

// withLength changes the outer length of a file by so much; the length field is
// of one byte or of the form 82 xx xx.
func withLength(file []byte, by int) []byte {
	b := bytes.Clone(file)
	if at := 1; b[at] < 0x80 {
		b[at] += byte(by)
	} else {
		b[at+int(b[at]&0x7F)] += byte(by)
	}
	return b
}

func withTag(file []byte, tag byte) []byte { return append([]byte{tag}, file[1:]...) }

func TestConformanceCOM(t *testing.T) {
	com := func(version, unicode, list string) []byte {
		object := func(tag tlv.Tag, s string) []byte {
			if s == "" {
				return nil
			}
			return tlv.Encode(tag, []byte(s))
		}
		return tlv.Encode(0x60, object(0x5F01, version), object(0x5F36, unicode), object(0x5C, list))
	}
	good := com("0107", "040000", "\x61\x75\x6E")
	for _, r := range []row{
		{"plain", good, accept},
		{"LDS_A_01", withTag(good, 0x61), reject},
		{"LDS_A_02", withLength(good, -1), reject},
		{"LDS_A_03", withLength(good, +1), reject},
		{"LDS_A_04", com("0300", "040000", "\x61\x75"), reject},
		{"LDS_A_05", com("", "040000", "\x61\x75"), reject},
		{"LDS_A_06", com("0107", "050000", "\x61\x75"), reject},
		{"LDS_A_07", com("0107", "", "\x61\x75"), reject},
		{"LDS_A_08", com("0107", "040000", "\x75\x6E"), reject},
		{"LDS_A_09", com("0107", "040000", ""), reject},
		{"LDS_A_10", com("0108", "040000", "\x61\x75"), accept},
		{"no DG2", com("0107", "040000", "\x61"), reject},
		{"DG1 twice", com("0107", "040000", "\x61\x61\x75"), reject},
		{"of 2003", com("0106", "040000", "\x61\x75"), outcome(lds.WarnLDSVersion)},
		{"tag 71", com("0107", "040000", "\x61\x75\x71"), outcome(lds.WarnUnknownObject)},
		{"nothing", nil, reject},
	} {
		r.run(t, lds.EFCOM)
	}
}

// td3 is a zone with the given fields and right check digits, but for the field
// named wrong.
func td3(t *testing.T, wrong string, fields map[string]string) []byte {
	t.Helper()
	f := map[string]string{"code": "P<", "state": "UTO", "name": "ERIKSSON<<ANNA<MARIA", "number": "L898902C3",
		"nationality": "UTO", "birth": "740812", "sex": "F", "expiry": "120415", "optional": "", "empty": "<"}
	for k, v := range fields {
		if _, ok := f[k]; !ok {
			t.Fatalf("no field %s", k)
		}
		f[k] = v
	}
	pad := func(s string, n int) string { return s + strings.Repeat("<", n-len(s)) }
	checked := func(name, s string) string {
		digit := lds.CheckDigit(s)
		if name == wrong {
			digit = lds.CheckDigit(digit + "1") // another one: 7d+3 is not d
		}
		return s + digit
	}
	number, birth, expiry := checked("number", pad(f["number"], 9)), checked("birth", f["birth"]), checked("expiry", f["expiry"])
	optional := checked("optional", pad(f["optional"], 14))
	if f["optional"] == "" {
		optional = pad("", 14) + f["empty"]
	}
	composite := checked("composite", number+birth+expiry+optional)
	zone := pad(f["code"]+f["state"]+f["name"], 44) + number + f["nationality"] + birth + f["sex"] + expiry + optional + composite[len(composite)-1:]
	return tlv.Encode(0x61, tlv.Encode(0x5F1F, []byte(zone)))
}

func TestConformanceDG1(t *testing.T) {
	set := func(pairs ...string) []byte {
		fields := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			fields[pairs[i]] = pairs[i+1]
		}
		return td3(t, "", fields)
	}
	wrong := func(field string) []byte { return td3(t, field, map[string]string{"optional": "ZE184226B"}) }
	good := set()
	for _, r := range []row{
		{"plain", good, accept},
		{"LDS_B_01", set("optional", "ZE184226B"), accept},
		{"LDS_B_02", set("name", "NILAVADHANANANDA<<CHAYAPA<DEJTHAMRONG<K"), accept},
		{"LDS_B_03", set("name", "ARKFREITH"), accept},
		{"LDS_B_04", set("empty", "0"), accept},
		{"LDS_B_05", withTag(good, 0x62), reject},
		{"LDS_B_06", withLength(good, -1), reject},
		{"LDS_B_07", withLength(good, +1), reject},
		{"LDS_B_08", set("code", "X<"), reject},
		{"LDS_B_09", set("state", "U7O"), reject},
		{"LDS_B_10", set("name", ""), reject},
		{"LDS_B_13", wrong("number"), reject},
		{"LDS_B_14", set("nationality", "U7O"), reject},
		{"LDS_B_15", set("birth", "74O812"), reject},
		{"LDS_B_16", set("birth", "740231"), reject},
		{"LDS_B_17", wrong("birth"), reject},
		{"LDS_B_18", set("sex", "Q"), reject},
		{"LDS_B_19", set("expiry", "12O415"), reject},
		{"LDS_B_20", set("expiry", "120431"), reject},
		{"LDS_B_21", wrong("expiry"), reject},
		{"LDS_B_22", wrong("optional"), reject},
		{"LDS_B_23", wrong("composite"), reject},
		{"LDS_B_24", tlv.Encode(0x61), reject},
		{"LDS_B_25", set("birth", "7408<<"), accept},
		{"LDS_B_26", set("birth", "74<<12"), accept},
		{"LDS_B_27", set("birth", "<<0812"), accept},
		{"LDS_B_28", set("birth", "<<<<<<"), accept},
	} {
		r.run(t, lds.DG1)
	}
	for id, c := range map[string]struct {
		field   string
		printed []byte
	}{
		"LDS_B_11": {"name", set("name", "ERIKSSON<<ANNE<MARIA")},
		"LDS_B_12": {"document number", set("number", "L898902C4")},
	} {
		t.Run(id, func(t *testing.T) {
			chip, err1 := lds.ParseDG1(good)
			page, err2 := lds.ParseDG1(c.printed)
			if d := chip.Differs(page); err1 != nil || err2 != nil || !slices.Equal(d, []string{c.field}) {
				t.Errorf("differs in %v, %v, %v", d, err1, err2)
			}
		})
	}
	// What a wrong digit spoils is for the caller to say: the zone is there.
	if m, err := lds.ParseDG1(wrong("number")); !errors.Is(err, lds.ErrCheckDigit) || reveal(m.Number) != "L898902C3" {
		t.Errorf("a wrong check digit hides the zone: %v", err)
	}
}

func TestConformanceDG2(t *testing.T) {
	jpeg := []byte{0xFF, 0xD8, 0xFF, 0xE0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	jp2 := []byte("\x00\x00\x00\x0CjP  \r\n\x87\n\x00\x00\x00")
	owner, kind := tlv.Encode(0x87, []byte{1, 1}), tlv.Encode(0x88, []byte{0, 8})
	face := tlv.Encode(0x81, []byte{2})
	record := func(o faceOptions) []byte { return tlv.Encode(0x5F2E, o.record()) }
	plain := record(faceOptions{image: jpeg})
	template := func(header, block []byte) []byte { return tlv.Encode(0x7F60, tlv.Encode(0xA1, header), block) }
	group := func(parts ...[]byte) []byte { return tlv.Encode(0x75, tlv.Encode(0x7F61, parts...)) }
	one := []byte{2, 1, 1}
	header := slices.Concat(face, owner, kind)
	file := func(header, block []byte) []byte { return group(one, template(header, block)) }
	good := file(header, plain)
	code := func(at int, b byte) []byte {
		return file(header, record(faceOptions{image: jpeg, codes: map[int]byte{at: b}}))
	}
	undefined := outcome(lds.WarnFaceCode)

	for _, r := range []row{
		{"plain", good, accept},
		{"LDS_C_01", file(header, record(faceOptions{image: jp2, codes: map[int]byte{21: 1}})), accept},
		{"LDS_C_02", good, accept},
		{"LDS_C_03", file(header, record(faceOptions{image: jp2, points: 3, codes: map[int]byte{21: 1}})), accept},
		{"LDS_C_04", withTag(good, 0x76), reject},
		{"LDS_C_05", withLength(good, -1), reject},
		{"LDS_C_06", withLength(good, +1), reject},
		{"LDS_C_07", group(template(header, plain)), reject},
		{"LDS_C_08", file(slices.Concat(face, tlv.Encode(0x87, []byte{1, 2}), kind), plain), reject},
		{"LDS_C_09", file(slices.Concat(face, kind), plain), reject},
		{"LDS_C_10", file(slices.Concat(face, owner, tlv.Encode(0x88, []byte{0, 9})), plain), reject},
		{"LDS_C_11", file(slices.Concat(face, owner), plain), reject},
		{"LDS_C_12", file(slices.Concat(tlv.Encode(0x81, []byte{0, 0, 2}), owner, kind), plain), outcome(lds.WarnBiometricType)},
		{"LDS_C_13", file(slices.Concat(tlv.Encode(0x81, []byte{8}), owner, kind), plain), reject},
		{"LDS_C_14", file(header, record(faceOptions{image: jpeg, magic: "FIR\x00010\x00"})), reject},
		{"LDS_C_15", file(header, record(faceOptions{image: jpeg, magic: "FAC\x00020\x00"})), reject},
		{"LDS_C_16", file(header, record(faceOptions{image: jpeg, points: 3, total: -24})), outcome(lds.WarnFaceLength)},
		{"LDS_C_17", code(6, 3), undefined},
		{"LDS_C_18", code(7, 8), undefined},
		{"LDS_C_19", code(8, 10), undefined},
		{"LDS_C_20", code(14, 182), undefined},
		{"LDS_C_21", code(15, 182), undefined},
		{"LDS_C_22", code(16, 182), undefined},
		{"LDS_C_23", code(17, 182), undefined},
		{"LDS_C_24", code(18, 182), undefined},
		{"LDS_C_25", code(19, 182), undefined},
		{"LDS_C_26", code(20, 4), undefined},
		{"LDS_C_27", code(21, 1), outcome(lds.WarnFaceFormat)},
		{"LDS_C_28", group(one, tlv.Encode(0x7F60, tlv.Encode(0xA1, header))), reject},
		{"no type of biometric", file(slices.Concat(owner, kind), plain), accept},
		{"block forgets points too", file(header, record(faceOptions{image: jpeg, points: 3, total: -24, slack: -24})), outcome(lds.WarnFaceLength)},
		{"record far too long", file(header, record(faceOptions{image: jpeg, total: 9})), reject},
		{"two faces stated", group([]byte{2, 1, 2}, template(header, plain)), reject},
		{"no header", group(one, tlv.Encode(0x7F60, plain)), reject},
		{"record in 7F2E", file(header, tlv.Encode(0x7F2E, faceOptions{image: jpeg}.record())), reject},
		{"of the 2011 edition", file(header, record(faceOptions{image: jpeg, magic: "FAC\x00030\x00"})), reject},
		{"no image", file(header, record(faceOptions{})), reject},
	} {
		r.run(t, lds.DG2)
	}

	// A fault in the header stops acceptance, not the display of the face.
	for id, content := range map[string][]byte{
		"owner absent": file(kind, plain), "wrong type": file(slices.Concat(tlv.Encode(0x81, []byte{8}), owner, kind), plain),
		"two faces stated": group([]byte{2, 1, 2}, template(header, plain)),
	} {
		if faces, err := lds.ParseDG2(content); err != nil || len(faces) != 1 || !bytes.Equal(faces[0].Image, jpeg) {
			t.Errorf("%s: %d faces, %v", id, len(faces), err)
		}
	}
}

func TestConformanceDG14(t *testing.T) {
	good := loadFiles(t)["DG14"]
	infos, err := lds.ParseDG14(good)
	if err != nil {
		t.Fatal(err)
	}
	// The infos one by one, by what they begin with.
	with := func(edit func(info []byte) []byte) []byte {
		var all []byte
		for _, info := range infos.Raw {
			all = append(all, edit(bytes.Clone(info))...)
		}
		return tlv.Encode(0x6E, tlv.Encode(0x31, all))
	}
	oid := func(tail ...byte) []byte { return append([]byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02}, tail...) }
	key, chip := oid(1), oid(3)
	infosOf := func(info, prefix []byte) bool { return bytes.Contains(info[:min(len(info), 20)], prefix) }
	// numbered gives Chip Authentication and its key a number each, none if it is 0.
	numbered := func(info []byte, ofProtocol, ofKey byte) []byte {
		n := byte(0)
		switch {
		case infosOf(info, chip):
			n = ofProtocol
		case infosOf(info, key):
			n = ofKey
		}
		if n == 0 {
			return info
		}
		node, err := tlv.ParseOne(info, 0x30)
		if err != nil {
			t.Fatal(err)
		}
		return tlv.Encode(0x30, node.Value, []byte{0x02, 0x01, n})
	}
	for _, r := range []row{
		{"plain", good, accept},
		{"LDS_F_01", withTag(good, 0x6F), reject},
		{"LDS_F_02", withLength(good, -1), reject},
		{"LDS_F_03", withLength(good, +1), reject},
		{"LDS_F_04", with(func(info []byte) []byte {
			if infosOf(info, key) {
				info[bytes.Index(info, key)+7] = 0x55
			}
			return info
		}), reject},
		{"LDS_F_05", with(func(info []byte) []byte {
			if infosOf(info, chip) {
				return nil
			}
			return info
		}), reject},
		{"LDS_F_06", with(func(info []byte) []byte {
			if infosOf(info, chip) {
				info[len(info)-1] = 10
			}
			return info
		}), reject},
		{"LDS_F_07", with(func(info []byte) []byte {
			if infosOf(info, chip) {
				info = tlv.Encode(0x30, info[2:len(info)-3])
			}
			return info
		}), reject},
		{"ISO7816_D_03", with(func(info []byte) []byte { return numbered(info, 7, 7) }), accept},
		{"ISO7816_D_13", with(func(info []byte) []byte { return numbered(info, 7, 8) }), reject},
		{"ISO7816_D_13 (none)", with(func(info []byte) []byte { return numbered(info, 7, 0) }), reject},
	} {
		r.run(t, lds.DG14)
	}
}

func TestConformanceDG15(t *testing.T) {
	good := loadFiles(t)["DG15"]
	for _, r := range []row{
		{"plain", good, accept},
		{"LDS_I_01", withTag(good, 0x70), reject},
		{"LDS_I_02", withLength(good, -1), reject},
		{"LDS_I_03", withLength(good, +1), reject},
	} {
		r.run(t, lds.DG15)
	}
}

func TestConformanceATRInfo(t *testing.T) {
	number := func(b ...byte) []byte { return tlv.Encode(0x02, b) }
	capabilities := func(third byte) []byte { return tlv.Encode(0x47, []byte{0xD0, 0x21, third}) }
	lengths := func(tag tlv.Tag, numbers ...[]byte) []byte {
		return append(capabilities(0xC0), tlv.Encode(tag, numbers...)...)
	}
	two, three := number(0x07, 0x80), number(0x01, 0x00, 0x00)
	for _, r := range []row{
		{"LDS_K_01", lengths(0x7F66, two, two), accept},
		{"LDS_K_02", lengths(0x7F66, three, three), accept},
		{"LDS_K_03", lengths(0x7F66, two), reject},
		{"LDS_K_04", lengths(0x7F65, two, two), reject},
		{"three limits", lengths(0x7F66, two, two, two), reject},
		{"one byte", lengths(0x7F66, number(0xFF), two), reject},
		{"four bytes", lengths(0x7F66, number(0, 0, 7, 0x80), two), reject},
		{"nothing at all", lengths(0x7F66, number(0, 0), two), reject},
		{"a string", lengths(0x7F66, tlv.Encode(0x04, []byte{7, 0x80}), two), reject},
		{"lengths alone", tlv.Encode(0x7F66, two, three), accept},
		{"no extended length", capabilities(0x80), accept},
		{"extended length untold", capabilities(0x40), reject},
		{"capabilities of no size", tlv.Encode(0x47), reject},
		{"zero bytes around", slices.Concat([]byte{0, 0}, lengths(0x7F66, two, three), make([]byte, 40)), accept},
		{"cut", lengths(0x7F66, two, two)[:9], reject},
		{"empty", nil, reject},
	} {
		r.run(t, lds.EFATRInfo)
	}
	info, err := lds.ParseATRInfo(lengths(0x7F66, two, three))
	if want := (lds.ATRInfo{Chaining: true, Extended: true, MaxCommand: 1920, MaxAnswer: 65536}); err != nil || info != want {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestCheckCardSecurity(t *testing.T) {
	for _, v := range load(t, "cardsecurity.json") {
		if good := unhex(t, v.Bytes); v.Kind == "cardsecurity" {
			row{v.Name, good, accept}.run(t, lds.EFCardSecurity)
			row{v.Name + ", short", withLength(good, -1), reject}.run(t, lds.EFCardSecurity)
			row{v.Name + ", another tag", withTag(good, 0x31), reject}.run(t, lds.EFCardSecurity)
		}
	}
}

// Files of which only the outer object is known; and what there is no check for.
func TestCheckOpaque(t *testing.T) {
	for _, f := range []lds.File{lds.DG3, lds.DG4, lds.DG6, lds.DG8, lds.DG9, lds.DG10, lds.DG13} {
		good := tlv.Encode(f.Tag(), []byte("whatever"))
		for _, r := range []row{
			{"plain", good, accept}, {"another tag", withTag(good, 0x30), reject},
			{"short", withLength(good, -1), reject}, {"long", withLength(good, +1), reject}, {"empty", nil, reject},
		} {
			r.run(t, f)
		}
	}
	for name, content := range loadFiles(t) {
		f, err := lds.ParseFile(strings.TrimSuffix(name, " RSA"))
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := lds.Check(f, content)
		if f == lds.DG2 { // whose header names no owner
			if !errors.Is(err, lds.ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		} else if err != nil || warnings != nil {
			t.Errorf("%s: %v, %v", name, warnings, err)
		}
	}
	if _, err := lds.Check(0x3F00, nil); !errors.Is(err, lds.ErrUnsupported) {
		t.Errorf("unknown file: %v", err)
	}
}

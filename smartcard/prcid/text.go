package prcid

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"enrollkiosk/kiosk/secret"
)

// span is where in the text a field stands, in bytes. A field that stands in two
// places is their concatenation.
type span struct {
	field      Field
	start, end int
}

// kindAt is where the letter of the kind stands; on a resident's card it is blank.
const kindAt = 248

// layouts of the text, as the readers' makers publish them. Every field is
// UTF-16 in little endian, blanks to its width.
var layouts = map[Kind][]span{
	Resident: {
		{FieldName, 0, 30}, {FieldSex, 30, 32}, {FieldEthnicGroup, 32, 36}, {FieldBirth, 36, 52},
		{FieldAddress, 52, 122}, {FieldNumber, 122, 158}, {FieldAuthority, 158, 188},
		{FieldFrom, 188, 204}, {FieldUntil, 204, 220},
	},
	HongKongMacaoTaiwan: {
		{FieldName, 0, 30}, {FieldSex, 30, 32}, {FieldBirth, 36, 52},
		{FieldAddress, 52, 122}, {FieldNumber, 122, 158}, {FieldAuthority, 158, 188},
		{FieldFrom, 188, 204}, {FieldUntil, 204, 220}, {FieldPassNumber, 220, 238}, {FieldIssue, 238, 242},
	},
	Foreigner2017: {
		{FieldEnglishName, 0, 120}, {FieldSex, 120, 122}, {FieldNumber, 122, 152}, {FieldNationality, 152, 158},
		{FieldName, 158, 188}, {FieldFrom, 188, 204}, {FieldUntil, 204, 220}, {FieldBirth, 220, 236},
		{FieldIssue, 236, 240}, {FieldAuthority, 240, 248},
	},
	Foreigner2023: {
		{FieldName, 0, 30}, {FieldSex, 30, 32}, {FieldIssue, 32, 36}, {FieldBirth, 36, 52},
		{FieldEnglishName, 52, 122}, {FieldEnglishName, 220, 242}, {FieldNumber, 122, 158},
		{FieldFrom, 188, 204}, {FieldUntil, 204, 220}, {FieldNationality, 242, 248},
	},
}

// optional fields may be empty.
func optional(k Kind, f Field) bool {
	switch f {
	case FieldName:
		return k == Foreigner2017 || k == Foreigner2023
	case FieldIssue, FieldPassNumber, FieldNewAddress:
		return true
	case FieldAuthority:
		return k == Foreigner2017
	}
	return false
}

// Parse reads the text of a card. It fails only if that has not 256 bytes; what
// is wrong inside is in the Document's Problems. It takes ownership of text.
func Parse(text []byte) (Document, error) {
	if len(text) != textSize {
		return Document{}, fmt.Errorf("%w: text of %d bytes", ErrFrame, len(text))
	}
	d := Document{Kind: Kind(text[kindAt]), Text: secret.New(text)}
	if layouts[d.Kind] == nil || text[kindAt+1] != 0 {
		d.Kind = Resident
		if text[kindAt]|text[kindAt+1] != 0 {
			d.problem(FieldKind, ErrCode)
		}
	}
	raw := make(map[Field][]byte)
	for _, s := range layouts[d.Kind] {
		raw[s.field] = append(raw[s.field], text[s.start:s.end]...)
	}
	for _, s := range layouts[d.Kind] {
		if b, waits := raw[s.field]; waits {
			delete(raw, s.field)
			d.parseField(s.field, b)
		}
	}
	d.checkNumber()
	return d, nil
}

// parseField reads one field into its place, or notes why not.
func (d *Document) parseField(f Field, raw []byte) {
	s, err := decodeText(raw)
	if err == nil && s == "" && !optional(d.Kind, f) {
		err = ErrMissing
	}
	if err != nil {
		d.problem(f, err)
		return
	}
	switch f {
	case FieldSex:
		d.Sex = d.code(f, s, sexes)
	case FieldEthnicGroup:
		d.EthnicGroup = d.code(f, s, ethnicGroups)
	case FieldBirth:
		d.Birth = d.date(f, s)
	case FieldFrom:
		d.From = d.date(f, s)
	case FieldUntil:
		if d.LongTerm = s == longTerm; !d.LongTerm {
			d.Until = d.date(f, s)
		}
	default:
		*d.text(f) = secret.FromString(s)
	}
}

// longTerm stands in place of a last day.
const longTerm = "长期"

// text is where a field of plain text belongs.
func (d *Document) text(f Field) *secret.Text {
	switch f {
	case FieldName:
		return &d.Name
	case FieldEnglishName:
		return &d.EnglishName
	case FieldAddress:
		return &d.Address
	case FieldNewAddress:
		return &d.NewAddress
	case FieldNumber:
		return &d.Number
	case FieldNationality:
		return &d.Nationality
	case FieldPassNumber:
		return &d.PassNumber
	case FieldIssue:
		return &d.Issue
	}
	return &d.Authority
}

// addAddress takes the answer to READ NEW ADDRESS.
func (d *Document) addAddress(raw []byte) {
	d.AddressText = secret.New(raw)
	d.parseField(FieldNewAddress, raw)
}

// decodeText reads UTF-16 in little endian without the blanks and zeros at its end.
func decodeText(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", ErrText
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	s := strings.TrimRight(string(utf16.Decode(units)), " \x00\u3000")
	for _, r := range s {
		// A half of a surrogate pair decodes as the replacement character, which no
		// name holds; FFFF is memory that nobody wrote. Rare characters may stand in
		// the private use area.
		if r == unicode.ReplacementChar || unicode.IsControl(r) || r&0xFFFE == 0xFFFE {
			return "", ErrText
		}
	}
	return s, nil
}

func (d *Document) code(f Field, value string, names map[string][2]string) Code {
	c := Code{Value: secret.FromString(value)}
	n, known := names[value]
	if !known {
		d.problem(f, ErrCode)
		return c
	}
	c.Chinese, c.English = secret.FromString(n[0]), secret.FromString(n[1])
	return c
}

func (d *Document) date(f Field, s string) Date {
	day, err := time.Parse("20060102", s)
	if err != nil {
		d.problem(f, ErrDate)
		return Date{}
	}
	return Date{day: day}
}

// checkNumber holds the number against its own check digit, and birth and sex
// against it.
func (d *Document) checkNumber() {
	number := d.Number.Reveal()
	if len(number) == 0 {
		return // is a problem already
	}
	facts, err := readNumber(d.Kind, number)
	if err != nil {
		d.problem(FieldNumber, err)
		return
	}
	if day, ok := d.Birth.Day(); ok && !bytes.HasSuffix([]byte(day.Format("20060102")), facts.birth) {
		d.problem(FieldBirth, ErrMismatch)
	}
	if sex := d.Sex.Value.Reveal(); facts.sex != 0 && len(sex) == 1 && (sex[0] == male || sex[0] == female) && sex[0] != facts.sex {
		d.problem(FieldSex, ErrMismatch)
	}
}

package lds

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/tlv"
)

// MRZ is a machine readable zone (Doc 9303-3 to -6). It refuses to print and
// to marshal; personal fields are [secret.Text] so that they stay closed in any
// struct.
type MRZ struct {
	private
	Format       string // "TD1", "TD2", "TD3"
	DocumentCode string // "P", "I", "ID": filler removed
	Issuer       string // "UTO", "D": filler removed
	Number       secret.Text
	Nationality  secret.Text
	Birth        Date
	Expiry       Date
	Sex          Sex
	Primary      secret.Text // parts joined by one space
	Secondary    secret.Text // empty when the holder has one name
	Truncated    bool        // the name may have been cut: it fills its field to the end
	Optional     secret.Text // optional data, what a long document number took removed
	Optional2    secret.Text // TD1 only
}

// Sex as the zone gives it.
type Sex string

// Values of Sex.
const (
	Female      Sex = "F"
	Male        Sex = "M"
	Unspecified Sex = "<"
)

// Date is a date of six characters YYMMDD whose parts may be unknown ("<<" or,
// for month and day, "00"). The century is not in the zone: [Date.Birth] and
// [Date.Expiry] infer it.
type Date struct{ text secret.Text }

// Text is the date as the zone has it, six characters.
func (d Date) Text() secret.Text { return d.text }

// parts are year (of the century), month and day; -1 for an unknown one.
func (d Date) parts() (year, month, day int) {
	text := string(d.text.Reveal())
	if len(text) != 6 {
		return -1, -1, -1
	}
	part := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			return -1
		}
		return n
	}
	year, month, day = part(text[:2]), part(text[2:4]), part(text[4:])
	if month == 0 {
		month = -1
	}
	if day == 0 {
		day = -1
	}
	return year, month, day
}

// possible says whether d can be a day: it is written as a date, and what is
// known of it agrees with the calendar.
func (d Date) possible() bool {
	y, _, _ := d.parts()
	return d.possibleIn(2000 + max(y, 0)) // 2000 was a leap year
}

// possibleIn is possible with a year of four digits.
func (d Date) possibleIn(year int) bool {
	_, m, dd := d.parts()
	_, ok := calendar(year, max(m, 1), max(dd, 1))
	return ok && dateText(string(d.text.Reveal()))
}

// Expiry reads d as the last day of validity, in the century nearest to at;
// midnight UTC at the beginning of that day. Unknown parts give the last
// possible day. ok is false when the year is unknown or there is no such day.
func (d Date) Expiry(at time.Time) (day time.Time, ok bool) {
	y, m, dd := d.parts()
	if y < 0 {
		return time.Time{}, false
	}
	now := at.UTC().Year()
	year := now - now%100 + y
	switch {
	case year-now > 50:
		year -= 100
	case now-year >= 50:
		year += 100
	}
	if m < 0 {
		return time.Date(year, 12, 31, 0, 0, 0, 0, time.UTC), true
	}
	if dd < 0 {
		return time.Date(year, time.Month(m)+1, 0, 0, 0, 0, 0, time.UTC), m <= 12
	}
	return calendar(year, m, dd)
}

// Birth reads d as a birth date: the latest such day that is not after at.
// Someone over 99 gets a day one century late; only a person can tell.
// ok is false when a part is unknown or there is no such day.
func (d Date) Birth(at time.Time) (day time.Time, ok bool) {
	y, m, dd := d.parts()
	if y < 0 || m < 0 || dd < 0 {
		return time.Time{}, false
	}
	now := at.UTC().Year()
	// Three centuries, because 29 February is not in every one.
	for year := now - now%100 + y; year > now-300; year -= 100 {
		if day, ok := calendar(year, m, dd); ok && !day.After(at) {
			return day, true
		}
	}
	return time.Time{}, false
}

// Born is the first and the last day on which the holder can have been born, seen
// at a time: the zone has no century, so the first is a hundred years before the
// last, and parts may be unknown. The first is zero, and the last the day of at,
// when the year is unknown or there is no such day.
func (d Date) Born(at time.Time) (first, last time.Time) {
	today := at.UTC().Truncate(24 * time.Hour)
	y, m, _ := d.parts()
	if y < 0 || !d.possible() {
		return time.Time{}, today
	}
	if last, ok := d.Birth(at); ok {
		first, _ = d.Birth(last.AddDate(0, 0, -1))
		return first, last
	}
	from, to := time.Month(1), time.Month(12)
	if m > 0 {
		from, to = time.Month(m), time.Month(m)
	}
	now := at.UTC().Year()
	year := now - now%100 + y
	if time.Date(year, from, 1, 0, 0, 0, 0, time.UTC).After(at) {
		year -= 100
	}
	last = time.Date(year, to+1, 0, 0, 0, 0, 0, time.UTC)
	if last.After(today) {
		last = today
	}
	return time.Date(year-100, from, 1, 0, 0, 0, 0, time.UTC), last
}

func calendar(year, month, day int) (time.Time, bool) {
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if int(t.Month()) != month || t.Day() != day {
		return time.Time{}, false
	}
	return t, true
}

// ParseMRZ reads a machine readable zone of any size, of a passport or an
// identity card; visas have no chip. Lines may be separated by line breaks or
// spaces, or not at all. It fails with ErrMalformed; or with ErrCheckDigit, and then the MRZ is filled all the same: in a signed data
// group it is the signature that vouches, and states have printed wrong digits.
func ParseMRZ(text string) (MRZ, error) {
	if len(text) > 128 {
		return MRZ{}, fmt.Errorf("machine readable zone: %w: too long", ErrMalformed)
	}
	text = strings.NewReplacer("\r", "", "\n", "", " ", "").Replace(text)
	if !charset(text) {
		return MRZ{}, fmt.Errorf("machine readable zone: %w: character outside A-Z 0-9 <", ErrMalformed)
	}
	var f fields
	switch len(text) {
	case 90:
		f = td1(text[:30], text[30:60], text[60:])
	case 72:
		f = td2(text[:36], text[36:])
	case 88:
		f = td3(text[:44], text[44:])
	default:
		return MRZ{}, fmt.Errorf("machine readable zone: %w: %d characters", ErrMalformed, len(text))
	}
	return f.mrz()
}

// ParseDG1 reads the machine readable zone of DG1; see [ParseMRZ] for a wrong
// check digit.
func ParseDG1(file []byte) (MRZ, error) {
	outer, err := tlv.ParseOne(file, DG1.Tag())
	if err != nil {
		return MRZ{}, malformed("DG1", err)
	}
	c := outer.Cursor()
	text := c.Next(0x5F1F).Value
	if err := c.Done(); err != nil {
		return MRZ{}, malformed("DG1", err)
	}
	m, err := ParseMRZ(string(text))
	if err != nil {
		return m, fmt.Errorf("DG1: %w", err)
	}
	return m, nil
}

// fields are the zone's fields as they stand, filler and all.
type fields struct {
	format, code, issuer, name         string
	number, numberCheck                string
	nationality                        string
	birth, birthCheck, sex             string
	expiry, expiryCheck                string
	optional, optionalCheck, optional2 string
	composite, compositeCheck          string
}

func td1(a, b, c string) fields { // Doc 9303-5 4.2.2
	return fields{
		format: "TD1", code: a[:2], issuer: a[2:5], name: c,
		number: a[5:14], numberCheck: a[14:15], optional: a[15:30],
		birth: b[:6], birthCheck: b[6:7], sex: b[7:8], expiry: b[8:14], expiryCheck: b[14:15],
		nationality: b[15:18], optional2: b[18:29],
		composite: a[5:30] + b[:7] + b[8:15] + b[18:29], compositeCheck: b[29:],
	}
}

func td2(a, b string) fields { // Doc 9303-6 4.2.2
	f := secondLine(b)
	f.format, f.code, f.issuer, f.name = "TD2", a[:2], a[2:5], a[5:]
	f.optional, f.composite, f.compositeCheck = b[28:35], b[:10]+b[13:20]+b[21:35], b[35:]
	return f
}

func td3(a, b string) fields { // Doc 9303-4 4.2.2
	f := secondLine(b)
	f.format, f.code, f.issuer, f.name = "TD3", a[:2], a[2:5], a[5:]
	f.optional, f.optionalCheck = b[28:42], b[42:43]
	f.composite, f.compositeCheck = b[:10]+b[13:20]+b[21:43], b[43:]
	return f
}

func secondLine(b string) fields {
	return fields{
		number: b[:9], numberCheck: b[9:10], nationality: b[10:13],
		birth: b[13:19], birthCheck: b[19:20], sex: b[20:21], expiry: b[21:27], expiryCheck: b[27:28],
	}
}

func (f fields) mrz() (MRZ, error) {
	number := strings.TrimRight(f.number, "<")
	numberCheck, optional := f.numberCheck, f.optional
	// A long document number goes on in the optional field, where its check
	// digit follows it (Doc 9303-5 4.2.2 note j, Doc 9303-6 4.2.2 note j).
	if f.format != "TD3" && numberCheck == "<" && optional[0] != '<' {
		rest, tail, _ := strings.Cut(optional, "<")
		number = f.number + rest[:len(rest)-1]
		numberCheck, optional = rest[len(rest)-1:], tail
	}
	sex := Sex(f.sex)
	if sex == "X" {
		sex = Unspecified
	}
	primary, secondary, _ := strings.Cut(f.name, "<<")
	primary, secondary = words(primary), words(secondary)
	birth, expiry := Date{secret.FromString(f.birth)}, Date{secret.FromString(f.expiry)}
	wrongField := ""
	switch {
	case !strings.Contains("ACIP", f.code[:1]) || !stateCode(f.code): // Doc 9303-4 to -6 4.2.2
		wrongField = "document code"
	case !stateCode(f.issuer) || f.issuer == "<<<":
		wrongField = "issuing state"
	case !stateCode(f.nationality):
		wrongField = "nationality"
	case number == "":
		wrongField = "no document number"
	case !birth.possible():
		wrongField = "birth date"
	case !expiry.possible():
		wrongField = "expiry date"
	case sex != Female && sex != Male && sex != Unspecified:
		wrongField = "sex"
	case primary == "" && secondary == "":
		wrongField = "no name"
	}
	if wrongField != "" {
		return MRZ{}, fmt.Errorf("machine readable zone: %w: %s", ErrMalformed, wrongField)
	}

	m := MRZ{
		Format:       f.format,
		DocumentCode: strings.TrimRight(f.code, "<"),
		Issuer:       strings.TrimRight(f.issuer, "<"),
		Number:       secret.FromString(number),
		Nationality:  secret.FromString(strings.TrimRight(f.nationality, "<")),
		Birth:        birth,
		Expiry:       expiry,
		Sex:          sex,
		Primary:      secret.FromString(primary),
		Secondary:    secret.FromString(secondary),
		Truncated:    !strings.HasSuffix(f.name, "<"),
		Optional:     secret.FromString(strings.TrimRight(optional, "<")),
		Optional2:    secret.FromString(strings.TrimRight(f.optional2, "<")),
	}

	var wrong []string
	for _, c := range []struct{ field, text, digit string }{
		{"document number", number, numberCheck},
		{"birth date", f.birth, f.birthCheck},
		{"expiry date", f.expiry, f.expiryCheck},
		{"optional data", f.optional, f.optionalCheck},
		{"composite", f.composite, f.compositeCheck},
	} {
		empty := c.field == "optional data" && strings.Trim(c.text, "<") == "" && c.digit == "<"
		if c.digit != "" && !empty && c.digit != CheckDigit(c.text) {
			wrong = append(wrong, c.field)
		}
	}
	if wrong != nil {
		return m, fmt.Errorf("machine readable zone: %w: %s", ErrCheckDigit, strings.Join(wrong, ", "))
	}
	return m, nil
}

// Differs compares the zone of a chip with the printed one and names the fields
// in which they differ; none if they are the same.
func (m MRZ) Differs(printed MRZ) []string {
	var fields []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"format", m.Format == printed.Format},
		{"document code", m.DocumentCode == printed.DocumentCode},
		{"issuing state", m.Issuer == printed.Issuer},
		{"name", m.Primary.Equal(printed.Primary) && m.Secondary.Equal(printed.Secondary)},
		{"document number", m.Number.Equal(printed.Number)},
		{"nationality", m.Nationality.Equal(printed.Nationality)},
		{"birth date", m.Birth.text.Equal(printed.Birth.text)},
		{"sex", m.Sex == printed.Sex},
		{"expiry date", m.Expiry.text.Equal(printed.Expiry.text)},
		{"optional data", m.Optional.Equal(printed.Optional) && m.Optional2.Equal(printed.Optional2)},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// Information is the MRZ information that BAC and PACE keys derive from (Doc
// 9303-11 4.3.3).
func (m MRZ) Information() (secret.Text, error) {
	return MRZInformation(string(m.Number.Reveal()), string(m.Birth.text.Reveal()), string(m.Expiry.text.Reveal()))
}

// MRZInformation makes the MRZ information from fields as a person types them:
// the document number as printed (without check digit; case, spaces and hyphens
// do not matter), birth and expiry as YYMMDD, "<" or "0" for unknown parts. It
// fails with ErrMalformed and names the field.
func MRZInformation(number, birth, expiry string) (secret.Text, error) {
	number = strings.ToUpper(strings.NewReplacer(" ", "", "-", "<").Replace(number))
	number = strings.TrimRight(number, "<")
	if number == "" || len(number) > 22 || !charset(number) {
		return secret.Text{}, fmt.Errorf("document number: %w", ErrMalformed)
	}
	if len(number) < 9 {
		number += strings.Repeat("<", 9-len(number))
	}
	for _, f := range []struct{ name, text string }{{"birth date", birth}, {"expiry date", expiry}} {
		d := Date{secret.FromString(f.text)}
		if y, _, _ := d.parts(); !d.possible() || f.name == "expiry date" && y < 0 {
			return secret.Text{}, fmt.Errorf("%s: %w", f.name, ErrMalformed)
		}
	}
	return secret.FromString(number + CheckDigit(number) + birth + CheckDigit(birth) + expiry + CheckDigit(expiry)), nil
}

// CheckDigit is the check digit of a field (Doc 9303-3 4.9).
func CheckDigit(field string) string {
	sum := 0
	for i, c := range []byte(field) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'A' && c <= 'Z':
			c -= 'A' - 10
		default:
			c = 0
		}
		sum += int(c) * [3]int{7, 3, 1}[i%3]
	}
	return strconv.Itoa(sum % 10)
}

func words(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '<' }), " ")
}

func charset(s string) bool {
	return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789<") == ""
}

// stateCode accepts letters, with filler after them or instead of them.
func stateCode(s string) bool {
	return strings.Trim(strings.TrimRight(s, "<"), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// dateText accepts YYMMDD in which each part is two digits or "<<".
func dateText(s string) bool {
	if len(s) != 6 {
		return false
	}
	for i := 0; i < 6; i += 2 {
		if part := s[i : i+2]; part != "<<" && strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}

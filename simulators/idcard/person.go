package idcard

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Person is what the issuer knows of the holder and prints on the card. The
// people of this package are invented; nothing here guards their data.
type Person struct {
	Format      Format
	Code        string // document code: I or another letter of TD1, P for TD3, perhaps a second letter
	Issuer      string // issuing state, 1 to 3 letters (9303-3 5)
	Number      string // document number, up to 9 letters and digits, up to 21 in TD1
	Surname     string // capitals A to Z, blanks, hyphens, apostrophes
	GivenNames  string // likewise; may be empty
	Nationality string
	Sex         string    // M, F or X
	Birth       time.Time // a day, UTC
	Expiry      time.Time // a day, UTC
	Optional    string    // optional data of the second line, letters and digits; may be empty
	CAN         string    // six digits

	BirthField string // birth as the zone has it where a part is unknown, such as 7408<<; "": Birth
	NameField  string // the name field in full, where the issuer cuts by rules of its own (9303-3 4.6.3); "": the names, cut at the end
}

// Format is the size of the document.
type Format string

// Sizes of Doc 9303.
const (
	TD1 Format = "TD1" // a card, three lines of 30
	TD2 Format = "TD2" // a larger card, two lines of 36
	TD3 Format = "TD3" // a passport book, two lines of 44
)

// maxPersonFile bounds what ParsePerson reads.
const maxPersonFile = 16 << 10

//go:embed specimen.txt
var specimen string

// SpecimenPerson is ICAO's ERIKSSON, ANNA MARIA of UTO, as in specimen.txt.
func SpecimenPerson() Person {
	p, err := ParsePerson(strings.NewReader(specimen))
	if err != nil {
		panic(fmt.Sprintf("idcard: the embedded specimen is wrong: %v", err))
	}
	return p
}

// ParsePerson reads a description of "key: value" lines, as specimen.txt is. Every
// key must stand there once, but for "given names" and "optional", which may be left
// out; of the birth a part may be unknown, as in 1974-08-??. Blank lines and lines that begin with # are skipped; anything else is an
// error that names the line.
func ParsePerson(r io.Reader) (Person, error) {
	var p Person
	fields := map[string]func(string) error{
		"format":      func(v string) error { p.Format = Format(v); return nil },
		"code":        text(&p.Code),
		"issuer":      text(&p.Issuer),
		"number":      text(&p.Number),
		"surname":     text(&p.Surname),
		"given names": text(&p.GivenNames),
		"nationality": text(&p.Nationality),
		"sex":         text(&p.Sex),
		"birth":       partly(&p.Birth, &p.BirthField),
		"expiry":      day(&p.Expiry),
		"optional":    text(&p.Optional),
		"can":         text(&p.CAN),
	}
	seen := map[string]bool{"given names": false, "optional": false}
	limited := &io.LimitedReader{R: r, N: maxPersonFile + 1}
	lines := bufio.NewScanner(limited)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if !utf8.ValidString(line) {
			return Person{}, fmt.Errorf("line %d: not UTF-8", n)
		}
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return Person{}, fmt.Errorf("line %d: not of the form key: value", n)
		}
		set, ok := fields[key]
		if !ok {
			return Person{}, fmt.Errorf("line %d: no key is called %q", n, key)
		}
		if seen[key] {
			return Person{}, fmt.Errorf("line %d: %s is given twice", n, key)
		}
		seen[key] = true
		if err := set(strings.TrimSpace(value)); err != nil {
			return Person{}, fmt.Errorf("line %d: %s: %w", n, key, err)
		}
	}
	if err := lines.Err(); err != nil {
		return Person{}, fmt.Errorf("read person: %w", err)
	}
	if limited.N == 0 {
		return Person{}, fmt.Errorf("longer than %d bytes", maxPersonFile)
	}
	for key := range fields {
		if _, ok := seen[key]; !ok {
			return Person{}, fmt.Errorf("%s is missing", key)
		}
	}
	if err := p.check(); err != nil {
		return Person{}, err
	}
	return p, nil
}

func text(to *string) func(string) error {
	return func(v string) error { *to = v; return nil }
}

func day(to *time.Time) func(string) error {
	return func(v string) (err error) {
		if *to, err = time.Parse(time.DateOnly, v); err != nil {
			return errors.New("not a date like 1974-08-12")
		}
		return nil
	}
}

// partly takes a day of which parts may be unknown, as 1974-08-??.
func partly(to *time.Time, field *string) func(string) error {
	return func(v string) error {
		parts := strings.Split(v, "-")
		known := []string{"1900", "01", "01"}
		if len(parts) == 3 && strings.Contains(v, "?") {
			for i, part := range parts {
				if part == strings.Repeat("?", len(known[i])) {
					*field += "<<"
					continue
				}
				known[i] = part
				*field += part[max(0, len(part)-2):]
			}
			v = strings.Join(known, "-")
		}
		return day(to)(v)
	}
}

const (
	digits  = "0123456789"
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

func only(s, set string) bool { return strings.Trim(s, set) == "" }

// check demands what the machine readable zone can hold.
func (p Person) check() error {
	longest := 9
	codes := "P"
	optional := 14
	switch p.Format {
	case TD1:
		longest, codes, optional = 21, "ACI", 11
	case TD2:
		longest, codes, optional = 14, "ACIP", 7
	case TD3:
	default:
		return fmt.Errorf("format: %q is neither TD1 nor TD2 nor TD3", p.Format)
	}
	switch {
	case len(p.Code) < 1 || len(p.Code) > 2 || !strings.Contains(codes, p.Code[:1]) || !only(p.Code, letters):
		return fmt.Errorf("code: %s begins with one of %s and has at most two letters", p.Format, codes)
	case !stateCode(p.Issuer):
		return errors.New("issuer: one to three capital letters")
	case !stateCode(p.Nationality):
		return errors.New("nationality: one to three capital letters")
	case len(p.Number) < 1 || len(p.Number) > longest || !only(p.Number, letters+digits):
		return fmt.Errorf("number: 1 to %d capital letters and digits", longest)
	case p.Sex != "M" && p.Sex != "F" && p.Sex != "X":
		return errors.New("sex: M, F or X")
	case p.Format == TD2 && len(p.Number) > 9 && p.Optional != "":
		return errors.New("optional: a long number leaves no room for it in TD2")
	case p.BirthField != "" && (len(p.BirthField) != 6 || !only(p.BirthField, digits+"<")):
		return errors.New("birth: six digits or < in the zone")
	case len(p.Optional) > optional || !only(p.Optional, letters+digits):
		return fmt.Errorf("optional: at most %d capital letters and digits", optional)
	case len(p.CAN) != 6 || !only(p.CAN, digits):
		return errors.New("can: six digits")
	case p.Birth.IsZero() || !p.Expiry.After(p.Birth):
		return errors.New("expiry: must come after birth")
	case p.Birth.Year() < 1900 || p.Expiry.Year() > 2099:
		return errors.New("birth and expiry: years 1900 to 2099")
	}
	_, err := p.names()
	return err
}

func stateCode(s string) bool { return len(s) >= 1 && len(s) <= 3 && only(s, letters) }

// names is the name field, cut to its width as 9303-3 4.6 allows.
func (p Person) names() (string, error) {
	width := map[Format]int{TD1: 30, TD2: 31, TD3: 39}[p.Format]
	if p.NameField != "" {
		if len(p.NameField) != width || !only(p.NameField, letters+"<") || p.NameField[0] == '<' {
			return "", fmt.Errorf("name field: %d letters and < in %s", width, p.Format)
		}
		return p.NameField, nil
	}
	field, err := transliterate(p.Surname)
	if err != nil || field == "" {
		return "", errors.New("surname: capitals A to Z, blanks, hyphens and apostrophes")
	}
	given, err := transliterate(p.GivenNames)
	if err != nil {
		return "", errors.New("given names: capitals A to Z, blanks, hyphens and apostrophes")
	}
	if given != "" {
		if len(field)+3 > width {
			return "", errors.New("surname: too long for the machine readable zone")
		}
		field += "<<" + given
	} else if len(field) > width {
		return "", errors.New("surname: too long for the machine readable zone")
	}
	return fill(field[:min(len(field), width)], width), nil
}

// transliterate writes a name in the letters of the zone (9303-3 4.6).
func transliterate(name string) (string, error) {
	if strings.Join(strings.Fields(name), " ") != name || !only(name, letters+" -'") {
		return "", errMRZ
	}
	name = strings.NewReplacer("-", "<", " ", "<", "'", "").Replace(name)
	if strings.HasPrefix(name, "<") || strings.HasSuffix(name, "<") || strings.Contains(name, "<<") {
		return "", errMRZ
	}
	return name, nil
}

func fill(s string, width int) string { return s + strings.Repeat("<", max(width-len(s), 0)) }

// zone writes the machine readable zone, its lines one after the other
// (9303-4 4.2, 9303-5 4.2, 9303-6 4.2).
func (p Person) zone() (string, error) {
	if err := p.check(); err != nil {
		return "", err
	}
	names, err := p.names()
	if err != nil {
		return "", err
	}
	with := func(s string) string { return s + string(checkDigit(s)) }
	born := p.BirthField
	if born == "" {
		born = p.Birth.Format("060102")
	}
	birth, expiry := with(born), with(p.Expiry.Format("060102"))
	sex := strings.Replace(p.Sex, "X", "<", 1)
	head := fill(p.Code, 2) + fill(p.Issuer, 3)
	nation := fill(p.Nationality, 3)
	if p.Format == TD3 {
		number, optional := with(fill(p.Number, 9)), with(fill(p.Optional, 14))
		return head + names + number + nation + birth + sex + expiry + optional +
			string(checkDigit(number+birth+expiry+optional)), nil
	}
	// A long number goes on in the optional data, then its check digit (9303-5 4.2.2, 9303-6 4.2.2).
	number, rest := with(fill(p.Number, 9)), ""
	if len(p.Number) > 9 {
		number, rest = p.Number[:9]+"<", with(p.Number)[9:]
	}
	if p.Format == TD2 {
		optional := fill(rest+p.Optional, 7)
		return head + names + number + nation + birth + sex + expiry + optional +
			string(checkDigit(number+birth+expiry+optional)), nil
	}
	upper, optional := number+fill(rest, 15), fill(p.Optional, 11)
	return head + upper + birth + sex + expiry + nation + optional +
		string(checkDigit(upper+birth+expiry+optional)) + names, nil
}

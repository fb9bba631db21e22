package lds_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"enrollkiosk/smartcard/lds"
)

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
		"month 13":       strings.Replace(specimen, "7408122F", "7413122F", 1),
		"31 April":       strings.Replace(specimen, "7408122F", "7404312F", 1),
		"29 February":    strings.Replace(specimen, "7408122F", "7502292F", 1),
		"day 32, month?": strings.Replace(specimen, "7408122F", "74<<322F", 1),
		"expiry 31 June": strings.Replace(specimen, "1204159Z", "1206319Z", 1),
		"visa":           strings.Replace(specimen, "P<UTO", "V<UTO", 1),
		"code of digits": strings.Replace(specimen, "P<UTO", "P1UTO", 1),
		"no state":       strings.Replace(specimen, "P<UTO", "P<<<<", 1),
		"gap in state":   strings.Replace(specimen, "P<UTO", "P<U<O", 1),
		"no name":        specimen[:5] + strings.Repeat("<", 39) + specimen[44:],
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
	for _, c := range []struct{ text, at, birth, expiry, first, last string }{
		{"740812", "2026-11-22", "1974-08-12", "2074-08-12", "1874-08-12", "1974-08-12"},
		{"261122", "2026-11-22", "2026-11-22", "2026-11-22", "1926-11-22", "2026-11-22"}, // today
		{"261123", "2026-11-22", "1926-11-23", "2026-11-23", "1826-11-23", "1926-11-23"}, // not born yet: a century older
		{"990101", "2001-06-01", "1999-01-01", "1999-01-01", "1899-01-01", "1999-01-01"}, // expired before the turn of the century
		{"050101", "1998-06-01", "1905-01-01", "2005-01-01", "1805-01-01", "1905-01-01"},
		{"000229", "2026-11-22", "2000-02-29", "2000-02-29", "0001-01-01", "2000-02-29"}, // neither 1900 nor 1800 had that day
		{"74<<<<", "2026-11-22", "", "2074-12-31", "1874-01-01", "1974-12-31"},
		{"7408<<", "2026-11-22", "", "2074-08-31", "1874-08-01", "1974-08-31"},
		{"740800", "2026-11-22", "", "2074-08-31", "1874-08-01", "1974-08-31"},
		{"26<<<<", "2026-11-22", "", "2026-12-31", "1926-01-01", "2026-11-22"}, // of this year, and not after today
		{"2612<<", "2026-11-22", "", "2026-12-31", "1826-12-01", "1926-12-31"},
		{"<<<<<<", "2026-11-22", "", "", "0001-01-01", "2026-11-22"},
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
		first, last := m.Birth.Born(day(c.at))
		check("born from", c.first, first, true)
		check("born until", c.last, last, true)
	}
	if _, ok := (lds.Date{}).Expiry(day("2026-11-22")); ok {
		t.Error("the zero date expires")
	}
}

func parsed(t *testing.T, zone string) lds.MRZ {
	t.Helper()
	m, err := lds.ParseMRZ(zone)
	if err != nil && !errors.Is(err, lds.ErrCheckDigit) {
		t.Fatal(err)
	}
	return m
}

// Codes that are no country's, and dates of which little is known.
func TestUnusualZones(t *testing.T) {
	for _, state := range []string{"D<<", "RKS", "UNO", "EUE", "XOM", "XXX", "XXA"} {
		m := parsed(t, strings.ReplaceAll(specimen, "UTO", state))
		if want := strings.TrimRight(state, "<"); m.Issuer != want || reveal(m.Nationality) != want {
			t.Errorf("%s: %s", state, m.Issuer)
		}
	}
	for _, birth := range []string{"<<<<<<", "74<<<<", "7408<<", "740800", "740000", "<<0229", "000229"} {
		m := parsed(t, strings.Replace(specimen, "740812", birth, 1))
		if reveal(m.Birth.Text()) != birth {
			t.Errorf("%s: %s", birth, m.Birth.Text().Reveal())
		}
	}
	for _, code := range []string{"P<", "PP", "PD", "I<", "ID", "AC", "CR"} {
		if m := parsed(t, strings.Replace(specimen, "P<", code, 1)); m.DocumentCode != strings.TrimRight(code, "<") {
			t.Errorf("%s: %s", code, m.DocumentCode)
		}
	}
	if m := parsed(t, strings.Replace(specimen, "7408122F", "7408122X", 1)); m.Sex != lds.Unspecified {
		t.Errorf("sex X: %s", m.Sex)
	}
}

func TestDiffers(t *testing.T) {
	chip := parsed(t, specimen)
	if d := chip.Differs(parsed(t, specimen)); d != nil {
		t.Errorf("the same zone differs: %v", d)
	}
	for field, printed := range map[string]string{
		"document code":   strings.Replace(specimen, "P<", "PD", 1),
		"issuing state":   strings.Replace(specimen, "P<UTO", "P<UTA", 1),
		"name":            strings.Replace(specimen, "ANNA", "ANNE", 1),
		"document number": strings.Replace(specimen, "L898902C3", "L898902C4", 1),
		"nationality":     strings.Replace(specimen, "6UTO", "6UTA", 1),
		"birth date":      strings.Replace(specimen, "740812", "740813", 1),
		"sex":             strings.Replace(specimen, "2F1", "2M1", 1),
		"expiry date":     strings.Replace(specimen, "120415", "120416", 1),
		"optional data":   strings.Replace(specimen, "ZE184226B", "ZE184226C", 1),
	} {
		if d := chip.Differs(parsed(t, printed)); !slices.Equal(d, []string{field}) {
			t.Errorf("%s: %v", field, d)
		}
	}
	td2 := parsed(t, "I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<L898902C36UTO7408122F1204159<<<<<<<0")
	if d := chip.Differs(td2); !slices.Equal(d, []string{"format", "document code", "optional data"}) {
		t.Errorf("another size: %v", d)
	}
}

func TestScan(t *testing.T) {
	td3 := []string{specimen[:44], specimen[44:]}
	td1 := []string{"I<UTOD231458907<<<<<<<<<<<<<<<", "7408122F1204159UTO<<<<<<<<<<<6", "ERIKSSON<<ANNA<MARIA<<<<<<<<<<"}
	td2 := []string{"I<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<", "D231458907UTO7408122F1204159<<<<<<<6"}
	for _, lines := range [][]string{td3, td1, td2} {
		zone := strings.Join(lines, "")
		want := parsed(t, zone)
		trimmed := slices.Clone(lines)
		for i := range trimmed {
			trimmed[i] = strings.TrimRight(trimmed[i], "<")
		}
		for name, text := range map[string]string{
			"one run":           zone,
			"CR LF":             strings.Join(lines, "\r\n") + "\r\n",
			"CR":                strings.Join(lines, "\r") + "\r",
			"TAB":               strings.Join(lines, "\t"),
			"a space":           strings.Join(lines, " "),
			"lower case":        strings.ToLower(strings.Join(lines, "\n")),
			"spaces for filler": strings.ReplaceAll(strings.Join(lines, "\r"), "<", " "),
			"underscores":       strings.ReplaceAll(strings.Join(lines, "\r"), "<", "_"),
			"filler cut off":    strings.Join(trimmed, "\r"),
			"filler too long":   strings.Join(lines, "<<<<\r") + "<<",
			"STX and ETX":       "\x02" + strings.Join(lines, "\r") + "\r\x03",
			"empty lines":       "\r\n\r\n" + strings.Join(lines, "\r\n\r\n"),
			"words around":      "MRZ:" + strings.Join(lines, "\r") + "\rOK\r",
			"letters before":    "OU" + zone + "Z9",
			"3M frame":          "\x01\x5c\x00OU\x02 \r" + strings.Join(lines, "\r") + "\r\x03k",
			"symbology":         "]L0" + strings.Join(lines, "\r"),
			"other letters":     "\u00b0" + strings.Join(lines, "\u00a7"),
		} {
			m, err := lds.ParseScan(text)
			if err != nil || want.Differs(m) != nil {
				t.Errorf("%s, %s: %v, %v", want.Format, name, err, want.Differs(m))
			}
		}
		// A misread digit is told, and what was read shown.
		wrong := strings.Replace(zone, "740812", "740813", 1)
		if m, err := lds.ParseScan(wrong); !errors.Is(err, lds.ErrCheckDigit) || !slices.Equal(want.Differs(m), []string{"birth date"}) {
			t.Errorf("%s, misread: %v, %v", want.Format, err, want.Differs(m))
		}
	}
	for name, text := range map[string]string{
		"nothing":    "",
		"a barcode":  "4006381333931\r",
		"half":       specimen[:44] + "\r",
		"line twice": specimen[:44] + "\r" + specimen[:44],
		"very long":  strings.Repeat(specimen, 6),
		"filler":     strings.Repeat("<", 90),
	} {
		if _, err := lds.ParseScan(text); !errors.Is(err, lds.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

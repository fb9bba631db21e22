package idcard

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSpecimen(t *testing.T) {
	p := SpecimenPerson()
	zone, err := p.zone()
	if err != nil {
		t.Fatal(err)
	}
	if want := "I<UTOD231458907<<<<<<<<<<<<<<<7408122F3404159UTO<<<<<<<<<<<"; !strings.HasPrefix(zone, want) ||
		!strings.HasSuffix(zone, "ERIKSSON<<ANNA<MARIA<<<<<<<<<<") || len(zone) != 90 {
		t.Errorf("%s", zone)
	}
}

func TestWorkedZones(t *testing.T) {
	file := vectors[struct {
		Vectors []struct {
			Kind   string
			Name   string
			Input  string            `json:"input_text"`
			Digit  string            `json:"check_digit_text"`
			Format string            `json:"format"`
			Lines  []string          `json:"lines_text"`
			Fields map[string]string `json:"fields_text"`
			Info   string            `json:"mrz_information_text"`
			Wrong  []string          `json:"check_digits_wrong"`
			VIZ    string            `json:"viz_text"`
			Field  string            `json:"name_field_text"`
			Cut    bool              `json:"possibly_truncated"`
		}
	}](t, "mrz.json")
	count := map[string]int{}
	for _, v := range file.Vectors {
		switch {
		case v.Digit != "":
			count["digit"]++
			if got := string(checkDigit(v.Input)); got != v.Digit {
				t.Errorf("%s: %s, want %s", v.Name, got, v.Digit)
			}
		case len(v.Lines) > 0:
			zone := strings.Join(v.Lines, "")
			count["information"]++
			if info, err := mrzInformation(zone); err != nil || string(info) != v.Info {
				t.Errorf("%s: %s (%v), want %s", v.Name, info, err, v.Info)
			}
			f := v.Fields
			if len(v.Wrong) > 0 || f["optional"] != "" && v.Format == "TD1" || f["optional_check"] == "<" {
				continue // misprinted, or a form that we do not write
			}
			count["zone"]++
			date := func(s string) time.Time { d, _ := time.Parse("060102", s); return d }
			p := Person{Format: Format(v.Format), Code: f["document_code"], Issuer: f["issuing_state"], Number: f["document_number"],
				Surname: f["primary"], GivenNames: f["secondary"], Nationality: f["nationality"], Sex: f["sex"],
				Birth: date(f["birth"]), Expiry: date(f["expiry"]), Optional: f["optional"] + f["optional_2"], CAN: "000000"}
			if p.Birth.After(p.Expiry) {
				p.Birth = p.Birth.AddDate(-100, 0, 0)
			}
			if got, err := p.zone(); err != nil || got != zone {
				t.Errorf("%s: %v\n%s\n%s", v.Name, err, got, zone)
			}
		case v.Field != "":
			count["name"]++
			surname, given, _ := strings.Cut(v.VIZ, ", ")
			p := Person{Format: Format(v.Format), Surname: surname, GivenNames: given}
			if v.Cut {
				p.NameField = v.Field
			}
			if got, err := p.names(); err != nil || got != v.Field {
				t.Errorf("%s: %s (%v), want %s", v.Name, got, err, v.Field)
			}
		}
	}
	if count["digit"] < 5 || count["information"] < 10 || count["zone"] < 5 || count["name"] < 30 {
		t.Errorf("compared only %v", count)
	}
}

func TestParsePersonRefuses(t *testing.T) {
	good := specimen
	for name, v := range map[string]struct{ old, new, want string }{
		"an unknown key":     {"sex: F", "sex: F\nheight: 170", `line 12: no key is called "height"`},
		"a key twice":        {"sex: F", "sex: F\nsex: F", "line 12: sex is given twice"},
		"a missing key":      {"sex: F\n", "", "sex is missing"},
		"no colon":           {"sex: F", "sex F", "line 11: not of the form key: value"},
		"another sex":        {"sex: F", "sex: female", "sex: M, F or X"},
		"small letters":      {"ERIKSSON", "Eriksson", "surname: capitals"},
		"an accent":          {"ERIKSSON", "ÉRIKSSON", "surname: capitals"},
		"no surname":         {"ERIKSSON", "", "surname: capitals"},
		"a long surname":     {"ERIKSSON", strings.Repeat("A", 28), "surname: too long"},
		"a wrong date":       {"1974-08-12", "12.8.1974", "line 12: birth: not a date"},
		"no such day":        {"1974-08-12", "1974-02-30", "line 12: birth: not a date"},
		"expiry at birth":    {"2034-04-15", "1974-08-12", "expiry: must come after birth"},
		"five digits of CAN": {"123456", "12345", "can: six digits"},
		"a passport's code":  {"code: I", "code: P", "code: TD1 begins with one of ACI"},
		"another format":     {"TD1", "TD4", `format: "TD4" is neither`},
		"a blank in number":  {"D23145890", "D2314 5890", "number: 1 to 21"},
		"not UTF-8":          {"ERIKSSON", "\xff", "line 8: not UTF-8"},
		"a long file":        {"\n", "\n#" + strings.Repeat("x", maxPersonFile), "longer than"},
	} {
		text := strings.Replace(good, v.old, v.new, 1)
		if text == good {
			t.Fatalf("%s: nothing was altered", name)
		}
		if _, err := ParsePerson(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: %v, want %q", name, err, v.want)
		}
	}
}

func TestUnknownBirth(t *testing.T) {
	for text, want := range map[string]string{
		"1974-08-??": "7408<<", "1974-??-12": "74<<12", "????-08-12": "<<0812", "????-??-??": "<<<<<<", "1974-08-12": "740812",
	} {
		p, err := ParsePerson(strings.NewReader(strings.Replace(specimen, "1974-08-12", text, 1)))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if zone, err := p.zone(); err != nil || zone[30:36] != want || CheckDigits(zone) != zone {
			t.Errorf("%s: %s (%v)", text, zone, err)
		}
	}
	for _, text := range []string{"1974-8?-12", "1974-??", "1974-13-??", "??-??-????"} {
		if _, err := ParsePerson(strings.NewReader(strings.Replace(specimen, "1974-08-12", text, 1))); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestOtherDocuments(t *testing.T) {
	a := testAuthority(t, ECDSA)
	for _, change := range []func(*Person){
		func(p *Person) { p.Format, p.Code, p.Number, p.Optional = TD3, "P", "L898902C3", "ZE184226B" },
		func(p *Person) { p.Number = "D23145890734" },
		func(p *Person) { p.Format = TD2 },
		func(p *Person) { p.BirthField = "7408<<" },
		func(p *Person) { p.Number, p.Sex, p.GivenNames = "A1", "X", "" },
	} {
		p := SpecimenPerson()
		change(&p)
		c, err := a.Personalise(p, Options{Face: specimenFace, Faults: []Fault{TamperedDG1}})
		if err != nil {
			t.Fatal(err)
		}
		r := connect(t, c)
		born := p.Birth.Format("060102")
		if p.BirthField != "" {
			born = p.BirthField
		}
		info := fmt.Sprintf("%s%c%s%c%s%c", fill(p.Number, 9), checkDigit(fill(p.Number, 9)),
			born, checkDigit(born), p.Expiry.Format("060102"), checkDigit(p.Expiry.Format("060102")))
		r.selectApplication()
		if sw := r.bac([]byte(info)); sw != 0x9000 {
			t.Fatalf("%s: BAC with %s: %v", c.MRZ(), info, sw)
		}
		group, err := r.read(dg1)
		if err != nil || len(group) != 5+len(c.MRZ()) || strings.Contains(string(group), c.MRZ()) {
			t.Errorf("%v: %s", err, group)
		}
	}
}

package credential_test

import (
	"reflect"
	"strings"
	"testing"

	"enrollkiosk/registry/credential"
)

func TestStrictJSON(t *testing.T) {
	for text, want := range map[string]credential.Object{
		`{}`:                            {},
		` { "a" : [ 1 , -0.5e+3 ] } `:   {"a": []any{credential.Number("1"), credential.Number("-0.5e+3")}},
		"{\"a\":null,\n\"b\":true}":     {"a": nil, "b": true},
		`{"a":"\u0041\n\ud83d\ude00/"}`: {"a": "A\n😀/"},
		`{"":{"é":false}}`:              {"": credential.Object{"é": false}},
	} {
		if got, err := credential.ParseObject([]byte(text), 4); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for name, text := range map[string]string{
		"nothing":              ``,
		"a list":               `[]`,
		"text":                 `"a"`,
		"two objects":          `{}{}`,
		"text after":           `{}x`,
		"a name twice":         `{"a":1,"a":2}`,
		"a name escaped":       `{"a":1,"\u0061":2}`,
		"a name in capitals":   `{"aud":1,"AUD":2}`,
		"a Kelvin sign":        "{\"k\":1,\"\u212a\":2}",
		"below":                `{"x":{"a":1,"a":2}}`,
		"too deep":             `{"a":[[[[1]]]]}`,
		"a comma too many":     `{"a":1,}`,
		"no comma":             `{"a":1"b":2}`,
		"no name":              `{1:2}`,
		"a leading zero":       `{"a":01}`,
		"a plus":               `{"a":+1}`,
		"a bare point":         `{"a":1.}`,
		"a bare exponent":      `{"a":1e}`,
		"hexadecimal":          `{"a":0x1}`,
		"not a number":         `{"a":NaN}`,
		"a lone surrogate":     `{"a":"\ud83d"}`,
		"a low one first":      `{"a":"\ude00\ud83d"}`,
		"a surrogate and text": `{"a":"\ud83dx"}`,
		"an unknown escape":    `{"a":"\x41"}`,
		"a control character":  "{\"a\":\"\x01\"}",
		"no UTF-8":             "{\"a\":\"\xff\"}",
		"no UTF-8, escaped":    "{\"a\":\"\\n\xff\"}",
		"a byte order mark":    "\ufeff{}",
		"cut in a text":        `{"a":"b`,
		"cut in an escape":     `{"a":"\u00`,
		"single quotes":        `{'a':1}`,
		"a comment":            `{/**/}`,
		"too many":             `{"a":[` + strings.Repeat("1,", 1024) + `1]}`,
	} {
		if got, err := credential.ParseObject([]byte(text), 4); err == nil {
			t.Errorf("%s: %v", name, got)
		} else {
			wants(t, err, credential.ErrJSON)
		}
	}
	if _, err := credential.ParseObject([]byte(strings.Repeat(`{"a":`, 1<<16)), 4); err == nil {
		t.Error("a tower")
	}
}

func TestWholeNumbers(t *testing.T) {
	o := object(t, `{"a":7,"b":-1,"c":1.0,"d":1e3,"e":"7","f":9007199254740992,"g":9007199254740991}`)
	for name, want := range map[string]int64{"a": 7, "b": -1, "c": -1, "d": -1, "e": -1, "f": -1, "g": 1<<53 - 1, "h": -1} {
		if got, ok := o.Whole(name); ok != (want >= 0) || ok && got != want {
			t.Errorf("%s: %d, %v", name, got, ok)
		}
	}
}

package typeface_test

import (
	"strings"
	"testing"

	"enrollkiosk/kiosk/typeface"
)

func TestWrap(t *testing.T) {
	// A character is as wide as it has bytes: Chinese ones three.
	measure := func(s string) float32 { return float32(len(s)) }
	for _, c := range []struct {
		text  string
		width float32
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two three", 8, []string{"one two", "three"}},
		{"one\n\ntwo", 80, []string{"one", "", "two"}},
		{"unbreakable", 4, []string{"unbr", "eaka", "ble"}},
		{"您的登记已保存", 12, []string{"您的登记", "已保存"}},
		{"您的登记，已保存", 12, []string{"您的登", "记，已保", "存"}}, // no line begins with a comma
		{"请按（确定）键", 12, []string{"请按（确", "定）键"}},
		{"请按住（确定）", 12, []string{"请按住", "（确定）"}}, // nor ends with an opening bracket,
		{"卡上的K-CARD-01号", 13, []string{"卡上的", "K-CARD-01号"}},
		{"क्षत्रिय", 6, []string{"क्ष", "त्रि", "य"}}, // nor does one begin with a vowel sign or half a conjunct
		{"abc", 0, []string{"a", "b", "c"}},
		{"abc", -5, []string{"a", "b", "c"}},
	} {
		got := typeface.Wrap(c.text, c.width, measure)
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%q in %.0f: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

// Letters that the typeface lacks are looked for elsewhere.
func TestHas(t *testing.T) {
	for line, has := range map[string]bool{
		"": true, "Ñandú, Ærøskøbing": true, "张伟 - 2026": true, "क्षत्रिय KIOSK-01": true,
		"㼆": false, "Ωmega": false, "Шевченко": false, "محمد": false,
	} {
		if f := typeface.Of(line); f.Has(line) != has {
			t.Errorf("%q: %v", line, !has)
		}
	}
}

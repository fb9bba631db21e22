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

// Pieces that are wider together than one by one do not leave their column; nothing of
// the text is lost, and no piece is kept from ending a line that it fits.
func TestWrapJoined(t *testing.T) {
	measure := func(s string) float32 { // one more for each blank between words
		return float32(len(s) + strings.Count(strings.TrimRight(s, " "), " "))
	}
	for _, c := range []struct {
		text  string
		width float32
		want  []string
	}{
		{"aa bb cc dd", 11, []string{"aa bb cc", "dd"}},
		{"aa bb cc dd", 9, []string{"aa bb", "cc dd"}},
		{"a b c d e f g", 6, []string{"a b", "c d", "e f", "g"}},
		{"aa b cccccc", 4, []string{"aa", "b", "cccc", "cc"}},
		{"aa", 1, []string{"a", "a"}},
		{"", 5, []string{""}},
	} {
		got := typeface.Wrap(c.text, c.width, measure)
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%q in %.0f: %q, want %q", c.text, c.width, got, c.want)
		}
		for _, line := range got {
			if measure(line) > c.width+0.5 {
				t.Errorf("%q in %.0f: %q is %.0f wide", c.text, c.width, line, measure(line))
			}
		}
	}
}

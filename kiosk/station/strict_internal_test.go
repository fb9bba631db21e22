package station

import "testing"

func TestStrictly(t *testing.T) {
	for text, good := range map[string]bool{
		`{"a":1}`: true, " {\"a\":1}\n": true, `{}`: true,
		`{"a":1}}`: false, `{"a":1}]`: false, `{"a":1}{}`: false, `{"a":1} x`: false, `{"b":1}`: false, `{"a":1`: false, ``: false,
	} {
		var into struct{ A int }
		if err := strictly([]byte(text), &into); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}

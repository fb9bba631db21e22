package piv

import (
	"testing"

	"enrollkiosk/smartcard/apdu"
)

func TestParseMetadata(t *testing.T) {
	for in, want := range map[string]metadata{
		"\x01\x01\xFF\x05\x01\x01\x06\x02\x03\x02": {algorithm: 0xFF, factory: true, total: 3, left: 2},
		"\x01\x01\x0A\x02\x02\x00\x01\x05\x01\x00": {algorithm: 0x0A},
		"":                         {},
		"\x01\x01":                 {},
		"\x05\x01\x01\x01\x01\x0A": {factory: true}, // piv-go would take 01 for the algorithm
		"\x01\x02\x0A\x0A":         {},
		"\x05\x01\x02":             {},
		"\x06\x01\x03":             {},
	} {
		want.status = apdu.OK
		if got := parseMetadata([]byte(in)); got != want {
			t.Errorf("%X: %+v, want %+v", in, got, want)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte("\x01\x01\xFF\x05\x01\x01\x06\x02\x03\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := parseMetadata(b)
		if m.algorithm != 0 && (len(b) < 3 || b[2] != m.algorithm) {
			t.Errorf("piv-go would see another algorithm in %X", b)
		}
		if m.total > 255 || m.left > 255 {
			t.Errorf("%+v", m)
		}
	})
}

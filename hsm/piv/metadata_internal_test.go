package piv

import (
	"crypto"
	"testing"

	"enrollkiosk/smartcard/apdu"
)

func TestParseMetadata(t *testing.T) {
	for in, want := range map[string]metadata{
		"\x01\x01\xFF\x05\x01\x01\x06\x02\x03\x02": {algorithm: 0xFF, told: true, factory: true, total: 3, left: 2},
		"\x01\x01\x0A\x02\x02\x00\x01\x05\x01\x00": {algorithm: 0x0A, touch: 1, told: true},
		"\x01\x01\x11\x02\x02\x02\x03\x03\x01\x01": {algorithm: 0x11, pin: 2, touch: 3, origin: "generated"},
		"\x03\x01\x00":                 {origin: "unknown (0)"},
		"":                             {},
		"\x01\x01":                     {},
		"\x05\x01\x01\x01\x01\x0A":     {algorithm: 0x0A, told: true, factory: true},
		"\x01\x02\x0A\x0A":             {},
		"\x05\x01\x02":                 {told: true},
		"\x05\x00":                     {},
		"\x06\x01\x03":                 {},
		"\x01\x01\x11\x04\x02\x86\x00": {algorithm: 0x11}, // no point
	} {
		want.status = apdu.OK
		if got := parseMetadata([]byte(in)); got != want {
			t.Errorf("%X: %+v, want %+v", in, got, want)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte("\x01\x01\xFF\x05\x01\x01\x06\x02\x03\x02"))
	f.Add(append([]byte("\x01\x01\x11\x04\x43\x86\x41"), basePoint...))
	f.Add(append([]byte("\x01\x01\xE0\x04\x22\x86\x20"), basePoint[:32]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := parseMetadata(b)
		if m.total > 255 || m.left > 255 || m.replaced() && m.factory {
			t.Errorf("%+v", m)
		}
		if k, ok := m.public.(interface{ Equal(crypto.PublicKey) bool }); ok && !k.Equal(m.public) {
			t.Errorf("a key unlike itself in %X", b)
		}
	})
}

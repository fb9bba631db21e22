package lds

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"enrollkiosk/smartcard/tlv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestToDER(t *testing.T) {
	for in, want := range map[string]string{
		"30 03 02 01 05":                         "30 03 02 01 05",
		"30 80 02 01 05 00 00":                   "30 03 02 01 05",
		"30 80 30 80 00 00 02 01 05 00 00":       "30 05 30 00 02 01 05",
		"24 06 04 01 AA 04 01 BB":                "04 02 AA BB",
		"24 80 04 01 AA 04 02 BB CC 00 00":       "04 03 AA BB CC",
		"24 80 24 80 04 01 AA 00 00 04 00 00 00": "04 01 AA",
		"24 00":                                  "04 00",
		"7F 49 80 04 01 AA 00 00":                "7F 49 03 04 01 AA",
		"30 81 05 04 03 00 00 00":                "30 81 05 04 03 00 00 00", // long, but definite: as it was
		"30 80 30 81 03 02 01 05 00 00":          "30 06 30 81 03 02 01 05",
		"77 07 30 80 02 01 05 00 00":             "77 05 30 03 02 01 05",
	} {
		if got, err := toDER(unhex(t, in)); err != nil || !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s: %X, %v, want %s", in, got, err, want)
		}
	}
	for name, b := range map[string][]byte{
		"nothing":              nil,
		"no end":               unhex(t, "30 80 02 01 05"),
		"half an end":          unhex(t, "30 80 02 01 05 00"),
		"end without a start":  unhex(t, "00 00"),
		"end in definite":      unhex(t, "30 02 00 00"),
		"primitive":            unhex(t, "04 80 AA 00 00"),
		"bytes after it":       unhex(t, "30 80 00 00 00"),
		"longer than its home": unhex(t, "30 03 04 05 AA AA AA AA AA"),
		"pieces of integers":   unhex(t, "24 03 02 01 05"),
		"too deep":             slices.Concat(bytes.Repeat([]byte{0x30, 0x80}, 33), bytes.Repeat([]byte{0, 0}, 33)),
		"too many":             tlv.Encode(0x30, bytes.Repeat([]byte{5, 0}, maxNodes)),
		"too long":             tlv.Encode(0x04, make([]byte, maxBER)),
	} {
		if _, err := toDER(b); !errors.Is(err, ErrMalformed) && !errors.Is(err, tlv.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The signature over attributes speaks of their DER, whatever was sent.
func TestCanonical(t *testing.T) {
	set := tlv.Node{Tag: 0x31, Value: unhex(t, "30 81 02 05 00 30 80 02 01 05 00 00 02 01 07")}
	der, err := toDER(tlv.Encode(0x31, set.Value))
	if err != nil {
		t.Fatal(err)
	}
	n, err := tlv.ParseOne(der, 0x31)
	if err != nil {
		t.Fatal(err)
	}
	got, err := canonical(n)
	if want := unhex(t, "31 0C 02 01 07 30 02 05 00 30 03 02 01 05"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%X, %v", got, err)
	}
}

func FuzzToDER(f *testing.F) {
	for _, seed := range []string{"30 80 30 81 03 02 01 05 00 00", "24 80 24 80 04 01 AA 00 00 04 00 00 00", "7F 49 80 04 01 AA 00 00"} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		der, err := toDER(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, tlv.ErrMalformed) {
				t.Errorf("untyped error: %v", err)
			}
			return
		}
		if len(der) > 2*len(b) {
			t.Errorf("%d bytes grew to %d", len(b), len(der))
		}
		again, err := toDER(der)
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("not stable: %X, %v", again, err)
		}
		if _, err := tlv.Parse(der); err != nil {
			t.Errorf("not for package tlv: %v", err)
		}
	})
}

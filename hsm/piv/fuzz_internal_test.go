package piv

import (
	"testing"
)

// FuzzObjects feeds what a card could answer to every parser of this package.
func FuzzObjects(f *testing.F) {
	f.Add([]byte("\x53\x09\x70\x02\x30\x00\x71\x01\x00\xFE\x00"))
	f.Add([]byte("\x61\x11\x4F\x06\x00\x00\x10\x00\x01\x00\x79\x07\x4F\x05\xA0\x00\x00\x03\x08"))
	f.Add(append([]byte("\x86\x41"), basePoint...))
	f.Add([]byte("\x81\x02\xFF\x01\x82\x03\x01\x00\x01"))
	f.Add([]byte("\x01\x01\xFF\x05\x01\x01\x06\x02\x03\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if der, err := certificateOf(b); err == nil && len(der) == 0 {
			t.Error("an empty certificate")
		}
		applicationVersion(b)
		for _, algorithm := range []byte{algorithmP256, algorithmP384, algorithmEd25519, algorithmRSA2048, 0} {
			public, err := parsePublic(algorithm, b)
			if (public == nil) == (err == nil) {
				t.Errorf("algorithm %02X: %v, %v", algorithm, public, err)
			}
			if err == nil && publicName(public) == "" {
				t.Errorf("algorithm %02X: a key without a name", algorithm)
			}
		}
		m := parseMetadata(b)
		for _, name := range []string{algorithmName(m.algorithm), pinName(m.pin), touchName(m.touch), m.origin, printable(b)} {
			for _, c := range name {
				if c < 0x20 || c > 0x7E {
					t.Errorf("%q would be printed", name)
				}
			}
		}
	})
}

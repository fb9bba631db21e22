package pcsc

import "testing"

func FuzzProperty(f *testing.F) {
	f.Add([]byte{0x0A, 4, 0, 1, 0, 0}, byte(0x0A))
	f.Add([]byte{0x01, 2, 0, 0, 0x12, 4, 0x42, 0, 0, 1}, byte(0x12))
	f.Add([]byte{0x0A, 4, 0, 1}, byte(0x0A))
	f.Add([]byte{0x0A, 0xFF}, byte(0x0A))
	f.Fuzz(func(t *testing.T, list []byte, tag byte) {
		if value, ok := property(list, tag); ok != (len(value) == 4) {
			t.Errorf("%x, %v", value, ok)
		}
	})
}

package monitor_test

import (
	"bytes"
	"math"
	"testing"

	"enrollkiosk/ui/monitor"
)

// edid is the base block of a monitor of that many pixels and millimetres.
func edid(wide, high, mmWide, mmHigh int) []byte {
	b := make([]byte, 128)
	copy(b, "\x00\xff\xff\xff\xff\xff\xff\x00")
	b[18], b[19], b[21], b[22] = 1, 4, byte(mmWide/10), byte(mmHigh/10)
	t := b[54:]
	t[0], t[1] = 0x02, 0x3A
	t[2], t[4] = byte(wide), byte(wide>>4&0xF0)
	t[5], t[7] = byte(high), byte(high>>4&0xF0)
	t[12], t[13], t[14] = byte(mmWide), byte(mmHigh), byte(mmWide>>4&0xF0|mmHigh>>8&0x0F)
	return seal(b)
}

// seal gives a block its checksum.
func seal(b []byte) []byte {
	var sum byte
	for _, c := range b[:127] {
		sum += c
	}
	b[127] = -sum
	return b
}

// A byte that changed makes an EDID none.
func TestEDIDIsWholeOrNone(t *testing.T) {
	good := edid(1920, 1080, 510, 287)
	if _, ok := monitor.Parse(good); !ok {
		t.Fatal("not read")
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		if _, ok := monitor.Parse(b); ok {
			t.Errorf("byte %d changed, and it is read", i)
		}
	}
}

func FuzzEDID(f *testing.F) {
	f.Add(edid(1920, 1080, 510, 287))
	f.Add(edid(4095, 4095, 4095, 4095))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 128 {
			seal(b)
		}
		m, ok := monitor.Parse(b)
		if ok && (m.Wide <= 0 || m.High <= 0 || m.DPI < 40 || m.DPI > 400 || math.IsNaN(m.DPI)) {
			t.Errorf("read as %+v", m)
		}
		if !ok && m != (monitor.Monitor{}) {
			t.Errorf("not read, yet %+v", m)
		}
	})
}

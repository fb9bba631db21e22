// Package monitor reads how large the machine's monitors are, from what they say
// about themselves (EDID), so that a window can draw in millimetres.
package monitor

import (
	"io/fs"
	"path"
	"strings"
)

// Monitor is what a monitor says about itself. The zero value says nothing.
type Monitor struct {
	Wide, High int // pixels
	DPI        float64
}

// Densest is the connected monitor with the most dots per inch. Linux keeps what
// monitors say at /sys/class/drm/CONNECTOR/edid.
func Densest(monitors fs.FS) Monitor {
	var most Monitor
	found, _ := fs.Glob(monitors, "*/edid") // no error but a bad pattern
	for _, name := range found {
		if status, err := fs.ReadFile(monitors, path.Join(path.Dir(name), "status")); err != nil || strings.TrimSpace(string(status)) != "connected" {
			continue
		}
		b, err := fs.ReadFile(monitors, name)
		if err != nil {
			continue
		}
		if m, ok := Parse(b); ok && m.DPI > most.DPI {
			most = m
		}
	}
	return most
}

// edidBlock is the length of EDID's base block.
const edidBlock = 128

// Parse reads pixels and size from a monitor's EDID (VESA E-EDID Standard,
// release A, 3.3 to 3.10). It reports false for anything else, and for monitors
// that do not know their size, as projectors, or give a ratio in its place.
func Parse(b []byte) (Monitor, bool) {
	if len(b) < edidBlock || string(b[:8]) != "\x00\xff\xff\xff\xff\xff\xff\x00" {
		return Monitor{}, false
	}
	var sum byte
	for _, c := range b[:edidBlock] {
		sum += c
	}
	t := b[54:72] // the first detailed timing: the preferred one
	if sum != 0 || t[0] == 0 && t[1] == 0 {
		return Monitor{}, false
	}
	m := Monitor{Wide: int(t[2]) | int(t[4]&0xF0)<<4, High: int(t[5]) | int(t[7]&0xF0)<<4}
	mmWide, mmHigh := int(t[12])|int(t[14]&0xF0)<<4, int(t[13])|int(t[14]&0x0F)<<8
	if mmWide < 100 || mmHigh < 60 || m.Wide < 640 || m.High < 400 || mmWide == 160 && (mmHigh == 90 || mmHigh == 100) {
		return Monitor{}, false // 16:9 and 16:10 are given as 160 by 90 and 100
	}
	across, down := float64(m.Wide)*25.4/float64(mmWide), float64(m.High)*25.4/float64(mmHigh)
	if m.DPI = across; across < 40 || across > 400 || across/down > 1.2 || down/across > 1.2 {
		return Monitor{}, false
	}
	return m, true
}

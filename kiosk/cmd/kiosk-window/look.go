package main

import (
	"errors"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"

	"enrollkiosk/ui"
)

// look is the part [window] of the kiosk's configuration.
type look struct {
	Text     int     `toml:"text"`
	Contrast bool    `toml:"contrast"`
	Dark     bool    `toml:"dark"`
	Speech   string  `toml:"speech"`
	Keyboard string  `toml:"keyboard"`
	DPI      float64 `toml:"dpi"`
}

func (l look) check() error {
	if err := (ui.Look{Text: l.Text}).Valid(); err != nil {
		return err
	}
	switch {
	case !slices.Contains([]string{"", "touch", "always"}, l.Keyboard):
		return errors.New(`window.keyboard must be "touch" or "always"`)
	case l.DPI != 0 && (l.DPI < 40 || l.DPI > 400):
		return errors.New("window.dpi must be from 40 to 400 dots per inch")
	}
	return nil
}

// unitDPI is the density at which a unit of ui is a pixel: 72 units are 20 mm.
const unitDPI = 92

// leastWide and leastHigh are the least units that pages are made for.
const leastWide, leastHigh = 1024, 768

// scale is how many pixels a unit must have for keys to have their size in
// millimetres on the densest monitor; 0 when no monitor says how large it is.
// small says that there is no room for that.
func (l look) scale(monitors fs.FS) (scale float64, small bool) {
	m := densest(monitors)
	if l.DPI != 0 {
		m.dpi = l.DPI
	}
	if m.dpi == 0 {
		return 0, false
	}
	scale = max(1, math.Ceil(m.dpi/unitDPI*10-0.01)/10) // Fyne rounds to a tenth
	if m.wide > 0 {
		if most := math.Floor(10*min(float64(m.wide)/leastWide, float64(m.high)/leastHigh)) / 10; most < scale {
			return max(1, most), true
		}
	}
	return scale, false
}

// monitor is what a monitor says about itself.
type monitor struct {
	wide, high int // pixels
	dpi        float64
}

// densest is the connected monitor with the most dots per inch. Linux keeps what
// monitors say at /sys/class/drm/CONNECTOR/edid.
func densest(monitors fs.FS) monitor {
	var most monitor
	found, _ := fs.Glob(monitors, "*/edid") // no error but a bad pattern
	for _, name := range found {
		if status, err := fs.ReadFile(monitors, path.Join(path.Dir(name), "status")); err != nil || strings.TrimSpace(string(status)) != "connected" {
			continue
		}
		b, err := fs.ReadFile(monitors, name)
		if err != nil {
			continue
		}
		if m, ok := parseEDID(b); ok && m.dpi > most.dpi {
			most = m
		}
	}
	return most
}

// edidBlock is the length of EDID's base block.
const edidBlock = 128

// parseEDID reads pixels and size from a monitor's EDID (VESA E-EDID Standard,
// release A, 3.3 to 3.10). It reports false for anything else, and for monitors
// that do not know their size, as projectors, or give a ratio in its place.
func parseEDID(b []byte) (monitor, bool) {
	if len(b) < edidBlock || string(b[:8]) != "\x00\xff\xff\xff\xff\xff\xff\x00" {
		return monitor{}, false
	}
	var sum byte
	for _, c := range b[:edidBlock] {
		sum += c
	}
	t := b[54:72] // the first detailed timing: the preferred one
	if sum != 0 || t[0] == 0 && t[1] == 0 {
		return monitor{}, false
	}
	m := monitor{wide: int(t[2]) | int(t[4]&0xF0)<<4, high: int(t[5]) | int(t[7]&0xF0)<<4}
	mmWide, mmHigh := int(t[12])|int(t[14]&0xF0)<<4, int(t[13])|int(t[14]&0x0F)<<8
	if mmWide < 100 || mmHigh < 60 || m.wide < 640 || m.high < 400 || mmWide == 160 && (mmHigh == 90 || mmHigh == 100) {
		return monitor{}, false // 16:9 and 16:10 are given as 160 by 90 and 100
	}
	across, down := float64(m.wide)*25.4/float64(mmWide), float64(m.high)*25.4/float64(mmHigh)
	if m.dpi = across; across < 40 || across > 400 || across/down > 1.2 || down/across > 1.2 {
		return monitor{}, false
	}
	return m, true
}

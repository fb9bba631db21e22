package main

import (
	"errors"
	"io/fs"
	"math"
	"slices"

	"enrollkiosk/ui"
	"enrollkiosk/ui/monitor"
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
	m := monitor.Densest(monitors)
	if l.DPI != 0 {
		m.DPI = l.DPI
	}
	if m.DPI == 0 {
		return 0, false
	}
	scale = max(1, math.Ceil(m.DPI/unitDPI*10-0.01)/10) // Fyne rounds to a tenth
	if m.Wide > 0 {
		if most := math.Floor(10*min(float64(m.Wide)/leastWide, float64(m.High)/leastHigh)) / 10; most < scale {
			return max(1, most), true
		}
	}
	return scale, false
}

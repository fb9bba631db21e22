package display_test

import (
	"image"
	"testing"

	"enrollkiosk/ui/display"
)

// No display changes sides, whatever is unplugged, plugged in, or swapped for
// another; who is alone serves both.
func TestDisplaysKeepTheirSeats(t *testing.T) {
	at := func(names ...string) (all []display.Display) {
		for i, n := range names {
			all = append(all, display.Display{Name: n, Bounds: image.Rect(1280*i, 0, 1280*(i+1), 800)})
		}
		return all
	}
	type step struct {
		displays         []display.Display
		officer, citizen string
	}
	for name, c := range map[string]struct {
		seats display.Seats
		steps []step
	}{
		"one":                     {steps: []step{{at("A"), "A", ""}}},
		"none, then one":          {steps: []step{{nil, "", ""}, {at("A"), "A", ""}}},
		"second comes":            {steps: []step{{at("A"), "A", ""}, {at("A", "B"), "A", "B"}}},
		"second goes":             {steps: []step{{at("A", "B"), "A", "B"}, {at("A"), "A", ""}, {at("A", "B"), "A", "B"}}},
		"first goes":              {steps: []step{{at("A", "B"), "A", "B"}, {at("B"), "", "B"}, {at("B", "A"), "A", "B"}}},
		"both go":                 {steps: []step{{at("A", "B"), "A", "B"}, {nil, "", ""}, {at("B"), "", "B"}, {at("A", "B"), "A", "B"}}},
		"primary changes":         {steps: []step{{at("A", "B"), "A", "B"}, {at("B", "A"), "A", "B"}}},
		"another second":          {steps: []step{{at("A", "B"), "A", "B"}, {at("A", "C"), "A", "C"}, {at("C"), "", "C"}}},
		"another first":           {steps: []step{{at("A", "B"), "A", "B"}, {at("C", "B"), "C", "B"}, {at("B"), "", "B"}}},
		"third":                   {steps: []step{{at("A", "B", "C"), "A", "B"}, {at("A", "C"), "A", "C"}}},
		"configured":              {display.Seats{Officer: "B", Citizen: "A"}, []step{{at("A", "B"), "B", "A"}, {at("A"), "", "A"}, {at("B"), "B", ""}}},
		"citizen's is configured": {display.Seats{Citizen: "A"}, []step{{at("A"), "", "A"}, {at("A", "B"), "B", "A"}}},
	} {
		seats := c.seats
		for i, s := range c.steps {
			var p display.Plan
			seats, p = seats.Arrange(s.displays)
			name1 := func(d *display.Display) string {
				if d == nil {
					return ""
				}
				return d.Name
			}
			if o, z := name1(p.Officer), name1(p.Citizen); o != s.officer || z != s.citizen || p.Alone() != (len(s.displays) == 1) {
				t.Errorf("%s, step %d: officer %q, citizen %q, alone %v", name, i, o, z, p.Alone())
			}
		}
	}
}

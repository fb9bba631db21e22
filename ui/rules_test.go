package ui

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"image"
	"image/color"
	"math"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fyne.io/fyne/v2"

	"enrollkiosk/kiosk"
	"enrollkiosk/ui/internal/samples"
)

// Rules of this package that its source must keep.
func TestSourceRules(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	do := 0
	screens := 0
	for _, p := range paths {
		if strings.HasPrefix(p, "screen_") {
			screens++
		}
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch name := x.Name + "." + s.Sel.Name; name {
			case "fyne.Do":
				do++
			case "fyne.DoAndWait", "container.NewScroll", "container.NewVScroll", "container.NewHScroll",
				"widget.NewEntry", "widget.NewPasswordEntry", "widget.Entry", "dialog.ShowError", "binding.NewString":
				t.Errorf("%s uses %s", p, name)
			}
			return true
		})
	}
	if do != 1 {
		t.Errorf("fyne.Do stands at %d places, want 1", do)
	}
	if screens != len(kiosk.Screens()) {
		t.Errorf("%d files of screens for %d screens", screens, len(kiosk.Screens()))
	}
}

// The package needs no window system: it reaches neither fyne/app nor GL, and
// no code of devices' drivers.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range strings.Fields(string(out)) {
		for _, banned := range []string{"fyne.io/fyne/v2/app", "fyne.io/fyne/v2/test", "github.com/go-gl/", "enrollkiosk/simulators", "enrollkiosk/smartcard/pcsc", "github.com/ebfe/scard"} {
			if strings.HasPrefix(dep, banned) {
				t.Errorf("reaches %s", dep)
			}
		}
	}
}

// contrast is that of WCAG 2.2, from 1 to 21.
func contrast(a, b color.NRGBA) float64 {
	part := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	light := func(c color.NRGBA) float64 { return 0.2126*part(c.R) + 0.7152*part(c.G) + 0.0722*part(c.B) }
	la, lb := light(a), light(b)
	return (math.Max(la, lb) + 0.05) / (math.Min(la, lb) + 0.05)
}

// Each pair of tones that pages show, in each palette: as WCAG 2.2 asks on level
// AA, and in the palettes of high contrast on level AAA.
func TestContrast(t *testing.T) {
	for _, c := range []struct {
		what        string
		front, back tone
		least       float64
	}{
		{"text on the page", ink, paper, 4.5},
		{"text on a panel", ink, sheet, 4.5},
		{"second text on the page", faint, paper, 4.5},
		{"second text on a panel, and the footer", faint, sheet, 4.5},
		{"main button", onAccent, accent, 4.5},
		{"main button under the pointer", onAccent, accentDeep, 4.5},
		{"plain button", accent, sheet, 4.5},
		{"key", ink, sheet, 4.5},
		{"header", white, navy, 4.5},
		{"second text on the header", mist, navy, 4.5},
		{"training banner", white, training, 4.5},
		{"text on a warning", ink, cautPale, 4.5},
		{"text on a mistake", ink, badPale, 4.5},
		{"text on a success", ink, goodPale, 4.5},
		{"character in the field that the keys fill", ink, accentPale, 4.5},
		{"edge of such a field", edge, accentPale, 3},
		{"failed step", bad, sheet, 4.5},
		{"edge of keys and boxes on the page", edge, paper, 3},
		{"edge of a plain button on the page", accent, paper, 3},
		{"main button on the page", accent, paper, 3},
		{"edge of a button on the header", white, navy, 3},
		{"sign of turn", mist, navy, 3},
		{"focus on the page", ring, paper, 3},
		{"focus on a panel", ring, sheet, 3},
		{"focus on the header", ringNavy, navy, 3},
		{"sign of a warning", caution, cautPale, 3},
		{"sign of a mistake", bad, badPale, 3},
		{"sign of a success", good, goodPale, 3},
		{"sign of success on a panel", good, sheet, 3},
		{"sign of not checked on a panel", faint, sheet, 3},
		{"running step on a panel", accent, sheet, 3},
		{"bar of progress on its track", accent, shade, 3},
	} {
		for _, l := range looks() {
			least := c.least
			if l.Contrast {
				least = either(least == 3, 4.5, 7.0)
			}
			if got := contrast(l.palette()[c.front], l.palette()[c.back]); got < least {
				t.Errorf("%s, %s: %.2f to 1, need %.1f", l.name(), c.what, got, least)
			}
		}
	}
	if c := contrast(rgb(0xFFFFFF), rgb(0)); math.Abs(c-21) > 0.01 {
		t.Errorf("white on black measures %.2f", c)
	}
}

// looks is one look of each palette.
func looks() []Look { return []Look{{}, {Dark: true}, {Contrast: true}, {Dark: true, Contrast: true}} }

// Every control drawn with and without the focus differs by at least 3:1 over
// a ring at least two pixels thick, in pixels as they come out.
func TestFocusCanBeSeen(t *testing.T) {
	for _, l := range looks() {
		t.Run(l.name(), func(t *testing.T) { focusCanBeSeen(t, l) })
	}
}

func focusCanBeSeen(t *testing.T, l Look) {
	b := newBench(t, least)
	b.look(l)
	for _, s := range samples.All("en") {
		if s.Name != "access-number-2-lines" { // has one of each look
			continue
		}
		b.draw(s.State)
		b.touchField(0)
		c := b.w.Canvas()
		seen := map[string]bool{} // one of each look
		for _, f := range focusables(b.page.root) {
			look := fmt.Sprintf("%T", f)
			switch f := f.(type) {
			case *button:
				look += fmt.Sprint(f.kind)
			case *cells:
				look += fmt.Sprint(f.active)
			}
			if seen[look] {
				continue
			}
			seen[look] = true
			c.Unfocus()
			without := c.Capture().(*image.NRGBA)
			c.Focus(f)
			with := c.Capture().(*image.NRGBA)
			o := f.(fyne.CanvasObject)
			pos, size := fyne.CurrentApp().Driver().AbsolutePositionForObject(o), o.Size()
			strong := 0
			for y := int(pos.Y); y < int(pos.Y+size.Height); y++ {
				for x := int(pos.X); x < int(pos.X+size.Width); x++ {
					p, q := without.NRGBAAt(x, y), with.NRGBAAt(x, y)
					if p != q && contrast(p, q) >= 3 {
						strong++
					}
				}
			}
			if need := int(2 * 2 * (size.Width + size.Height) * 0.9); strong < need {
				t.Errorf("%s: %T differs in %d pixels, a ring of two has %d", s.Name, f, strong, need)
			}
		}
	}
}

// Keys for digits are 20 mm, and as far apart as fingers need.
func TestDigitKeys(t *testing.T) {
	b := newBench(t, least)
	for _, s := range samples.All("en") {
		if s.State.PIN == nil || s.Name == "access-number-2-lines" || s.State.Screen == kiosk.ScreenReceipts || s.State.Screen == kiosk.ScreenCancelCode || s.State.Screen == kiosk.ScreenSetAside || s.State.Screen == kiosk.ScreenGuardianNote { // letters
			continue
		}
		b.draw(s.State)
		for _, x := range b.buttons() {
			if x.kind != keyButton {
				continue
			}
			inner := x.Size().SubtractWidthHeight(2*ringGap, 2*ringGap)
			if inner.Width < touch || inner.Height < touch || 2*ringGap < gap {
				t.Errorf("%s: key %q is %v", s.Name, x.text, inner)
			}
		}
	}
}

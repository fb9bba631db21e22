package ui

import (
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"

	"enrollkiosk/kiosk/typeface"
)

// faces are the fonts of package typeface as Fyne takes them, by face and weight.
var faces = func() (all [2][2]fyne.Resource) {
	for f := range all {
		for heavy := range all[f] {
			font := typeface.Face(f).Font(heavy == 1)
			all[f][heavy] = fyne.NewStaticResource(font.Name, font.Data)
		}
	}
	return all
}()

func font(f typeface.Face, style fyne.TextStyle) fyne.Resource {
	if style.Bold {
		return faces[f][1]
	}
	return faces[f][0]
}

// face is the font for a line of text; nil is the theme's.
func face(line string, style fyne.TextStyle) fyne.Resource {
	if f := typeface.Of(line); f != typeface.Han {
		return font(f, style)
	}
	return nil
}

// The palette. A table test holds each pair that screens use to WCAG 2.2:
// text 4.5:1 (1.4.3), signs and focus rings 3:1 (1.4.11).
var (
	paper      = rgb(0xF3F5F8) // behind everything
	sheet      = rgb(0xFFFFFF) // panels, plain buttons
	ink        = rgb(0x14202C) // text
	faint      = rgb(0x465463) // labels, second lines
	line       = rgb(0xC9D1DA) // rules between things; decoration only
	edge       = rgb(0x6B7A89) // borders of what can be pressed
	accent     = rgb(0x0B4C8C) // main button, marks
	accentDeep = rgb(0x083A6B) // main button under the pointer
	accentPale = rgb(0xDCEAF8) // boxes that the keys fill
	navy       = rgb(0x10294A) // header
	good       = rgb(0x17663A)
	goodPale   = rgb(0xE4F2E9)
	caution    = rgb(0x7A4A00)
	cautPale   = rgb(0xFFF3D6)
	bad        = rgb(0xA51D24)
	badPale    = rgb(0xFBE9E9)
	ring       = rgb(0xC2410C) // focus, on paper
	ringNavy   = rgb(0xFFD447) // focus, on the header
	training   = rgb(0x5B2A86) // banner of a training installation
	white      = rgb(0xFFFFFF)
	mist       = rgb(0xC9D6E6) // second text on the header
)

func rgb(v uint32) color.NRGBA {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 0xFF}
}

// Sizes in Fyne's units: one pixel at scale 1, that is about 0.28 mm on a
// 23-inch full-HD screen. Capitals of bodyText are 4.9 mm high there.
const (
	headText  float32 = 36
	bodyText  float32 = 25
	labelText float32 = 19
	smallText float32 = 16

	touch   float32 = 72 // 20 mm: least height of main buttons and digit keys
	gap     float32 = 12 // 3 mm: least distance between them
	margin  float32 = 48 // left and right of a page
	rounded float32 = 8
	ringGap float32 = 6 // room around a button for its focus ring
)

// look is the theme: one typeface for every language, our own colours whatever
// the machine's settings say about light and dark.
type look struct{}

// Theme returns the theme that the window, tests and pictures share.
func Theme() fyne.Theme { return look{} }

func ours(t fyne.Theme) bool { _, ok := t.(look); return ok }

func (look) Font(s fyne.TextStyle) fyne.Resource { return font(typeface.Han, s) }

func (look) Color(n fyne.ThemeColorName, _ fyne.ThemeVariant) color.Color {
	switch n {
	case theme.ColorNameBackground:
		return paper
	case theme.ColorNameForeground:
		return ink
	case theme.ColorNamePrimary:
		return accent
	case theme.ColorNameFocus:
		return ring
	}
	return theme.DefaultTheme().Color(n, theme.VariantLight)
}

func (look) Icon(n fyne.ThemeIconName) fyne.Resource { return theme.DefaultTheme().Icon(n) }

func (look) Size(n fyne.ThemeSizeName) float32 {
	if n == theme.SizeNameText {
		return bodyText
	}
	return theme.DefaultTheme().Size(n)
}

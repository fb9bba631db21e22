package ui

import (
	_ "embed"
	"image/color"
	"strings"
	"unicode"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"
)

// The typeface: Noto Sans in two weights, cut down by font/subset.sh to what the
// screens need, under the licence in font/OFL.txt. One face serves Latin and
// Chinese, so that a change of language moves nothing, another one Devanagari
// with the Latin letters among it; no picture depends on the fonts a machine
// happens to have.
var (
	//go:embed font/NotoSansSC-Regular.otf
	regularFont []byte
	//go:embed font/NotoSansSC-Bold.otf
	boldFont []byte
	//go:embed font/NotoSansDevanagari-Regular.ttf
	devanagariFont []byte
	//go:embed font/NotoSansDevanagari-Bold.ttf
	devanagariBoldFont []byte

	devanagari     = fyne.NewStaticResource("NotoSansDevanagari-Regular.ttf", devanagariFont)
	devanagariBold = fyne.NewStaticResource("NotoSansDevanagari-Bold.ttf", devanagariBoldFont)
)

// face is the font for a line of text; nil is the theme's.
func face(s string, style fyne.TextStyle) fyne.Resource {
	if !strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Devanagari, r) || r == '।' }) {
		return nil
	}
	if style.Bold {
		return devanagariBold
	}
	return devanagari
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
type look struct{ regular, bold fyne.Resource }

// Theme returns the theme that the window, tests and pictures share.
func Theme() fyne.Theme {
	return look{
		regular: fyne.NewStaticResource("NotoSansSC-Regular.otf", regularFont),
		bold:    fyne.NewStaticResource("NotoSansSC-Bold.otf", boldFont),
	}
}

func ours(t fyne.Theme) bool { _, ok := t.(look); return ok }

func (l look) Font(s fyne.TextStyle) fyne.Resource {
	if s.Bold {
		return l.bold
	}
	return l.regular
}

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

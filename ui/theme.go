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

// face is the font for a line of text. nil is the theme's, where Fyne looks for
// letters that the typeface lacks in every font of the machine: it has to read
// them all first.
func face(line string, style fyne.TextStyle) fyne.Resource {
	if f := typeface.Of(line); f.Has(line) {
		return font(f, style)
	}
	return nil
}

// Sizes in Fyne's units: one pixel at scale 1, that is 0.276 mm on a screen of
// 92 dots per inch. kiosk-window finds the scale at which a unit has that size on
// the screen at hand. Capitals of bodyText are 4.9 mm high.
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

// style is the theme that Fyne gets: one typeface for every language. What pages
// show has the colours of its window's Look, whatever the machine's settings
// say about light and dark.
type style struct{}

// Theme returns the theme that the window, tests and pictures share.
func Theme() fyne.Theme { return style{} }

func ours(t fyne.Theme) bool { _, ok := t.(style); return ok }

func (style) Font(s fyne.TextStyle) fyne.Resource { return font(typeface.Han, s) }

func (style) Color(n fyne.ThemeColorName, _ fyne.ThemeVariant) color.Color {
	switch n {
	case theme.ColorNameBackground:
		return light[paper]
	case theme.ColorNameForeground:
		return light[ink]
	case theme.ColorNamePrimary:
		return light[accent]
	case theme.ColorNameFocus:
		return light[ring]
	}
	return theme.DefaultTheme().Color(n, theme.VariantLight)
}

func (style) Icon(n fyne.ThemeIconName) fyne.Resource { return theme.DefaultTheme().Icon(n) }

func (style) Size(n fyne.ThemeSizeName) float32 {
	if n == theme.SizeNameText {
		return bodyText
	}
	return theme.DefaultTheme().Size(n)
}

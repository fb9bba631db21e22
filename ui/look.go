package ui

import (
	"bytes"
	"image/color"
	"strings"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
)

// Look is what people may change about a window: colours and the size of text.
// The zero value is light, of common contrast, at 100 %.
type Look struct {
	Dark     bool
	Contrast bool // text at least 7:1, lines and signs at least 4.5:1 (WCAG 2.2, 1.4.6)
	Text     int  // 100, 150 or 200 percent; 0 is 100
}

// TextSizes are those that Look.Text takes, in percent.
func TextSizes() []int { return []int{100, 150, 200} }

// A tone is a colour by what it is for. Pages are made of tones; dress puts the
// colours of the window's palette in their place.
type tone uint8

// The tones.
const (
	paper      tone = iota // behind everything
	sheet                  // panels, plain buttons
	ink                    // text
	faint                  // labels, second lines
	line                   // rules between things; decoration only
	edge                   // borders of what can be pressed
	accent                 // main button, marks
	accentDeep             // main button under the pointer
	accentPale             // boxes that the keys fill
	onAccent               // text on accent
	navy                   // header
	good
	goodPale
	caution
	cautPale
	bad
	badPale
	ring     // focus, on paper
	ringNavy // focus, on the header
	training // banner of a training installation
	white    // text on header and banner; QR codes: white in every palette
	mist     // second text on the header
	ground   // behind an illustration
	shade    // faces in an illustration, the track of a bar of progress
	hair     // thin lines in an illustration
	tones
)

// RGBA is the tone in the light palette, for what nobody has dressed yet.
func (t tone) RGBA() (r, g, b, a uint32) { return light[t].RGBA() }

// palette gives every tone its colour. A test holds each pair that a page shows
// to WCAG 2.2: text 4.5:1 (1.4.3), or 7:1 in the palettes of high contrast
// (1.4.6); signs and focus rings 3:1 (1.4.11), or 4.5:1.
type palette [tones]color.NRGBA

var light = palette{
	paper: rgb(0xF3F5F8), sheet: rgb(0xFFFFFF), ink: rgb(0x14202C), faint: rgb(0x465463), line: rgb(0xC9D1DA), edge: rgb(0x6B7A89),
	accent: rgb(0x0B4C8C), accentDeep: rgb(0x083A6B), accentPale: rgb(0xDCEAF8), onAccent: rgb(0xFFFFFF), navy: rgb(0x10294A),
	good: rgb(0x17663A), goodPale: rgb(0xE4F2E9), caution: rgb(0x7A4A00), cautPale: rgb(0xFFF3D6), bad: rgb(0xA51D24), badPale: rgb(0xFBE9E9),
	ring: rgb(0xC2410C), ringNavy: rgb(0xFFD447), training: rgb(0x5B2A86), white: rgb(0xFFFFFF), mist: rgb(0xC9D6E6),
	ground: rgb(0xE6ECF3), shade: rgb(0xDCE4EE), hair: rgb(0x9AA8B7),
}

var dark = palette{
	paper: rgb(0x12181F), sheet: rgb(0x1C242D), ink: rgb(0xEEF2F6), faint: rgb(0xB4C0CC), line: rgb(0x3A4652), edge: rgb(0x8A99A8),
	accent: rgb(0x8EC3F7), accentDeep: rgb(0xB4D8FB), accentPale: rgb(0x22384F), onAccent: rgb(0x08213B), navy: rgb(0x0B1F38),
	good: rgb(0x7FD6A0), goodPale: rgb(0x16301F), caution: rgb(0xF2C063), cautPale: rgb(0x362A12), bad: rgb(0xFF9C98), badPale: rgb(0x3D1C1E),
	ring: rgb(0xFF9F5A), ringNavy: rgb(0xFFD447), training: rgb(0x5B2A86), white: rgb(0xFFFFFF), mist: rgb(0xC9D6E6),
	ground: rgb(0x232E3A), shade: rgb(0x3A4856), hair: rgb(0x7C8B9A),
}

var lightContrast = palette{
	paper: rgb(0xFFFFFF), sheet: rgb(0xFFFFFF), ink: rgb(0x000000), faint: rgb(0x1F1F1F), line: rgb(0x000000), edge: rgb(0x000000),
	accent: rgb(0x00356B), accentDeep: rgb(0x000000), accentPale: rgb(0xFFF6B8), onAccent: rgb(0xFFFFFF), navy: rgb(0x000000),
	good: rgb(0x00461E), goodPale: rgb(0xFFFFFF), caution: rgb(0x5A3200), cautPale: rgb(0xFFFFFF), bad: rgb(0x86000B), badPale: rgb(0xFFFFFF),
	ring: rgb(0xA02800), ringNavy: rgb(0xFFD447), training: rgb(0x4A1A75), white: rgb(0xFFFFFF), mist: rgb(0xFFFFFF),
	ground: rgb(0xFFFFFF), shade: rgb(0xE0E0E0), hair: rgb(0x444444),
}

var darkContrast = palette{
	paper: rgb(0x000000), sheet: rgb(0x000000), ink: rgb(0xFFFFFF), faint: rgb(0xF0F0F0), line: rgb(0xFFFFFF), edge: rgb(0xFFFFFF),
	accent: rgb(0xFFE45C), accentDeep: rgb(0xFFFFFF), accentPale: rgb(0x2B2B00), onAccent: rgb(0x000000), navy: rgb(0x000000),
	good: rgb(0x7CFFA8), goodPale: rgb(0x000000), caution: rgb(0xFFD047), cautPale: rgb(0x000000), bad: rgb(0xFFB0AC), badPale: rgb(0x000000),
	ring: rgb(0x4FE3FF), ringNavy: rgb(0x4FE3FF), training: rgb(0x4A1A75), white: rgb(0xFFFFFF), mist: rgb(0xFFFFFF),
	ground: rgb(0x000000), shade: rgb(0x303030), hair: rgb(0xC8C8C8),
}

func rgb(v uint32) color.NRGBA {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 0xFF}
}

// fitted is the look as a window of that size can show it: larger text than 150 %
// would leave no room for keys of 20 mm.
func (l Look) fitted(window fyne.Size) Look {
	if sizes := sizesIn(window); l.Text > sizes[len(sizes)-1] {
		l.Text = sizes[len(sizes)-1]
	}
	return l
}

// sizesIn are the sizes of text that a window of that size can show.
func sizesIn(window fyne.Size) []int {
	if window.Width < 1280 || window.Height < 800 {
		return TextSizes()[:2]
	}
	return TextSizes()
}

// name is that of the palette, for the names of drawings in its colours.
func (l Look) name() string {
	return either(l.Dark, "dark", "light") + either(l.Contrast, "-contrast", "")
}

func (l Look) palette() *palette {
	switch {
	case l.Dark && l.Contrast:
		return &darkContrast
	case l.Dark:
		return &dark
	case l.Contrast:
		return &lightContrast
	}
	return &light
}

// color is c in the palette of the look, if c is a tone.
func (l Look) color(c color.Color) color.Color {
	if t, ok := c.(tone); ok {
		return l.palette()[t]
	}
	return c
}

// times is how many times its common size text has.
func (l Look) times() float32 { return float32(max(l.Text, 100)) / 100 }

// size is that of text whose common size is given. What is larger than the text
// of a page grows by half as much, and never looks smaller than that.
func (l Look) size(common float32) float32 {
	if common <= bodyText {
		return common * l.times()
	}
	return max(bodyText*l.times(), common*(1+(l.times()-1)/2))
}

// room is how much a picture is made smaller to leave room for larger text.
func (l Look) room() float32 { return 1 / (1 + (l.times()-1)*0.7) }

// dress puts the look on everything below o.
func (l Look) dress(o fyne.CanvasObject) {
	visit(o, func(o fyne.CanvasObject) {
		switch o := o.(type) {
		case *fyne.Container:
			if m, ok := o.Layout.(*mark); ok {
				m.look = l
			}
		case *canvas.Rectangle:
			o.FillColor, o.StrokeColor = l.color(o.FillColor), l.color(o.StrokeColor)
		case *canvas.Circle:
			o.FillColor, o.StrokeColor = l.color(o.FillColor), l.color(o.StrokeColor)
		case *canvas.Text:
			o.Color = l.color(o.Color)
		case *canvas.Image:
			l.recolor(o)
		case *paragraph:
			o.look = l
		case *button:
			o.look = l
		case *cells:
			o.look = l
		}
	})
}

// recolor draws one of our drawings in the colours of the look: the files have
// those of the light palette. What stands on the header keeps them.
func (l Look) recolor(img *canvas.Image) {
	if img.Resource == nil || l.palette() == &light {
		return
	}
	name, ours := strings.CutPrefix(img.Resource.Name(), pageDrawing)
	if !ours {
		return
	}
	img.Resource = fyne.NewStaticResource(l.name()+"-"+name, l.repaint(img.Resource.Content()))
}

// repaint replaces the colours of the light palette in an SVG.
func (l Look) repaint(svg []byte) []byte {
	var swaps []string
	to := l.palette()
	for _, t := range []tone{sheet, navy, accent, faint, edge, good, caution, bad, ground, shade, hair} {
		target := to[t]
		if t == navy { // outlines, on what is no header
			target = to[ink]
			if !l.Dark {
				target = to[navy]
			}
		}
		swaps = append(swaps, hex(light[t]), hex(target))
	}
	var out bytes.Buffer
	strings.NewReplacer(swaps...).WriteString(&out, string(svg))
	return out.Bytes()
}

func hex(c color.NRGBA) string {
	const digits = "0123456789ABCDEF"
	s := []byte{'#'}
	for _, v := range []uint8{c.R, c.G, c.B} {
		s = append(s, digits[v>>4], digits[v&15])
	}
	return string(s)
}

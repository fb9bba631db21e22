// Package typeface holds the letters of every language that the kiosk speaks, for
// window and paper alike: Noto Sans in two weights, cut down by subset.sh to what
// is needed, under the licence in OFL.txt. Nothing depends on the fonts that a
// machine happens to have.
package typeface

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/image/font/sfnt"
)

// Font is a font file.
type Font struct {
	Name string // with the ending that says its kind
	Data []byte // OpenType; not to be written to
}

var (
	//go:embed NotoSansSC-Regular.otf
	regular []byte
	//go:embed NotoSansSC-Bold.otf
	bold []byte
	//go:embed NotoSansDevanagari-Regular.ttf
	devanagari []byte
	//go:embed NotoSansDevanagari-Bold.ttf
	devanagariBold []byte
)

// Face names one of the two faces; each has two weights.
type Face int

const (
	Han        Face = iota // Latin and Chinese: one face, so that a change of language moves nothing
	Devanagari             // with the Latin letters that stand among it
)

// Of is the face that has the letters of a line.
func Of(line string) Face {
	if strings.ContainsFunc(line, func(r rune) bool { return unicode.Is(unicode.Devanagari, r) || r == '।' }) {
		return Devanagari
	}
	return Han
}

// Font is a face in one of its weights.
func (f Face) Font(heavy bool) Font {
	switch {
	case f == Devanagari && heavy:
		return Font{"NotoSansDevanagari-Bold.ttf", devanagariBold}
	case f == Devanagari:
		return Font{"NotoSansDevanagari-Regular.ttf", devanagari}
	case heavy:
		return Font{"NotoSansSC-Bold.otf", bold}
	}
	return Font{"NotoSansSC-Regular.otf", regular}
}

// han is the Han face, for asking what it has; its weights have the same letters.
var han = sync.OnceValue(func() *sfnt.Font {
	f, err := sfnt.Parse(regular)
	if err != nil {
		panic("typeface: " + err.Error()) // embedded, and held by the tests
	}
	return f
})

// Has says whether f has every letter of a line. A citizen's name may have others.
func (f Face) Has(line string) bool {
	if f != Han {
		return Of(line) == f
	}
	var b sfnt.Buffer
	return !strings.ContainsFunc(line, func(r rune) bool {
		if r >= ' ' && r <= '~' {
			return false
		}
		i, err := han().GlyphIndex(&b, r)
		return err != nil || i == 0
	})
}

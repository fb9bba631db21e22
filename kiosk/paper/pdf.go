package paper

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/go-text/typesetting/di"
	"github.com/go-text/typesetting/font"
	ot "github.com/go-text/typesetting/font/opentype"
	"github.com/go-text/typesetting/language"
	"github.com/go-text/typesetting/shaping"
	"golang.org/x/image/math/fixed"

	"enrollkiosk/kiosk/typeface"
)

// A4 in points of 1/72 inch; coordinates grow to the right and down.
const (
	pageWidth  = 595.28
	pageHeight = 841.89
	mm         = 72 / 25.4
)

// ink is a colour, each part from 0 to 1.
type ink struct{ r, g, b float64 }

var (
	black = ink{0.08, 0.125, 0.17}
	grey  = ink{0.27, 0.33, 0.39}
	navy  = ink{0.063, 0.16, 0.29}
	white = ink{1, 1, 1}
	line  = ink{0.79, 0.82, 0.855}
	alarm = ink{0.357, 0.165, 0.525}
)

// document is a PDF in the making (ISO 32000-1:2008). Letters are shaped as
// OpenType asks, and drawn from their outlines by fonts of Type 3 (9.6.5) that hold
// what the document uses and no more; a ToUnicode map (9.10.3) has them read aloud,
// searched and copied as the text that they are. The same input gives the same bytes.
type document struct {
	title, language string
	shaper          shaping.HarfbuzzShaper
	faces           map[faceKey]*font.Face
	fonts           []*type3
	codes           map[glyphKey]code
	pages           []*bytes.Buffer
	err             error // the first one
}

type faceKey struct {
	face  typeface.Face
	heavy bool
}

// glyphKey is a glyph as it stands for some text; the same drawing may stand for
// several.
type glyphKey struct {
	faceKey
	glyph font.GID
	text  string
}

// code is a glyph's place: the number of its font and its byte there.
type code struct {
	font int
	char byte
}

// type3 is a font of up to 256 glyphs, all of one weight.
type type3 struct {
	glyphs []glyph
}

type glyph struct {
	text  string
	width float64 // thousandths of the size
	draw  []byte  // content stream
}

func newDocument(title, language string) *document {
	return &document{title: title, language: language, faces: map[faceKey]*font.Face{}, codes: map[glyphKey]code{}}
}

func (d *document) page() *sheet {
	b := new(bytes.Buffer)
	d.pages = append(d.pages, b)
	return &sheet{d, b}
}

func (d *document) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// placed is a glyph on a line; x and y in points from where the line begins.
type placed struct {
	code
	x, y float64
}

// shape sets a line of text. Its width is in points.
func (d *document) shape(line string, size float64, heavy bool) (glyphs []placed, width float64) {
	k := faceKey{typeface.Of(line), heavy}
	face := d.faces[k]
	if face == nil {
		var err error
		if face, err = font.ParseTTF(bytes.NewReader(k.face.Font(heavy).Data)); err != nil {
			d.fail(fmt.Errorf("font %s: %w", k.face.Font(heavy).Name, err))
			return nil, 0
		}
		d.faces[k] = face
	}
	em := float64(face.Upem())
	text := []rune(line)
	in := shaping.Input{Text: text, RunEnd: len(text), Direction: di.DirectionLTR, Face: face, Size: fixed.I(int(face.Upem())),
		Language: language.NewLanguage(d.language)}
	var split shaping.Segmenter
	pen := 0.0
	for _, run := range split.Split(in, one{face}) {
		out := d.shaper.Shape(run)
		last := -1
		for _, g := range out.Glyphs {
			text := ""
			if g.ClusterIndex != last { // the first glyph of a cluster stands for all of its letters
				last = g.ClusterIndex
				text = string(run.Text[g.ClusterIndex : g.ClusterIndex+g.RuneCount])
			}
			c := d.code(k, face, g.GlyphID, text)
			glyphs = append(glyphs, placed{c, (pen + number(g.XOffset)) * size / em, number(g.YOffset) * size / em})
			pen += number(g.XAdvance)
		}
	}
	return glyphs, pen * size / em
}

// one is the fontmap that knows one face.
type one struct{ face *font.Face }

func (o one) ResolveFace(rune) *font.Face { return o.face }

func number(f fixed.Int26_6) float64 { return float64(f) / 64 }

func (d *document) code(k faceKey, face *font.Face, g font.GID, text string) code {
	key := glyphKey{k, g, text}
	if c, ok := d.codes[key]; ok {
		return c
	}
	if n := len(d.fonts); n == 0 || len(d.fonts[n-1].glyphs) == 256 {
		d.fonts = append(d.fonts, new(type3))
	}
	f := d.fonts[len(d.fonts)-1]
	c := code{len(d.fonts) - 1, byte(len(f.glyphs))}
	scale := 1000 / float64(face.Upem())
	advance := float64(face.HorizontalAdvance(g)) * scale
	f.glyphs = append(f.glyphs, glyph{text, advance, outline(face, g, scale, advance)})
	d.codes[key] = c
	return c
}

// outline is the content stream of a glyph, in thousandths.
func outline(face *font.Face, g font.GID, scale, advance float64) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s 0 -1000 -1000 3000 2000 d1\n", short(advance))
	data, ok := face.GlyphData(g).(font.GlyphOutline)
	if !ok || len(data.Segments) == 0 {
		return b.Bytes()
	}
	point := func(p ot.SegmentPoint) string {
		return short(float64(p.X)*scale) + " " + short(float64(p.Y)*scale)
	}
	var at ot.SegmentPoint
	for i, s := range data.Segments {
		switch s.Op {
		case ot.SegmentOpMoveTo:
			if i > 0 {
				b.WriteString("h ")
			}
			fmt.Fprintf(&b, "%s m\n", point(s.Args[0]))
			at = s.Args[0]
		case ot.SegmentOpLineTo:
			fmt.Fprintf(&b, "%s l\n", point(s.Args[0]))
			at = s.Args[0]
		case ot.SegmentOpQuadTo: // PDF has cubic curves only
			p, q := s.Args[0], s.Args[1]
			third := func(a, b ot.SegmentPoint) ot.SegmentPoint {
				return ot.SegmentPoint{X: a.X + 2*(b.X-a.X)/3, Y: a.Y + 2*(b.Y-a.Y)/3}
			}
			fmt.Fprintf(&b, "%s %s %s c\n", point(third(at, p)), point(third(q, p)), point(q))
			at = q
		case ot.SegmentOpCubeTo:
			fmt.Fprintf(&b, "%s %s %s c\n", point(s.Args[0]), point(s.Args[1]), point(s.Args[2]))
			at = s.Args[2]
		}
	}
	b.WriteString("h f\n")
	return b.Bytes()
}

func short(f float64) string { return strconv.FormatFloat(f, 'f', -1, 32) }

// sheet is a page.
type sheet struct {
	d *document
	b *bytes.Buffer
}

func (s *sheet) width(line string, size float64, heavy bool) float64 {
	_, w := s.d.shape(line, size, heavy)
	return w
}

// text sets a line with its baseline at y.
func (s *sheet) text(x, y float64, line string, size float64, heavy bool, c ink) {
	glyphs, _ := s.d.shape(line, size, heavy)
	fmt.Fprintf(s.b, "BT %s", c.fill())
	font := -1
	for _, g := range glyphs {
		if g.font != font {
			font = g.font
			fmt.Fprintf(s.b, "/F%d %s Tf\n", font, short(size))
		}
		fmt.Fprintf(s.b, "1 0 0 1 %s %s Tm <%02x> Tj\n", short(x+g.x), short(pageHeight-y+g.y), g.char)
	}
	s.b.WriteString("ET\n")
}

// paragraph sets text in lines no wider than width, the first with its baseline at
// y, and returns where the next line would stand.
func (s *sheet) paragraph(x, y, width float64, text string, size float64, heavy bool, c ink) float64 {
	for _, line := range s.lines(width, text, size, heavy) {
		s.text(x, y, line, size, heavy, c)
		y += size * 1.45
	}
	return y
}

func (s *sheet) lines(width float64, text string, size float64, heavy bool) []string {
	return typeface.Wrap(text, float32(width), func(t string) float32 { return float32(s.width(t, size, heavy)) })
}

func (s *sheet) rectangle(x, y, w, h float64, c ink) {
	fmt.Fprintf(s.b, "%s%s %s %s %s re f\n", c.fill(), short(x), short(pageHeight-y-h), short(w), short(h))
}

func (s *sheet) rule(x, y, w float64, c ink, dash string) {
	fmt.Fprintf(s.b, "q %s %s %s RG 0.7 w %s 0 d %s %s m %s %s l S Q\n", short(c.r), short(c.g), short(c.b), dash,
		short(x), short(pageHeight-y), short(x+w), short(pageHeight-y))
}

const (
	dashed = "[4 3]"
	solid  = "[]"
)

// modules draws a QR code without its quiet zone.
func (s *sheet) modules(x, y, side float64, bits [][]bool) {
	k := side / float64(len(bits))
	s.b.WriteString(ink{}.fill())
	for row := range bits {
		for from := 0; from < len(bits[row]); from++ {
			to := from
			for to < len(bits[row]) && bits[row][to] {
				to++
			}
			if to > from {
				fmt.Fprintf(s.b, "%s %s %s %s re ", short(x+float64(from)*k), short(pageHeight-y-float64(row+1)*k), short(float64(to-from)*k), short(k))
				from = to
			}
		}
	}
	s.b.WriteString("f\n")
}

func (c ink) fill() string { return fmt.Sprintf("%s %s %s rg ", short(c.r), short(c.g), short(c.b)) }

// bytes closes the document.
func (d *document) bytes() ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	f := file{}
	f.b.WriteString("%PDF-1.7\n%\xE2\xE3\xCF\xD3\n")
	catalog, pages, info := f.reserve(), f.reserve(), f.reserve()
	var fonts strings.Builder
	for i, t := range d.fonts {
		fmt.Fprintf(&fonts, "/F%d %d 0 R ", i, f.font(t))
	}
	var kids strings.Builder
	for _, p := range d.pages {
		content := f.stream("", p.Bytes())
		page := f.object(fmt.Sprintf("<< /Type /Page /Parent %d 0 R /MediaBox [0 0 %s %s] /Contents %d 0 R /Resources << /Font << %s>> >> >>",
			pages, short(pageWidth), short(pageHeight), content, &fonts))
		fmt.Fprintf(&kids, "%d 0 R ", page)
	}
	f.put(catalog, fmt.Sprintf("<< /Type /Catalog /Pages %d 0 R /Lang %s /ViewerPreferences << /DisplayDocTitle true >> >>", pages, literal(d.language)))
	f.put(pages, fmt.Sprintf("<< /Type /Pages /Count %d /Kids [ %s] >>", len(d.pages), &kids))
	f.put(info, fmt.Sprintf("<< /Title %s >>", literal(d.title)))
	start := f.b.Len()
	fmt.Fprintf(&f.b, "xref\n0 %d\n0000000000 65535 f \n", len(f.at)+1)
	for _, at := range f.at {
		fmt.Fprintf(&f.b, "%010d 00000 n \n", at)
	}
	id := sha256.Sum256(f.b.Bytes())
	fmt.Fprintf(&f.b, "trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R /ID [<%x> <%[4]x>] >>\nstartxref\n%d\n%%%%EOF\n", len(f.at)+1, catalog, info, id[:16], start)
	return f.b.Bytes(), nil
}

// file is the objects of a PDF, numbered from 1.
type file struct {
	b  bytes.Buffer
	at []int // offset of each
}

func (f *file) reserve() int { f.at = append(f.at, 0); return len(f.at) }

func (f *file) put(n int, body string) {
	f.at[n-1] = f.b.Len()
	fmt.Fprintf(&f.b, "%d 0 obj\n%s\nendobj\n", n, body)
}

func (f *file) object(body string) int {
	n := f.reserve()
	f.put(n, body)
	return n
}

func (f *file) stream(dictionary string, data []byte) int {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(data) // a bytes.Buffer takes everything
	w.Close()
	return f.object(fmt.Sprintf("<< %s/Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream", dictionary, z.Len(), z.String()))
}

func (f *file) font(t *type3) int {
	var names, widths, procs, unicode strings.Builder
	for i, g := range t.glyphs {
		fmt.Fprintf(&names, "/g%d ", i)
		fmt.Fprintf(&widths, "%s ", short(g.width))
		fmt.Fprintf(&procs, "/g%d %d 0 R ", i, f.stream("", g.draw))
	}
	for begin := 0; begin < len(t.glyphs); begin += 100 { // at most so many in a block (Adobe 5411)
		block := t.glyphs[begin:min(begin+100, len(t.glyphs))]
		fmt.Fprintf(&unicode, "%d beginbfchar\n", len(block))
		for i, g := range block {
			text := g.text
			if text == "" {
				text = "\u200B" // the cluster's first glyph has said it
			}
			fmt.Fprintf(&unicode, "<%02x> <%x>\n", begin+i, bigEndian(text))
		}
		unicode.WriteString("endbfchar\n")
	}
	cmap := f.stream("", []byte("/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n/CMapName /U def /CMapType 2 def\n"+
		"1 begincodespacerange <00> <ff> endcodespacerange\n"+unicode.String()+"endcmap CMapName currentdict /CMap defineresource pop end end\n"))
	return f.object(fmt.Sprintf("<< /Type /Font /Subtype /Type3 /FontMatrix [0.001 0 0 0.001 0 0] /FontBBox [-1000 -1000 3000 2000] /FirstChar 0 /LastChar %d "+
		"/Widths [%s] /Encoding << /Type /Encoding /Differences [0 %s] >> /CharProcs << %s>> /Resources << >> /ToUnicode %d 0 R >>",
		len(t.glyphs)-1, &widths, &names, &procs, cmap))
}

func bigEndian(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return b
}

// literal is a text string (7.9.2.2).
func literal(s string) string { return fmt.Sprintf("<feff%x>", bigEndian(s)) }

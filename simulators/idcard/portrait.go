package idcard

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
)

// Size of the portrait in pixels, 3:4, and of its file in bytes: what a card's
// chip usually holds.
const (
	portraitWidth  = 360
	portraitHeight = 480
	portraitMin    = 15_000
	portraitMax    = 18_000
)

// Portrait draws a face for the person: the same person gets the same face. It
// is a drawing, crossed by the word SPECIMEN, and resembles nobody. The result
// is a JPEG of 15 to 18 kB.
func Portrait(p Person) ([]byte, error) {
	seed := sha256.Sum256([]byte(p.Surname + "<<" + p.GivenNames + p.Birth.Format("060102")))
	img := drawFace(rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:]), binary.BigEndian.Uint64(seed[8:]))), p.Sex)
	for quality := 96; quality > 20; quality -= 2 {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
			return nil, fmt.Errorf("encode portrait: %w", err)
		}
		if b.Len() > portraitMax {
			continue
		}
		if b.Len() >= portraitMin {
			return b.Bytes(), nil
		}
		// A comment fills what the picture does not: the next quality was too long.
		return comment(b.Bytes(), portraitMin-b.Len()), nil
	}
	return nil, fmt.Errorf("encode portrait: no quality fits %d bytes", portraitMax)
}

// comment puts a JPEG comment of at least n bytes behind the start of image.
func comment(jpg []byte, n int) []byte {
	body := bytes.Repeat([]byte("specimen "), n/9+1)
	head := []byte{0xFF, 0xD8, 0xFF, 0xFE, byte((len(body) + 2) >> 8), byte(len(body) + 2)}
	return bytes.Join([][]byte{head, body, jpg[2:]}, nil)
}

type tone struct{ r, g, b float64 }

func (t tone) times(f float64) tone { return tone{t.r * f, t.g * f, t.b * f} }

func (t tone) mix(u tone, share float64) tone {
	share = min(max(share, 0), 1)
	return tone{t.r + (u.r-t.r)*share, t.g + (u.g-t.g)*share, t.b + (u.b-t.b)*share}
}

// drawFace paints back to front in a unit frame: x from -0.75 to 0.75, y down
// from 0 to 2. An ellipse's distance, below 1 inside, serves for every shape.
func drawFace(rnd *rand.Rand, sex string) image.Image {
	skins := []tone{{236, 198, 172}, {222, 178, 145}, {193, 142, 106}, {141, 96, 68}, {104, 70, 50}}
	hairs := []tone{{44, 34, 30}, {88, 58, 38}, {140, 96, 52}, {196, 160, 96}, {120, 120, 124}}
	clothes := []tone{{44, 62, 92}, {70, 86, 72}, {96, 52, 58}, {62, 62, 68}}
	skin, hair, cloth := skins[rnd.IntN(len(skins))], hairs[rnd.IntN(len(hairs))], clothes[rnd.IntN(len(clothes))]
	iris := tone{40 + 60*rnd.Float64(), 60 + 50*rnd.Float64(), 70 + 60*rnd.Float64()}
	face, jaw := 0.40+0.03*rnd.Float64(), 0.55+0.04*rnd.Float64()
	long := sex == "F" || sex != "M" && rnd.IntN(2) == 0

	oval := func(x, y, cx, cy, rx, ry float64) float64 {
		dx, dy := (x-cx)/rx, (y-cy)/ry
		return math.Sqrt(dx*dx + dy*dy)
	}
	edge := func(d float64) float64 { return (1 - d) / 0.03 } // soft border, 1 inside
	shade := func(x, y float64) tone {
		c := tone{214, 220, 226}.times(1.04 - 0.08*y - 0.05*math.Abs(x))
		put := func(t tone, cover float64) { c = c.mix(t, cover) }
		if long {
			put(hair.times(0.85+0.1*math.Sin(60*x)), edge(oval(x, y, 0, 1.02, 0.52, 0.78)))
		}
		put(cloth.times(1.1-0.25*math.Abs(x)), edge(oval(x, y, 0, 2.12, 0.78, 0.56)))
		put(skin.times(0.82), edge(oval(x, y, 0, 1.52, 0.20, 0.30)))
		put(skin.times(0.86), edge(min(oval(x, y, -face, 0.92, 0.07, 0.13), oval(x, y, face, 0.92, 0.07, 0.13))))
		put(hair.times(0.95+0.08*math.Sin(70*x+9*y)), edge(oval(x, y, 0, 0.72, face+0.06, 0.50)))
		light := 1.06 - 0.35*math.Pow(oval(x, y, -0.08, 0.85, 0.62, 0.8), 2)
		put(skin.times(light), edge(oval(x, y, 0, 0.94, face, jaw)))
		hairline := 0.60 - 0.09*math.Cos(6*x)
		if y < hairline {
			put(hair.times(0.95+0.10*math.Sin(80*x+12*y)), edge(oval(x, y, 0, 0.74, face+0.04, 0.42))*min(1, (hairline-y)/0.02))
		}
		for _, side := range []float64{-1, 1} {
			ex := 0.16 * side
			put(hair.times(0.8), edge(oval(x, y+0.25*(x-ex)*(x-ex), ex, 0.775, 0.105, 0.018)))
			put(tone{244, 242, 238}, edge(oval(x, y, ex, 0.87, 0.078, 0.036)))
			put(iris, edge(oval(x, y, ex, 0.87, 0.034, 0.034)))
			put(tone{16, 14, 14}, edge(oval(x, y, ex, 0.87, 0.016, 0.016)))
			put(tone{255, 255, 255}, edge(oval(x, y, ex-0.011, 0.86, 0.006, 0.006)))
			put(hair.times(0.6), edge(oval(x, y, ex, 0.836, 0.082, 0.009)))
			put(tone{206, 120, 104}, 0.28*(1-oval(x, y, 0.24*side, 1.07, 0.14, 0.11)))
			put(skin.times(0.6), edge(oval(x, y, 0.036*side, 1.075, 0.014, 0.009)))
		}
		put(skin.times(0.80), 0.6*(1-oval(x, y, 0.05, 1.0, 0.045, 0.13)))
		put(skin.times(1.12), 0.6*(1-oval(x, y, -0.01, 1.0, 0.03, 0.12)))
		put(tone{172, 84, 80}, edge(oval(x, y+0.2*x*x, 0, 1.215, 0.125, 0.032)))
		put(tone{112, 50, 50}, edge(oval(x, y+0.2*x*x, 0, 1.210, 0.125, 0.006)))
		return c
	}

	img := image.NewRGBA(image.Rect(0, 0, portraitWidth, portraitHeight))
	for py := range portraitHeight {
		for px := range portraitWidth {
			c := shade((float64(px)+0.5)/240-0.75, (float64(py)+0.5)/240)
			if inSpecimen(px, py) {
				c = c.mix(tone{190, 30, 40}, 0.55)
			}
			grain := 5 * (rnd.Float64() - 0.5)
			img.SetRGBA(px, py, color.RGBA{clamp(c.r + grain), clamp(c.g + grain), clamp(c.b + grain), 255})
		}
	}
	return img
}

func clamp(v float64) uint8 { return uint8(min(max(v, 0), 255)) }

// glyphs holds the letters of SPECIMEN, five columns by seven rows, a row in each
// number, the leftmost column in bit 4.
var glyphs = map[byte][7]byte{
	'S': {0x0F, 0x10, 0x10, 0x0E, 0x01, 0x01, 0x1E},
	'P': {0x1E, 0x11, 0x11, 0x1E, 0x10, 0x10, 0x10},
	'E': {0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x1F},
	'C': {0x0E, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0E},
	'I': {0x0E, 0x04, 0x04, 0x04, 0x04, 0x04, 0x0E},
	'M': {0x11, 0x1B, 0x15, 0x15, 0x11, 0x11, 0x11},
	'N': {0x11, 0x19, 0x15, 0x13, 0x11, 0x11, 0x11},
}

// inSpecimen tells whether the word, slanting upwards across the chest, covers a pixel.
func inSpecimen(px, py int) bool {
	const word, scale = "SPECIMEN", 7
	x, y := px-12, py-(portraitHeight-74)+(px-12)/12
	if x < 0 || y < 0 || y >= 7*scale {
		return false
	}
	letter, column := x/(6*scale), x%(6*scale)/scale
	return letter < len(word) && column < 5 && glyphs[word[letter]][y/scale]>>(4-column)&1 == 1
}

// drawSignature writes the person's name as a wavering line, a JPEG for DG7.
func drawSignature(p Person) ([]byte, error) {
	const width, height = 240, 80
	img := image.NewGray(image.Rect(0, 0, width, height))
	for i := range img.Pix {
		img.Pix[i] = 255
	}
	name := p.GivenNames + " " + p.Surname
	for x := 20; x < width-20; x++ {
		letter := float64(name[(x-20)*len(name)/(width-40)])
		y := height/2 + int(14*math.Sin(float64(x)/4)*math.Cos(letter))
		for d := range 3 {
			img.SetGray(x, y+d, color.Gray{Y: 40})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 80}); err != nil {
		return nil, fmt.Errorf("encode signature: %w", err)
	}
	return b.Bytes(), nil
}

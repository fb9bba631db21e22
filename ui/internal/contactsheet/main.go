// Contactsheet draws every screen in every language, for people to look at: a
// picture of each, and one sheet of all in each language.
//
//	go run ./ui/internal/contactsheet [-o out/screens] [-size 1280x800] [-text 150] [-dark] [-contrast] [-languages en,zh]
package main

import (
	"flag"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/image/draw"

	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui"
	"enrollkiosk/ui/internal/samples"
	"enrollkiosk/ui/picture"
)

func main() {
	out := flag.String("o", "out/screens", "folder for the pictures")
	size := flag.String("size", "1280x800", "width and height in pixels")
	languages := flag.String("languages", strings.Join(words.Languages(), ","), "languages, with commas between")
	var look ui.Look
	flag.IntVar(&look.Text, "text", 100, "size of text in percent")
	flag.BoolVar(&look.Dark, "dark", false, "dark colours")
	flag.BoolVar(&look.Contrast, "contrast", false, "high contrast")
	flag.Parse()
	var w, h int
	if _, err := fmt.Sscanf(*size, "%dx%d", &w, &h); err != nil || w < 1 || h < 1 {
		fmt.Fprintln(os.Stderr, "contactsheet: -size wants WIDTHxHEIGHT")
		os.Exit(2)
	}
	if err := look.Valid(); err != nil {
		fmt.Fprintln(os.Stderr, "contactsheet:", err)
		os.Exit(2)
	}
	for _, l := range strings.Split(*languages, ",") {
		if err := drawAll(*out, l, look, w, h); err != nil {
			fmt.Fprintln(os.Stderr, "contactsheet:", err)
			os.Exit(1)
		}
	}
}

// The sheet has thumbnails of that width in rows.
const (
	inRow     = 5
	thumbnail = 480
	apart     = 8
)

func drawAll(out, language string, look ui.Look, w, h int) error {
	now := time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)
	dir := filepath.Join(out, language)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all := samples.All(language)
	high := thumbnail * h / w
	rows := (len(all) + inRow - 1) / inRow
	sheet := image.NewNRGBA(image.Rect(0, 0, inRow*(thumbnail+apart)+apart, rows*(high+apart)+apart))
	draw.Draw(sheet, sheet.Rect, image.NewUniform(color.Gray{0x50}), image.Point{}, draw.Src)
	for i, s := range all {
		img := picture.RenderIn(look, s.State, w, h, now)
		if err := picture.Save(filepath.Join(dir, fmt.Sprintf("%02d-%s.png", i+1, s.Name)), img); err != nil {
			return err
		}
		at := image.Pt(apart+i%inRow*(thumbnail+apart), apart+i/inRow*(high+apart))
		draw.ApproxBiLinear.Scale(sheet, image.Rectangle{at, at.Add(image.Pt(thumbnail, high))}, img, img.Bounds(), draw.Src, nil)
	}
	return picture.Save(filepath.Join(out, language+".png"), sheet)
}

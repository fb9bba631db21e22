// Contactsheet draws every screen in every language, for people to look at:
//
//	go run ./ui/internal/contactsheet [-o out/screens] [-size 1280x800]
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"enrollkiosk/kiosk/words"
	"enrollkiosk/ui/internal/samples"
	"enrollkiosk/ui/picture"
)

func main() {
	out := flag.String("o", "out/screens", "folder for the pictures")
	size := flag.String("size", "1280x800", "width and height in pixels")
	flag.Parse()
	var w, h int
	if _, err := fmt.Sscanf(*size, "%dx%d", &w, &h); err != nil || w < 1 || h < 1 {
		fmt.Fprintln(os.Stderr, "contactsheet: -size wants WIDTHxHEIGHT")
		os.Exit(2)
	}
	if err := draw(*out, w, h); err != nil {
		fmt.Fprintln(os.Stderr, "contactsheet:", err)
		os.Exit(1)
	}
}

func draw(out string, w, h int) error {
	now := time.Date(2026, 5, 4, 10, 42, 0, 0, time.Local)
	for _, l := range words.Languages() {
		dir := filepath.Join(out, l)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for i, s := range samples.All(l) {
			if err := picture.Write(filepath.Join(dir, fmt.Sprintf("%02d-%s.png", i+1, s.Name)), s.State, w, h, now); err != nil {
				return err
			}
		}
	}
	return nil
}

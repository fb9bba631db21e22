package lds

import (
	"errors"
	"fmt"
	"strings"
)

// maxScan bounds what a scanner sends for one document.
const maxScan = 512

// layouts are the sizes of a zone: number of lines and their length.
var layouts = []struct{ lines, width int }{{2, 44}, {3, 30}, {2, 36}}

// ParseScan reads the zone out of what a scanner of documents sends as key
// strokes or over a serial line: in upper or lower case; filler as "<", "_" or
// spaces, or left out at the end of a line; lines that end in CR, LF, TAB or not
// at all; with whatever characters the scanner sends before and after.
//
// It fails as [ParseMRZ] does. A reading whose check digits are right is
// preferred.
func ParseScan(text string) (MRZ, error) {
	if len(text) > maxScan {
		return MRZ{}, fmt.Errorf("scan: %w: too long", ErrMalformed)
	}
	text = strings.ReplaceAll(strings.ToUpper(text), "_", "<")
	// A space is filler on some scanners and the end of a line on others.
	readings := append(zones(scannedLines(strings.ReplaceAll(text, " ", "<"))), zones(scannedLines(text))...)

	var second MRZ
	err := fmt.Errorf("scan: %w: no machine readable zone", ErrMalformed)
	for _, zone := range readings {
		m, parseErr := ParseMRZ(zone)
		switch {
		case parseErr == nil:
			return m, nil
		case errors.Is(parseErr, ErrCheckDigit) && !errors.Is(err, ErrCheckDigit):
			second, err = m, fmt.Errorf("scan: %w", parseErr)
		}
	}
	return second, err
}

// scannedLines are the runs of characters that a zone can have.
func scannedLines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r > 0x7F || !charset(string(r)) })
}

// zones lists what of the lines may be a zone: lines of the right lengths that
// follow one another; and, for letters sent before or after, every stretch of the
// right length.
func zones(lines []string) []string {
	var found []string
	all := strings.Join(lines, "")
	for _, l := range layouts {
		size := l.lines * l.width
		for i := 0; i+l.lines <= len(lines); i++ {
			zone := ""
			for _, line := range lines[i : i+l.lines] {
				// Nothing but filler may be left out or be too much.
				line = strings.TrimRight(line, "<")
				zone += line + strings.Repeat("<", max(0, l.width-len(line)))
			}
			if len(zone) == size {
				found = append(found, zone)
			}
		}
		for at := 0; at+size <= len(all); at++ {
			found = append(found, all[at:at+size])
		}
	}
	return found
}

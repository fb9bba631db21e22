package typeface

import (
	"strings"
	"unicode"
)

// Wrap breaks text into lines no wider than width: between words, between
// Chinese characters but never before closing or after opening punctuation, and
// inside a word only when it is wider than a whole line.
func Wrap(text string, width float32, measure func(string) float32) []string {
	var lines []string
	width += 0.5
	for _, para := range strings.Split(text, "\n") {
		first := len(lines)
		var line []string // its pieces
		var used float32  // their widths, one by one
		// Set together, pieces may be wider than one by one: a line has one face, and
		// letters join. The last ones go to the next line then.
		flush := func() {
			n := len(line)
			for n > 1 && measure(joined(line[:n])) > width {
				n--
			}
			lines = append(lines, joined(line[:n]))
			line, used = line[n:], 0
			for _, tok := range line {
				used += measure(tok)
			}
		}
		for _, tok := range tokens(para) {
			w := measure(joined([]string{tok}))
			for used > 0 && used+w > width {
				flush()
			}
			for w > width && len(tok) > 0 {
				n := fitting(tok, width-0.5, measure)
				line = []string{tok[:n]}
				flush()
				tok = tok[n:]
				w = measure(joined([]string{tok}))
			}
			if tok != "" {
				line = append(line, tok)
				used += measure(tok)
			}
		}
		for len(line) > 0 || len(lines) == first {
			flush()
		}
	}
	return lines
}

// joined is a line of some pieces, without the blanks at its end.
func joined(pieces []string) string { return strings.TrimRight(strings.Join(pieces, ""), " ") }

// fitting is the length in bytes of the longest start of tok that fits, at
// least one character with its marks (Unicode Standard Annex 29, as far as the
// languages here need it: what follows a virama belongs to it).
func fitting(tok string, width float32, measure func(string) float32) int {
	n := 0
	var last rune
	for i, r := range tok {
		end := i + len(string(r))
		if joined := unicode.Is(unicode.M, r) || last == virama; joined && n == i {
			last, n = r, end
			continue
		}
		last = r
		if n > 0 && measure(tok[:end]) > width {
			return n
		}
		n = end
	}
	return n
}

// tokens cuts a line into pieces between which it may break.
func tokens(s string) []string {
	const closing, opening = "，。、；：？！）》」』】%…·.,;:?!)", "（《「『【("
	var out []string
	current := ""
	var last rune
	for _, r := range s {
		breaks := last == ' ' && r != ' ' ||
			(wide(last) || wide(r)) && last != 0 && r != ' ' && !strings.ContainsRune(closing, r) && !strings.ContainsRune(opening, last)
		if breaks && current != "" {
			out = append(out, current)
			current = ""
		}
		current += string(r)
		last = r
	}
	if current != "" {
		out = append(out, current)
	}
	return out
}

const virama = '\u094D' // joins two Devanagari consonants

func wide(r rune) bool {
	return unicode.Is(unicode.Han, r) || r >= 0x3000 && r <= 0x303F || r >= 0xFF01 && r <= 0xFF60
}

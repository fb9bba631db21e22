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
	for _, para := range strings.Split(text, "\n") {
		current, first := "", len(lines)
		var used float32
		flush := func() {
			lines = append(lines, strings.TrimRight(current, " "))
			current, used = "", 0
		}
		for _, tok := range tokens(para) {
			w := measure(strings.TrimRight(tok, " "))
			if used > 0 && used+w > width+0.5 {
				flush()
			}
			for w > width+0.5 && len(tok) > 0 {
				n := fitting(tok, width, measure)
				current = tok[:n]
				flush()
				tok = tok[n:]
				w = measure(strings.TrimRight(tok, " "))
			}
			current += tok
			used += measure(tok)
		}
		if current != "" || len(lines) == first {
			flush()
		}
	}
	return lines
}

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

package paper

// Setter sets paragraphs, in points.
type Setter struct{ s *sheet }

// NewSetter has a page of its own.
func NewSetter() Setter { return Setter{newDocument("", "en").page()} }

// Lines are those that a text is set in, each with its width.
func (s Setter) Lines(width float64, text string, size float64, heavy bool) (lines []string, wide []float64) {
	lines = s.s.lines(width, text, size, heavy)
	for _, l := range lines {
		wide = append(wide, s.s.width(l, size, heavy))
	}
	return lines, wide
}

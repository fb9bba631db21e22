//go:build race

package inspection_test

// The race detector makes arithmetic ten times slower.
const (
	mutantsPerFile   = 6
	mutantsPerAnswer = 2
)

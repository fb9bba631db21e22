//go:build !race

package inspection_test

const (
	mutantsPerFile   = 500
	mutantsPerAnswer = 12
)

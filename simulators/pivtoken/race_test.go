//go:build race

package pivtoken_test

const raceEnabled = true

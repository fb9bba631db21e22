//go:build !race

package queue_test

// effort is how much of a repeated test to do.
const effort = 10

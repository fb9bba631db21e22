//go:build race

package queue_test

// effort is little: children that look for races take long to start.
const effort = 1

//go:build race

package beid_test

// stride: elliptic curves are slow under the race detector.
const stride = 11

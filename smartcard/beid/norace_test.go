//go:build !race

package beid_test

// stride: every byte is altered.
const stride = 1

// Package domain has the standardized domain parameters of ICAO Doc 9303-11
// 9.5.1: the groups in which a chip and a terminal agree on keys, over elliptic
// curves and over finite fields.
//
// A [Group] is written additively whatever it is made of. An [Element] comes
// from its group only: parsing refuses everything outside the subgroup of
// prime order, so that no answer of a card can leak a bit of a scalar. Encoded
// field elements and shared secrets keep their leading zeros (FE2OS, TR-03111
// 3.1.3): a secret that loses them fails once in 256 runs.
//
// NIST curves run in the standard library's constant time. Brainpool curves,
// P-192 and finite fields do not; scalars here are used once, and whoever
// measures the terminal stands beside it.
package domain

import (
	"errors"
	"io"
	"math/big"
)

// ErrElement says that bytes are no element of the group: wrong length, not on
// the curve, outside the subgroup, or neutral.
var ErrElement = errors.New("domain: not an element of the group")

// ErrParameters says that domain parameters make no group to agree on keys in.
var ErrParameters = errors.New("domain: unsound domain parameters")

// ErrNoMapping says that the group has no map for integers: NIST P-224, whose
// prime is 1 modulo 4 (Doc 9303-11 table 6 leaves it out of Integrated Mapping).
var ErrNoMapping = errors.New("domain: no Integrated Mapping into this group")

// Group is a group of prime order. Implementations are in this package; they
// are safe for concurrent use.
type Group interface {
	// Elliptic tells a curve from a finite field.
	Elliptic() bool
	// Size is the length of a field element in bytes.
	Size() int
	// Order is the order of the generator.
	Order() *big.Int
	Generator() Element
	// Scalar draws a private key between 1 and the order less 1, as long as the order.
	Scalar(random io.Reader) ([]byte, error)
	// Multiply returns scalar times e.
	Multiply(e Element, scalar []byte) Element
	Add(a, b Element) Element
	// Map takes an integer between 0 and the field's size to an element: the last
	// step of Integrated Mapping (Doc 9303-11 4.4.3.3.2). It fails with ErrNoMapping
	// or ErrElement.
	Map(integer []byte) (Element, error)
	// Encode writes a public key: an uncompressed point, or an integer of full length.
	Encode(e Element) []byte
	// Parse reads a public key. It fails with ErrElement.
	Parse(b []byte) (Element, error)
	// Secret is what two sides share when they have computed e: the x coordinate
	// or the integer, at full length. It fails with ErrElement for the neutral one.
	Secret(e Element) ([]byte, error)
}

// Element is an element of a group; the zero value is of none.
type Element struct{ x, y *big.Int } // y is nil in finite fields

// Equal compares elements of one group.
func (e Element) Equal(o Element) bool {
	if e.x == nil || o.x == nil || (e.y == nil) != (o.y == nil) {
		return false
	}
	return e.x.Cmp(o.x) == 0 && (e.y == nil || e.y.Cmp(o.y) == 0)
}

// Standardized returns the group of a parameter id (Doc 9303-11 table 6): 0 to 2
// and 8 to 18. Other ids are reserved.
func Standardized(id int) (Group, bool) {
	if f, ok := fields[id]; ok {
		return f, true
	}
	if c, ok := curves[id]; ok {
		return c, true
	}
	return nil, false
}

// IDs lists the parameter ids in order.
func IDs() []int { return []int{0, 1, 2, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18} }

// scalar draws a number between 1 and order less 1.
func scalar(random io.Reader, order *big.Int) ([]byte, error) {
	b := make([]byte, (order.BitLen()+7)/8)
	excess := uint(len(b)*8 - order.BitLen())
	for range 128 {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, err
		}
		b[0] &= 0xFF >> excess
		if k := new(big.Int).SetBytes(b); k.Sign() > 0 && k.Cmp(order) < 0 {
			return b, nil
		}
	}
	return nil, errors.New("domain: random source gives no scalar")
}

package domain

import (
	"fmt"
	"io"
	"math/big"
)

// field is the subgroup of order q in the integers modulo the prime p.
type field struct{ p, q, g *big.Int }

// Bounds of explicit parameters: below is too weak, above buys a card seconds
// of arithmetic.
const (
	minFieldBits = 1024
	maxFieldBits = 4096
	minOrderBits = 160
)

// FiniteField returns the group of explicit Diffie-Hellman parameters (X9.42,
// as Chip Authentication keys carry them). It fails with ErrParameters for
// numbers that are not prime, sizes out of bounds and a generator that does not
// generate.
func FiniteField(p, q, g *big.Int) (Group, error) {
	for _, f := range fields {
		if f.p.Cmp(p) == 0 && f.q.Cmp(q) == 0 && f.g.Cmp(g) == 0 {
			return f, nil
		}
	}
	one := big.NewInt(1)
	less := new(big.Int).Sub(p, one)
	switch {
	case p.Sign() <= 0 || q.Sign() <= 0 || p.BitLen() < minFieldBits || p.BitLen() > maxFieldBits || q.BitLen() < minOrderBits || q.Cmp(p) >= 0:
		return nil, fmt.Errorf("%w: sizes", ErrParameters)
	case new(big.Int).Mod(less, q).Sign() != 0:
		return nil, fmt.Errorf("%w: order of the subgroup", ErrParameters)
	case !p.ProbablyPrime(8) || !q.ProbablyPrime(8):
		return nil, fmt.Errorf("%w: not prime", ErrParameters)
	case g.Cmp(one) <= 0 || g.Cmp(less) >= 0 || new(big.Int).Exp(g, q, p).Cmp(one) != 0:
		return nil, fmt.Errorf("%w: generator", ErrParameters)
	}
	return &field{new(big.Int).Set(p), new(big.Int).Set(q), new(big.Int).Set(g)}, nil
}

func (f *field) Elliptic() bool     { return false }
func (f *field) Size() int          { return (f.p.BitLen() + 7) / 8 }
func (f *field) Order() *big.Int    { return new(big.Int).Set(f.q) }
func (f *field) Generator() Element { return Element{x: f.g} }

func (f *field) Scalar(random io.Reader) ([]byte, error) { return scalar(random, f.q) }

func (f *field) Multiply(e Element, scalar []byte) Element {
	return Element{x: new(big.Int).Exp(e.x, new(big.Int).SetBytes(scalar), f.p)}
}

func (f *field) Add(a, b Element) Element {
	x := new(big.Int).Mul(a.x, b.x)
	return Element{x: x.Mod(x, f.p)}
}

func (f *field) Encode(e Element) []byte { return e.x.FillBytes(make([]byte, f.Size())) }

// Parse takes an integer with or without its leading zeros: cards differ.
func (f *field) Parse(b []byte) (Element, error) {
	if len(b) == 0 || len(b) > f.Size() {
		return Element{}, fmt.Errorf("%w: %d bytes", ErrElement, len(b))
	}
	e := Element{x: new(big.Int).SetBytes(b)}
	return e, f.check(e)
}

// check demands a member of the subgroup of order q other than 1.
func (f *field) check(e Element) error {
	one := big.NewInt(1)
	if e.x == nil || e.x.Cmp(one) <= 0 || e.x.Cmp(f.p) >= 0 || new(big.Int).Exp(e.x, f.q, f.p).Cmp(one) != 0 {
		return ErrElement
	}
	return nil
}

func (f *field) Secret(e Element) ([]byte, error) {
	if e.x == nil || e.x.Cmp(big.NewInt(1)) <= 0 {
		return nil, ErrElement
	}
	return f.Encode(e), nil
}

// Map raises the integer to the cofactor (Doc 9303-11 4.4.3.3.2).
func (f *field) Map(integer []byte) (Element, error) {
	x := new(big.Int).SetBytes(integer)
	cofactor := new(big.Int).Sub(f.p, big.NewInt(1))
	cofactor.Div(cofactor, f.q)
	e := Element{x: x.Exp(x, cofactor, f.p)}
	return e, f.check(e)
}

package domain

import (
	"bytes"
	"crypto/elliptic"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
)

// curve is a short Weierstrass curve y² = x³ + ax + b with cofactor 1.
type curve struct {
	elliptic.Curve
	oid  asn1.ObjectIdentifier
	a, b *big.Int
}

// Curve returns the elliptic curve of a parameter id, for signatures and
// certificates, which name the same curves.
func Curve(id int) (elliptic.Curve, bool) {
	c, ok := curves[id]
	if !ok {
		return nil, false
	}
	return c.Curve, true
}

// NamedCurve returns the curve and the parameter id of an object identifier
// (RFC 5480 2.1.1.1, RFC 5639 4.1).
func NamedCurve(oid asn1.ObjectIdentifier) (c elliptic.Curve, id int, ok bool) {
	for id, c := range curves {
		if c.oid.Equal(oid) {
			return c.Curve, id, true
		}
	}
	return nil, 0, false
}

// OfCurve returns the group over a curve that Curve or NamedCurve returned.
func OfCurve(c elliptic.Curve) (Group, bool) {
	for _, own := range curves {
		if own.Curve == c {
			return own, true
		}
	}
	return nil, false
}

// ExplicitCurve finds the curve that is spelled out. Every parameter counts,
// the base point too: with one of its own choosing an attacker has a private
// key for any public key (CVE-2020-0601). base is an encoded point, compressed
// or not; cofactor may be nil.
func ExplicitCurve(p, a, b *big.Int, base []byte, order, cofactor *big.Int) (c elliptic.Curve, id int, ok bool) {
	for id, c := range curves {
		params := c.Params()
		if p.Cmp(params.P) != 0 || a.Cmp(c.a) != 0 || b.Cmp(c.b) != 0 || order.Cmp(params.N) != 0 {
			continue
		}
		full := c.Encode(c.Generator())
		compressed := append([]byte{2 + byte(params.Gy.Bit(0))}, full[1:1+c.Size()]...)
		if (bytes.Equal(base, full) || bytes.Equal(base, compressed)) && (cofactor == nil || cofactor.IsInt64() && cofactor.Int64() == 1) {
			return c.Curve, id, true
		}
	}
	return nil, 0, false
}

func (c *curve) Elliptic() bool  { return true }
func (c *curve) Size() int       { return (c.Params().P.BitLen() + 7) / 8 }
func (c *curve) Order() *big.Int { return new(big.Int).Set(c.Params().N) }

func (c *curve) Generator() Element { return Element{c.Params().Gx, c.Params().Gy} }

func (c *curve) Scalar(random io.Reader) ([]byte, error) { return scalar(random, c.Params().N) }

func (c *curve) Multiply(e Element, scalar []byte) Element {
	if e.neutral() {
		return e
	}
	if e.x == c.Params().Gx && e.y == c.Params().Gy {
		x, y := c.ScalarBaseMult(scalar)
		return Element{x, y}
	}
	x, y := c.ScalarMult(e.x, e.y, scalar)
	return Element{x, y}
}

// Add shadows the curve's own, which takes coordinates.
func (c *curve) Add(a, b Element) Element {
	//lint:ignore SA1019 the mapped generators of PACE need whole points
	x, y := c.Curve.Add(a.x, a.y, b.x, b.y)
	return Element{x, y}
}

// neutral is the point at infinity, as crypto/elliptic writes it.
func (e Element) neutral() bool { return e.x.Sign() == 0 && (e.y == nil || e.y.Sign() == 0) }

func (c *curve) Encode(e Element) []byte {
	n := c.Size()
	b := make([]byte, 1+2*n)
	b[0] = 4
	e.x.FillBytes(b[1 : 1+n])
	e.y.FillBytes(b[1+n:])
	return b
}

func (c *curve) Parse(b []byte) (Element, error) {
	n := c.Size()
	if len(b) != 1+2*n || b[0] != 4 {
		return Element{}, fmt.Errorf("%w: %d bytes", ErrElement, len(b))
	}
	e := Element{new(big.Int).SetBytes(b[1 : 1+n]), new(big.Int).SetBytes(b[1+n:])}
	p := c.Params().P
	if e.x.Cmp(p) >= 0 || e.y.Cmp(p) >= 0 || e.neutral() || !c.IsOnCurve(e.x, e.y) {
		return Element{}, ErrElement
	}
	return e, nil
}

func (c *curve) Secret(e Element) ([]byte, error) {
	if e.x == nil || e.neutral() {
		return nil, ErrElement
	}
	return e.x.FillBytes(make([]byte, c.Size())), nil
}

// Map is the point encoding of Doc 9303-11 Appendix B.2 in affine coordinates
// (simplified Shallue-van de Woestijne-Ulas). The cofactor is 1.
func (c *curve) Map(integer []byte) (Element, error) {
	p := c.Params().P
	if p.Bit(1) == 0 { // 1 modulo 4
		return Element{}, ErrNoMapping
	}
	t := new(big.Int).SetBytes(integer)
	if t.Cmp(p) >= 0 {
		return Element{}, ErrElement
	}
	mul := func(x, y *big.Int) *big.Int { z := new(big.Int).Mul(x, y); return z.Mod(z, p) }
	one := big.NewInt(1)
	t2 := mul(t, t)
	alpha := new(big.Int).Mod(new(big.Int).Neg(t2), p)
	sum := new(big.Int).Add(alpha, mul(alpha, alpha))
	inverse := new(big.Int).ModInverse(sum.Mod(sum, p), p)
	if inverse == nil { // t is 0, 1 or -1
		return Element{}, ErrElement
	}
	// X2 = -b/a (1 + 1/(α+α²)), X3 = α X2
	x2 := mul(new(big.Int).Sub(p, c.b), new(big.Int).ModInverse(c.a, p))
	x2 = mul(x2, inverse.Add(inverse, one))
	x3 := mul(alpha, x2)
	h2 := c.right(x2)
	u := mul(mul(t2, t), h2)
	// A = h2 ^ (p-1-(p+1)/4): 1/sqrt(h2) if h2 is a square
	exponent := new(big.Int).Add(p, one)
	exponent.Sub(new(big.Int).Sub(p, one), exponent.Rsh(exponent, 2))
	a := new(big.Int).Exp(h2, exponent, p)
	e := Element{x3, mul(a, u)}
	if mul(mul(a, a), h2).Cmp(one) == 0 {
		e = Element{x2, mul(a, h2)}
	}
	if e.neutral() || !c.IsOnCurve(e.x, e.y) {
		return Element{}, ErrElement
	}
	return e, nil
}

// right is x³ + ax + b.
func (c *curve) right(x *big.Int) *big.Int {
	p := c.Params().P
	y := new(big.Int).Mul(x, x)
	y.Add(y, c.a).Mul(y, x).Add(y, c.b)
	return y.Mod(y, p)
}

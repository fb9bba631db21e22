package idcard

import (
	"fmt"
	"io"
	"math/big"
)

// group is a short Weierstrass curve y² = x³ + ax + b of prime order. The
// arithmetic is plain and leaks its timing, which a specimen chip may.
type group struct {
	p, a, b, n *big.Int
	g          point
	size       int // bytes of a field element
}

// point is affine; a nil x is the point at infinity.
type point struct{ x, y *big.Int }

func (d Domain) group() (*group, error) {
	c, ok := curves[d]
	if !ok {
		return nil, fmt.Errorf("domain parameters %d are not known", d)
	}
	return &group{
		p: number(c.p), a: number(c.a), b: number(c.b), n: number(c.n),
		g: point{number(c.x), number(c.y)}, size: len(c.p) / 2,
	}, nil
}

func number(hex string) *big.Int {
	n, _ := new(big.Int).SetString(hex, 16)
	return n
}

// scalar draws a private key in [1, n-1].
func (g *group) scalar(rand io.Reader) (*big.Int, error) {
	b := make([]byte, (g.n.BitLen()+7)/8)
	for {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, err
		}
		if spare := uint(len(b)*8 - g.n.BitLen()); spare > 0 {
			b[0] >>= spare
		}
		if k := new(big.Int).SetBytes(b); k.Sign() > 0 && k.Cmp(g.n) < 0 {
			return k, nil
		}
	}
}

// encode writes the uncompressed point, coordinates padded to full length.
func (g *group) encode(p point) []byte {
	b := make([]byte, 1+2*g.size)
	b[0] = 4
	p.x.FillBytes(b[1 : 1+g.size])
	p.y.FillBytes(b[1+g.size:])
	return b
}

// field writes a field element at full length (FE2OS, 9303-11 9.4.3).
func (g *group) field(x *big.Int) []byte { return x.FillBytes(make([]byte, g.size)) }

// decode takes an uncompressed point and demands that it lies on the curve.
func (g *group) decode(b []byte) (point, bool) {
	if len(b) != 1+2*g.size || b[0] != 4 {
		return point{}, false
	}
	q := point{new(big.Int).SetBytes(b[1 : 1+g.size]), new(big.Int).SetBytes(b[1+g.size:])}
	if q.x.Cmp(g.p) >= 0 || q.y.Cmp(g.p) >= 0 {
		return point{}, false
	}
	right := g.mod(new(big.Int).Mul(q.x, q.x))
	right.Add(right, g.a).Mul(right, q.x).Add(right, g.b)
	left := g.mod(new(big.Int).Mul(q.y, q.y))
	return q, left.Cmp(g.mod(right)) == 0
}

func (g *group) mod(x *big.Int) *big.Int { return x.Mod(x, g.p) }

// jacobian is (X/Z², Y/Z³); a zero z is the point at infinity.
type jacobian struct{ x, y, z *big.Int }

func lift(p point) jacobian {
	if p.x == nil {
		return jacobian{big.NewInt(1), big.NewInt(1), new(big.Int)}
	}
	return jacobian{p.x, p.y, big.NewInt(1)}
}

func (g *group) lower(j jacobian) point {
	if j.z.Sign() == 0 {
		return point{}
	}
	inv := new(big.Int).ModInverse(j.z, g.p)
	inv2 := g.mod(new(big.Int).Mul(inv, inv))
	x := g.mod(new(big.Int).Mul(j.x, inv2))
	y := g.mod(inv2.Mul(inv2, inv))
	return point{x, g.mod(y.Mul(y, j.y))}
}

func (g *group) product(a, b *big.Int) *big.Int { return g.mod(new(big.Int).Mul(a, b)) }

func (g *group) double(p jacobian) jacobian {
	if p.z.Sign() == 0 || p.y.Sign() == 0 {
		return lift(point{})
	}
	y2 := g.product(p.y, p.y)
	s := g.product(p.x, y2)
	s = g.mod(s.Lsh(s, 2))
	z2 := g.product(p.z, p.z)
	m := g.product(g.product(z2, z2), g.a)
	x2 := g.product(p.x, p.x)
	m.Add(m, x2).Add(m, x2).Add(m, x2)
	g.mod(m)
	x := new(big.Int).Mul(m, m)
	g.mod(x.Sub(x, s).Sub(x, s))
	y4 := g.product(y2, y2)
	y := new(big.Int).Sub(s, x)
	g.mod(y.Mul(y, m).Sub(y, y4.Lsh(y4, 3)))
	z := g.product(p.y, p.z)
	return jacobian{x, y, g.mod(z.Lsh(z, 1))}
}

func (g *group) sum(p, q jacobian) jacobian {
	if p.z.Sign() == 0 {
		return q
	}
	if q.z.Sign() == 0 {
		return p
	}
	pz2, qz2 := g.product(p.z, p.z), g.product(q.z, q.z)
	u1, u2 := g.product(p.x, qz2), g.product(q.x, pz2)
	s1, s2 := g.product(p.y, g.product(qz2, q.z)), g.product(q.y, g.product(pz2, p.z))
	h, r := g.mod(new(big.Int).Sub(u2, u1)), g.mod(new(big.Int).Sub(s2, s1))
	if h.Sign() == 0 {
		if r.Sign() == 0 {
			return g.double(p)
		}
		return lift(point{})
	}
	h2 := g.product(h, h)
	h3 := g.product(h2, h)
	v := g.product(u1, h2)
	x := new(big.Int).Mul(r, r)
	g.mod(x.Sub(x, h3).Sub(x, v).Sub(x, v))
	y := new(big.Int).Sub(v, x)
	g.mod(y.Mul(y, r).Sub(y, s1.Mul(s1, h3)))
	return jacobian{x, y, g.product(g.product(p.z, q.z), h)}
}

func (g *group) add(p, q point) point { return g.lower(g.sum(lift(p), lift(q))) }

func (g *group) mul(k *big.Int, p point) point {
	acc, base := lift(point{}), lift(p)
	for i := k.BitLen() - 1; i >= 0; i-- {
		acc = g.double(acc)
		if k.Bit(i) == 1 {
			acc = g.sum(acc, base)
		}
	}
	return g.lower(acc)
}

// sign is ECDSA of a digest (TR-03111 4.2.1): its leftmost bits count where the order is shorter.
func (g *group) sign(rand io.Reader, private *big.Int, digest []byte) (r, s *big.Int, err error) {
	e := new(big.Int).SetBytes(digest)
	if spare := len(digest)*8 - g.n.BitLen(); spare > 0 {
		e.Rsh(e, uint(spare))
	}
	for {
		k, err := g.scalar(rand)
		if err != nil {
			return nil, nil, err
		}
		r = new(big.Int).Mod(g.mul(k, g.g).x, g.n)
		s = new(big.Int).Mul(r, private)
		s.Add(s, e).Mul(s, k.ModInverse(k, g.n)).Mod(s, g.n)
		if r.Sign() > 0 && s.Sign() > 0 {
			return r, s, nil
		}
	}
}

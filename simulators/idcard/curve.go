package idcard

import (
	"fmt"
	"io"
	"math/big"
)

// group is a short Weierstrass curve y² = x³ + ax + b of prime order. The
// arithmetic leaks its timing, which a specimen chip may.
type group struct {
	p, a, b, n *big.Int
	g          point
	size       int // bytes of a field element
	f          *field
	af         element // a
}

// point is affine; a nil x is the point at infinity.
type point struct{ x, y *big.Int }

func (d Domain) group() (*group, error) {
	c, ok := curves[d]
	if !ok {
		return nil, fmt.Errorf("domain parameters %d are not known", d)
	}
	g := &group{
		p: number(c.p), a: number(c.a), b: number(c.b), n: number(c.n),
		g: point{number(c.x), number(c.y)}, size: len(c.p) / 2,
	}
	g.f = newField(g.p)
	g.af = g.f.lift(g.a)
	return g, nil
}

func number(hex string) *big.Int {
	n, _ := new(big.Int).SetString(hex, 16)
	return n
}

func (g *group) base() point          { return g.g }
func (g *group) order() *big.Int      { return g.n }
func (g *group) modulus() *big.Int    { return g.p }
func (g *group) neutral(p point) bool { return p.x == nil }
func (g *group) tag() int             { return 0x86 }

// secret is the x coordinate (9303-11 9.7.1).
func (g *group) secret(p point) []byte { return g.field(p.x) }

// scalar draws a private key in [1, n-1].
func (g *group) scalar(rand io.Reader) (*big.Int, error) { return below(rand, g.n) }

var one = big.NewInt(1)

// below draws a number in [1, n-1].
func below(rand io.Reader, n *big.Int) (*big.Int, error) {
	b := make([]byte, (n.BitLen()+7)/8)
	for {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, err
		}
		if spare := uint(len(b)*8 - n.BitLen()); spare > 0 {
			b[0] >>= spare
		}
		if k := new(big.Int).SetBytes(b); k.Sign() > 0 && k.Cmp(n) < 0 {
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
	left := new(big.Int).Mul(q.y, q.y)
	return q, left.Mod(left, g.p).Cmp(g.right(q.x)) == 0
}

// right is x³ + ax + b.
func (g *group) right(x *big.Int) *big.Int {
	r := new(big.Int).Mul(x, x)
	r.Add(r, g.a).Mul(r, x).Add(r, g.b)
	return r.Mod(r, g.p)
}

// jacobian is (X/Z², Y/Z³); a zero z is the point at infinity.
type jacobian struct{ x, y, z element }

func (g *group) lift(p point) jacobian {
	if p.x == nil {
		return jacobian{}
	}
	return jacobian{g.f.lift(p.x), g.f.lift(p.y), g.f.lift(one)}
}

func (g *group) lower(j *jacobian) point {
	if j.z == (element{}) {
		return point{}
	}
	inverse := g.f.lower(&j.z)
	inv := g.f.lift(inverse.ModInverse(inverse, g.p))
	inv2 := g.f.mul(&inv, &inv)
	inv3 := g.f.mul(&inv2, &inv)
	x, y := g.f.mul(&j.x, &inv2), g.f.mul(&j.y, &inv3)
	return point{g.f.lower(&x), g.f.lower(&y)}
}

// double is dbl-2007-bl of the Explicit-Formulas Database; no point has order two.
func (g *group) double(p *jacobian) (r jacobian) {
	f := g.f
	xx, yy, zz := f.mul(&p.x, &p.x), f.mul(&p.y, &p.y), f.mul(&p.z, &p.z)
	s := f.mul(&p.x, &yy)
	s = f.add(&s, &s)
	s = f.add(&s, &s)
	z4 := f.mul(&zz, &zz)
	m := f.mul(&z4, &g.af)
	for range 3 {
		m = f.add(&m, &xx)
	}
	r.x = f.mul(&m, &m)
	r.x = f.sub(&r.x, &s)
	r.x = f.sub(&r.x, &s)
	y4 := f.mul(&yy, &yy)
	for range 3 {
		y4 = f.add(&y4, &y4)
	}
	r.y = f.sub(&s, &r.x)
	r.y = f.mul(&r.y, &m)
	r.y = f.sub(&r.y, &y4)
	r.z = f.mul(&p.y, &p.z)
	r.z = f.add(&r.z, &r.z)
	return r
}

// sum is add-1998-cmo-2 of the same database.
func (g *group) sum(p, q *jacobian) (sum jacobian) {
	if p.z == (element{}) {
		return *q
	}
	if q.z == (element{}) {
		return *p
	}
	f := g.f
	pz2, qz2 := f.mul(&p.z, &p.z), f.mul(&q.z, &q.z)
	pz3, qz3 := f.mul(&pz2, &p.z), f.mul(&qz2, &q.z)
	u1, u2 := f.mul(&p.x, &qz2), f.mul(&q.x, &pz2)
	s1, s2 := f.mul(&p.y, &qz3), f.mul(&q.y, &pz3)
	h, r := f.sub(&u2, &u1), f.sub(&s2, &s1)
	if h == (element{}) {
		if r == (element{}) {
			return g.double(p)
		}
		return jacobian{}
	}
	h2 := f.mul(&h, &h)
	h3 := f.mul(&h2, &h)
	v := f.mul(&u1, &h2)
	sum.x = f.mul(&r, &r)
	sum.x = f.sub(&sum.x, &h3)
	sum.x = f.sub(&sum.x, &v)
	sum.x = f.sub(&sum.x, &v)
	sum.y = f.sub(&v, &sum.x)
	sum.y = f.mul(&sum.y, &r)
	s1 = f.mul(&s1, &h3)
	sum.y = f.sub(&sum.y, &s1)
	sum.z = f.mul(&p.z, &q.z)
	sum.z = f.mul(&sum.z, &h)
	return sum
}

func (g *group) add(p, q point) point {
	a, b := g.lift(p), g.lift(q)
	sum := g.sum(&a, &b)
	return g.lower(&sum)
}

// mul takes four bits of k at a time.
func (g *group) mul(k *big.Int, p point) point {
	var table [16]jacobian
	table[1] = g.lift(p)
	for i := 2; i < len(table); i++ {
		table[i] = g.sum(&table[i-1], &table[1])
	}
	var acc jacobian
	for _, b := range k.Bytes() {
		for _, digit := range [2]byte{b >> 4, b & 0x0F} {
			for range 4 {
				acc = g.double(&acc)
			}
			acc = g.sum(&acc, &table[digit])
		}
	}
	return g.lower(&acc)
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

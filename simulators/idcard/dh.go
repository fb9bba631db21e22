package idcard

import (
	"fmt"
	"io"
	"math/big"
)

// finiteField is a subgroup of prime order q of the integers modulo p.
type finiteField struct{ p, g, q *big.Int }

func (d Domain) finiteField() (*finiteField, error) {
	c, ok := finiteFields[d]
	if !ok {
		return nil, fmt.Errorf("domain parameters %d are not known", d)
	}
	return &finiteField{number(c.p), number(c.g), number(c.q)}, nil
}

func (f *finiteField) base() point          { return point{x: f.g} }
func (f *finiteField) order() *big.Int      { return f.q }
func (f *finiteField) modulus() *big.Int    { return f.p }
func (f *finiteField) neutral(p point) bool { return p.x.Cmp(one) <= 0 }
func (f *finiteField) tag() int             { return 0x84 }

func (f *finiteField) scalar(rand io.Reader) (*big.Int, error) { return below(rand, f.q) }

func (f *finiteField) mul(k *big.Int, p point) point {
	return point{x: new(big.Int).Exp(p.x, k, f.p)}
}

func (f *finiteField) add(p, q point) point {
	product := new(big.Int).Mul(p.x, q.x)
	return point{x: product.Mod(product, f.p)}
}

// encode writes an unsigned integer, which has no leading zero byte (9303-11 9.4.1, 9.4.3).
func (f *finiteField) encode(p point) []byte { return p.x.Bytes() }

// decode validates as RFC 2631 2.1.5: 2 <= y <= p-1 and y^q = 1.
func (f *finiteField) decode(b []byte) (point, bool) {
	if len(b) == 0 || b[0] == 0 || len(b) > f.size() {
		return point{}, false
	}
	p := point{x: new(big.Int).SetBytes(b)}
	return p, p.x.Cmp(one) > 0 && p.x.Cmp(f.p) < 0 && f.neutral(f.mul(f.q, p))
}

func (f *finiteField) size() int { return (f.p.BitLen() + 7) / 8 }

// secret has the length of the prime (PKCS#3 8.3).
func (f *finiteField) secret(p point) []byte { return p.x.FillBytes(make([]byte, f.size())) }

// mapped raises x to the cofactor.
func (f *finiteField) mapped(x *big.Int) point {
	cofactor := new(big.Int).Sub(f.p, one)
	return f.mul(cofactor.Div(cofactor, f.q), point{x: x})
}

package idcard

import (
	"bytes"
	"encoding/hex"
	"math/big"
)

// pseudoRandom is R_p(s,t) of the Integrated Mapping (9303-11 4.4.3.3.2, figure
// 2); t is a key of the suite.
func (s Suite) pseudoRandom(nonce, t []byte, p *big.Int) *big.Int {
	c0, c1 := "a668892a7c41e3ca739f40b057d85904", "a4e136ac725f738b01c1f60217c188ad"
	if s.nonceSize() == 32 {
		c0 = "d463d65234124ef7897054986dca0a174e28df758cbaa03f240616414d5a1676"
		c1 = "54bd7255f0aaf831bec3423fcf39d69b6cbf066677d0faae5aadd99df8e53517"
	}
	iv := make([]byte, s.blockSize())
	apply := func(key []byte, constant string) []byte {
		b, _ := hex.DecodeString(constant)
		return s.encrypt(key[:s.keySize()], iv, b)
	}
	key := s.encrypt(t, iv, nonce)
	var x bytes.Buffer
	for 8*x.Len() < p.BitLen()+64 {
		x.Write(apply(key, c1))
		key = apply(key, c0)
	}
	r := new(big.Int).SetBytes(x.Bytes())
	return r.Mod(r, p)
}

// mapped is the point encoding of 9303-11 appendix B.2; the point at infinity
// where it is not defined. It needs a prime that is 3 modulo 4.
func (g *group) mapped(t *big.Int) point {
	product := func(x, y *big.Int) *big.Int {
		z := new(big.Int).Mul(x, y)
		return z.Mod(z, g.p)
	}
	power := func(x *big.Int, n int64) *big.Int { return new(big.Int).Exp(x, big.NewInt(n), g.p) }

	alpha := product(t, t)
	alpha.Sub(g.p, alpha)
	sum := new(big.Int).Add(alpha, power(alpha, 2))
	if sum.Mod(sum, g.p).Sign() == 0 {
		return point{}
	}
	sum.ModInverse(sum, g.p).Add(sum, one)
	x2 := product(product(g.b, new(big.Int).ModInverse(g.a, g.p)), sum)
	x2.Sub(g.p, x2).Mod(x2, g.p)
	h2 := g.right(x2)
	e := new(big.Int).Sub(g.p, one) // p - 1 - (p+1)/4
	quarter := new(big.Int).Add(g.p, one)
	e.Sub(e, quarter.Rsh(quarter, 2))
	a := new(big.Int).Exp(h2, e, g.p)
	if product(product(a, a), h2).Cmp(one) == 0 {
		return point{x2, product(a, h2)}
	}
	return point{product(alpha, x2), product(a, product(power(t, 3), h2))}
}

package idcard

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// limbs is the longest field element, least word first.
const limbs = 9

// element is a field element in Montgomery form.
type element [limbs]uint64

// field is the integers modulo an odd prime. Its multiplication is Montgomery's
// (Handbook of Applied Cryptography 14.3.2), one word at a time.
type field struct {
	p      *big.Int
	n      int // words in use
	m      element
	inv    uint64  // -1/p modulo 2^64
	square element // 2^(128n) modulo p: lift multiplies by it
}

func newField(p *big.Int) *field {
	f := &field{p: p, n: (p.BitLen() + 63) / 64}
	f.m = f.words(p)
	f.inv = -f.m[0] // right in three bits; each round doubles them
	for range 5 {
		f.inv *= 2 + f.m[0]*f.inv
	}
	square := new(big.Int).Lsh(big.NewInt(1), uint(128*f.n))
	f.square = f.words(square.Mod(square, p))
	return f
}

func (f *field) words(x *big.Int) (z element) {
	var b [8 * limbs]byte
	x.FillBytes(b[:])
	for i := range z {
		z[i] = binary.BigEndian.Uint64(b[8*(limbs-1-i):])
	}
	return z
}

// lift takes a number below p.
func (f *field) lift(x *big.Int) element {
	w := f.words(x)
	return f.mul(&w, &f.square)
}

func (f *field) lower(x *element) *big.Int {
	plain := f.mul(x, &element{1})
	var b [8 * limbs]byte
	for i, w := range plain {
		binary.BigEndian.PutUint64(b[8*(limbs-1-i):], w)
	}
	return new(big.Int).SetBytes(b[:])
}

func (f *field) mul(x, y *element) element {
	var t [limbs + 2]uint64
	a, b, m, n := *x, *y, f.m, f.n
	for _, w := range b[:n] {
		var c uint64
		for j, v := range a[:n] {
			t[j], c = mulAdd(v, w, t[j], c)
		}
		t[n], t[n+1] = bits.Add64(t[n], c, 0)
		u := t[0] * f.inv
		_, c = mulAdd(u, m[0], t[0], 0)
		for j := 1; j < n; j++ {
			t[j-1], c = mulAdd(u, m[j], t[j], c)
		}
		t[n-1], c = bits.Add64(t[n], c, 0)
		t[n] = t[n+1] + c
	}
	return f.reduce(element(t[:limbs]), t[n])
}

// mulAdd is a·b + c + d, low word first.
func mulAdd(a, b, c, d uint64) (lo, hi uint64) {
	hi, lo = bits.Mul64(a, b)
	lo, carry := bits.Add64(lo, c, 0)
	hi += carry
	lo, carry = bits.Add64(lo, d, 0)
	return lo, hi + carry
}

// reduce subtracts p once from x + carry·2^(64n), if that is no less than p.
func (f *field) reduce(x element, carry uint64) (z element) {
	var borrow uint64
	for i := range f.n {
		z[i], borrow = bits.Sub64(x[i], f.m[i], borrow)
	}
	if carry < borrow {
		copy(z[:f.n], x[:f.n])
	}
	return z
}

func (f *field) add(x, y *element) element {
	var z element
	var carry uint64
	for i := range f.n {
		z[i], carry = bits.Add64(x[i], y[i], carry)
	}
	return f.reduce(z, carry)
}

func (f *field) sub(x, y *element) element {
	var z element
	var borrow, carry uint64
	for i := range f.n {
		z[i], borrow = bits.Sub64(x[i], y[i], borrow)
	}
	if borrow == 1 {
		for i := range f.n {
			z[i], carry = bits.Add64(z[i], f.m[i], carry)
		}
	}
	return z
}

package domain_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"enrollkiosk/smartcard/domain"
)

func each(t *testing.T, f func(t *testing.T, id int, g domain.Group)) {
	for _, id := range domain.IDs() {
		g, ok := domain.Standardized(id)
		if !ok {
			t.Fatalf("no group %d", id)
		}
		t.Run(fmt.Sprint(id), func(t *testing.T) { f(t, id, g) })
	}
}

func TestReservedIDs(t *testing.T) {
	for _, id := range []int{-1, 3, 7, 19, 31, 32} {
		if _, ok := domain.Standardized(id); ok {
			t.Errorf("id %d is reserved and has a group", id)
		}
	}
}

func scalar(t *testing.T, g domain.Group) []byte {
	t.Helper()
	k, err := g.Scalar(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestAgreement(t *testing.T) {
	each(t, func(t *testing.T, id int, g domain.Group) {
		ours, theirs := scalar(t, g), scalar(t, g)
		mine, err := g.Parse(g.Encode(g.Multiply(g.Generator(), ours)))
		if err != nil {
			t.Fatal(err)
		}
		yours, err := g.Parse(g.Encode(g.Multiply(g.Generator(), theirs)))
		if err != nil {
			t.Fatal(err)
		}
		a, err := g.Secret(g.Multiply(yours, ours))
		if err != nil {
			t.Fatal(err)
		}
		b, err := g.Secret(g.Multiply(mine, theirs))
		if err != nil || !bytes.Equal(a, b) || len(a) != g.Size() {
			t.Errorf("the two sides computed %d and %d bytes that differ: %v", len(a), len(b), err)
		}
		// Distributive, also over a moved generator, as Generic Mapping needs it.
		sum := new(big.Int).Add(new(big.Int).SetBytes(ours), new(big.Int).SetBytes(theirs))
		whole := g.Multiply(g.Generator(), sum.Mod(sum, g.Order()).Bytes())
		if !whole.Equal(g.Add(mine, yours)) {
			t.Error("aG + bG is not (a+b)G")
		}
	})
}

// Every secret has full length: half of a fixed key times a walk over the
// group meets one that begins with zeros.
func TestSecretsKeepLeadingZeros(t *testing.T) {
	each(t, func(t *testing.T, id int, g domain.Group) {
		e := g.Multiply(g.Generator(), scalar(t, g))
		for range 20000 {
			secret, err := g.Secret(e)
			if err != nil || len(secret) != g.Size() {
				t.Fatalf("secret of %d bytes, field of %d: %v", len(secret), g.Size(), err)
			}
			encoded := g.Encode(e)
			if again, err := g.Parse(encoded); err != nil || !again.Equal(e) {
				t.Fatalf("element is not what it was encoded as: %v", err)
			}
			zero := secret[0] == 0
			if g.Size() == 66 { // P-521: the first byte is 0 or 1
				zero = secret[0] == 0 && secret[1] == 0
			}
			if zero {
				return
			}
			e = g.Add(e, g.Generator())
		}
		t.Error("no secret began with a zero byte")
	})
}

func TestParseRefuses(t *testing.T) {
	each(t, func(t *testing.T, id int, g domain.Group) {
		good := g.Encode(g.Multiply(g.Generator(), scalar(t, g)))
		flipped := bytes.Clone(good)
		flipped[len(flipped)-1] ^= 1
		bad := map[string][]byte{
			"nothing": {}, "flipped": flipped, "long": append(bytes.Clone(good), 0),
			"zeros": make([]byte, len(good)), "ones": bytes.Repeat([]byte{0xFF}, len(good)),
		}
		if g.Elliptic() {
			bad["compressed"] = append([]byte{2}, good[1:1+g.Size()]...)
			bad["infinity"] = []byte{0}
			bad["origin"] = append([]byte{4}, make([]byte, 2*g.Size())...)
		} else {
			less := new(big.Int).Sub(prime(t, id), big.NewInt(1))
			bad["one"] = []byte{1}
			bad["minus one, of order 2"] = less.Bytes()
			delete(bad, "short") // an integer as good as any: refused all the same, but not always
		}
		for name, b := range bad {
			if _, err := g.Parse(b); !errors.Is(err, domain.ErrElement) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// prime is p of RFC 5114, by way of the largest element that the group encodes.
func prime(t *testing.T, id int) *big.Int {
	t.Helper()
	v := hexNumber(t, primes[id])
	return v
}

func hexNumber(t *testing.T, s string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return n
}

func TestMap(t *testing.T) {
	each(t, func(t *testing.T, id int, g domain.Group) {
		integer := make([]byte, g.Size())
		rand.Read(integer)
		integer[0] &= 0x7F
		if g.Size() == 66 {
			integer[0] = 0
		}
		e, err := g.Map(integer)
		if id == 10 {
			if !errors.Is(err, domain.ErrNoMapping) {
				t.Errorf("P-224: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if again, err := g.Parse(g.Encode(e)); err != nil || !again.Equal(e) {
			t.Errorf("mapped outside the group: %v", err)
		}
		for _, trivial := range [][]byte{{0}, {1}} {
			if _, err := g.Map(trivial); !errors.Is(err, domain.ErrElement) {
				t.Errorf("%x maps: %v", trivial, err)
			}
		}
	})
}

// ICAO Doc 9303-11 Appendix H: what the pseudo-random function gave, and the
// generator it maps to.
func TestMapWorkedExamples(t *testing.T) {
	for _, v := range []struct {
		id                int
		integer, expected string
	}{
		{13, "a2f8ff2df50e52c6599f386adcb595d229f6a167ade2be5f2c3296add5b7430e",
			"048e82d31559ed0fde92a4d0498add3c23baba94fb77691e31e90aea77fb17d4274c1ae14bd0c3dbac0c871b7f3608169364437ca30ac243a089d3f266c1e60fad"},
		{0, h2Integer, h2Generator},
	} {
		g, _ := domain.Standardized(v.id)
		integer, err := hex.DecodeString(v.integer)
		if err != nil {
			t.Fatal(err)
		}
		e, err := g.Map(integer)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(g.Encode(e)); got != v.expected {
			t.Errorf("domain %d: %s", v.id, got)
		}
	}
}

func TestExplicitCurves(t *testing.T) {
	for _, id := range domain.IDs() {
		c, ok := domain.Curve(id)
		if !ok {
			continue
		}
		g, ok := domain.OfCurve(c)
		if !ok {
			t.Fatalf("no group over curve %d", id)
		}
		params := c.Params()
		base := g.Encode(g.Generator())
		a, b := coefficients(t, g)
		found, foundID, ok := domain.ExplicitCurve(params.P, a, b, base, params.N, big.NewInt(1))
		if !ok || foundID != id || found != c {
			t.Errorf("curve %d is not recognised by its parameters", id)
		}
		other := g.Encode(g.Multiply(g.Generator(), []byte{2}))
		if _, _, ok := domain.ExplicitCurve(params.P, a, b, other, params.N, nil); ok {
			t.Errorf("curve %d with another base point passes for it", id)
		}
		if _, _, ok := domain.ExplicitCurve(params.P, a, b, base, params.N, big.NewInt(2)); ok {
			t.Errorf("curve %d with another cofactor passes for it", id)
		}
	}
}

// coefficients solves y² = x³ + ax + b from two points of the group.
func coefficients(t *testing.T, g domain.Group) (a, b *big.Int) {
	t.Helper()
	n := g.Size()
	point := func(k byte) (x, y *big.Int) {
		e := g.Encode(g.Multiply(g.Generator(), []byte{k}))
		return new(big.Int).SetBytes(e[1 : 1+n]), new(big.Int).SetBytes(e[1+n:])
	}
	p := primeOf(t, g)
	rest := func(x, y *big.Int) *big.Int { // y² - x³
		r := new(big.Int).Mul(y, y)
		return r.Sub(r, new(big.Int).Exp(x, big.NewInt(3), p)).Mod(r, p)
	}
	x1, y1 := point(1)
	x2, y2 := point(2)
	difference := new(big.Int).Sub(rest(x1, y1), rest(x2, y2))
	slope := new(big.Int).Sub(x1, x2)
	a = difference.Mul(difference, slope.ModInverse(slope.Mod(slope, p), p))
	a.Mod(a, p)
	b = new(big.Int).Sub(rest(x1, y1), new(big.Int).Mul(a, x1))
	return a, b.Mod(b, p)
}

func primeOf(t *testing.T, g domain.Group) *big.Int {
	t.Helper()
	for _, id := range domain.IDs() {
		if c, ok := domain.Curve(id); ok {
			if own, _ := domain.OfCurve(c); own == g {
				return c.Params().P
			}
		}
	}
	t.Fatal("no such curve")
	return nil
}

func TestFiniteField(t *testing.T) {
	p, q, g := prime(t, 1), orders(t, 1), generator(t, 1)
	same, err := domain.FiniteField(p, q, g)
	if own, _ := domain.Standardized(1); err != nil || same != own {
		t.Errorf("RFC 5114 2.2 is not recognised: %v", err)
	}
	squared := new(big.Int).Exp(g, big.NewInt(2), p)
	if other, err := domain.FiniteField(p, q, squared); err != nil || other.Size() != 256 {
		t.Errorf("another generator of the same subgroup: %v", err)
	}
	two := big.NewInt(2)
	for name, v := range map[string][3]*big.Int{
		"p not prime":       {new(big.Int).Add(p, two), q, g},
		"q does not divide": {p, new(big.Int).Add(q, two), g},
		"g is 1":            {p, q, big.NewInt(1)},
		"g is -1":           {p, q, new(big.Int).Sub(p, big.NewInt(1))},
		"g elsewhere":       {p, q, two},
		"zero":              {new(big.Int), new(big.Int), new(big.Int)},
		"negative":          {new(big.Int).Neg(p), q, g},
		"small":             {big.NewInt(23), big.NewInt(11), two},
		"huge":              {new(big.Int).Lsh(p, 4096), q, g},
	} {
		if _, err := domain.FiniteField(v[0], v[1], v[2]); !errors.Is(err, domain.ErrParameters) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func orders(t *testing.T, id int) *big.Int {
	t.Helper()
	g, _ := domain.Standardized(id)
	return g.Order()
}

func generator(t *testing.T, id int) *big.Int {
	t.Helper()
	g, _ := domain.Standardized(id)
	return new(big.Int).SetBytes(g.Encode(g.Generator()))
}

func FuzzParse(f *testing.F) {
	for _, id := range domain.IDs() {
		g, _ := domain.Standardized(id)
		f.Add(id, g.Encode(g.Generator()))
	}
	f.Fuzz(func(t *testing.T, id int, b []byte) {
		g, ok := domain.Standardized(id)
		if !ok {
			return
		}
		e, err := g.Parse(b)
		if err != nil {
			return
		}
		if again, err := g.Parse(g.Encode(e)); err != nil || !again.Equal(e) {
			t.Errorf("element is not what it was encoded as: %v", err)
		}
		if !g.Multiply(e, new(big.Int).Add(g.Order(), big.NewInt(1)).Bytes()).Equal(e) {
			t.Error("an element of another order was taken")
		}
	})
}

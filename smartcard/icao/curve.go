package icao

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/osanderson/brainpool"
)

// curveByParameter returns the curve of a standardized domain parameter
// (ICAO 9303-11 9.5.1, table 6), nil for a group that is not supported: the
// finite-field groups 0 to 2 and the 192-bit curves.
func curveByParameter(id int) elliptic.Curve {
	switch id {
	case 10:
		return elliptic.P224()
	case 11:
		return brainpool.P224r1()
	case 12:
		return elliptic.P256()
	case 13:
		return brainpool.P256r1()
	case 14:
		return brainpool.P320r1()
	case 15:
		return elliptic.P384()
	case 16:
		return brainpool.P384r1()
	case 17:
		return brainpool.P512r1()
	case 18:
		return elliptic.P521()
	}
	return nil
}

var errPoint = errors.New("not a point of the curve")

// group is a curve with a generator of its own: PACE's Generic Mapping moves
// the generator, which crypto/ecdh cannot express. NIST curves run in the
// standard library's constant time; brainpool curves do not, which costs
// nothing here because every scalar is used once.
type group struct {
	curve     elliptic.Curve
	generator *point // nil: the standard one
}

type point struct{ x, y *big.Int }

func (p point) infinite() bool { return p.x.Sign() == 0 && p.y.Sign() == 0 }

func (p point) equal(q point) bool { return p.x.Cmp(q.x) == 0 && p.y.Cmp(q.y) == 0 }

// fieldBytes is the length of a coordinate.
func (g group) fieldBytes() int { return (g.curve.Params().P.BitLen() + 7) / 8 }

// scalar draws a private scalar between 1 and the order less 1.
func (g group) scalar(random io.Reader) ([]byte, error) {
	n := g.curve.Params().N
	b := make([]byte, (n.BitLen()+7)/8)
	excess := uint(len(b)*8 - n.BitLen())
	for range 128 {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, err
		}
		b[0] &= 0xFF >> excess
		if k := new(big.Int).SetBytes(b); k.Sign() > 0 && k.Cmp(n) < 0 {
			return b, nil
		}
	}
	return nil, errors.New("random source gives no scalar")
}

func (g group) public(scalar []byte) point {
	if g.generator != nil {
		return g.multiply(*g.generator, scalar)
	}
	//lint:ignore SA1019 the mapped generator of PACE needs whole points
	x, y := g.curve.ScalarBaseMult(scalar)
	return point{x, y}
}

// multiply wants a point that parsed or that came from this group.
func (g group) multiply(p point, scalar []byte) point {
	//lint:ignore SA1019 as in public
	x, y := g.curve.ScalarMult(p.x, p.y, scalar)
	return point{x, y}
}

func (g group) add(p, q point) point {
	//lint:ignore SA1019 as in public
	x, y := g.curve.Add(p.x, p.y, q.x, q.y)
	return point{x, y}
}

// parse decodes an uncompressed point and refuses any that is not on the curve.
func (g group) parse(b []byte) (point, error) {
	n := g.fieldBytes()
	if len(b) != 1+2*n || b[0] != 4 {
		return point{}, fmt.Errorf("%w: %d bytes", errPoint, len(b))
	}
	p := point{new(big.Int).SetBytes(b[1 : 1+n]), new(big.Int).SetBytes(b[1+n:])}
	return p, g.check(p)
}

func (g group) check(p point) error {
	max := g.curve.Params().P
	if p.x.Sign() < 0 || p.y.Sign() < 0 || p.x.Cmp(max) >= 0 || p.y.Cmp(max) >= 0 || p.infinite() {
		return errPoint
	}
	//lint:ignore SA1019 as in public
	if !g.curve.IsOnCurve(p.x, p.y) {
		return errPoint
	}
	return nil
}

// encode writes an uncompressed point; coordinates keep their leading zeros (TR-03111 3.2.1).
func (g group) encode(p point) []byte {
	n := g.fieldBytes()
	b := make([]byte, 1+2*n)
	b[0] = 4
	p.x.FillBytes(b[1 : 1+n])
	p.y.FillBytes(b[1+n:])
	return b
}

// agree returns the x coordinate of scalar times p at full field length: a
// shared secret that loses its leading zeros fails once in 256 runs (ICAO 9303-11 4.4.3.3).
func (g group) agree(p point, scalar []byte) ([]byte, error) {
	s := g.multiply(p, scalar)
	if s.infinite() {
		return nil, errPoint
	}
	return s.x.FillBytes(make([]byte, g.fieldBytes())), nil
}

package lds_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// spki writes a SubjectPublicKeyInfo.
func spki(t testing.TB, algorithm asn1.ObjectIdentifier, parameters, key []byte) []byte {
	t.Helper()
	return tlv.Encode(0x30, tlv.Encode(0x30, der(t, algorithm), parameters), tlv.Encode(0x03, []byte{0}, key))
}

var (
	ecPublicKey  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	standardized = asn1.ObjectIdentifier{0, 4, 0, 127, 0, 7, 1, 2}
	dhPublic     = asn1.ObjectIdentifier{1, 2, 840, 10046, 2, 1}
	dhAgreement  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 3, 1}

	// Object identifiers of RFC 5480 2.1.1.1 and RFC 5639 4.1.
	curveOIDs = map[int]asn1.ObjectIdentifier{
		8: {1, 2, 840, 10045, 3, 1, 1}, 9: {1, 3, 36, 3, 3, 2, 8, 1, 1, 3}, 10: {1, 3, 132, 0, 33},
		11: {1, 3, 36, 3, 3, 2, 8, 1, 1, 5}, 12: {1, 2, 840, 10045, 3, 1, 7}, 13: {1, 3, 36, 3, 3, 2, 8, 1, 1, 7},
		14: {1, 3, 36, 3, 3, 2, 8, 1, 1, 9}, 15: {1, 3, 132, 0, 34}, 16: {1, 3, 36, 3, 3, 2, 8, 1, 1, 11},
		17: {1, 3, 36, 3, 3, 2, 8, 1, 1, 13}, 18: {1, 3, 132, 0, 35},
	}
)

// explicit spells a curve out (RFC 3279 2.3.5) with a base point of the
// caller's. The coefficients follow from two points of the curve.
func explicit(t testing.TB, id int, base []byte, cofactor byte) []byte {
	t.Helper()
	g, _ := domain.Standardized(id)
	curve, _ := domain.Curve(id)
	p, size := curve.Params().P, g.Size()
	point := func(e domain.Element) (x, y *big.Int) {
		b := g.Encode(e)
		return new(big.Int).SetBytes(b[1 : 1+size]), new(big.Int).SetBytes(b[1+size:])
	}
	rest := func(x, y *big.Int) *big.Int { // y² - x³ = ax + b
		r := new(big.Int).Mul(y, y)
		return r.Sub(r, new(big.Int).Exp(x, big.NewInt(3), p))
	}
	x1, y1 := point(g.Generator())
	x2, y2 := point(g.Multiply(g.Generator(), []byte{2}))
	a := new(big.Int).Sub(rest(x1, y1), rest(x2, y2))
	dx := new(big.Int).Sub(x1, x2)
	a.Mul(a, dx.ModInverse(dx.Mod(dx, p), p)).Mod(a, p)
	b := rest(x1, y1)
	b.Sub(b, new(big.Int).Mul(a, x1)).Mod(b, p)
	octets := func(n *big.Int) []byte { return tlv.Encode(0x04, n.FillBytes(make([]byte, size))) }
	return tlv.Encode(0x30, der(t, 1),
		tlv.Encode(0x30, der(t, asn1.ObjectIdentifier{1, 2, 840, 10045, 1, 1}), der(t, p)),
		tlv.Encode(0x30, octets(a), octets(b)),
		tlv.Encode(0x04, base), der(t, g.Order()), der(t, int(cofactor)))
}

// Every curve, however it is stated, gives a key that verifies signatures and
// the same element to agree with.
func TestKeysOnEveryCurve(t *testing.T) {
	for id, oid := range curveOIDs {
		t.Run(fmt.Sprint(id), func(t *testing.T) {
			g, _ := domain.Standardized(id)
			curve, _ := domain.Curve(id)
			private, err := g.Scalar(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			element := g.Multiply(g.Generator(), private)
			point := g.Encode(element)
			base := g.Encode(g.Generator())
			compressed := append([]byte{2 + base[len(base)-1]&1}, base[1:1+g.Size()]...)
			// A signature by textbook arithmetic: k = 1, r = x of the generator.
			digest := sha256.Sum256([]byte("message"))
			n := g.Order()
			z := new(big.Int).SetBytes(digest[:])
			if over := 256 - n.BitLen(); over > 0 {
				z.Rsh(z, uint(over))
			}
			r := new(big.Int).Mod(curve.Params().Gx, n)
			s := new(big.Int).Mul(r, new(big.Int).SetBytes(private))
			s.Mod(s.Add(s, z), n)
			signature := der(t, struct{ R, S *big.Int }{r, s})

			for name, b := range map[string][]byte{
				"named":                  spki(t, ecPublicKey, der(t, oid), point),
				"numbered":               spki(t, standardized, der(t, id), point),
				"explicit":               spki(t, ecPublicKey, explicit(t, id, base, 1), point),
				"explicit, short base":   spki(t, ecPublicKey, explicit(t, id, compressed, 1), point),
				"id-ecDH":                spki(t, asn1.ObjectIdentifier{1, 3, 132, 1, 12}, der(t, oid), point),
				"longer length than DER": lengthen(spki(t, ecPublicKey, der(t, oid), point)),
			} {
				key, err := lds.ParsePublicKey(b)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				if key, ok := key.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(key, digest[:], signature) {
					t.Errorf("%s: %T does not verify", name, key)
				}
				agreement, err := lds.ParseAgreementKey(b)
				if err != nil || agreement.Group != g || !agreement.Public.Equal(element) {
					t.Errorf("%s: to agree with: %v", name, err)
				}
			}

			other := g.Encode(g.Multiply(g.Generator(), []byte{3}))
			off := bytes.Clone(point)
			off[len(off)-1] ^= 1
			for name, b := range map[string][]byte{
				"base point of the attacker's": spki(t, ecPublicKey, explicit(t, id, other, 1), point),
				"cofactor":                     spki(t, ecPublicKey, explicit(t, id, base, 2), point),
				"off the curve":                spki(t, ecPublicKey, der(t, oid), off),
				"at infinity":                  spki(t, ecPublicKey, der(t, oid), []byte{0}),
				"short":                        spki(t, ecPublicKey, der(t, oid), point[:len(point)-1]),
				"no point":                     spki(t, ecPublicKey, der(t, oid), nil),
				"no curve":                     spki(t, ecPublicKey, nil, point),
				"compressed":                   spki(t, ecPublicKey, der(t, oid), append([]byte{2 + point[len(point)-1]&1}, point[1:1+g.Size()]...)),
			} {
				if _, err := lds.ParsePublicKey(b); !errors.Is(err, lds.ErrMalformed) && !errors.Is(err, lds.ErrUnsupported) {
					t.Errorf("%s: %v", name, err)
				}
				if _, err := lds.ParseAgreementKey(b); !errors.Is(err, lds.ErrMalformed) && !errors.Is(err, lds.ErrUnsupported) {
					t.Errorf("%s, to agree with: %v", name, err)
				}
			}
		})
	}
}

// lengthen writes the outer length with four bytes.
func lengthen(b []byte) []byte {
	_, header, n, err := tlv.Header(b)
	if err != nil {
		panic(err)
	}
	return append([]byte{b[0], 0x84, 0, 0, byte(n >> 8), byte(n)}, b[header:]...)
}

// Numbers of RFC 5114, from which the groups are known.
func TestDiffieHellmanKeys(t *testing.T) {
	for id := range 3 {
		g, _ := domain.Standardized(id)
		p, base := modulus(t, id), new(big.Int).SetBytes(g.Encode(g.Generator()))
		element := g.Multiply(g.Generator(), []byte{7, 7, 7})
		y := new(big.Int).SetBytes(g.Encode(element))
		x942 := tlv.Encode(0x30, der(t, p), der(t, base), der(t, g.Order()))
		for name, b := range map[string][]byte{
			"X9.42":                 spki(t, dhPublic, x942, der(t, y)),
			"X9.42 with validation": spki(t, dhPublic, tlv.Encode(0x30, der(t, p), der(t, base), der(t, g.Order()), der(t, 2), tlv.Encode(0x30, tlv.Encode(0x03, []byte{0, 1}), der(t, 5))), der(t, y)),
			"PKCS #3":               spki(t, dhAgreement, tlv.Encode(0x30, der(t, p), der(t, base)), der(t, y)),
			"PKCS #3 with length":   spki(t, dhAgreement, tlv.Encode(0x30, der(t, p), der(t, base), der(t, 160)), der(t, y)),
			"numbered":              spki(t, standardized, der(t, id), der(t, y)),
		} {
			key, err := lds.ParseAgreementKey(b)
			if err != nil || key.Group != g || !key.Public.Equal(element) {
				t.Errorf("group %d, %s: %v", id, name, err)
			}
			if _, err := lds.ParsePublicKey(b); err == nil {
				t.Errorf("group %d, %s: a key to verify signatures with", id, name)
			}
		}
		// An element outside the subgroup would leak bits of the terminal's scalar.
		for name, b := range map[string][]byte{
			"one":                     spki(t, dhPublic, x942, der(t, 1)),
			"order two":               spki(t, dhPublic, x942, der(t, new(big.Int).Sub(p, big.NewInt(1)))),
			"negative":                spki(t, dhPublic, x942, der(t, new(big.Int).Neg(y))),
			"too large":               spki(t, dhPublic, x942, der(t, new(big.Int).Add(p, y))),
			"bytes after it":          spki(t, dhPublic, x942, append(der(t, y), 0)),
			"no integer":              spki(t, dhPublic, x942, y.Bytes()),
			"another modulus":         spki(t, dhPublic, tlv.Encode(0x30, der(t, new(big.Int).Add(p, big.NewInt(2))), der(t, base), der(t, g.Order())), der(t, y)),
			"PKCS #3, its own group":  spki(t, dhAgreement, tlv.Encode(0x30, der(t, p), der(t, new(big.Int).Mul(base, base))), der(t, y)),
			"reserved number":         spki(t, standardized, der(t, 3+id), der(t, y)),
			"numbered as a signature": spki(t, standardized, der(t, 12), der(t, y)),
		} {
			if _, err := lds.ParseAgreementKey(b); !errors.Is(err, lds.ErrMalformed) && !errors.Is(err, lds.ErrUnsupported) {
				t.Errorf("group %d, %s: %v", id, name, err)
			}
		}
	}
}

// modulus finds a group's prime, which package domain keeps to itself: products
// of integers less their value in the group are multiples of it.
func modulus(t testing.TB, id int) *big.Int {
	t.Helper()
	g, _ := domain.Standardized(id)
	x := new(big.Int).SetBytes(g.Encode(g.Generator()))
	multiple := func(k int64) *big.Int {
		e := g.Multiply(g.Generator(), big.NewInt(k).Bytes())
		v := new(big.Int).SetBytes(g.Encode(e))
		next := new(big.Int).SetBytes(g.Encode(g.Multiply(g.Generator(), big.NewInt(k+1).Bytes())))
		return v.Sub(v.Mul(v, x), next)
	}
	p := multiple(1)
	for k := int64(2); k < 9; k++ {
		p.GCD(nil, nil, p, multiple(k))
	}
	if p.BitLen() != g.Size()*8 {
		t.Fatalf("group %d: modulus of %d bits", id, p.BitLen())
	}
	return p
}

// The chip's key of Doc 9303-11 Appendix I.
func TestChipKeyOfTheWorkedExample(t *testing.T) {
	info := unhex(t, "3052300c060704007f0007010202010d034200041872709494399e7470a6431be25e83eee24fea568c2ed28db48e05db3a610dc884d256a40e35efcb59bf6753d3a489d28c7a4d973c2da138a6e7a4a08f68e16f")
	key, err := lds.ParseAgreementKey(info)
	if err != nil {
		t.Fatal(err)
	}
	if g, _ := domain.Standardized(13); key.Group != g || !bytes.HasPrefix(key.Group.Encode(key.Public), []byte{4, 0x18, 0x72, 0x70}) {
		t.Error("another key")
	}
}

func FuzzParsePublicKey(f *testing.F) {
	curve, _ := domain.Standardized(13)
	base := curve.Encode(curve.Generator())
	f.Add(spki(f, ecPublicKey, explicit(f, 13, base, 1), base))
	f.Add(spki(f, ecPublicKey, der(f, curveOIDs[12]), base))
	f.Add(spki(f, standardized, der(f, 13), base))
	group, _ := domain.Standardized(0)
	g := new(big.Int).SetBytes(group.Encode(group.Generator()))
	f.Add(spki(f, dhPublic, tlv.Encode(0x30, der(f, modulus(f, 0)), der(f, g), der(f, group.Order())), der(f, g)))
	f.Add(spki(f, dhAgreement, tlv.Encode(0x30, der(f, modulus(f, 0)), der(f, g)), der(f, g)))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := lds.ParsePublicKey(b)
		typed(t, err)
		key, err := lds.ParseAgreementKey(b)
		typed(t, err)
		if err == nil && key.Group == nil {
			t.Error("a key in no group")
		}
	})
}

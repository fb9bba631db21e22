package icao

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"

	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/lds"
)

// mapping makes a generator of PACE's nonce (ICAO 9303-11 4.4.3.3).
type mapping byte

const (
	genericMapping mapping = iota
	integratedMapping
	chipAuthenticationMapping // generic, and the chip proves its static key
)

// fits says whether the mapping is defined for group and algorithm (9.5.1, 4.4.3).
func (m mapping) fits(g domain.Group, a algorithm) bool {
	switch m {
	case integratedMapping:
		if !g.Elliptic() {
			return true
		}
		_, err := g.Map([]byte{2})
		return !errors.Is(err, domain.ErrNoMapping)
	case chipAuthenticationMapping:
		return a != tripleDES
	}
	return true
}

// generic is Generic Mapping (4.4.3.3.1): the generator moved by the nonce and
// by a key that both sides agree on. It also returns the chip's public key as it
// came.
func (p pace) generic(ctx context.Context, c *Chip, nonce []byte) (domain.Element, []byte, error) {
	const step = "map nonce"
	ours, err := newKeyPair(p.group, p.group.Generator(), c.random)
	if err != nil {
		return domain.Element{}, nil, err
	}
	defer clear(ours.private)
	answer, theirs, err := p.swap(ctx, c, step, doMapTerminal, ours, doMapChip)
	if err != nil {
		return domain.Element{}, nil, err
	}
	s := new(big.Int).SetBytes(nonce)
	moved := p.group.Multiply(p.group.Generator(), s.Mod(s, p.group.Order()).Bytes())
	generator := p.group.Add(moved, p.group.Multiply(theirs, ours.private))
	if _, err := p.group.Secret(generator); err != nil { // neutral
		return domain.Element{}, nil, malformed(step, err)
	}
	return generator, answer, nil
}

// integrated is Integrated Mapping (4.4.3.3.2): a generator that is a hash of
// the nonces of both sides.
func (p pace) integrated(ctx context.Context, c *Chip, nonce []byte) (domain.Element, error) {
	const step = "map nonce"
	if c0, _ := p.algorithm.mappingConstants(); len(nonce) != len(c0) {
		return domain.Element{}, malformed("get nonce", fmt.Errorf("%d bytes", len(nonce)))
	}
	t := make([]byte, p.algorithm.keyLength())
	if _, err := io.ReadFull(c.random, t); err != nil {
		return domain.Element{}, err
	}
	objects, err := c.authenticate(ctx, step, true, doMapTerminal, t)
	if err != nil {
		return domain.Element{}, err
	}
	// The object is there and empty (4.4.5.2.2); cards that leave it out are met.
	if len(objects) > 1 || len(objects) == 1 && (objects[0].Tag != doMapChip || len(objects[0].Value) > 0) {
		return domain.Element{}, malformed(step, errors.New("mapping data"))
	}
	bits := 8 * p.group.Size()
	curve, elliptic := domain.Curve(p.parameter)
	if elliptic {
		bits = curve.Params().BitSize
	}
	integer := p.algorithm.pseudoRandom(nonce, t, bits)
	if elliptic { // a finite field reduces by itself
		i := new(big.Int).SetBytes(integer)
		integer = i.Mod(i, curve.Params().P).Bytes()
	}
	generator, err := p.group.Map(integer)
	if err != nil {
		return domain.Element{}, malformed(step, err)
	}
	return generator, nil
}

// mappingConstants are c0 and c1 of 4.4.3.3.2, as long as the chip's nonce.
func (a algorithm) mappingConstants() (c0, c1 []byte) {
	if a == aes192 || a == aes256 {
		return []byte("\xd4\x63\xd6\x52\x34\x12\x4e\xf7\x89\x70\x54\x98\x6d\xca\x0a\x17\x4e\x28\xdf\x75\x8c\xba\xa0\x3f\x24\x06\x16\x41\x4d\x5a\x16\x76"),
			[]byte("\x54\xbd\x72\x55\xf0\xaa\xf8\x31\xbe\xc3\x42\x3f\xcf\x39\xd6\x9b\x6c\xbf\x06\x66\x77\xd0\xfa\xae\x5a\xad\xd9\x9d\xf8\xe5\x35\x17")
	}
	return []byte("\xa6\x68\x89\x2a\x7c\x41\xe3\xca\x73\x9f\x40\xb0\x57\xd8\x59\x04"),
		[]byte("\xa4\xe1\x36\xac\x72\x5f\x73\x8b\x01\xc1\xf6\x02\x17\xc1\x88\xad")
}

// pseudoRandom is R(s,t) of 4.4.3.3.2, not reduced: 64 bits longer than a
// number of the given length, at least.
func (a algorithm) pseudoRandom(s, t []byte, bits int) []byte {
	c0, c1 := a.mappingConstants()
	iv := make([]byte, a.blockSize())
	key := a.encrypt(t, iv, s)
	var out []byte
	for 8*len(out) < bits+64 {
		k := key[:a.keyLength()]
		out = append(out, a.encrypt(k, iv, c1)...)
		key = a.encrypt(k, iv, c0)
	}
	return out
}

// chipData opens the chip's proof of Chip Authentication Mapping (4.4.3.5).
func (p pace) chipData(s *session, encrypted, mappingKey []byte) (*lds.ChipMapping, error) {
	const step = "chip authentication data"
	block := p.algorithm.blockSize()
	if len(encrypted) == 0 || len(encrypted)%block != 0 {
		return nil, malformed(step, fmt.Errorf("%d bytes", len(encrypted)))
	}
	iv := p.algorithm.encrypt(s.encryption, make([]byte, block), bytes.Repeat([]byte{0xFF}, block))
	factor, err := unpad(p.algorithm.decrypt(s.encryption, iv, encrypted), block)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", step, ErrChipNotGenuine, err)
	}
	size := (p.group.Order().BitLen() + 7) / 8
	if len(factor) == 0 || len(factor) > size {
		return nil, malformed(step, fmt.Errorf("%d bytes", len(factor)))
	}
	full := make([]byte, size)
	copy(full[size-len(factor):], factor)
	return &lds.ChipMapping{
		Protocol: p.protocol, ParameterID: p.parameter, MappingKey: bytes.Clone(mappingKey), Data: full,
	}, nil
}

// checkMapping compares the chip's mapping key with what its proof and its
// static key make (4.4.3.5.2). That the static key is the issuer's is for
// smartcard/trust to say.
func checkMapping(e lds.ChipMapping, keys []lds.ChipAuthenticationPublicKeyInfo) error {
	g, _ := domain.Standardized(e.ParameterID)
	mapped, err := g.Parse(e.MappingKey)
	if err != nil {
		return malformed("mapping key", err)
	}
	err = fmt.Errorf("%w: no key of the chip over these parameters", ErrChipNotGenuine)
	const most = 4 // checking what a card made up takes time: nobody has verified its list yet
	tried := 0
	for _, info := range keys {
		if !info.Protocol.Equal(lds.OIDPKECDH) { // the mapping is over curves
			continue
		}
		if tried++; tried > most {
			break
		}
		key, parseErr := lds.ParseAgreementKey(info.SPKI)
		if parseErr != nil || key.Group != g {
			continue
		}
		if g.Multiply(key.Public, e.Data).Equal(mapped) {
			return nil
		}
		err = fmt.Errorf("%w: another key", ErrChipNotGenuine)
	}
	return err
}

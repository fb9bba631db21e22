package icao

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"testing"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/domain"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// shortening is a chip over a finite field that leaves out the leading zeros of
// its public keys, on the wire and in what its token is over, and always has some.
type shortening struct {
	t         *testing.T
	pace      pace
	password  Password
	nonce     []byte
	generator domain.Element
	public    []byte // of the last step, as sent
	theirs    []byte
	session   *session
}

// key draws a private key whose public key over base begins with a zero byte.
func (s *shortening) key(base domain.Element) (private, public []byte) {
	g := s.pace.group
	private, err := g.Scalar(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	e, k := g.Multiply(base, private), new(big.Int).SetBytes(private)
	for g.Encode(e)[0] != 0 {
		e = g.Add(e, base)
		k.Add(k, big.NewInt(1))
	}
	return k.Mod(k, g.Order()).Bytes(), bytes.TrimLeft(g.Encode(e), "\x00")
}

func (s *shortening) Transmit(_ context.Context, command []byte) ([]byte, error) {
	c, err := apdu.ParseCommand(command)
	if err != nil {
		return nil, err
	}
	outer, err := tlv.ParseOne(c.Data, doAuthentication)
	if err != nil {
		return nil, err
	}
	in, err := outer.Children()
	if err != nil {
		return nil, err
	}
	g := s.pace.group
	var answer []byte
	switch {
	case len(in) == 0:
		key := s.pace.algorithm.derive(s.password.secret(), counterPassword)
		answer = tlv.Encode(doNonce, s.pace.algorithm.encrypt(key, make([]byte, 16), s.nonce))
	case in[0].Tag == doMapTerminal:
		theirs, err := g.Parse(in[0].Value)
		if err != nil {
			return nil, err
		}
		private, public := s.key(g.Generator())
		s.generator = g.Add(g.Multiply(g.Generator(), s.nonce), g.Multiply(theirs, private))
		answer = tlv.Encode(doMapChip, public)
	case in[0].Tag == doKeyTerminal:
		theirs, err := g.Parse(in[0].Value)
		if err != nil {
			return nil, err
		}
		var private []byte
		private, s.public = s.key(s.generator)
		shared, err := g.Secret(g.Multiply(theirs, private))
		if err != nil {
			return nil, err
		}
		s.theirs, s.session = bytes.Clone(in[0].Value), newSession(s.pace.algorithm, shared)
		answer = tlv.Encode(doKeyChip, s.public)
	case in[0].Tag == doTokenTerminal:
		if !bytes.Equal(in[0].Value, s.pace.token(s.session, s.public)) {
			return []byte{0x63, 0x00}, nil
		}
		answer = tlv.Encode(doTokenChip, s.pace.token(s.session, s.theirs))
	}
	return append(tlv.Encode(doAuthentication, answer), 0x90, 0x00), nil
}

// Cards differ on whether leading zeros belong to a number. The terminal takes
// both, makes its token over what the card sent, and itself sends numbers that
// have none.
func TestShortenedNumbers(t *testing.T) {
	for parameter := range 3 {
		p := chosen(t, []lds.PACEInfo{info(lds.OIDPACEDHGM, 2, parameter)})
		pw := CAN(secret.FromString("123456"))
		card := &shortening{t: t, pace: p, password: pw, nonce: bytes.Repeat([]byte{7}, 16)}
		c := plainChip(card, pw)
		c.random = rand.Reader
		result, err := p.run(t.Context(), c)
		if err != nil {
			t.Fatalf("parameters %d: %v", parameter, err)
		}
		equal(t, "KS_mac", result.channel.integrity, card.session.integrity)
		if len(card.theirs) != p.group.Size() || card.theirs[0] == 0 {
			t.Errorf("parameters %d: a public key with leading zeros", parameter)
		}
	}
}

// A key of the terminal whose number begins with a zero byte is drawn again, over
// finite fields only: points keep their length.
func TestDrawsKeysOfFullLength(t *testing.T) {
	for _, id := range domain.IDs() {
		g, _ := domain.Standardized(id)
		e, k := g.Generator(), big.NewInt(1)
		at := 0
		if g.Elliptic() {
			at = 1
		}
		for g.Encode(e)[at] != 0 {
			e = g.Add(e, g.Generator())
			k.Add(k, big.NewInt(1))
		}
		n := (g.Order().BitLen() + 7) / 8
		short, other := k.FillBytes(make([]byte, n)), big.NewInt(3).FillBytes(make([]byte, n))
		want := other
		if g.Elliptic() {
			want = short
		}
		pair, err := newKeyPair(g, g.Generator(), randoms(short, other))
		if err != nil || !bytes.Equal(pair.private, want) {
			t.Errorf("parameters %d: key %x, %v", id, pair.private, err)
		}
	}
}

// A source of numbers that never gives a usable key ends the drawing.
func TestNoUsableKey(t *testing.T) {
	g, _ := domain.Standardized(12)
	if _, err := newKeyPair(g, g.Generator(), zeros{}); err == nil {
		t.Error("a key of zeros")
	}
	if _, err := newKeyPair(g, g.Generator(), bytes.NewReader(nil)); err == nil || errors.Is(err, domain.ErrElement) {
		t.Errorf("no numbers: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

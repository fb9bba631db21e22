package idcard

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// ActiveKey is the key pair of Active Authentication (9303-11 6.1).
type ActiveKey struct {
	RSA     *rsa.PrivateKey // signs by ISO/IEC 9796-2 scheme 1; nil: ECDSA with the next two
	Domain  Domain
	Private *big.Int
	Hash    crypto.Hash
	DER     bool // ECDSA signatures are a SEQUENCE of r and s, as some chips have it, not r || s

	Trailer []byte // ends an ISO/IEC 9796-2 block in place of the hash's own; nil: that
}

// check refuses keys that cannot sign.
func (k *ActiveKey) check() error {
	if k == nil {
		return nil
	}
	trailer, ok := trailers[k.Hash]
	switch {
	case !ok:
		return fmt.Errorf("hash %d is not known to 9303-11 6.1.2", k.Hash)
	case k.RSA != nil && k.RSA.Size() < k.Hash.Size()+len(trailer)+2:
		return errors.New("a key too short for its hash cannot sign")
	case k.RSA == nil && k.Private == nil:
		return errors.New("no key to sign with")
	case k.RSA == nil:
		_, err := k.Domain.group()
		return err
	}
	return nil
}

// activeAuthenticate is INTERNAL AUTHENTICATE.
func (c *Chip) activeAuthenticate(in apdu.Command) ([]byte, apdu.Status) {
	c.exchange.Step = StepActive
	key := c.profile.ActiveKey
	switch {
	case key == nil:
		return nil, apdu.InstructionNotSupported
	case !c.mayRead() || !c.inside:
		return nil, apdu.SecurityNotSatisfied
	case in.P1 != 0 || in.P2 != 0:
		return nil, apdu.IncorrectP1P2
	case len(in.Data) != 8 || in.Le == 0:
		return nil, apdu.WrongLength
	}
	var signature []byte
	var err error
	if key.RSA != nil {
		signature, err = key.signRecoverable(c.rand, in.Data)
	} else {
		signature, err = key.signECDSA(c.rand, in.Data)
	}
	if err != nil {
		return nil, apdu.UnknownError
	}
	if len(signature) > in.Le {
		return nil, apdu.WrongLength
	}
	return signature, apdu.OK
}

// signECDSA signs by TR-03111 4.2.1; r and s stand side by side (9303-11 6.1.2.3) or in DER.
func (k *ActiveKey) signECDSA(rand io.Reader, message []byte) ([]byte, error) {
	g, err := k.Domain.group()
	if err != nil {
		return nil, err
	}
	h := k.Hash.New()
	h.Write(message)
	r, s, err := g.sign(rand, k.Private, h.Sum(nil))
	if err != nil {
		return nil, err
	}
	if k.DER {
		return tlv(0x30, integer(r), integer(s)), nil
	}
	size := (g.n.BitLen() + 7) / 8
	return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
}

// signRecoverable is ISO/IEC 9796-2 scheme 1 with partial recovery: M1 fills the
// block, M2 is the terminal's challenge (9303-11 6.1.2.2).
func (k *ActiveKey) signRecoverable(rand io.Reader, challenge []byte) ([]byte, error) {
	trailer := trailers[k.Hash]
	m1 := make([]byte, k.RSA.Size()-k.Hash.Size()-1-len(trailer))
	if _, err := io.ReadFull(rand, m1); err != nil {
		return nil, err
	}
	if k.Trailer != nil {
		trailer = k.Trailer
	}
	f := new(big.Int).SetBytes(representative(k.Hash, m1, challenge, trailer))
	f.Mod(f, k.RSA.N)
	s := f.Exp(f, k.RSA.D, k.RSA.N)
	if other := new(big.Int).Sub(k.RSA.N, s); other.Cmp(s) < 0 {
		s = other
	}
	return s.FillBytes(make([]byte, k.RSA.Size())), nil
}

// trailers names the hash at the end of a 9796-2 block (ISO/IEC 10118-3 numbers).
var trailers = map[crypto.Hash][]byte{
	crypto.SHA1:   {0xBC},
	crypto.SHA224: {0x38, 0xCC},
	crypto.SHA256: {0x34, 0xCC},
	crypto.SHA384: {0x36, 0xCC},
	crypto.SHA512: {0x35, 0xCC},
}

// representative is the block that RSA is applied to: 6A || M1 || H(M1 || M2) || trailer.
func representative(hash crypto.Hash, m1, m2, trailer []byte) []byte {
	h := hash.New()
	h.Write(m1)
	h.Write(m2)
	return bytes.Join([][]byte{{0x6A}, m1, h.Sum(nil), trailer}, nil)
}

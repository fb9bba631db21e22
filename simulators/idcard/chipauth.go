package idcard

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"io"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// ChipKey is the static key pair of Chip Authentication.
type ChipKey struct {
	Suite   Suite
	Domain  Domain
	ID      *big.Int // key identifier in DG14, nil if it names none
	Private *big.Int
}

// agreement is Chip Authentication chosen and not yet run.
type agreement struct{ key *ChipKey }

// agreementKey finds the key that an MSE asks for.
func (c *Chip) agreementKey(list []object) (*ChipKey, apdu.Status) {
	if c.channel == nil || !c.inside {
		return nil, apdu.SecurityNotSatisfied
	}
	ref := find(list, 0x84)
	for _, key := range c.profile.ChipKeys {
		if ref == nil && key.ID == nil || ref != nil && key.ID != nil && new(big.Int).SetBytes(ref).Cmp(key.ID) == 0 {
			return key, apdu.OK
		}
	}
	return nil, apdu.ReferencedDataNotFound
}

// openAgreement is MSE:Set AT of Chip Authentication (9303-11 6.2.4.2).
func (c *Chip) openAgreement(list []object) apdu.Status {
	c.agreement = nil
	key, sw := c.agreementKey(list)
	if sw != apdu.OK {
		return sw
	}
	if s, ok := suiteOf(oidCA, find(list, 0x80)); !ok || s != key.Suite {
		return apdu.WrongData
	}
	c.agreement = &agreement{key}
	return apdu.OK
}

func (c *Chip) agree(list []object) ([]byte, apdu.Status) {
	key := c.agreement.key
	c.agreement = nil
	if len(list) != 1 || list[0].tag != 0x80 {
		return nil, apdu.WrongData
	}
	if sw := c.switchKeys(key, list[0].value); sw != apdu.OK {
		return nil, sw
	}
	return tlv(0x7C), apdu.OK
}

// agreeByKAT is MSE:Set KAT, which 3DES alone uses (9303-11 6.2.4.1).
func (c *Chip) agreeByKAT(list []object) apdu.Status {
	key, sw := c.agreementKey(list)
	if sw != apdu.OK {
		return sw
	}
	if key.Suite != TripleDES {
		return apdu.WrongData
	}
	return c.switchKeys(key, find(list, 0x91))
}

func (c *Chip) switchKeys(key *ChipKey, public []byte) apdu.Status {
	g, err := key.Domain.group()
	if err != nil {
		return apdu.UnknownError
	}
	theirs, ok := g.decode(public)
	if !ok {
		return apdu.WrongData
	}
	c.next = newChannel(key.Suite, g.field(g.mul(key.Private, theirs).x), nil)
	return apdu.OK
}

// ActiveKey is the key pair of Active Authentication (9303-11 6.1).
type ActiveKey struct {
	RSA     *rsa.PrivateKey // signs by ISO/IEC 9796-2 scheme 1; nil: ECDSA with the next two
	Domain  Domain
	Private *big.Int
	Hash    crypto.Hash
	DER     bool // ECDSA signatures are a SEQUENCE of r and s, as some chips have it, not r || s
}

// activeAuthenticate is INTERNAL AUTHENTICATE.
func (c *Chip) activeAuthenticate(in apdu.Command, room int) ([]byte, apdu.Status) {
	key := c.profile.ActiveKey
	switch {
	case key == nil:
		return nil, apdu.InstructionNotSupported
	case c.channel == nil || !c.inside:
		return nil, apdu.SecurityNotSatisfied
	case in.P1 != 0 || in.P2 != 0:
		return nil, apdu.IncorrectP1P2
	case len(in.Data) != 8 || in.Le == 0:
		return nil, apdu.WrongLength
	}
	var signature []byte
	var err error
	if key.RSA != nil {
		signature, err = signRecoverable(c.rand, key.RSA, key.Hash, in.Data)
	} else {
		signature, err = key.signECDSA(c.rand, in.Data)
	}
	if err != nil {
		return nil, apdu.UnknownError
	}
	if len(signature) > room {
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
func signRecoverable(rand io.Reader, key *rsa.PrivateKey, hash crypto.Hash, challenge []byte) ([]byte, error) {
	m1 := make([]byte, key.Size()-hash.Size()-1-len(trailers[hash]))
	if _, err := io.ReadFull(rand, m1); err != nil {
		return nil, err
	}
	f := new(big.Int).SetBytes(representative(hash, m1, challenge))
	s := f.Exp(f, key.D, key.N)
	if other := new(big.Int).Sub(key.N, s); other.Cmp(s) < 0 {
		s = other
	}
	return s.FillBytes(make([]byte, key.Size())), nil
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
func representative(hash crypto.Hash, m1, m2 []byte) []byte {
	h := hash.New()
	h.Write(m1)
	h.Write(m2)
	return bytes.Join([][]byte{{0x6A}, m1, h.Sum(nil), trailers[hash]}, nil)
}

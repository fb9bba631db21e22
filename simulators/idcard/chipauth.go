package idcard

import (
	"bytes"
	"fmt"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// ChipKey is a static key pair of Chip Authentication.
type ChipKey struct {
	Suite   Suite
	Domain  Domain
	ID      *big.Int // key identifier in DG14, nil if it names none
	Private *big.Int
}

// oidCA is id-CA as DER content, without the last two arcs (9303-11 9.2.7).
var oidCA = []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x03}

// oid is the object identifier of Chip Authentication with the key, as DER content.
func (k *ChipKey) oid() []byte {
	arc := byte(2) // id-CA-ECDH
	if k.Domain.overFiniteField() {
		arc = 1
	}
	return append(bytes.Clone(oidCA), arc, byte(k.Suite))
}

func (k *ChipKey) check() error {
	if !k.Suite.valid() {
		return fmt.Errorf("suite %d is not known", k.Suite)
	}
	_, err := k.Domain.agreement()
	return err
}

// agreementKey finds the key that an MSE asks for.
func (c *Chip) agreementKey(list []object) (*ChipKey, apdu.Status) {
	if !c.mayRead() || !c.inside && c.profile.Master[efCardSecurity] == nil {
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
	c.exchange.Step, c.agreement = StepChipSet, nil
	key, sw := c.agreementKey(list)
	if sw != apdu.OK {
		return sw
	}
	if !bytes.Equal(find(list, 0x80), key.oid()) {
		return apdu.WrongData
	}
	c.agreement = key
	return apdu.OK
}

func (c *Chip) agree(list []object) ([]byte, apdu.Status) {
	key := c.agreement
	c.exchange.Step, c.agreement = StepChipAgree, nil
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
	c.exchange.Step = StepChipAgree
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
	d, err := key.Domain.agreement()
	if err != nil {
		return apdu.UnknownError
	}
	theirs, ok := d.decode(public)
	if !ok {
		return apdu.WrongData
	}
	c.next = newChannel(key.Suite, d.secret(d.mul(key.Private, theirs)), nil)
	c.next.pace = c.channel != nil && c.channel.pace
	return apdu.OK
}

package pivtoken

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"enrollkiosk/smartcard/apdu"
)

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// executeYubico runs what Yubico adds to the PIV application, each from the
// firmware that has it.
func (t *Token) executeYubico(c apdu.Command) ([]byte, apdu.Status) {
	switch c.INS {
	case insGetVersion:
		return t.version[:], apdu.OK
	case insGetSerial:
		if t.version.atLeast(5, 0, 0) {
			return t.serialNumber(), apdu.OK
		}
	case insGetMetadata:
		switch {
		case t.has(LikeNitrokey):
			return nil, apdu.OK
		case t.version.atLeast(5, 3, 0):
			return t.metadata(c)
		}
	case insAttest:
		switch {
		case t.has(LikeNitrokey):
			return nil, apdu.FunctionNotSupported
		case t.version.atLeast(4, 3, 0) && !t.has(NoAttestation|LikePivApplet):
			return t.attest(c)
		}
	case insImportKey:
		return nil, t.importKey(c)
	case insSetManagementKey:
		return nil, t.setManagementKey(c)
	case insSetRetries:
		return nil, t.setRetries(c)
	case insReset:
		return nil, t.reset()
	case insMoveKey:
		if t.version.atLeast(5, 7, 0) {
			return nil, t.moveKey(c)
		}
	}
	return nil, apdu.InstructionNotSupported
}

func (t *Token) serialNumber() []byte { return binary.BigEndian.AppendUint32(nil, t.serial) }

// deviceInfo is the management application's: serial, form factor, version.
func (t *Token) deviceInfo() []byte {
	info := slices.Concat(
		encode(0x02, t.serialNumber()),
		encode(0x04, []byte{t.formFactor}),
		encode(0x05, t.version[:]))
	return append([]byte{byte(len(info))}, info...)
}

func flag(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}

// metadata describes a slot, the PIN, the PUK or the management key.
func (t *Token) metadata(c apdu.Command) ([]byte, apdu.Status) {
	if c.P1 != 0 {
		return nil, apdu.IncorrectP1P2
	}
	switch ref := c.P2; {
	case ref == 0x80 || ref == 0x81:
		r := t.pin
		if ref == 0x81 {
			r = t.puk
		}
		return slices.Concat(
			encode(0x01, []byte{0xFF}),
			encode(0x05, flag(r.initial)),
			encode(0x06, []byte{byte(r.total), byte(r.left)})), apdu.OK
	case ref == managementKeyRef:
		touch := byte(touchNever)
		if t.admin.touch {
			touch = touchAlways
		}
		return slices.Concat(
			encode(0x01, []byte{t.admin.alg}),
			encode(0x02, []byte{0, touch}),
			encode(0x05, flag(string(t.admin.key) == string(defaultManagementKey)))), apdu.OK
	case !t.holdsKey(ref):
		return nil, apdu.IncorrectP1P2
	}
	k := t.keys[c.P2]
	if k == nil {
		return nil, apdu.ReferencedDataNotFound
	}
	return slices.Concat(
		encode(0x01, []byte{k.alg}),
		encode(0x02, []byte{k.pin, k.touch}),
		encode(0x03, []byte{t.originByte(k)}),
		encode(0x04, publicTemplate(k.private.Public()))), apdu.OK
}

// originByte is the key's origin as the token numbers it.
func (t *Token) originByte(k *key) byte {
	if t.has(OtherOrigins) {
		return k.origin - 1
	}
	return k.origin
}

// importKey sets a slot's key from its parameters.
func (t *Token) importKey(c apdu.Command) apdu.Status {
	if !t.holdsKey(c.P2) {
		return apdu.IncorrectP1P2
	}
	if !t.session.admin {
		return apdu.SecurityNotSatisfied
	}
	list, err := parseTLV(c.Data)
	if err != nil || !t.offers(c.P1) {
		return apdu.WrongData
	}
	pin, touch, ok := t.parsePolicies(list, c.P2)
	if !ok {
		return apdu.WrongData
	}
	private, err := parsePrivateKey(c.P1, list)
	if err != nil {
		return apdu.WrongData
	}
	t.keys[c.P2] = &key{alg: c.P1, pin: pin, touch: touch, origin: originImported, private: private}
	return apdu.OK
}

func parsePrivateKey(alg byte, list []tlv) (interface{ Public() crypto.PublicKey }, error) {
	part := func(tag uint32) []byte {
		value, _ := find(list, tag)
		return value
	}
	switch {
	case curveOf(alg) != nil:
		return ecdsa.ParseRawPrivateKey(curveOf(alg), part(0x06))
	case alg == algEd25519:
		if seed := part(0x07); len(seed) == ed25519.SeedSize {
			return ed25519.NewKeyFromSeed(seed), nil
		}
		return nil, errors.New("ed25519 seed")
	case alg == algX25519:
		return ecdh.X25519().NewPrivateKey(part(0x08))
	}
	return rsaFromPrimes(rsaBits(alg), part(0x01), part(0x02), part(0x03), part(0x04), part(0x05))
}

// rsaFromPrimes rebuilds a key for the public exponent 65537 and refuses
// parameters that do not belong together.
func rsaFromPrimes(bits int, parts ...[]byte) (*rsa.PrivateKey, error) {
	for _, part := range parts {
		if len(part) != bits/16 {
			return nil, errors.New("rsa parameter of another length")
		}
	}
	var v [5]*big.Int
	for i, part := range parts {
		v[i] = new(big.Int).SetBytes(part)
	}
	p, q, dp, dq, qinv := v[0], v[1], v[2], v[3], v[4]
	one := big.NewInt(1)
	if p.Cmp(one) <= 0 || q.Cmp(one) <= 0 || p.Cmp(q) == 0 {
		return nil, errors.New("rsa primes")
	}
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	k := &rsa.PrivateKey{Primes: []*big.Int{p, q}}
	k.E = 65537
	k.N = new(big.Int).Mul(p, q)
	k.D = new(big.Int).ModInverse(big.NewInt(int64(k.E)), new(big.Int).Mul(p1, q1))
	switch {
	case k.N.BitLen() != bits || k.D == nil:
		return nil, errors.New("rsa modulus")
	case new(big.Int).Mod(k.D, p1).Cmp(dp) != 0,
		new(big.Int).Mod(k.D, q1).Cmp(dq) != 0,
		new(big.Int).Mod(new(big.Int).Mul(q, qinv), p).Cmp(one) != 0:
		return nil, errors.New("rsa parameters do not match")
	}
	if err := k.Validate(); err != nil {
		return nil, err
	}
	k.Precompute()
	return k, nil
}

// setManagementKey replaces the management key: algorithm, 9B, length, key.
func (t *Token) setManagementKey(c apdu.Command) apdu.Status {
	if c.P1 != 0xFF || c.P2 != 0xFF && c.P2 != 0xFE {
		return apdu.IncorrectP1P2
	}
	if !t.session.admin {
		return apdu.SecurityNotSatisfied
	}
	if len(c.Data) < 3 || c.Data[1] != managementKeyRef || int(c.Data[2]) != len(c.Data)-3 {
		return apdu.WrongData
	}
	alg, value := c.Data[0], c.Data[3:]
	if len(value) != managementKeyLength(alg) || alg != alg3DES && (t.has(LikePivApplet) || !t.version.atLeast(5, 4, 0)) {
		return apdu.WrongData
	}
	t.admin = managementKey{alg: alg, key: slices.Clone(value), touch: c.P2 == 0xFE}
	return apdu.OK
}

// setRetries sets the tries of PIN and PUK, and with them their defaults again.
func (t *Token) setRetries(c apdu.Command) apdu.Status {
	if !t.session.admin || !t.session.verified {
		return apdu.SecurityNotSatisfied
	}
	if c.P1 == 0 || c.P2 == 0 {
		return apdu.WrongData
	}
	t.pin = newReference(DefaultPIN, int(c.P1))
	t.puk = newReference(DefaultPUK, int(c.P2))
	t.session.verified = false
	return apdu.OK
}

// reset returns to factory settings, once PIN and PUK are both blocked.
func (t *Token) reset() apdu.Status {
	if t.pin.left > 0 || t.puk.left > 0 {
		return apdu.ConditionsNotSatisfied
	}
	t.factory()
	t.session = session{applet: appletPIV}
	return apdu.OK
}

// moveKey moves the key of slot P2 to slot P1, or deletes it when P1 is FF.
// Certificates stay where they are.
func (t *Token) moveKey(c apdu.Command) apdu.Status {
	remove := c.P1 == 0xFF
	if !t.holdsKey(c.P2) || !remove && (!isSlot(c.P1) || !isSlot(c.P2) || c.P1 == c.P2) {
		return apdu.IncorrectP1P2
	}
	if !t.session.admin {
		return apdu.SecurityNotSatisfied
	}
	k := t.keys[c.P2]
	if k == nil {
		return apdu.ReferencedDataNotFound
	}
	delete(t.keys, c.P2)
	if !remove {
		t.keys[c.P1] = k
	}
	return apdu.OK
}

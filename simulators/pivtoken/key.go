package pivtoken

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"fmt"
	"math/big"
	"time"

	"enrollkiosk/smartcard/apdu"
)

// Algorithm identifiers (SP 800-78-4 table 6-2; RSA 3072 of SP 800-78-5; the
// last three are Yubico's).
const (
	alg3DES    = 0x03
	algAES128  = 0x08
	algAES192  = 0x0A
	algAES256  = 0x0C
	algRSA1024 = 0x06
	algRSA2048 = 0x07
	algRSA3072 = 0x05
	algP256    = 0x11
	algP384    = 0x14
	algRSA4096 = 0x16
	algEd25519 = 0xE0
	algX25519  = 0xE1
)

// Policies and origins, as Yubico numbers them.
const (
	pinDefault, pinNever, pinOnce, pinAlways           = 0, 1, 2, 3
	touchDefault, touchNever, touchAlways, touchCached = 0, 1, 2, 3

	originGenerated, originImported = 1, 2
)

// key is a private key in a slot.
type key struct {
	alg        byte
	pin, touch byte
	origin     byte
	private    interface{ Public() crypto.PublicKey }
	attested   crypto.PublicKey // what an attestation vouches for
}

func rsaBits(alg byte) int {
	switch alg {
	case algRSA1024:
		return 1024
	case algRSA2048:
		return 2048
	case algRSA3072:
		return 3072
	case algRSA4096:
		return 4096
	}
	return 0
}

func curveOf(alg byte) elliptic.Curve {
	switch alg {
	case algP256:
		return elliptic.P256()
	case algP384:
		return elliptic.P384()
	}
	return nil
}

// offers says whether this token knows the algorithm.
func (t *Token) offers(alg byte) bool {
	switch alg {
	case algP256, algRSA2048:
		return true
	case algP384:
		return !t.has(LikePivApplet)
	case algRSA1024:
		return !t.has(PlainNIST)
	case algEd25519:
		return !t.has(PlainNIST|LikePivApplet|NoEd25519) && t.version.atLeast(5, 7, 0)
	case algRSA3072, algRSA4096, algX25519:
		return !t.has(PlainNIST|LikePivApplet) && t.version.atLeast(5, 7, 0)
	}
	return false
}

func isSlot(ref byte) bool {
	switch ref {
	case slotAuthentication, slotSignature, slotKeyManagement, slotCardAuth:
		return true
	}
	return ref >= slotFirstRetired && ref <= slotLastRetired
}

// holdsKey also admits the attestation slot, which Yubico lets be replaced.
func (t *Token) holdsKey(ref byte) bool {
	return isSlot(ref) || ref == slotAttestation && !t.has(PlainNIST)
}

// policies fills in the defaults of the slot (SP 800-73-4 part 1, table 4b).
func policies(slot, pin, touch byte) (byte, byte) {
	if pin == pinDefault {
		switch slot {
		case slotSignature:
			pin = pinAlways
		case slotCardAuth:
			pin = pinNever
		default:
			pin = pinOnce
		}
	}
	if touch == touchDefault {
		touch = touchNever
	}
	return pin, touch
}

// parsePolicies reads Yubico's policy objects AA and AB.
func (t *Token) parsePolicies(list []tlv, slot byte) (pin, touch byte, ok bool) {
	for _, o := range list {
		switch o.tag {
		case 0xAA, 0xAB:
			if t.has(PlainNIST) || len(o.value) != 1 || o.value[0] > 3 {
				return 0, 0, false
			}
			if o.tag == 0xAA {
				pin = o.value[0]
			} else {
				touch = o.value[0]
			}
		}
	}
	pin, touch = policies(slot, pin, touch)
	return pin, touch, true
}

func newPrivateKey(alg byte) (interface{ Public() crypto.PublicKey }, error) {
	switch {
	case curveOf(alg) != nil:
		return ecdsa.GenerateKey(curveOf(alg), rand.Reader)
	case rsaBits(alg) != 0:
		return rsa.GenerateKey(rand.Reader, rsaBits(alg))
	case alg == algEd25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case alg == algX25519:
		return ecdh.X25519().GenerateKey(rand.Reader)
	}
	return nil, fmt.Errorf("no algorithm %02X", alg)
}

// publicTemplate is the content of 7F49 (SP 800-73-4 part 2, table 11).
func publicTemplate(public crypto.PublicKey) []byte {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if point, err := p.Bytes(); err == nil {
			return encode(0x86, point)
		}
	case *ecdh.PublicKey:
		return encode(0x86, p.Bytes())
	case ed25519.PublicKey:
		return encode(0x86, p)
	case *rsa.PublicKey:
		return append(encode(0x81, p.N.Bytes()), encode(0x82, big.NewInt(int64(p.E)).Bytes())...)
	}
	return nil
}

// generate is SP 800-73-4 part 2, 3.3.2.
func (t *Token) generate(c apdu.Command) ([]byte, apdu.Status) {
	if c.P1 != 0 || !t.holdsKey(c.P2) {
		return nil, apdu.IncorrectP1P2
	}
	if !t.session.admin {
		return nil, apdu.SecurityNotSatisfied
	}
	outer, err := parseTLV(c.Data)
	if err != nil || len(outer) != 1 || outer[0].tag != 0xAC {
		return nil, apdu.WrongData
	}
	list, err := parseTLV(outer[0].value)
	if err != nil {
		return nil, apdu.WrongData
	}
	alg, ok := find(list, 0x80)
	pin, touch, policyOK := t.parsePolicies(list, c.P2)
	if !ok || len(alg) != 1 || !t.offers(alg[0]) || !policyOK {
		return nil, apdu.WrongData
	}

	k := &key{alg: alg[0], pin: pin, touch: touch, origin: originGenerated}
	var failed error
	same := t.outside(func() { // RSA takes seconds
		k.private, failed = newPrivateKey(k.alg)
		if failed != nil {
			return
		}
		k.attested = k.private.Public()
		if t.has(SoftwareKey) {
			other, err := newPrivateKey(k.alg)
			if failed = err; err == nil {
				k.attested = other.Public()
			}
		}
	})
	if !same || failed != nil {
		return nil, apdu.UnknownError
	}
	t.keys[c.P2] = k
	return encode(0x7F49, publicTemplate(k.private.Public())), apdu.OK
}

// managementKey is the card management key 9B.
type managementKey struct {
	alg   byte
	key   []byte
	touch bool
}

func managementKeyLength(alg byte) int {
	switch alg {
	case alg3DES, algAES192:
		return 24
	case algAES128:
		return 16
	case algAES256:
		return 32
	}
	return 0
}

func (m managementKey) block() (cipher.Block, error) {
	if m.alg == alg3DES {
		return des.NewTripleDESCipher(m.key)
	}
	return aes.NewCipher(m.key)
}

// authenticate is GENERAL AUTHENTICATE (SP 800-73-4 part 2, 3.2.4).
func (t *Token) authenticate(ctx context.Context, c apdu.Command) ([]byte, apdu.Status) {
	fresh := t.session.fresh
	t.session.fresh = false

	outer, err := parseTLV(c.Data)
	if err != nil || len(outer) != 1 || outer[0].tag != 0x7C {
		return nil, apdu.WrongData
	}
	list, err := parseTLV(outer[0].value)
	if err != nil {
		return nil, apdu.WrongData
	}
	if c.P2 == managementKeyRef {
		return t.authenticateAdmin(ctx, c.P1, list)
	}
	if !t.holdsKey(c.P2) {
		return nil, apdu.IncorrectP1P2
	}
	_, agreement := find(list, 0x85)
	if agreement && t.has(NoAgreement) {
		return nil, apdu.FunctionNotSupported
	}
	k := t.keys[c.P2]
	switch {
	case k == nil && t.has(LikePivApplet) && !t.session.verified:
		return nil, apdu.SecurityNotSatisfied // the PIN comes first there
	case k == nil && t.has(LikePivApplet):
		return nil, apdu.IncorrectP1P2
	case k == nil:
		return nil, apdu.WrongData
	case k.alg != c.P1:
		return nil, apdu.IncorrectP1P2
	}
	if k.pin == pinAlways && !fresh || k.pin == pinOnce && !t.session.verified {
		return nil, apdu.SecurityNotSatisfied
	}
	response, ok := find(list, 0x82)
	if !ok || len(response) != 0 {
		return nil, apdu.WrongData
	}
	if agreement && t.has(LateAgreement|LikePivApplet) {
		return nil, apdu.FunctionNotSupported
	}
	if k.touch == touchAlways || k.touch == touchCached && time.Since(t.session.touched) >= touchCache {
		if status := t.awaitTouch(ctx); status != apdu.OK {
			return nil, status
		}
	}
	result, status := k.use(list)
	if status != apdu.OK {
		return nil, status
	}
	return encode(0x7C, encode(0x82, result)), apdu.OK
}

// use signs, decrypts or agrees, as key and data say.
func (k *key) use(list []tlv) ([]byte, apdu.Status) {
	challenge, hasChallenge := find(list, 0x81)
	peer, hasPeer := find(list, 0x85)
	if hasChallenge == hasPeer {
		return nil, apdu.WrongData
	}
	var result []byte
	var err error
	switch private := k.private.(type) {
	case *ecdsa.PrivateKey:
		size := (private.Params().BitSize + 7) / 8
		if hasPeer {
			result, err = agree(private, peer)
			break
		}
		if len(challenge) == 0 || len(challenge) > size {
			return nil, apdu.WrongData
		}
		result, err = ecdsa.SignASN1(rand.Reader, private, challenge)
	case *rsa.PrivateKey:
		m := new(big.Int).SetBytes(challenge)
		if !hasChallenge || len(challenge) != private.Size() || m.Cmp(private.N) >= 0 {
			return nil, apdu.WrongData
		}
		// The terminal pads: this is the bare private-key operation.
		result = m.Exp(m, private.D, private.N).FillBytes(make([]byte, private.Size()))
	case ed25519.PrivateKey:
		if !hasChallenge {
			return nil, apdu.WrongData
		}
		result = ed25519.Sign(private, challenge)
	case *ecdh.PrivateKey:
		var public *ecdh.PublicKey
		if public, err = ecdh.X25519().NewPublicKey(peer); err == nil {
			result, err = private.ECDH(public)
		}
	}
	if err != nil {
		return nil, apdu.WrongData
	}
	return result, apdu.OK
}

func agree(private *ecdsa.PrivateKey, point []byte) ([]byte, error) {
	own, err := private.ECDH()
	if err != nil {
		return nil, err
	}
	peer, err := own.Curve().NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	return own.ECDH(peer)
}

// Tags of the dynamic authentication template.
const (
	tagWitness   = 0x80
	tagChallenge = 0x81
	tagResponse  = 0x82
)

// authenticateAdmin authenticates the administrator by the management key,
// mutually (witness) or one way (challenge): SP 800-73-4 part 2, A.1 and A.2.
func (t *Token) authenticateAdmin(ctx context.Context, alg byte, list []tlv) ([]byte, apdu.Status) {
	s := &t.session
	expected, by := s.expected, s.expectBy
	s.expected, s.expectBy = nil, 0

	if alg == 0 { // SP 800-78-4 table 6-2: the default
		alg = alg3DES
	}
	if alg != t.admin.alg {
		return nil, apdu.IncorrectP1P2
	}
	block, err := t.admin.block()
	if err != nil {
		return nil, apdu.UnknownError
	}
	size := block.BlockSize()
	witness, hasWitness := find(list, tagWitness)
	challenge, hasChallenge := find(list, tagChallenge)
	response, hasResponse := find(list, tagResponse)

	switch {
	case hasWitness && len(witness) == 0, hasChallenge && len(challenge) == 0 && !hasWitness:
		plain := make([]byte, size)
		_, _ = rand.Read(plain) // never fails
		s.expected = plain
		if hasWitness {
			s.expectBy = tagWitness
			sealed := make([]byte, size)
			block.Encrypt(sealed, plain)
			return encode(0x7C, encode(tagWitness, sealed)), apdu.OK
		}
		s.expectBy = tagResponse
		s.expected = make([]byte, size)
		block.Encrypt(s.expected, plain)
		return encode(0x7C, encode(tagChallenge, plain)), apdu.OK

	case hasWitness && by == tagWitness:
		if len(challenge) != size {
			return nil, apdu.WrongData
		}
		if status := t.admit(ctx, witness, expected); status != apdu.OK {
			return nil, status
		}
		sealed := make([]byte, size)
		block.Encrypt(sealed, challenge)
		return encode(0x7C, encode(tagResponse, sealed)), apdu.OK

	case hasResponse && by == tagResponse:
		return nil, t.admit(ctx, response, expected)
	}
	return nil, apdu.WrongData
}

func (t *Token) admit(ctx context.Context, got, want []byte) apdu.Status {
	t.session.admin = false
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return apdu.SecurityNotSatisfied
	}
	if t.admin.touch {
		if status := t.awaitTouch(ctx); status != apdu.OK {
			return status
		}
	}
	t.session.admin = true
	return apdu.OK
}

// InstallKey puts a key and its certificate (DER) into a slot, as a
// personalisation bureau would: the slot's own policies, origin imported, never
// attested. Known keys are ECDSA on P-256 and P-384, Ed25519 and RSA.
func (t *Token) InstallKey(slot byte, private crypto.Signer, certificate []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	object := certificateObject(slot)
	if object == 0 || !isSlot(slot) {
		return fmt.Errorf("install key: no slot %02X", slot)
	}
	k := &key{origin: originImported, private: private}
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		switch p.Curve {
		case elliptic.P256():
			k.alg = algP256
		case elliptic.P384():
			k.alg = algP384
		}
	case ed25519.PrivateKey:
		k.alg = algEd25519
	case *rsa.PrivateKey:
		for _, alg := range []byte{algRSA1024, algRSA2048, algRSA3072, algRSA4096} {
			if p.N.BitLen() == rsaBits(alg) {
				k.alg = alg
			}
		}
	}
	if !t.offers(k.alg) {
		return fmt.Errorf("install key: this token has no algorithm for %T", private)
	}
	if len(certificate) > maxObject-32 {
		return fmt.Errorf("install key: certificate of %d bytes is too long", len(certificate))
	}
	k.pin, k.touch = policies(slot, pinDefault, touchDefault)
	t.keys[slot] = k
	t.objects[object] = certificateContent(certificate)
	return nil
}

// certificateObject is the tag of a slot's certificate (SP 800-73-4 part 1,
// table 3), 0 for no slot.
func certificateObject(slot byte) uint32 {
	switch {
	case slot == slotAuthentication:
		return 0x5FC105
	case slot == slotSignature:
		return 0x5FC10A
	case slot == slotKeyManagement:
		return 0x5FC10B
	case slot == slotCardAuth:
		return 0x5FC101
	case slot == slotAttestation:
		return objectAttestation
	case slot >= slotFirstRetired && slot <= slotLastRetired:
		return 0x5FC10D + uint32(slot-slotFirstRetired)
	}
	return 0
}

// certificateContent is an uncompressed certificate (SP 800-73-4 part 1,
// table 10).
func certificateContent(der []byte) []byte {
	return append(encode(0x70, der), 0x71, 0x01, 0x00, 0xFE, 0x00)
}

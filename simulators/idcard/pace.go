package idcard

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// PACE is one variant of PACE.
type PACE struct {
	Mapping Mapping
	Suite   Suite
	Domain  Domain
}

// Mapping is the way in which PACE maps a nonce to a generator (9303-11 4.4.3.3).
type Mapping byte

// The mappings: Generic, Integrated, Chip Authentication. The last takes the chip
// key on the same domain parameters.
const (
	GM Mapping = iota
	IM
	CAM
)

// oidPACE is id-PACE as DER content, without the last two arcs (9303-11 9.2.3).
var oidPACE = []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04}

// oid is the variant's object identifier as DER content.
func (v PACE) oid() []byte {
	arc := 2*byte(v.Mapping) + 2 // ECDH with GM, IM; CAM is 6
	if v.Domain.overFiniteField() {
		arc--
	}
	return append(bytes.Clone(oidPACE), arc, byte(v.Suite))
}

// check refuses what 9303-11 does not know (tables 2, 3 and 12).
func (v PACE) check(keys []*ChipKey) error {
	if v.Mapping > CAM {
		return fmt.Errorf("mapping %d is not known", v.Mapping)
	}
	if !v.Suite.valid() {
		return fmt.Errorf("suite %d is not known", v.Suite)
	}
	if _, err := v.Domain.agreement(); err != nil {
		return err
	}
	switch {
	case v.Mapping == IM && v.Domain == P224:
		return errors.New("P-224 has no Integrated Mapping")
	case v.Mapping == CAM && (v.Suite == TripleDES || v.Domain.overFiniteField()):
		return errors.New("Chip Authentication Mapping is for AES and elliptic curves")
	case v.Mapping == CAM && v.mappingKey(keys) == nil:
		return fmt.Errorf("Chip Authentication Mapping needs a chip key on domain parameters %d", v.Domain)
	}
	return nil
}

// mappingKey is the static key that Chip Authentication Mapping proves.
func (v PACE) mappingKey(keys []*ChipKey) *ChipKey {
	for _, k := range keys {
		if k.Domain == v.Domain {
			return k
		}
	}
	return nil
}

// paceRun is PACE under way, the chip's end (9303-11 4.4.3).
type paceRun struct {
	variant PACE
	domain  keyAgreement
	key     []byte // K_pi
	step    int    // answers given so far; negative once something came between
	nonce   []byte
	private *big.Int // of the mapping
	mapped  point    // the generator that the nonce and the mapping made

	ours, theirs []byte // public keys of the key agreement
	secret       []byte
}

func (p *paceRun) interrupt() {
	if p != nil {
		p.step = -1
	}
}

// openPACE is MSE:Set AT (9303-11 4.4.4.1).
func (c *Chip) openPACE(list []object) apdu.Status {
	c.pace = nil
	if c.spoilt || c.faults[NeedsDomainObject] && find(list, 0x84) == nil {
		return apdu.WrongData
	}
	run := &paceRun{}
	sw := apdu.WrongData
	for _, v := range c.profile.PACE {
		if !bytes.Equal(v.oid(), find(list, 0x80)) {
			continue
		}
		if wanted := find(list, 0x84); wanted != nil && !bytes.Equal(wanted, []byte{byte(v.Domain)}) {
			sw = apdu.ReferencedDataNotFound
			continue
		}
		run.variant = v
		run.domain, _ = v.Domain.agreement() // New has tried it
		break
	}
	if run.domain == nil {
		return sw
	}
	var password []byte
	switch ref := find(list, 0x83); {
	case bytes.Equal(ref, []byte{1}) && c.mrzKey != nil:
		h := sha1.Sum(c.mrzKey)
		password = h[:]
	case bytes.Equal(ref, []byte{2}) && c.profile.CAN != "":
		password = []byte(c.profile.CAN)
	default:
		return apdu.ReferencedDataNotFound
	}
	run.key = run.variant.Suite.derive(password, forPassword)
	c.pace = run
	return apdu.OK
}

// stepPACE is GENERAL AUTHENTICATE of PACE; every step but the fourth is chained.
func (c *Chip) stepPACE(list []object, chained bool) ([]byte, apdu.Status) {
	run := c.pace
	c.pace = nil // whatever fails, ends the run
	if run.step < 0 {
		return nil, apdu.ConditionsNotSatisfied
	}
	steps := []func(*paceRun, []object) ([]byte, apdu.Status){c.paceNonce, c.paceMap, c.paceAgree, c.paceConfirm}
	c.exchange.Step = []Step{StepPACENonce, StepPACEMap, StepPACEAgree, StepPACEConfirm}[run.step]
	last := run.step == len(steps)-1
	if chained == last {
		return nil, chainEndExpected
	}
	answer, sw := steps[run.step](run, list)
	if sw != apdu.OK {
		return nil, sw
	}
	if !last {
		run.step++
		c.pace = run
	}
	return tlv(0x7C, answer), apdu.OK
}

func (c *Chip) paceNonce(run *paceRun, list []object) ([]byte, apdu.Status) {
	if len(list) != 0 {
		return nil, apdu.WrongData
	}
	suite := run.variant.Suite
	run.nonce = make([]byte, 16)
	if run.variant.Mapping == IM {
		run.nonce = make([]byte, suite.nonceSize())
	}
	if _, err := c.rand.Read(run.nonce); err != nil {
		return nil, apdu.UnknownError
	}
	iv := make([]byte, suite.blockSize())
	return tlv(0x80, suite.encrypt(run.key, iv, run.nonce)), apdu.OK
}

func (c *Chip) paceMap(run *paceRun, list []object) (answer []byte, sw apdu.Status) {
	if len(list) != 1 || list[0].tag != 0x81 {
		return nil, apdu.WrongData
	}
	data := list[0].value
	if run.variant.Mapping == IM {
		answer, sw = c.mapIntegrated(run, data)
	} else {
		answer, sw = c.mapGeneric(run, data)
	}
	if sw == apdu.OK && run.domain.neutral(run.mapped) {
		return nil, authenticationFailed
	}
	return answer, sw
}

// mapGeneric is 9303-11 4.4.3.3.1: G' = s·G + H, for a finite field g' = g^s · h.
func (c *Chip) mapGeneric(run *paceRun, data []byte) ([]byte, apdu.Status) {
	d := run.domain
	theirs, ok := d.decode(data)
	if !ok {
		return nil, apdu.WrongData
	}
	var err error
	if run.private, err = d.scalar(c.rand); err != nil {
		return nil, apdu.UnknownError
	}
	s := new(big.Int).SetBytes(run.nonce)
	run.mapped = d.add(d.mul(s.Mod(s, d.order()), d.base()), d.mul(run.private, theirs))
	public := d.encode(d.mul(run.private, d.base()))
	if c.faults[MirrorPACE] {
		public = data
	}
	return tlv(0x82, public), apdu.OK
}

// mapIntegrated is 9303-11 4.4.3.3.2; its answer is empty (4.4.5.2.2).
func (c *Chip) mapIntegrated(run *paceRun, t []byte) ([]byte, apdu.Status) {
	suite := run.variant.Suite
	if len(t) != suite.keySize() {
		return nil, apdu.WrongData
	}
	run.mapped = run.domain.mapped(suite.pseudoRandom(run.nonce, t, run.domain.modulus()))
	return tlv(0x82), apdu.OK
}

func (c *Chip) paceAgree(run *paceRun, list []object) ([]byte, apdu.Status) {
	d := run.domain
	run.theirs = bytes.Clone(find(list, 0x83))
	theirs, ok := d.decode(run.theirs)
	if !ok || len(list) != 1 {
		return nil, apdu.WrongData
	}
	private, err := d.scalar(c.rand)
	if err != nil {
		return nil, apdu.UnknownError
	}
	run.ours = d.encode(d.mul(private, run.mapped))
	if bytes.Equal(run.ours, run.theirs) { // 9303-11 4.4.1
		return nil, authenticationFailed
	}
	run.secret = d.secret(d.mul(private, theirs))
	if c.faults[MirrorPACE] {
		run.ours = run.theirs
	}
	return tlv(0x84, run.ours), apdu.OK
}

func (c *Chip) paceConfirm(run *paceRun, list []object) ([]byte, apdu.Status) {
	token := find(list, 0x85)
	if len(list) != 1 || len(token) != 8 {
		return nil, apdu.WrongData
	}
	suite := run.variant.Suite
	next := newChannel(suite, run.secret, nil)
	over := func(public []byte) []byte { // 9303-11 4.4.3.4
		return suite.token(next.mac, tlv(0x7F49, tlv(0x06, run.variant.oid()), tlv(run.domain.tag(), public)))
	}
	if subtle.ConstantTimeCompare(token, over(run.ours)) != 1 {
		if c.profile.WrongPassword != 0 {
			return nil, c.profile.WrongPassword
		}
		return nil, authenticationFailed
	}
	c.next = next
	c.next.pace = true
	answer := tlv(0x86, over(run.theirs))
	if run.variant.Mapping == CAM {
		answer = append(answer, tlv(0x8A, c.chipAuthenticationData(run, next))...)
	}
	return answer, apdu.OK
}

// chipAuthenticationData is the encrypted proof of the static key (9303-11 4.4.3.5):
// the mapping's private key divided by it.
func (c *Chip) chipAuthenticationData(run *paceRun, keys *channel) []byte {
	n := run.domain.order()
	proof := new(big.Int).ModInverse(run.variant.mappingKey(c.profile.ChipKeys).Private, n)
	proof.Mul(proof, run.private).Mod(proof, n)
	iv := bytes.Repeat([]byte{0xFF}, keys.suite.blockSize())
	keys.suite.block(keys.enc).Encrypt(iv, iv)
	plain := proof.FillBytes(make([]byte, (n.BitLen()+7)/8))
	return keys.suite.encrypt(keys.enc, iv, pad(plain, keys.suite.blockSize()))
}

package idcard

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"math/big"

	"enrollkiosk/smartcard/apdu"
)

// Status words that only authentication gives.
const (
	authenticationFailed apdu.Status = 0x6300
	chainEndExpected     apdu.Status = 0x6883
	chainNotSupported    apdu.Status = 0x6884
)

// Object identifiers as DER content, without the last arc.
var (
	oidPACE = []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x04, 0x02} // id-PACE-ECDH-GM
	oidCA   = []byte{0x04, 0x00, 0x7F, 0x00, 0x07, 0x02, 0x02, 0x03, 0x02} // id-CA-ECDH
)

// oid is the variant's object identifier as DER content.
func (v PACE) oid() []byte { return append(bytes.Clone(oidPACE), byte(v.Suite)) }

// oid is the object identifier of Chip Authentication with the key, as DER content.
func (k *ChipKey) oid() []byte { return append(bytes.Clone(oidCA), byte(k.Suite)) }

// suiteOf reads the last arc of an identifier under base; ok is false for any other identifier.
func suiteOf(base, oid []byte) (s Suite, ok bool) {
	if len(oid) != len(base)+1 || !bytes.HasPrefix(oid, base) {
		return 0, false
	}
	s = Suite(oid[len(base)])
	return s, s.valid()
}

// manageEnvironment is MSE: it opens PACE (9303-11 4.4.4.1) or Chip Authentication (6.2.4).
func (c *Chip) manageEnvironment(in apdu.Command) apdu.Status {
	list, ok := readTLV(in.Data)
	if !ok || len(list) == 0 {
		return apdu.WrongData
	}
	switch {
	case in.P1 == 0xC1 && in.P2 == 0xA4:
		return c.openPACE(list)
	case in.P1 == 0x41 && in.P2 == 0xA4:
		return c.openAgreement(list)
	case in.P1 == 0x41 && in.P2 == 0xA6:
		return c.agreeByKAT(list)
	}
	return apdu.IncorrectP1P2
}

// generalAuthenticate is one step of PACE or the one step of Chip Authentication.
func (c *Chip) generalAuthenticate(in apdu.Command) ([]byte, apdu.Status) {
	if in.P1 != 0 || in.P2 != 0 {
		return nil, apdu.IncorrectP1P2
	}
	outer, ok := readTLV(in.Data)
	if !ok || len(outer) != 1 || outer[0].tag != 0x7C {
		return nil, apdu.WrongData
	}
	list, ok := readTLV(outer[0].value)
	if !ok {
		return nil, apdu.WrongData
	}
	switch {
	case c.agreement != nil:
		return c.agree(list)
	case c.pace != nil:
		return c.stepPACE(list, in.CLA&0x10 != 0)
	}
	return nil, apdu.ConditionsNotSatisfied
}

// paceRun is PACE under way, the chip's end (9303-11 4.4.3).
type paceRun struct {
	suite  Suite
	oid    []byte
	group  *group
	key    []byte // K_pi
	step   int    // answers given so far; negative once something came between
	nonce  []byte
	mapped point // the generator that the nonce and the mapping made

	ours, theirs []byte // public keys of the key agreement
	secret       []byte
}

func (p *paceRun) interrupt() {
	if p != nil {
		p.step = -1
	}
}

func (c *Chip) openPACE(list []object) apdu.Status {
	c.pace = nil
	suite, ok := suiteOf(oidPACE, find(list, 0x80))
	if !ok {
		return apdu.WrongData
	}
	run := &paceRun{suite: suite, oid: bytes.Clone(find(list, 0x80))}
	wanted := find(list, 0x84)
	for _, v := range c.profile.PACE {
		if v.Suite != suite || wanted != nil && !bytes.Equal(wanted, []byte{byte(v.Domain)}) {
			continue
		}
		run.group, _ = v.Domain.group() // New has tried it
		break
	}
	if run.group == nil {
		return apdu.WrongData
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
	run.key = suite.derive(password, forPassword)
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
	if chained != (run.step < 3) {
		return nil, chainEndExpected
	}
	var answer []byte
	sw := apdu.OK
	switch run.step {
	case 0:
		answer, sw = c.paceNonce(run, list)
	case 1:
		answer, sw = c.paceMap(run, list)
	case 2:
		answer, sw = c.paceAgree(run, list)
	case 3:
		return c.paceConfirm(run, list)
	}
	if sw != apdu.OK {
		return nil, sw
	}
	run.step++
	c.pace = run
	return tlv(0x7C, answer), apdu.OK
}

func (c *Chip) paceNonce(run *paceRun, list []object) ([]byte, apdu.Status) {
	if len(list) != 0 {
		return nil, apdu.WrongData
	}
	run.nonce = make([]byte, 16)
	if _, err := c.rand.Read(run.nonce); err != nil {
		return nil, apdu.UnknownError
	}
	iv := make([]byte, run.suite.blockSize())
	return tlv(0x80, run.suite.encrypt(run.key, iv, run.nonce)), apdu.OK
}

// paceMap is the Generic Mapping (9303-11 4.4.3.3.1): G' = s·G + H.
func (c *Chip) paceMap(run *paceRun, list []object) ([]byte, apdu.Status) {
	g := run.group
	theirs, ok := g.decode(find(list, 0x81))
	if !ok || len(list) != 1 {
		return nil, apdu.WrongData
	}
	private, err := g.scalar(c.rand)
	if err != nil {
		return nil, apdu.UnknownError
	}
	h := g.mul(private, theirs)
	s := new(big.Int).SetBytes(run.nonce)
	run.mapped = g.add(g.mul(s.Mod(s, g.n), g.g), h)
	if run.mapped.x == nil {
		return nil, authenticationFailed
	}
	return tlv(0x82, g.encode(g.mul(private, g.g))), apdu.OK
}

func (c *Chip) paceAgree(run *paceRun, list []object) ([]byte, apdu.Status) {
	g := run.group
	run.theirs = bytes.Clone(find(list, 0x83))
	theirs, ok := g.decode(run.theirs)
	if !ok || len(list) != 1 {
		return nil, apdu.WrongData
	}
	private, err := g.scalar(c.rand)
	if err != nil {
		return nil, apdu.UnknownError
	}
	run.ours = g.encode(g.mul(private, run.mapped))
	if bytes.Equal(run.ours, run.theirs) { // 9303-11 4.4.3.4
		return nil, authenticationFailed
	}
	run.secret = g.field(g.mul(private, theirs).x)
	return tlv(0x84, run.ours), apdu.OK
}

func (c *Chip) paceConfirm(run *paceRun, list []object) ([]byte, apdu.Status) {
	token := find(list, 0x85)
	if len(list) != 1 || len(token) != 8 {
		return nil, apdu.WrongData
	}
	next := newChannel(run.suite, run.secret, nil)
	over := func(public []byte) []byte {
		return run.suite.token(next.mac, tlv(0x7F49, tlv(0x06, run.oid), tlv(0x86, public)))
	}
	if subtle.ConstantTimeCompare(token, over(run.ours)) != 1 {
		return nil, authenticationFailed
	}
	c.next = next
	return tlv(0x7C, tlv(0x86, over(run.theirs))), apdu.OK
}

// bacChallenge is GET CHALLENGE (9303-11 4.3.4.1).
func (c *Chip) bacChallenge(in apdu.Command) ([]byte, apdu.Status) {
	switch {
	case !c.profile.BAC || c.mrzKey == nil || !c.inside || c.channel != nil:
		return nil, apdu.ConditionsNotSatisfied
	case in.P1 != 0 || in.P2 != 0:
		return nil, apdu.IncorrectP1P2
	case in.Le != 8 && in.Le != apdu.MaxShortLe || len(in.Data) != 0:
		return nil, apdu.WrongLength
	}
	c.challenge = make([]byte, 8)
	if _, err := c.rand.Read(c.challenge); err != nil {
		return nil, apdu.UnknownError
	}
	return c.challenge, apdu.OK
}

// bacAuthenticate is EXTERNAL AUTHENTICATE (9303-11 4.3.4.2).
func (c *Chip) bacAuthenticate(in apdu.Command, challenge []byte) ([]byte, apdu.Status) {
	if challenge == nil {
		return nil, apdu.ConditionsNotSatisfied
	}
	if in.P1 != 0 || in.P2 != 0 {
		return nil, apdu.IncorrectP1P2
	}
	if len(in.Data) != 40 {
		return nil, apdu.WrongLength
	}
	const suite = TripleDES
	hash := sha1.Sum(c.mrzKey)
	enc, mac := suite.derive(hash[:16], forEncryption), suite.derive(hash[:16], forMAC)
	sealed, tag := in.Data[:32], in.Data[32:]
	if subtle.ConstantTimeCompare(tag, suite.mac(mac, pad(sealed, 8))) != 1 {
		return nil, authenticationFailed
	}
	s := suite.decrypt(enc, make([]byte, 8), sealed)
	theirs, ours, theirKey := s[:8], s[8:16], s[16:]
	if !bytes.Equal(ours, challenge) {
		return nil, authenticationFailed
	}
	ourKey := make([]byte, 16)
	if _, err := c.rand.Read(ourKey); err != nil {
		return nil, apdu.UnknownError
	}
	answer := suite.encrypt(enc, make([]byte, 8), bytes.Join([][]byte{ours, theirs, ourKey}, nil))
	seed := make([]byte, 16)
	subtle.XORBytes(seed, theirKey, ourKey)
	c.next = newChannel(suite, seed, append(bytes.Clone(ours[4:]), theirs[4:]...))
	return append(answer, suite.mac(mac, pad(answer, 8))...), apdu.OK
}

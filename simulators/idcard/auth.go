package idcard

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"

	"enrollkiosk/smartcard/apdu"
)

// Status words that only chips give.
const (
	moreData             apdu.Status = 0x6100
	lengthLeft           apdu.Status = 0x6C00
	authenticationFailed apdu.Status = 0x6300
	chainEndExpected     apdu.Status = 0x6883
	chainNotSupported    apdu.Status = 0x6884
)

// manageEnvironment is MSE: it opens PACE (9303-11 4.4.4.1) or Chip Authentication (6.2.4).
func (c *Chip) manageEnvironment(in apdu.Command) apdu.Status {
	if c.refusesLe(in) {
		return apdu.WrongLength
	}
	list, ok := readTLV(in.Data)
	if !ok || len(list) == 0 {
		return apdu.WrongData
	}
	switch {
	case in.P1 == 0xC1 && in.P2 == 0xA4:
		c.exchange.Step = StepPACESet
		return c.openPACE(list)
	case in.P1 == 0x41 && in.P2 == 0xA4:
		return c.openAgreement(list)
	case in.P1 == 0x41 && in.P2 == 0xA6:
		return c.agreeByKAT(list)
	}
	return apdu.IncorrectP1P2
}

// refusesLe plays RefusesLeInMSE.
func (c *Chip) refusesLe(in apdu.Command) bool {
	if c.faults[RefusesLeInMSE] && in.Le != 0 {
		c.spoilt = true
		return true
	}
	return false
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

// bacChallenge is GET CHALLENGE (9303-11 4.3.4.1).
func (c *Chip) bacChallenge(in apdu.Command) ([]byte, apdu.Status) {
	c.exchange.Step = StepChallenge
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
	c.exchange.Step = StepMutual
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

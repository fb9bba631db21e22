package idcard

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"enrollkiosk/smartcard/apdu"
)

// Profile is everything that a chip is made of.
type Profile struct {
	// Master has the files of the master file by identifier: EF.CardAccess 011C,
	// EF.CardSecurity 011D, EF.DIR 2F00, EF.ATR/INFO 2F01. New writes the last from
	// the limits below unless it is here; a nil file is none.
	Master      map[uint16][]byte
	Application map[uint16][]byte // files of the eMRTD application: EF.COM 011E, EF.DG1 0101 ... EF.SOD 011D

	CAN string // printed on the card: password of PACE; "" if there is none
	MRZ string // the machine readable zone, one line after the other; "" if there is none

	PACE []PACE // taken in this order; none: no PACE
	BAC  bool
	Open bool // no access control: the application can be read without a session

	WrongPassword apdu.Status // answer of PACE to a wrong password: 63Cx on some cards; 0: 6300

	ChipKeys  []*ChipKey // none: no Chip Authentication
	ActiveKey *ActiveKey // nil: no Active Authentication

	// Longest extended command and answer in bytes, all included; EF.ATR/INFO says
	// them. Zero is 1024 and 32,767.
	MaxCommand, MaxAnswer int
	GetResponse           bool // what a short answer cannot hold is kept for GET RESPONSE, 61xx says so; else such a command fails

	Faults []Fault
	Edit   func(*Exchange) // sees and changes every answer: before secure messaging and after it; must not call the chip
}

// Chip is a virtual eMRTD. Its methods may be called from several goroutines; a
// command that hangs holds up no Reset.
type Chip struct {
	profile Profile
	mrzKey  []byte // MRZ information of 9303-11 4.3.2: number, birth and expiry with check digits
	faults  map[Fault]bool
	rand    io.Reader

	mu sync.Mutex
	session
}

// session is what a chip forgets when power goes.
type session struct {
	inside    bool   // the eMRTD application is selected, else the master file
	current   uint16 // the selected file, 0 if none
	challenge []byte // RND.IC of BAC, once
	pace      *paceRun
	agreement *ChipKey // Chip Authentication chosen by MSE:Set AT
	channel   *channel // nil: no secure messaging; access control has passed exactly when there is one
	next      *channel // takes the place of channel once the present answer is out
	reads     int
	rest      []byte // of an answer, for GET RESPONSE; its status ends it
	spoilt    bool   // the fault RefusesLeInMSE has struck
	dead      bool   // the fault ExtendedLost has struck

	exchange Exchange // the present one
}

// New makes a chip. It refuses a profile whose MRZ it cannot read or whose protocols it cannot do.
func New(p Profile) (*Chip, error) {
	c := &Chip{faults: map[Fault]bool{}, rand: rand.Reader}
	p.Master, p.Application = maps.Clone(p.Master), maps.Clone(p.Application)
	p.PACE, p.Faults, p.ChipKeys = slices.Clone(p.PACE), slices.Clone(p.Faults), slices.Clone(p.ChipKeys)
	for _, f := range p.Faults {
		c.faults[f] = true
	}
	for _, k := range p.ChipKeys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("idcard: %w", err)
		}
	}
	for _, v := range p.PACE {
		if err := v.check(p.ChipKeys); err != nil {
			return nil, fmt.Errorf("idcard: %w", err)
		}
	}
	if err := p.ActiveKey.check(); err != nil {
		return nil, fmt.Errorf("idcard: Active Authentication: %w", err)
	}
	if c.faults[EndlessFile] && len(p.Application[dg2]) == 0 {
		return nil, errors.New("idcard: an endless EF.DG2 needs an EF.DG2")
	}
	if p.MaxCommand == 0 {
		p.MaxCommand = 0x0400
	}
	if p.MaxAnswer == 0 {
		p.MaxAnswer = 0x7FFF
	}
	if _, ok := p.Master[efATR]; !ok && p.Master != nil {
		p.Master[efATR] = atrInfo(p.MaxCommand, p.MaxAnswer, c.faults[ShortOnly])
	}
	if p.MRZ != "" {
		var err error
		if c.mrzKey, err = mrzInformation(p.MRZ); err != nil {
			return nil, fmt.Errorf("idcard: read MRZ: %w", err)
		}
	}
	c.profile = p
	return c, nil
}

// CAN is the card access number printed on the card, "" if there is none.
func (c *Chip) CAN() string { return c.profile.CAN }

// MRZ is the machine readable zone, its lines one after the other.
func (c *Chip) MRZ() string { return c.profile.MRZ }

// File is the content of a file of the application, nil if there is none: what a
// terminal that may read it will read.
func (c *Chip) File(id uint16) []byte { return bytes.Clone(c.profile.Application[id]) }

// ATR is what a contactless reader makes of the chip's historical bytes (PC/SC
// Part 3 3.1.3.2.3), ISO/IEC 7816-4 12.1.1: it offers T=1.
func (c *Chip) ATR() []byte {
	capabilities := byte(0xC0) // command chaining, extended length
	switch {
	case c.faults[ShortOnly]:
		capabilities = 0x80
	case c.profile.Master[efATR] != nil:
		capabilities |= 0x20 // its limits are there
	}
	historical := []byte{
		0x80,       // compact-TLV objects follow
		0x31, 0xB8, // card service data: select by full name, EF.DIR and EF.ATR/INFO readable, a master file
		0x73, 0x94, 0x01, capabilities, // select by name, file id and short file id; data units of one byte
		0x82, 0x90, 0x00, // status
	}
	atr := append([]byte{0x3B, 0x80 | byte(len(historical)), 0x80, 0x01}, historical...)
	var check byte
	for _, b := range atr[1:] {
		check ^= b
	}
	return append(atr, check)
}

// Reset powers the chip off and on.
func (c *Chip) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = session{}
}

// ErrSwallowed is what Direct answers under the fault ExtendedLost.
var ErrSwallowed = errors.New("idcard: the reader swallowed the command")

// Direct is the chip as a card in the terminal's hand, with no reader between.
// Transmit fails with ctx's error once ctx has ended.
func (c *Chip) Direct() apdu.Card { return direct{c} }

type direct struct{ chip *Chip }

func (d direct) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer := d.chip.Transmit(ctx, command)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, ErrSwallowed
	}
	return answer, nil
}

// Transmit answers one command APDU. It blocks only under the fault Hang, until
// ctx ends, and answers nil only under ExtendedLost.
func (c *Chip) Transmit(ctx context.Context, command []byte) []byte {
	answer, hang := c.transmit(command)
	if hang {
		<-ctx.Done()
	}
	return answer
}

func (c *Chip) transmit(command []byte) (answer []byte, hang bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in, err := apdu.ParseCommand(command)
	if c.faults[ExtendedLost] && (in.Extended || c.dead) {
		c.dead = true
		return nil, false
	}
	c.exchange = Exchange{Command: in}
	var out apdu.Response
	switch {
	case err != nil || in.Extended && (c.faults[ShortOnly] || len(command) > c.profile.MaxCommand):
		c.lose()
		out.Status = apdu.WrongLength
	case in.CLA&^0x1C != 0:
		c.lose()
		out.Status = apdu.ClassNotSupported
	case c.rest != nil && in.INS == 0xC0 && in.CLA&0x0C == 0:
		return c.edit(true, c.getResponse(in)).Bytes(), false
	case in.CLA&0x0C == 0:
		if c.channel != nil {
			c.lose() // a plain command ends secure messaging (9303-11 9.8.3)
		}
		out.Data, out.Status = c.execute(in, min(c.limit(in), in.Le))
		out = c.edit(false, out)
		c.switchChannel()
	case in.CLA&0x0C != 0x0C || c.channel == nil:
		c.lose()
		out.Status = apdu.SMNotSupported
	default:
		out, hang = c.protected(in)
	}
	if out, err = c.fit(in, out); err != nil {
		c.lose()
		c.pace = nil
		out = apdu.Response{Status: apdu.WrongLength}
	}
	return c.edit(true, out).Bytes(), hang
}

// protected runs one command under secure messaging.
func (c *Chip) protected(in apdu.Command) (out apdu.Response, hang bool) {
	inner, sw := c.channel.open(in)
	c.exchange.Command = inner
	if sw != apdu.OK {
		c.lose()
		return apdu.Response{Status: sw}, false
	}
	reading := inner.INS == 0xB0 || inner.INS == 0xB1
	if reading {
		c.reads++
		switch {
		case c.faults[Hang]:
			return apdu.Response{Status: apdu.UnknownError}, true
		case c.faults[DropSM] && c.reads == 8:
			c.lose()
			return apdu.Response{Status: apdu.SMObjectsIncorrect}, false
		case c.faults[Le256Refused] && inner.Le == apdu.MaxShortLe:
			c.lose()
			return apdu.Response{Status: apdu.WrongOffset}, false
		}
	}
	room := c.channel.room(c.limit(in))
	if c.faults[MoreThanAsked] && inner.Le == apdu.MaxShortLe {
		room = inner.Le
	}
	out.Data, out.Status = c.execute(inner, min(room, inner.Le))
	out = c.edit(false, out)
	if c.faults[PlainErrors] && out.Status >= 0x6400 && out.Status != apdu.OK {
		c.lose()
		return apdu.Response{Status: out.Status}, false
	}
	out.Data = c.channel.seal(inner.INS, out.Data, out.Status)
	if reading && c.faults[WrongMAC] {
		out.Data[len(out.Data)-1] ^= 1
	}
	c.switchChannel()
	return out, false
}

// limit is the number of bytes that the answer to a command may have, status left out.
func (c *Chip) limit(in apdu.Command) int {
	if in.Extended || c.profile.GetResponse {
		return c.profile.MaxAnswer - 2
	}
	return apdu.MaxShortLe
}

var errFit = errors.New("an answer longer than its command allows")

// fit keeps what a short answer cannot hold for GET RESPONSE (ISO/IEC 7816-4 5.3.4).
func (c *Chip) fit(in apdu.Command, out apdu.Response) (apdu.Response, error) {
	c.rest = nil
	switch {
	case in.Extended && len(out.Data) <= c.profile.MaxAnswer-2, len(out.Data) <= apdu.MaxShortLe, c.faults[MoreThanAsked]:
		return out, nil
	case !in.Extended && c.profile.GetResponse:
		c.rest = out.Bytes()
		return c.getResponse(apdu.Command{Le: apdu.MaxShortLe}), nil
	}
	return out, errFit
}

func (c *Chip) getResponse(in apdu.Command) apdu.Response {
	if in.INS != 0 {
		c.exchange.Step = StepGetResponse
	}
	n := min(in.Le, len(c.rest)-2)
	out := apdu.Response{Data: c.rest[:n], Status: apdu.Status(c.rest[len(c.rest)-2])<<8 | apdu.Status(c.rest[len(c.rest)-1])}
	if c.rest = c.rest[n:]; len(c.rest) > 2 {
		out.Status = moreData | apdu.Status(min(len(c.rest)-2, apdu.MaxShortLe)&0xFF)
		return out
	}
	c.rest = nil
	return out
}

// lose forgets the session keys, and with them the access that they gave.
func (c *Chip) lose() {
	c.channel, c.next, c.agreement, c.reads = nil, nil, nil, 0
	if c.inside {
		c.current = 0
	}
}

func (c *Chip) switchChannel() {
	if c.next != nil {
		c.channel, c.next = c.next, nil
	}
}

// mayRead tells whether access control has passed.
func (c *Chip) mayRead() bool { return c.channel != nil || c.profile.Open }

// execute runs one command with secure messaging taken off; room is the number
// of bytes that its answer may carry.
func (c *Chip) execute(in apdu.Command, room int) ([]byte, apdu.Status) {
	if in.INS != 0x86 {
		c.pace.interrupt()
	}
	if in.CLA&0x10 != 0 && in.INS != 0x86 {
		return nil, chainNotSupported
	}
	challenge := c.challenge
	c.challenge = nil
	switch in.INS {
	case 0xA4:
		return c.selectFile(in)
	case 0xB0:
		return c.readBinary(in, room)
	case 0xB1:
		return c.readBinaryOdd(in, room)
	case 0x84:
		return c.bacChallenge(in)
	case 0x82:
		return c.bacAuthenticate(in, challenge)
	case 0x22:
		return nil, c.manageEnvironment(in)
	case 0x86:
		return c.generalAuthenticate(in)
	case 0x88:
		return c.activeAuthenticate(in)
	}
	return nil, apdu.InstructionNotSupported
}

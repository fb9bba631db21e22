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

	PACE []PACE // offered in this order; none: no PACE
	BAC  bool

	ChipKeys  []*ChipKey // none: no Chip Authentication
	ActiveKey *ActiveKey // nil: no Active Authentication

	// Longest extended command and answer in bytes, all included; EF.ATR/INFO says
	// them. Zero is 1024 and 32,767.
	MaxCommand, MaxAnswer int

	Faults []Fault
}

// PACE is one variant of PACE.
type PACE struct {
	Mapping Mapping
	Suite   Suite
	Domain  Domain
}

// Mapping is the way in which PACE maps a nonce to a generator (9303-11 4.4.3.3).
type Mapping byte

// The mappings: Generic, Integrated, Chip Authentication.
const (
	GM Mapping = iota
	IM
	CAM
)

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
	agreement *agreement // Chip Authentication chosen by MSE:Set AT
	channel   *channel   // nil: no secure messaging; access control has passed exactly when there is one
	next      *channel   // takes the place of channel once the present answer is out
	reads     int
}

// New makes a chip. It refuses a profile whose MRZ it cannot read or whose PACE it cannot do.
func New(p Profile) (*Chip, error) {
	c := &Chip{faults: map[Fault]bool{}, rand: rand.Reader}
	p.Master, p.Application = maps.Clone(p.Master), maps.Clone(p.Application)
	p.PACE, p.Faults = slices.Clone(p.PACE), slices.Clone(p.Faults)
	for _, f := range p.Faults {
		c.faults[f] = true
	}
	for _, v := range p.PACE {
		if !v.Suite.valid() {
			return nil, fmt.Errorf("idcard: suite %d is not known", v.Suite)
		}
		if _, err := v.Domain.group(); err != nil {
			return nil, fmt.Errorf("idcard: %w", err)
		}
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
	capabilities := byte(0xE0) // command chaining, extended length, limits in EF.ATR/INFO
	if c.faults[ShortOnly] {
		capabilities = 0x80
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

// Direct is the chip as a card in the terminal's hand, with no reader between.
// Transmit fails with ctx's error once ctx has ended.
func (c *Chip) Direct() apdu.Card { return direct{c} }

type direct struct{ chip *Chip }

func (d direct) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer := d.chip.Transmit(ctx, command)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return answer, nil
}

// Transmit answers one command APDU. It blocks only under the fault Hang, until ctx ends.
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
	if err != nil || in.Extended && (c.faults[ShortOnly] || len(command) > c.profile.MaxCommand) {
		c.lose()
		return status(apdu.WrongLength), false
	}
	if in.CLA&^0x1C != 0 {
		c.lose()
		return status(apdu.ClassNotSupported), false
	}
	limit := apdu.MaxShortLe
	if in.Extended {
		limit = c.profile.MaxAnswer - 2
	}
	if in.CLA&0x0C == 0 {
		c.lose() // a plain command ends secure messaging (9303-11 9.8.3)
		data, sw := c.execute(in, min(limit, in.Le))
		c.switchChannel()
		return apdu.Response{Data: data, Status: sw}.Bytes(), false
	}
	if in.CLA&0x0C != 0x0C || c.channel == nil {
		c.lose()
		return status(apdu.SMNotSupported), false
	}
	inner, sw := c.channel.open(in)
	if sw != apdu.OK {
		c.lose()
		return status(sw), false
	}
	reading := inner.INS == 0xB0 || inner.INS == 0xB1
	if reading {
		c.reads++
		if c.faults[Hang] {
			return status(apdu.UnknownError), true
		}
		if c.faults[DropSM] && c.reads == 8 {
			c.lose()
			return status(apdu.SMObjectsIncorrect), false
		}
	}
	data, sw := c.execute(inner, min(c.channel.room(limit), inner.Le))
	sealed := c.channel.seal(inner.INS, data, sw)
	if reading && c.faults[WrongMAC] {
		sealed[len(sealed)-1] ^= 1
	}
	c.switchChannel()
	return apdu.Response{Data: sealed, Status: sw}.Bytes(), false
}

func status(sw apdu.Status) []byte { return apdu.Response{Status: sw}.Bytes() }

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
		return c.activeAuthenticate(in, room)
	}
	return nil, apdu.InstructionNotSupported
}

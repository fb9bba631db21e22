package beid

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"enrollkiosk/smartcard/apdu"
)

// Files by directory (0: master file) and identifier.
const (
	identityFile          uint32 = 0xDF014031
	identitySignatureFile uint32 = 0xDF014032
	addressFile           uint32 = 0xDF014033
	addressSignatureFile  uint32 = 0xDF014034
	photoFile             uint32 = 0xDF014035
	basicKeyFile          uint32 = 0xDF014040
	rootFile              uint32 = 0xDF00503B
	registerFile          uint32 = 0xDF00503C
	tokenInfoFile         uint32 = 0xDF005032
)

// pkcs15 is the PKCS #15 directory of Belgian cards, as the test cards of
// Fedict's eid-test-cards have it. EF 5032 (TokenInfo) is made for each card.
var pkcs15 = map[uint32]string{
	0x00002F00: "61234F0CA000000177504B43532D3135500642454C50494351043F00DF0073050603603802",
	0xDF005031: "A00A300804063F00DF005035A40A300804063F00DF005037A80A300804063F00DF005034",
	0xDF005034: "3033300F0C0942617369632050494E030206C03003040101A11B30190302020C0A01000201040201088001010401FF300404023F00",
	0xDF005035: "303A30170C0E41757468656E7469636174696F6E030206C0040101300F04010203020520030203B802020082A10E300C300604043F00DF0002020400" +
		"303930150C095369676E6174757265030206C004010102010130100401030303060040030203B802020083A10E300C300604043F00DF0002020400",
	0xDF005037: "3025300D0C04526F6F74030206C004010130060401060101FFA10C300A300804063F00DF00503B",
}

// Options say what card is made. The zero value is the specimen's card in order.
type Options struct {
	Person Person // zero: Specimen
	Faults []Fault
}

// Card is a virtual Belgian identity card. Its methods may be called from
// several goroutines; a command that hangs holds up no Reset.
type Card struct {
	generation Generation
	serial     [16]byte
	files      map[uint32][]byte
	faults     map[Fault]bool
	basic      *ecdsa.PrivateKey // nil before applet 1.8

	mu sync.Mutex
	session
}

// session is what a card forgets when power goes.
type session struct {
	directory uint32 // upper half of a file's key, 0: master file
	current   uint32 // selected file, 0 if none
	pending   []byte // for GET RESPONSE
}

// Personalise makes a card.
func (i *Issuer) Personalise(o Options) (*Card, error) {
	p := o.Person
	if p.CardNumber == "" {
		p = Specimen()
	}
	c := &Card{generation: i.generation, serial: p.ChipNumber, faults: map[Fault]bool{}}
	for _, f := range o.Faults {
		c.faults[f] = true
	}
	if c.faults[Expired] {
		yesterday := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
		p.ValidFrom, p.ValidUntil = yesterday.AddDate(-2, 0, 0), yesterday
	}
	issuer, signer := i, i.register
	if c.faults[SelfMadeSigner] {
		var err error
		if issuer, err = NewIssuer(i.generation); err != nil {
			return nil, err
		}
		signer = issuer.register
	}
	if c.faults[CitizenSigner] {
		signer = i.citizen
	}
	var err error
	if c.files, err = issuer.files(p, signer); err != nil {
		return nil, fmt.Errorf("beid: %w", err)
	}
	if i.generation == Applet18 {
		c.basic = issuer.basic
	}
	for id, content := range pkcs15 {
		if c.files[id], err = hex.DecodeString(content); err != nil {
			return nil, fmt.Errorf("beid: directory: %w", err)
		}
	}
	c.files[tokenInfoFile] = append(append([]byte{0x30, 0x27, 0x02, 0x01, 0x00, 0x04, 0x10}, c.serial[:]...),
		append([]byte("\x80\x06BELPIC"), 0x03, 0x02, 0x04, 0x30, 0x9E, 0x04, 0x03, 0x02, 0x00, 0x00)...)
	return c, c.spoil(i, p)
}

// spoil alters the files as the faults say.
func (c *Card) spoil(i *Issuer, p Person) error {
	other, err := i.files(OtherSpecimen(), i.register)
	if err != nil {
		return fmt.Errorf("beid: another citizen: %w", err)
	}
	if c.faults[AlteredIdentity] && p.FirstNames != "" {
		flip(c.files[identityFile], bytes.Index(c.files[identityFile], []byte(p.FirstNames)))
	}
	if c.faults[AlteredAddress] {
		flip(c.files[addressFile], 3)
	}
	if c.faults[AlteredPhoto] {
		flip(c.files[photoFile], len(c.files[photoFile])/2)
	}
	if c.faults[SwappedSignature] {
		c.files[identitySignatureFile], c.files[addressSignatureFile] = c.files[addressSignatureFile], c.files[identitySignatureFile]
	}
	if c.faults[ForeignAddress] {
		c.files[addressFile], c.files[addressSignatureFile] = other[addressFile], other[addressSignatureFile]
	}
	if c.faults[ForeignPhoto] {
		c.files[photoFile] = other[photoFile]
	}
	if c.faults[TruncatedFile] {
		c.files[identityFile] = c.files[identityFile][:len(c.files[identityFile])/2]
	}
	if c.faults[Clone] && c.basic != nil {
		if c.basic, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
			return fmt.Errorf("beid: make another basic key: %w", err)
		}
	}
	return nil
}

func flip(b []byte, at int) { b[at] ^= 1 }

// File is the content of a file by the last two identifiers of its path, nil if
// there is none.
func (c *Card) File(directory, id uint16) []byte {
	return bytes.Clone(c.files[uint32(directory)<<16|uint32(id)])
}

// ATR is the answer to reset of the applet's generation.
func (c *Card) ATR() []byte {
	switch {
	case c.faults[NotBelgian]:
		return []byte{0x3B, 0x00}
	case c.generation == Applet18:
		return []byte{0x3B, 0x7F, 0x96, 0x00, 0x00, 0x80, 0x31, 0x80, 0x65, 0xB0, 0x85, 0x04, 0x01, 0x20, 0x12, 0x0F, 0xFF, 0x82, 0x90, 0x00}
	}
	return []byte{0x3B, 0x98, 0x13, 0x40, 0x0A, 0xA5, 0x03, 0x01, 0x01, 0x01, 0xAD, 0x13, 0x11}
}

// Reset powers the card off and on.
func (c *Card) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = session{}
}

// Direct is the card in the terminal's hand, with no reader between. Transmit
// fails with ctx's error once ctx has ended.
func (c *Card) Direct() apdu.Card { return direct{c} }

type direct struct{ card *Card }

func (d direct) Transmit(ctx context.Context, command []byte) ([]byte, error) {
	answer := d.card.Transmit(ctx, command)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return answer, nil
}

// Transmit answers one command APDU. It blocks only under the fault Hang, until ctx ends.
func (c *Card) Transmit(ctx context.Context, command []byte) []byte {
	in, err := apdu.ParseCommand(command)
	if err == nil && c.faults[Hang] && in.INS == 0xB0 {
		<-ctx.Done()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || in.Extended {
		return apdu.Response{Status: apdu.WrongLength}.Bytes()
	}
	data, status := c.execute(in)
	return apdu.Response{Data: data, Status: status}.Bytes()
}

func (c *Card) execute(in apdu.Command) ([]byte, apdu.Status) {
	pending := c.pending
	c.pending = nil
	switch {
	case in.CLA == 0x80 && in.INS == 0xE4:
		return exactly(c.cardData(), in.Le)
	case in.CLA != 0:
		return nil, apdu.ClassNotSupported
	case in.INS == 0xA4:
		return nil, c.selectFile(in)
	case in.INS == 0xB0:
		return c.readBinary(in)
	case in.INS == 0xC0 && pending != nil:
		data, status := exactly(pending, in.Le)
		if status != apdu.OK {
			c.pending = pending
		}
		return data, status
	case in.INS == 0xC0:
		return nil, apdu.ConditionsNotSatisfied
	case in.INS == 0x88 && c.basic != nil:
		return nil, c.internalAuthenticate(in)
	}
	return nil, apdu.InstructionNotSupported
}

// exactly gives b to whom asks for its length, and tells it to whom does not.
func exactly(b []byte, le int) ([]byte, apdu.Status) {
	if le != len(b) {
		return nil, 0x6C00 | apdu.Status(len(b)&0xFF)
	}
	return b, apdu.OK
}

// cardData is the answer to GET CARD DATA: serial number, component, operating
// system and soft mask with their versions, applet version, global version,
// interface version, PKCS #1 support, key exchange version, life cycle.
func (c *Card) cardData() []byte {
	version := map[Generation]byte{Applet11: 0x11, Applet17: 0x17, Applet18: 0x18}[c.generation]
	return append(c.serial[:len(c.serial):len(c.serial)], 0xA5, 0x03, 0x01, 0x01, 0x01, version, 0x00, 0x02, 0x01, 0x21, 0x02, 0x0F)
}

var names = [][]byte{
	[]byte("\xA0\x00\x00\x01\x77PKCS-15"),
	{0xA0, 0x00, 0x00, 0x00, 0x30, 0x29, 0x05, 0x70, 0x00, 0xAD, 0x13, 0x10, 0x01, 0x01, 0xFF}, // the applet itself
}

func (c *Card) selectFile(in apdu.Command) apdu.Status {
	if c.faults[NotBelgian] {
		return apdu.FileNotFound
	}
	switch {
	case in.P1 == 0x04:
		for _, name := range names {
			if bytes.Equal(name, in.Data) {
				c.session = session{}
				return apdu.OK
			}
		}
		return apdu.FileNotFound
	case in.P1 != 0x02 && in.P1 != 0x08 && in.P1 != 0x00, in.P2 != 0x0C && in.P2 != 0x00:
		return apdu.IncorrectP1P2
	case len(in.Data) == 0 || len(in.Data)%2 != 0 || in.P1 == 0x02 && len(in.Data) != 2:
		return apdu.LcInconsistent
	}
	directory, current := c.directory, uint32(0)
	for path := in.Data; len(path) > 0; path = path[2:] {
		id := uint32(path[0])<<8 | uint32(path[1])
		_, exists := c.files[directory|id]
		switch {
		case current != 0: // a file has nothing below it
			return apdu.FileNotFound
		case id == 0x3F00:
			directory = 0
		case id == 0xDF00, id == 0xDF01:
			directory = id << 16
		case exists:
			current = directory | id
		default:
			return apdu.FileNotFound
		}
	}
	c.directory, c.current = directory, current
	return apdu.OK
}

func (c *Card) readBinary(in apdu.Command) ([]byte, apdu.Status) {
	file, ok := c.files[c.current]
	offset := int(in.P1)<<8 | int(in.P2)
	switch {
	case !ok:
		return nil, apdu.CommandNotAllowed
	case in.P1&0x80 != 0 || in.Le == 0:
		return nil, apdu.IncorrectP1P2
	case c.faults[EndlessFile] && c.current == photoFile:
		return bytes.Repeat([]byte{0xFF}, in.Le), apdu.OK
	case offset >= len(file):
		return nil, apdu.WrongOffset
	case c.faults[OneByte]:
		return file[offset : offset+1], apdu.OK
	case in.Le > len(file)-offset:
		return nil, 0x6C00 | apdu.Status(len(file)-offset)
	}
	return file[offset : offset+in.Le], apdu.OK
}

// internalAuthenticate signs a SHA-384 digest with the basic key, which asks
// for no PIN: P1 02 is ECDSA with SHA-384, P2 81 the key.
func (c *Card) internalAuthenticate(in apdu.Command) apdu.Status {
	switch {
	case in.P1 != 0x02 || in.P2 != 0x81:
		return apdu.IncorrectP1P2
	case len(in.Data) != 50 || in.Data[0] != 0x94 || in.Data[1] != 48:
		return apdu.WrongData
	case c.faults[Exhausted]:
		return apdu.SecurityNotSatisfied
	}
	r, s, err := ecdsa.Sign(rand.Reader, c.basic, in.Data[2:])
	if err != nil {
		return apdu.UnknownError
	}
	c.pending = make([]byte, 96)
	r.FillBytes(c.pending[:48])
	s.FillBytes(c.pending[48:])
	return 0x6100 | apdu.Status(len(c.pending))
}

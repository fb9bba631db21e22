// Package apdu encodes ISO/IEC 7816-4 command APDUs and decodes responses.
//
// It is the boundary between cards and everything else: a [Card] is one method
// on bytes. It does no I/O, no chaining and no secure messaging.
package apdu

import (
	"context"
	"errors"
	"fmt"
)

// Card exchanges one APDU with a card.
//
// Transmit sends one encoded command and returns the raw response (data and
// two status bytes). It waits no longer than ctx allows. An error means that
// the exchange itself failed; a status other than 9000 is no error here. After
// an error the card's state is unknown. A Card is not safe for concurrent use.
type Card interface {
	Transmit(ctx context.Context, command []byte) (response []byte, err error)
}

// Limits of ISO/IEC 7816-4 5.1.
const (
	MaxShortLc    = 255
	MaxShortLe    = 256
	MaxExtendedLc = 65535
	MaxExtendedLe = 65536
)

// Errors of encoding and parsing.
var (
	ErrLength    = errors.New("apdu: length field out of range")
	ErrMalformed = errors.New("apdu: malformed")
)

// Command is a command APDU. Le is the number of bytes expected, 0 when the
// field is absent; 256 (short) and 65536 (extended) are encoded as zeros.
type Command struct {
	CLA, INS, P1, P2 byte
	Data             []byte
	Le               int
	Extended         bool // force extended length fields; implied when a length needs them
}

// Bytes encodes the command (ISO/IEC 7816-4 5.1, cases 1 to 4).
func (c Command) Bytes() ([]byte, error) {
	if len(c.Data) > MaxExtendedLc || c.Le < 0 || c.Le > MaxExtendedLe {
		return nil, ErrLength
	}
	extended := c.Extended || len(c.Data) > MaxShortLc || c.Le > MaxShortLe
	b := make([]byte, 0, 4+3+len(c.Data)+3)
	b = append(b, c.CLA, c.INS, c.P1, c.P2)
	if n := len(c.Data); n > 0 {
		if extended {
			b = append(b, 0, byte(n>>8), byte(n))
		} else {
			b = append(b, byte(n))
		}
		b = append(b, c.Data...)
	}
	switch {
	case c.Le == 0:
	case !extended:
		b = append(b, byte(c.Le))
	case len(c.Data) == 0:
		b = append(b, 0, byte(c.Le>>8), byte(c.Le))
	default:
		b = append(b, byte(c.Le>>8), byte(c.Le))
	}
	return b, nil
}

// ParseCommand decodes an encoded command strictly: no missing and no trailing byte.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, ErrMalformed
	}
	c := Command{CLA: b[0], INS: b[1], P1: b[2], P2: b[3]}
	b = b[4:]
	switch {
	case len(b) == 0: // case 1
		return c, nil
	case len(b) == 1: // case 2 short
		c.Le = int(b[0])
		if c.Le == 0 {
			c.Le = MaxShortLe
		}
		return c, nil
	case b[0] != 0: // case 3 or 4 short
		n := int(b[0])
		b = b[1:]
		if len(b) < n || len(b) > n+1 {
			return Command{}, ErrMalformed
		}
		c.Data = append([]byte(nil), b[:n]...)
		if len(b) == n+1 {
			c.Le = int(b[n])
			if c.Le == 0 {
				c.Le = MaxShortLe
			}
		}
		return c, nil
	case len(b) < 3:
		return Command{}, ErrMalformed
	}
	c.Extended = true
	n := int(b[1])<<8 | int(b[2])
	b = b[3:]
	if len(b) == 0 { // case 2 extended
		c.Le = n
		if n == 0 {
			c.Le = MaxExtendedLe
		}
		return c, nil
	}
	if n == 0 || len(b) != n && len(b) != n+2 {
		return Command{}, ErrMalformed
	}
	c.Data = append([]byte(nil), b[:n]...)
	if len(b) == n+2 {
		c.Le = int(b[n])<<8 | int(b[n+1])
		if c.Le == 0 {
			c.Le = MaxExtendedLe
		}
	}
	return c, nil
}

// Response is a response APDU.
type Response struct {
	Data   []byte
	Status Status
}

// ParseResponse splits a raw response. It copies nothing.
func ParseResponse(b []byte) (Response, error) {
	if len(b) < 2 {
		return Response{}, ErrMalformed
	}
	n := len(b) - 2
	return Response{Data: b[:n:n], Status: Status(b[n])<<8 | Status(b[n+1])}, nil
}

// Bytes encodes the response.
func (r Response) Bytes() []byte {
	b := make([]byte, 0, len(r.Data)+2)
	b = append(b, r.Data...)
	return append(b, byte(r.Status>>8), byte(r.Status))
}

// Status is SW1-SW2 (ISO/IEC 7816-4 5.6). Every status but OK is also an error.
type Status uint16

// Statuses that the protocols of this project name.
const (
	OK                      Status = 0x9000
	EndOfFile               Status = 0x6282
	FileDeactivated         Status = 0x6283
	WrongLength             Status = 0x6700
	SMNotSupported          Status = 0x6882
	SecurityNotSatisfied    Status = 0x6982
	AuthenticationBlocked   Status = 0x6983
	ReferenceDataNotUsable  Status = 0x6984
	ConditionsNotSatisfied  Status = 0x6985
	CommandNotAllowed       Status = 0x6986
	SMObjectsMissing        Status = 0x6987
	SMObjectsIncorrect      Status = 0x6988
	WrongData               Status = 0x6A80
	FunctionNotSupported    Status = 0x6A81
	FileNotFound            Status = 0x6A82
	RecordNotFound          Status = 0x6A83
	IncorrectP1P2           Status = 0x6A86
	LcInconsistent          Status = 0x6A87
	ReferencedDataNotFound  Status = 0x6A88
	WrongOffset             Status = 0x6B00
	InstructionNotSupported Status = 0x6D00
	ClassNotSupported       Status = 0x6E00
	UnknownError            Status = 0x6F00
)

func (s Status) Error() string { return fmt.Sprintf("card status %04X", uint16(s)) }

// Err is nil for OK and the status itself otherwise.
func (s Status) Err() error {
	if s == OK {
		return nil
	}
	return s
}

// TriesLeft returns the counter of a 63Cx status.
func (s Status) TriesLeft() (n int, ok bool) {
	return int(s & 0xF), s&0xFFF0 == 0x63C0
}

// Send encodes c, transmits it and parses the answer.
func Send(ctx context.Context, card Card, c Command) (Response, error) {
	b, err := c.Bytes()
	if err != nil {
		return Response{}, err
	}
	r, err := card.Transmit(ctx, b)
	if err != nil {
		return Response{}, fmt.Errorf("transmit %02X: %w", c.INS, err)
	}
	return ParseResponse(r)
}

package prcid

import (
	"errors"
	"fmt"
)

// What can go wrong, by what a person can do about it. Errors of [Module] wrap
// one of these, or an error of the line as it came, or the context's; a status
// of the module is wrapped beside as [Status].
var (
	// ErrNoAnswer: the module says nothing. Look at its cable and power.
	ErrNoAnswer = errors.New("prcid: module does not answer")
	// ErrFrame: what came is not an answer, or not a whole one. Try again; if it
	// stays, the line or its speed is wrong.
	ErrFrame = errors.New("prcid: malformed answer")
	// ErrNoCard: no card in the field, or the same as before.
	ErrNoCard = errors.New("prcid: no card")
	// ErrCardLost: selecting or reading failed. Put the card on again.
	ErrCardLost = errors.New("prcid: card not readable")
	// ErrNotGenuine: card and module do not accept one another, or the content
	// fails the module's check. Use another card.
	ErrNotGenuine = errors.New("prcid: card and module do not accept one another")
	// ErrWrongCard: a card of a kind that the module does not know.
	ErrWrongCard = errors.New("prcid: not an identity card")
	// ErrNoContent: the card does not hold this.
	ErrNoContent = errors.New("prcid: card holds no such content")
	// ErrModule: the module is defective or not authorised. Call staff.
	ErrModule = errors.New("prcid: module out of order")
	// ErrRefused: the module does not accept the command, or answers a status that
	// is not known.
	ErrRefused = errors.New("prcid: module refused")
	// ErrUnsupported: no serial ports on this system.
	ErrUnsupported = errors.New("prcid: serial ports are supported on Linux only")
)

// Status is SW1, SW2 and SW3 of an answer: two bytes of the card, one of the
// module. As an error it unwraps to one of those above.
type Status [3]byte

// SW3 of a successful answer.
const (
	statusOK    = 0x90
	statusFound = 0x9F
)

var statusErrors = map[byte]error{
	0x10: ErrRefused,    // checksum of the command
	0x11: ErrRefused,    // length of the command
	0x21: ErrRefused,    // no such command
	0x23: ErrRefused,    // not allowed
	0x24: ErrRefused,    // unknown error
	0x31: ErrNotGenuine, // card does not accept the module
	0x32: ErrNotGenuine, // module does not accept the card
	0x33: ErrNotGenuine, // content fails its check
	0x37: ErrNotGenuine, // fingerprints fail their check
	0x3F: ErrCardLost,   // length of the content
	0x40: ErrWrongCard,
	0x41: ErrCardLost, // reading failed
	0x47: ErrCardLost, // no random number from the card
	0x60: ErrModule,   // self-test failed
	0x66: ErrModule,   // not authorised
	0x80: ErrNoCard,
	0x81: ErrCardLost, // selecting failed
	0x91: ErrNoContent,
}

func (s Status) Error() string { return fmt.Sprintf("module status %02X %02X %02X", s[0], s[1], s[2]) }

// Is matches the error that the status stands for.
func (s Status) Is(target error) bool {
	class, known := statusErrors[s[2]]
	if !known {
		class = ErrRefused
	}
	return class == target
}

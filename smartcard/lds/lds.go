// Package lds reads the files of an eMRTD's Logical Data Structure (ICAO Doc
// 9303-10): the machine readable zone, EF.COM, data groups, security infos and
// the document security object.
//
// It does no I/O and verifies nothing: whatever it returns is what a card said.
// Package smartcard/trust turns it into something to rely on. Parsing copies
// what it keeps, bounds what it accepts and never changes the raw bytes, which
// stay with the caller as the thing that hashes and signatures speak of. Parsers
// show what can be shown; [Check] says whether a file is as its standard asks.
//
// Types that hold personal data refuse to print and to marshal, as
// [secret.Text] does. That a struct holding one in an unexported field prints
// it by reflection is beyond a type's reach: do not print those.
package lds

import (
	"errors"
	"fmt"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/tlv"
)

// Errors of parsing. Each is wrapped with what was being read.
var (
	ErrMalformed = errors.New("lds: malformed")
	// ErrUnsupported marks well-formed content in a form this package does not
	// interpret. The raw bytes are as good as any for passive authentication.
	ErrUnsupported = errors.New("lds: not supported")
	// ErrIndefinite marks BER with indefinite lengths, which some states use in EF.SOD.
	ErrIndefinite = fmt.Errorf("%w: indefinite length encoding", ErrUnsupported)
	// ErrISO39794 marks a face in ISO/IEC 39794-5 encoding that keeps to another
	// profile than ICAO's.
	ErrISO39794 = fmt.Errorf("%w: profile of the ISO/IEC 39794-5 face", ErrUnsupported)
	// ErrCheckDigit marks a machine readable zone with a wrong check digit.
	ErrCheckDigit = errors.New("lds: check digit")
)

// malformed says what was being read; parser errors of lower layers become
// ErrMalformed or ErrIndefinite.
func malformed(what string, err error) error {
	switch {
	case errors.Is(err, tlv.ErrIndefinite):
		return fmt.Errorf("%s: %w", what, ErrIndefinite)
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrUnsupported):
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %v", what, ErrMalformed, err)
}

// Document is everything a card said: untrusted until smartcard/trust has
// verified it. It refuses to print and to marshal.
type Document struct {
	private
	Files  map[File][]byte       // raw content, outer tag included
	Access string                // how the chip was opened: "PACE", "BAC", or "none" for a chip without access control
	CAM    *ChipMapping          // evidence, nil if PACE was without Chip Authentication Mapping
	Chip   *ChipAuthentication   // evidence, nil if not run
	Active *ActiveAuthentication // evidence, nil if not run
}

// private makes the type that embeds it refuse to print and to marshal.
type private = secret.Private

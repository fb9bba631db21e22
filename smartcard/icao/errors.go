package icao

import (
	"errors"
	"fmt"

	"enrollkiosk/smartcard/apdu"
)

// What can go wrong, by what a person can do about it. Errors of this package
// wrap one of these, or an error of the transport as it came, or the context's;
// a card's status is wrapped beside as [apdu.Status].
var (
	// ErrWrongPassword: the CAN or MRZ does not belong to this card. Look again
	// and type it again; this package never retries by itself.
	ErrWrongPassword = errors.New("icao: wrong card access number or machine readable zone")
	// ErrBlocked: the card accepts this password no longer.
	ErrBlocked = errors.New("icao: password blocked")
	// ErrNotEMRTD: no eMRTD application. Use another card.
	ErrNotEMRTD = errors.New("icao: not an electronic travel document")
	// ErrNeedsMRZ: the card knows BAC only, which takes no card access number.
	ErrNeedsMRZ = errors.New("icao: card can only be opened with the machine readable zone")
	// ErrUnsupported: the card asks for a protocol this package does not have.
	ErrUnsupported = errors.New("icao: protocol not supported")
	// ErrAccessDenied: the card keeps this file for others, such as holders of a
	// terminal certificate (ICAO 9303-11 7).
	ErrAccessDenied = errors.New("icao: card denies access")
	// ErrFileNotFound: the card has no such file.
	ErrFileNotFound = errors.New("icao: no such file on the card")
	// ErrMalformed: a file or an answer is not what the protocol allows.
	ErrMalformed = errors.New("icao: malformed answer or file")
	// ErrTooLarge: a file exceeds Options.MaxFile.
	ErrTooLarge = errors.New("icao: file too large")
	// ErrSecureMessaging: the channel broke or somebody is in it. Nothing more
	// is sent over it; open the card again.
	ErrSecureMessaging = errors.New("icao: secure messaging broken")
	// ErrChipNotGenuine: the chip could not use the key it claims to have.
	ErrChipNotGenuine = errors.New("icao: chip does not hold its key")
	// ErrChipRefused: the card answered a step with an error status.
	ErrChipRefused = errors.New("icao: card refused")
	// ErrClosed: the Chip was closed.
	ErrClosed = errors.New("icao: closed")
)

// refused wraps a status that ends a step.
func refused(step string, s apdu.Status) error {
	return fmt.Errorf("%s: %w: %w", step, ErrChipRefused, s)
}

func malformed(step string, err error) error {
	return fmt.Errorf("%s: %w: %w", step, ErrMalformed, err)
}

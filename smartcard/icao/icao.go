// Package icao opens an electronic machine readable travel document (eMRTD)
// and reads its files, over any [apdu.Card].
//
// It speaks PACE over curves and finite fields with Generic, Integrated and Chip
// Authentication Mapping (CAN and MRZ), Basic Access Control as fallback, secure
// messaging with 3DES and AES, Chip Authentication version 1 over curves and
// finite fields, and Active Authentication (ICAO Doc 9303-11).
//
// What it returns is what the card said: a [lds.Document], which
// smartcard/trust verifies. A channel that breaks is never used again. A
// password is never tried twice on its own account, and a card access number
// never meets BAC.
//
// Whatever a card answers, reading ends. One call takes no longer than
// Options.Timeout. A file takes at most two commands for every 16 bytes of
// Options.MaxFile and 32 more, for each of seven ways of asking for its length;
// everything else together takes at most 256. The parts of an answer that a card
// cuts up (61xx), of 16 bytes or more, come on top. The memory that is allocated
// in all, most of it to be forgotten at once, is at most 16 bytes for each that
// the card has sent, 16 KiB for each command, and Options.MaxFile for each time
// that a file was begun.
//
// Not here: Terminal Authentication, and with it fingerprints (DG3); Chip
// Authentication version 2; domain parameters of a card's own making.
package icao

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"enrollkiosk/kiosk/secret"
	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
)

// Defaults of Options.
const (
	DefaultMaxFile = 128 << 10
	DefaultTimeout = time.Minute
)

// Options are limits. The zero value is the defaults.
type Options struct {
	// MaxLe bounds what one response may carry; 0 means 65536, or less if the card
	// or its reader says so. Over 256, extended length is given up for good when
	// card or reader fail it; up to 256 it is used for nothing but public keys that
	// need it, those of 2048-bit finite fields.
	MaxLe int
	// MaxFile bounds one file in bytes; 0 means DefaultMaxFile.
	MaxFile int
	// Timeout bounds each call of Open and of the Chip's methods; 0 means
	// DefaultTimeout. The caller's context may end them earlier.
	Timeout time.Duration
	// Habits are what [Chip.Habits] told of an earlier card of this kind.
	Habits Habits
}

// Password opens a card. It refuses to print.
type Password struct {
	kind passwordKind
	text secret.Text
}

// passwordKind is the password reference of MSE:Set AT (ICAO 9303-11 4.4.4.1).
type passwordKind byte

const (
	passwordMRZ passwordKind = 1
	passwordCAN passwordKind = 2
)

// CAN is the six-digit card access number printed on the document.
func CAN(digits secret.Text) Password { return Password{passwordCAN, digits} }

// MRZ is the MRZ information: document number, date of birth and date of
// expiry, each with its check digit, see [lds.MRZInformation].
func MRZ(information secret.Text) Password { return Password{passwordMRZ, information} }

// Format keeps the password out of every print.
func (p Password) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

// Optional abilities of an [apdu.Card].
type (
	// resetter goes back to the state after power-on. Without it a plain SELECT
	// has to end an old channel.
	resetter interface {
		Reset(ctx context.Context) error
	}
	// limited knows the longest data field that the reader carries (PC/SC Part 10,
	// dwMaxAPDUDataSize), 0 if it does not.
	limited interface{ MaxAPDU() int }
	// identified knows the card's answer to reset.
	identified interface{ ATR() []byte }
)

// Chip is an opened eMRTD. It is not safe for concurrent use and refuses to
// print. Close forgets its keys.
type Chip struct {
	card     apdu.Card
	password Password
	options  Options
	random   io.Reader

	channel  *session // nil before access control, and on a card that has none
	broken   error    // why nothing may be sent any more
	inMaster bool     // the master file is current, not the application
	reading  reading
	agreed   *lds.SecurityInfos // of a finished Chip Authentication
	proof    *proof             // waits for the next exchange
	doc      lds.Document
	warnings []string
	current  lds.File // whom to charge
	usage    map[lds.File]Usage
}

// Usage counts traffic: commands, and bytes both ways.
type Usage struct{ APDUs, Bytes int }

// Open selects the eMRTD application of card and opens it with pw: PACE if the
// card offers it, else BAC, else nothing if the card asks for nothing. It fails
// with ErrWrongPassword, ErrBlocked, ErrNotEMRTD, ErrNeedsMRZ, ErrUnsupported,
// ErrAccessDenied, ErrChipRefused, ErrChipNotGenuine (Chip Authentication
// Mapping), ErrMalformed or ErrSecureMessaging, with the card's transport error
// or with that of ctx. pw stays the caller's to wipe, after Close.
func Open(ctx context.Context, card apdu.Card, pw Password, opts Options) (*Chip, error) {
	return open(ctx, card, pw, opts, rand.Reader)
}

func open(ctx context.Context, card apdu.Card, pw Password, opts Options, random io.Reader) (*Chip, error) {
	if pw.kind == 0 || pw.text.Len() == 0 {
		return nil, fmt.Errorf("open chip: %w: none given", ErrWrongPassword)
	}
	if opts.MaxLe <= 0 || opts.MaxLe > apdu.MaxExtendedLe {
		opts.MaxLe = apdu.MaxExtendedLe
	}
	if opts.MaxFile <= 0 {
		opts.MaxFile = DefaultMaxFile
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	c := &Chip{
		card: card, password: pw, options: opts, random: random,
		doc:     lds.Document{Files: make(map[lds.File][]byte)},
		usage:   make(map[lds.File]Usage),
		reading: newReading(card, opts),
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.establish(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("open chip: %w", err)
	}
	return c, nil
}

// send exchanges one command, protected if there is a channel.
func (c *Chip) send(ctx context.Context, cmd apdu.Command) (apdu.Response, error) {
	if c.broken != nil {
		return apdu.Response{}, c.broken
	}
	protected := cmd
	if c.channel != nil {
		var err error
		if protected, err = c.channel.protect(cmd); err != nil {
			return apdu.Response{}, err
		}
	}
	sent, err := protected.Bytes()
	if err != nil {
		return apdu.Response{}, err
	}
	r, err := c.transmit(ctx, sent)
	p := c.proof
	c.proof = nil
	if p != nil {
		p.evidence.Command, p.evidence.Response = sent, r.Bytes()
	}
	if err == nil && c.channel != nil {
		if r, err = c.channel.unprotect(cmd, r); err != nil {
			err = fmt.Errorf("%w: %w", ErrSecureMessaging, err)
		}
	}
	c.broken = err
	if p != nil {
		p.err = err
	}
	return r, err
}

// transportError marks what the card's transport reported.
type transportError struct{ error }

func (e transportError) Unwrap() error { return e.error }

// transmit exchanges bytes. It follows 61xx and 6Cxx, which belong to the
// transport and lie outside secure messaging, as long as they lead on.
func (c *Chip) transmit(ctx context.Context, command []byte) (apdu.Response, error) {
	const least = 16 // bytes of a part
	var data []byte
	for part := 0; ; part++ {
		if err := ctx.Err(); err != nil {
			return apdu.Response{}, err
		}
		raw, err := c.card.Transmit(ctx, command)
		u := c.usage[c.current]
		u.APDUs++
		u.Bytes += len(command) + len(raw)
		c.usage[c.current] = u
		if err != nil {
			return apdu.Response{}, transportError{err}
		}
		r, err := apdu.ParseResponse(raw)
		if err != nil {
			return apdu.Response{}, malformed("answer", err)
		}
		if len(data)+len(r.Data) > apdu.MaxExtendedLe+apdu.MaxShortLe {
			return apdu.Response{}, malformed("answer", errors.New("too long"))
		}
		data = append(data, r.Data...)
		short := len(command) == 5 || len(command) > 5 && command[4] != 0
		switch {
		case r.Status>>8 == 0x61 && (part == 0 || len(r.Data) >= least): // more to fetch
			command = []byte{0, 0xC0, 0, 0, byte(r.Status)}
		case r.Status>>8 == 0x6C && part == 0 && len(data) == 0 && short: // ask for just so much
			command = bytes.Clone(command)
			command[len(command)-1] = byte(r.Status)
		default:
			return apdu.Response{Data: data, Status: r.Status}, nil
		}
	}
}

func (c *Chip) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.options.Timeout)
}

// Document is what has been read and run so far. The bytes of its files are
// shared: do not change them.
func (c *Chip) Document() lds.Document {
	d := c.doc
	d.Files = maps.Clone(c.doc.Files)
	return d
}

// Warnings are what the card did against the standard and was let pass.
func (c *Chip) Warnings() []string { return slices.Clone(c.warnings) }

func (c *Chip) warn(oddity string) {
	if !slices.Contains(c.warnings, oddity) {
		c.warnings = append(c.warnings, oddity)
	}
}

// Stats counts all traffic since Open began: commands, and bytes both ways.
func (c *Chip) Stats() (apdus, bytes int) {
	for _, u := range c.usage {
		apdus += u.APDUs
		bytes += u.Bytes
	}
	return apdus, bytes
}

// Usage is the traffic that one file cost.
func (c *Chip) Usage(f lds.File) Usage { return c.usage[f] }

// Close forgets the keys. It sends nothing: the channel on the card ends with
// the card's power or with the next plain command.
func (c *Chip) Close() {
	if c.channel != nil {
		c.channel.wipe()
		c.channel = nil
	}
	c.password, c.broken = Password{}, ErrClosed
}

// Format keeps keys and files out of every print.
func (Chip) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

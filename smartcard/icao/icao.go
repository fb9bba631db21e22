// Package icao opens an electronic machine readable travel document (eMRTD)
// and reads its files, over any [apdu.Card].
//
// It speaks PACE with ECDH and Generic Mapping (CAN and MRZ), Basic Access
// Control as fallback, secure messaging with 3DES and AES, Chip Authentication
// version 1 with ECDH, and Active Authentication (ICAO Doc 9303-11).
//
// What it returns is what the card said: a [lds.Document], which
// smartcard/trust verifies. A channel that breaks is never used again. A
// password is never tried twice on its own account, and a card access number
// never meets BAC. Whatever a card answers, reading ends: files, commands and
// time are bounded.
//
// Not here: PACE over finite fields, Integrated Mapping and Chip Authentication
// Mapping; Terminal Authentication, and with it fingerprints (DG3).
package icao

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
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
	// MaxLe bounds what one response may carry; 0 means 65536. Over 256, extended
	// length is probed once and given up for good when card or reader fail it; up
	// to 256 it is never used. PC/SC readers name their limit (Part 10,
	// dwMaxAPDUDataSize).
	MaxLe int
	// MaxFile bounds one file in bytes; 0 means DefaultMaxFile.
	MaxFile int
	// Timeout bounds each call of Open and of the Chip's methods; 0 means
	// DefaultTimeout. The caller's context may end them earlier.
	Timeout time.Duration
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

// resetter is an optional ability of an [apdu.Card]: back to the state after
// power-on. Without it a plain SELECT has to end an old channel.
type resetter interface {
	Reset(ctx context.Context) error
}

// Chip is an opened eMRTD. It is not safe for concurrent use and refuses to
// print. Close forgets its keys.
type Chip struct {
	card     apdu.Card
	password Password
	options  Options
	random   io.Reader

	channel *session // nil before access control
	broken  error    // why the channel may not be used any more
	reading reading
	doc     lds.Document
	current lds.File // whom to charge
	usage   map[lds.File]Usage
}

// Usage counts traffic: commands, and bytes both ways.
type Usage struct{ APDUs, Bytes int }

// Open selects the eMRTD application of card and opens it with pw: PACE if the
// card offers it, else BAC. It fails with ErrWrongPassword, ErrBlocked,
// ErrNotEMRTD, ErrNeedsMRZ, ErrUnsupported, ErrAccessDenied, ErrChipRefused,
// ErrMalformed or ErrSecureMessaging, with the card's transport error or with
// that of ctx. pw stays the caller's to wipe, after Close.
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
		doc:   lds.Document{Files: make(map[lds.File][]byte)},
		usage: make(map[lds.File]Usage),
	}
	if opts.MaxLe <= apdu.MaxShortLe {
		c.reading.level = levelShort
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.establish(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("open chip: %w", err)
	}
	return c, nil
}

// establish gets from a card in any state to a protected channel in the eMRTD
// application.
func (c *Chip) establish(ctx context.Context) error {
	if err := c.selectMaster(ctx); err != nil {
		return err
	}
	offered, err := c.offeredPACE(ctx)
	if err != nil {
		return err
	}
	var refusal error // of PACE
	if p, ok := choosePACE(offered); ok {
		channel, err := p.run(ctx, c)
		if err == nil {
			c.channel, c.doc.Access = channel, "PACE"
			return c.selectApplication(ctx)
		}
		// Only a card that declines the protocol may be asked for BAC. A password
		// it has rejected is not offered again.
		if refusal = fmt.Errorf("pace: %w", err); !errors.Is(err, ErrChipRefused) || c.password.kind != passwordMRZ {
			return refusal
		}
		if err := c.reset(ctx); err != nil {
			return err
		}
	} else if len(offered) > 0 {
		if refusal = fmt.Errorf("pace: %w", ErrUnsupported); c.password.kind != passwordMRZ {
			return refusal
		}
	}
	err = c.selectApplication(ctx)
	if err == nil {
		c.channel, err = c.bac(ctx)
	}
	switch {
	case err == nil:
		c.doc.Access = "BAC"
		return nil
	case refusal != nil && (errors.Is(err, ErrChipRefused) || errors.Is(err, ErrNotEMRTD) || errors.Is(err, ErrAccessDenied)):
		return refusal // the card has PACE only
	case errors.Is(err, ErrNotEMRTD):
		return err
	}
	return fmt.Errorf("bac: %w", err)
}

// selectMaster makes the master file current. Cards differ in what they accept
// and some are there already, so that no status stops it. A channel left over
// from earlier dies of the first command.
func (c *Chip) selectMaster(ctx context.Context) error {
	for _, cmd := range []apdu.Command{
		{INS: 0xA4, P2: 0x0C, Data: []byte{0x3F, 0x00}},
		{INS: 0xA4, P2: 0x0C},
	} {
		if r, err := c.send(ctx, cmd); err != nil {
			return fmt.Errorf("select master file: %w", err)
		} else if r.Status == apdu.OK {
			return nil
		}
	}
	return nil
}

// offeredPACE reads EF.CardAccess. A card without one, or with one that makes
// no sense, offers nothing.
func (c *Chip) offeredPACE(ctx context.Context) ([]lds.PACEInfo, error) {
	file, err := c.readFile(ctx, lds.EFCardAccess, nil)
	if err == nil {
		c.doc.Files[lds.EFCardAccess] = file
		var infos lds.SecurityInfos
		if infos, err = lds.ParseCardAccess(file); err == nil {
			return infos.PACE, nil
		}
		err = malformed("parse EF.CardAccess", err)
	}
	absent := errors.Is(err, ErrFileNotFound) || errors.Is(err, ErrChipRefused) || errors.Is(err, ErrAccessDenied)
	if absent || errors.Is(err, ErrMalformed) && c.password.kind == passwordMRZ {
		return nil, nil
	}
	return nil, err
}

// application is the identifier of the eMRTD application (ICAO 9303-10 3.11.1).
const application = "\xA0\x00\x00\x02\x47\x10\x01"

func (c *Chip) selectApplication(ctx context.Context) error {
	const step = "select application"
	// Le must be absent with P2 = 0C (ICAO 9303-10 3.6.2).
	r, err := c.send(ctx, apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: []byte(application)})
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", step, err)
	case r.Status == apdu.OK:
		return nil
	case r.Status == apdu.SecurityNotSatisfied:
		return fmt.Errorf("%s: %w: %w", step, ErrAccessDenied, r.Status)
	}
	return fmt.Errorf("%s: %w: %w", step, ErrNotEMRTD, r.Status)
}

// reset forgets the channel, on the card's side too as far as the transport can.
func (c *Chip) reset(ctx context.Context) error {
	if c.channel != nil {
		c.channel.wipe()
	}
	c.channel, c.broken = nil, nil
	c.reading.bySelect, c.reading.bySFI = false, false
	if r, ok := c.card.(resetter); ok {
		if err := r.Reset(ctx); err != nil {
			return fmt.Errorf("reset card: %w", err)
		}
	}
	return nil
}

// send exchanges one command, protected if there is a channel.
func (c *Chip) send(ctx context.Context, cmd apdu.Command) (apdu.Response, error) {
	r, _, _, err := c.exchange(ctx, cmd)
	return r, err
}

// exchange also returns the bytes of a protected command and of its answer.
func (c *Chip) exchange(ctx context.Context, cmd apdu.Command) (r apdu.Response, sent, received []byte, err error) {
	if c.broken != nil {
		return r, nil, nil, c.broken
	}
	protected := cmd
	if c.channel != nil {
		if protected, err = c.channel.protect(cmd); err != nil {
			return r, nil, nil, err
		}
	}
	if sent, err = protected.Bytes(); err != nil {
		return r, nil, nil, err
	}
	r, err = c.transmit(ctx, sent)
	received = r.Bytes()
	if err == nil && c.channel != nil {
		if r, err = c.channel.unprotect(cmd.INS&1 != 0, r); err != nil {
			err = fmt.Errorf("%w: %w", ErrSecureMessaging, err)
		}
	}
	if err != nil && c.channel != nil {
		c.broken = err
	}
	return r, sent, received, err
}

// transportError marks what the card's transport reported.
type transportError struct{ error }

func (e transportError) Unwrap() error { return e.error }

// transmit exchanges bytes. It follows 61xx and 6Cxx, which belong to the
// transport and lie outside secure messaging.
func (c *Chip) transmit(ctx context.Context, command []byte) (apdu.Response, error) {
	var data []byte
	for range apdu.MaxExtendedLe / apdu.MaxShortLe {
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
		data = append(data, r.Data...)
		short := len(command) == 5 || len(command) > 5 && command[4] != 0
		switch {
		case r.Status>>8 == 0x61: // more to fetch
			command = []byte{0, 0xC0, 0, 0, byte(r.Status)}
		case r.Status>>8 == 0x6C && len(data) == 0 && short: // ask for just so much
			command = bytes.Clone(command)
			command[len(command)-1] = byte(r.Status)
		default:
			return apdu.Response{Data: data, Status: r.Status}, nil
		}
	}
	return apdu.Response{}, malformed("answer", errors.New("endless"))
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

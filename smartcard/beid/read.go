package beid

import (
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"time"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/tlv"
)

// Bounds of reading.
const (
	MaxFile = 0x7FFF      // bytes; bit 8 of READ BINARY's P1 means something else
	Timeout = time.Minute // of Read and of AuthenticateChip; the caller's context may end them earlier
	block   = 248         // of one READ BINARY, as eid-mw has it
	trickle = 16          // no honest card gives fewer bytes at a time
	chain   = 4           // answers of 61xx to one command
)

// Progress tells how far reading has come, in bytes of all files. The card does
// not say how long a file is: Total is what cards usually hold.
type Progress struct {
	File        File
	Read, Total int
}

// usual are sizes of files as cards have them.
var usual = map[File]int{IdentityFile: 250, IdentitySignature: 256, AddressFile: 117, AddressSignature: 256, PhotoFile: 3100, BasicKey: 120,
	AuthenticationCertificate: 1100, SigningCertificate: 1100, CACertificate: 1200, RootCertificate: 1100, RegisterCertificate: 1000}

var (
	belpic = []byte("\xA0\x00\x00\x01\x77PKCS-15")
	// applet has to be selected first where another one is: some cards leave it
	// after a reset by another program.
	applet = []byte{0xA0, 0x00, 0x00, 0x00, 0x30, 0x29, 0x05, 0x70, 0x00, 0xAD, 0x13, 0x10, 0x01, 0x01, 0xFF}
)

// Read reads files in order; nil means Files(). It leaves out files that the
// card does not have or that hold nothing, and stops at any other error with the
// Document so far. progress may be nil.
func Read(ctx context.Context, card apdu.Card, files []File, progress func(Progress)) (Document, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if files == nil {
		files = Files()
	}
	r := reading{card: card, progress: progress}
	for _, f := range files {
		r.total += usual[f]
	}
	doc := Document{Files: make(map[File][]byte, len(files))}
	if err := Select(ctx, card); err != nil {
		return doc, err
	}
	for _, f := range files {
		content, err := r.file(ctx, f)
		if err != nil {
			return doc, fmt.Errorf("read %v: %w", f, err)
		}
		if len(content) > 0 {
			doc.Files[f] = content
		}
		r.before += usual[f]
		r.tell(f, 0)
	}
	return doc, nil
}

// Select selects the Belpic application, as Read and AuthenticateChip do by
// themselves. A card that has none gives ErrNotBelgianEID.
func Select(ctx context.Context, card apdu.Card) error {
	r, err := send(ctx, card, apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: belpic})
	if err != nil {
		return err
	}
	if r.Status == apdu.FileNotFound || r.Status == apdu.IncorrectP1P2 {
		if r, err = send(ctx, card, apdu.Command{INS: 0xA4, P1: 0x04, Data: applet}); err != nil {
			return err
		}
		if r.Status == apdu.OK {
			if r, err = send(ctx, card, apdu.Command{INS: 0xA4, P1: 0x04, P2: 0x0C, Data: belpic}); err != nil {
				return err
			}
		}
	}
	if r.Status != apdu.OK {
		return fmt.Errorf("select application: %w: %w", ErrNotBelgianEID, r.Status)
	}
	return nil
}

type reading struct {
	card          apdu.Card
	progress      func(Progress)
	before, total int // usual sizes: of the files that are read, of all
}

func (r *reading) tell(f File, n int) {
	if r.progress != nil {
		r.progress(Progress{f, min(r.before+min(n, usual[f]), r.total), r.total})
	}
}

// file reads a file to its end; nothing if there is none.
func (r *reading) file(ctx context.Context, f File) ([]byte, error) {
	answer, err := send(ctx, r.card, apdu.Command{INS: 0xA4, P1: 0x08, P2: 0x0C, Data: f.path()})
	switch {
	case err != nil:
		return nil, err
	case answer.Status == apdu.FileNotFound:
		return nil, nil
	case answer.Status != apdu.OK:
		return nil, fmt.Errorf("select: %w: %w", ErrRefused, answer.Status)
	}
	var b []byte
	for range MaxFile/trickle + trickle {
		more, end, err := r.block(ctx, len(b))
		if err != nil {
			return nil, err
		}
		b = append(b, more...)
		r.tell(f, len(b))
		if f.certificate() {
			if size, known := certificateSize(b); known && len(b) >= size {
				return b[:size:size], nil
			}
		}
		if end {
			return b, nil
		}
		if len(b) > MaxFile {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxFile)
		}
	}
	return nil, fmt.Errorf("%w: too many short answers", ErrMalformed)
}

// block reads at offset, and says whether the file ends there.
func (r *reading) block(ctx context.Context, offset int) (b []byte, end bool, err error) {
	command := apdu.Command{INS: 0xB0, P1: byte(offset >> 8), P2: byte(offset), Le: block}
	if offset > MaxFile-block {
		command.Le = MaxFile - offset + 1
	}
	answer, err := send(ctx, r.card, command)
	if le := int(answer.Status & 0xFF); err == nil && answer.Status>>8 == 0x6C && le != 0 && le < command.Le {
		end = true // Le is what is left
		command.Le = le
		answer, err = send(ctx, r.card, command)
	}
	switch {
	case err != nil:
		return nil, false, err
	case answer.Status == apdu.OK && len(answer.Data) > command.Le:
		return nil, false, fmt.Errorf("%w: %d bytes for %d", ErrMalformed, len(answer.Data), command.Le)
	case answer.Status == apdu.OK:
		return answer.Data, len(answer.Data) == 0 || end && len(answer.Data) == command.Le, nil
	case answer.Status == apdu.EndOfFile:
		return answer.Data, true, nil
	case answer.Status == apdu.WrongOffset:
		return nil, true, nil
	}
	return nil, false, fmt.Errorf("%w: %w", ErrRefused, answer.Status)
}

// certificateSize is the size of the certificate that b begins with: 0 where
// there is only filling. It is not known of too few bytes, nor of nonsense.
func certificateSize(b []byte) (n int, known bool) {
	if len(b) > 0 && b[0] == 0 {
		return 0, true
	}
	_, header, value, err := tlv.Header(b)
	return header + value, err == nil
}

// AuthenticateChip has the card sign SHA-384 of the challenge with its basic
// key. Put the result into the Document's Chip, for Verify. A card does so 5000
// times in its life, and then only after its PIN: run it once, when it matters.
//
// The caller chooses a challenge that nobody could foresee. Errors:
// ErrNoBasicKey, ErrRefused, ErrMalformed, ErrNotBelgianEID.
func AuthenticateChip(ctx context.Context, card apdu.Card, challenge [32]byte) (*ChipAuthentication, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := Select(ctx, card); err != nil {
		return nil, err
	}
	digest := sha512.Sum384(challenge[:])
	// P1 02: ECDSA over a SHA-384 digest; P2 81: the basic key.
	answer, err := send(ctx, card, apdu.Command{INS: 0x88, P1: 0x02, P2: 0x81, Data: tlv.Encode(0x94, digest[:])})
	if err != nil {
		return nil, fmt.Errorf("authenticate chip: %w", err)
	}
	e := &ChipAuthentication{Challenge: challenge}
	switch answer.Status {
	case apdu.OK:
		if len(answer.Data) != len(e.Signature) {
			return nil, fmt.Errorf("authenticate chip: %w: a signature of %d bytes", ErrMalformed, len(answer.Data))
		}
		copy(e.Signature[:], answer.Data)
		return e, nil
	case apdu.InstructionNotSupported, apdu.IncorrectP1P2, apdu.ReferencedDataNotFound:
		return nil, fmt.Errorf("authenticate chip: %w: %w", ErrNoBasicKey, answer.Status)
	}
	return nil, fmt.Errorf("authenticate chip: %w: %w", ErrRefused, answer.Status)
}

// send transmits a command and fetches an answer that the card holds ready
// (61xx): over T=0 not every reader does.
func send(ctx context.Context, card apdu.Card, c apdu.Command) (apdu.Response, error) {
	if err := ctx.Err(); err != nil {
		return apdu.Response{}, err
	}
	r, err := apdu.Send(ctx, card, c)
	for range chain {
		if err != nil || r.Status>>8 != 0x61 {
			break
		}
		data := r.Data
		le := int(r.Status & 0xFF)
		if le == 0 {
			le = apdu.MaxShortLe
		}
		if r, err = apdu.Send(ctx, card, apdu.Command{INS: 0xC0, Le: le}); err == nil {
			r.Data = append(data[:len(data):len(data)], r.Data...)
		}
	}
	switch {
	case errors.Is(err, apdu.ErrMalformed):
		return apdu.Response{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	case err != nil:
		return apdu.Response{}, err
	case r.Status>>8 == 0x61:
		return apdu.Response{}, fmt.Errorf("%w: an answer without end", ErrMalformed)
	}
	return r, nil
}

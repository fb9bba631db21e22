package icao

import (
	"context"
	"errors"
	"fmt"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
	"enrollkiosk/smartcard/tlv"
)

// Progress tells how far a file has been read, in bytes. Total is the file's
// own word about its length.
type Progress struct {
	File        lds.File
	Read, Total int
}

// Read returns a file. A file that was read before comes from memory. Errors
// are those of Open, ErrFileNotFound, ErrTooLarge and ErrClosed.
func (c *Chip) Read(ctx context.Context, f lds.File) ([]byte, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.read(ctx, f, nil)
}

// ReadAll reads files in order and returns the Document so far. It leaves out
// files that the card does not have, and stops at any other error. progress may
// be nil.
func (c *Chip) ReadAll(ctx context.Context, files []lds.File, progress func(Progress)) (lds.Document, error) {
	return c.ReadEach(ctx, files, progress, nil)
}

// ReadEach is ReadAll that hands over each file as soon as it is whole, so that
// one can be verified while the next is read. done runs between two commands:
// let it be short. Both functions may be nil.
func (c *Chip) ReadEach(ctx context.Context, files []lds.File, progress func(Progress), done func(lds.File, []byte)) (lds.Document, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	for _, f := range files {
		b, err := c.read(ctx, f, progress)
		switch {
		case errors.Is(err, ErrFileNotFound):
		case err != nil:
			return c.Document(), err
		case done != nil:
			done(f, b)
		}
	}
	return c.Document(), nil
}

func (c *Chip) read(ctx context.Context, f lds.File, progress func(Progress)) ([]byte, error) {
	if errors.Is(c.broken, ErrClosed) {
		return nil, fmt.Errorf("read %v: %w", f, ErrClosed)
	}
	if b, ok := c.doc.Files[f]; ok {
		return b, nil
	}
	b, err := c.readFile(ctx, f, progress)
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", f, err)
	}
	c.doc.Files[f] = b
	return b, nil
}

// readOnce reads a file as the card is known to let itself be read.
func (c *Chip) readOnce(ctx context.Context, f lds.File, progress func(Progress)) ([]byte, error) {
	previous := c.current
	c.current = f
	defer func() { c.current = previous }()
	if err := c.enter(ctx, f); err != nil {
		return nil, err
	}
	b, err := c.readFirst(ctx, f)
	if err != nil {
		return nil, err
	}
	const longestHeader = 8
	// A card that trickles is cut off: no honest one gives less than 16 bytes at a time.
	for range c.options.MaxFile/16 + 16 {
		total, err := extent(f, b)
		known := err == nil
		switch {
		case known && total > c.options.MaxFile:
			return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, total)
		case !known && (len(b) >= longestHeader || !errors.Is(err, tlv.ErrTruncated)):
			return nil, malformed("length of the file", err)
		}
		if known && progress != nil {
			progress(Progress{f, min(len(b), total), total})
		}
		if known && len(b) >= total {
			return b[:total:total], nil
		}
		want := longestHeader - len(b)
		if known {
			want = total - len(b)
			if cap(b) < total {
				b = append(make([]byte, 0, total), b...)
			}
		}
		more, err := c.readAt(ctx, len(b), want)
		if err != nil {
			return nil, err
		}
		b = append(b, more...)
	}
	return nil, malformed("file", errors.New("too many short answers"))
}

// extent is the length of a file by its first bytes. EF.ATR/INFO alone is a
// series of objects with nothing around them: it ends where they do.
func extent(f lds.File, b []byte) (int, error) {
	_, header, length, err := tlv.Header(b)
	if f != lds.EFATRInfo || err != nil {
		return header + length, err
	}
	total := header + length
	for total < len(b) && b[total] != 0 {
		if _, header, length, err = tlv.Header(b[total:]); err != nil {
			return total, nil
		}
		total += header + length
	}
	return total, nil
}

// readFirst reads the start of a file: by short file identifier, which saves a
// SELECT; else by SELECT and READ BINARY.
func (c *Chip) readFirst(ctx context.Context, f lds.File) ([]byte, error) {
	if c.reading.address != bySelect && f.SFI() != 0 {
		b, err := c.readStart(ctx, 0x80|f.SFI())
		if err == nil {
			if c.channel != nil {
				c.reading.address = bySFI
			}
			return b, nil
		}
		if c.broken != nil || c.reading.address == bySFI || errors.Is(err, ErrAccessDenied) {
			return nil, err
		}
	}
	fid := f.FID()
	r, err := c.send(ctx, apdu.Command{INS: 0xA4, P1: 0x02, P2: 0x0C, Data: []byte{byte(fid >> 8), byte(fid)}})
	if err != nil {
		return nil, err
	}
	if r.Status != apdu.OK {
		return nil, noData("select", r.Status)
	}
	b, err := c.readStart(ctx, 0)
	if err == nil && c.channel != nil {
		c.reading.address = bySelect
	}
	return b, err
}

// readStart reads the first bytes of the file that p1 names, 0 for the current
// one: as much as there is, or no more than the header on cards that refuse to
// read past the end of a file.
func (c *Chip) readStart(ctx context.Context, p1 byte) ([]byte, error) {
	const header = 8
	tried := false
	for _, le := range []int{c.most(), header} {
		if c.reading.headerFirst {
			le = header
		}
		r, err := c.readBinary(ctx, apdu.Command{INS: 0xB0, P1: p1, Le: le})
		switch {
		case err != nil:
			return nil, err
		case len(r.Data) > 0:
			c.reading.headerFirst = c.reading.headerFirst || tried
			return r.Data, nil
		case tried || !c.reading.blames(r.Status) || le == header:
			return nil, noData("read", r.Status)
		}
		tried, c.reading.doubt = true, true
	}
	panic("icao: unreachable")
}

// Data objects of the odd READ BINARY (ISO/IEC 7816-4 11.2.3).
const (
	doOffset tlv.Tag = 0x54
	doData   tlv.Tag = 0x53
)

// readAt reads some of the want bytes of the current file at offset, and asks
// for less where the card gives nothing for the length of the answer.
func (c *Chip) readAt(ctx context.Context, offset, want int) ([]byte, error) {
	before := c.reading
	for {
		le := min(want, c.most())
		cmd := apdu.Command{INS: 0xB0, P1: byte(offset >> 8), P2: byte(offset), Le: le}
		odd := offset > 0x7FFF // bit 8 of P1 means a short file identifier
		if odd {
			place := []byte{byte(offset >> 8), byte(offset)}
			if offset > 0xFFFF {
				place = append([]byte{byte(offset >> 16)}, place...)
			}
			const frame = 4 // tag and length of the answer's object
			cmd = apdu.Command{INS: 0xB1, Data: tlv.Encode(doOffset, place), Le: min(want+frame, c.most())}
		}
		r, err := c.readBinary(ctx, cmd)
		if err != nil {
			return nil, err
		}
		if len(r.Data) == 0 && le > c.reading.carried { // longer than any that came: nothing is proven of it
			c.reading.proven, before.proven = false, false
		}
		if len(r.Data) == 0 && c.reading.blames(r.Status) && c.reading.lower() {
			continue
		}
		if len(r.Data) == 0 {
			c.reading = before // the file is to blame
			if r.Status == apdu.OK || r.Status == apdu.EndOfFile || r.Status == apdu.WrongOffset {
				return nil, fmt.Errorf("file: %w: ends after %d bytes: %w", ErrMalformed, offset, r.Status)
			}
			return nil, noData("read", r.Status)
		}
		if !odd {
			return r.Data, nil
		}
		object, err := tlv.ParseOne(r.Data, doData)
		switch {
		case err != nil:
			return nil, malformed("read", err)
		case len(object.Value) == 0:
			return nil, malformed("file", fmt.Errorf("ends after %d bytes", offset))
		}
		return object.Value, nil
	}
}

// readBinary sends cmd, once more if the card names another Le. Data comes with
// 9000, or with a warning that the file ended or is deactivated.
func (c *Chip) readBinary(ctx context.Context, cmd apdu.Command) (apdu.Response, error) {
	cmd.Extended = cmd.Le > c.short()
	r, err := c.send(ctx, cmd)
	if le := int(r.Status & 0xFF); err == nil && r.Status>>8 == 0x6C && le != 0 && le != cmd.Le {
		cmd.Le, cmd.Extended = le, false
		r, err = c.send(ctx, cmd)
	}
	if err != nil {
		return apdu.Response{}, err
	}
	switch r.Status {
	case apdu.OK, apdu.EndOfFile, apdu.FileDeactivated:
		if c.channel != nil && (len(r.Data) > c.short() || len(r.Data) >= c.most()) {
			c.reading.proven, c.reading.carried = true, max(c.reading.carried, len(r.Data))
		}
	default:
		r.Data = nil
	}
	return r, nil
}

// noData says why a card gave no data.
func noData(step string, s apdu.Status) error {
	switch s {
	case apdu.OK:
		return malformed(step, errors.New("empty"))
	case apdu.FileNotFound:
		return fmt.Errorf("%w: %w", ErrFileNotFound, s)
	case apdu.SecurityNotSatisfied:
		return fmt.Errorf("%w: %w", ErrAccessDenied, s)
	}
	return refused(step, s)
}

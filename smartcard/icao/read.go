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

// reading is what has been learnt about reading from this card.
type reading struct {
	level    level
	proven   bool // the level has carried a long answer under protection
	bySFI    bool // short file identifiers work in the application
	bySelect bool // they do not: SELECT each file
}

// level is a rung of the ladder that is climbed down, and never up, while cards
// and readers fail longer answers.
type level int

const (
	levelExtended level = iota // up to Options.MaxLe
	levelShort                 // as much as fits into a short answer
	level192                   // from here on the header is read first
	level128
	levels
)

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
	ctx, cancel := c.bound(ctx)
	defer cancel()
	for _, f := range files {
		if _, err := c.read(ctx, f, progress); err != nil && !errors.Is(err, ErrFileNotFound) {
			return c.Document(), err
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

// readFile reads a file of the current application, and steps down the ladder
// when the card or the reader fails the length of an answer.
func (c *Chip) readFile(ctx context.Context, f lds.File, progress func(Progress)) ([]byte, error) {
	previous := c.current
	c.current = f
	defer func() { c.current = previous }()
	for {
		b, err := c.readOnce(ctx, f, progress)
		if err == nil || ctx.Err() != nil || !c.stepDown(err) {
			return b, err
		}
		if c.broken == nil {
			continue
		}
		// The card has accepted this password before, so that this is no second guess.
		if again := c.reopen(ctx); again != nil {
			c.broken = err
			if errors.As(err, new(transportError)) {
				return nil, err // the first is the cause: a card taken away
			}
			return nil, fmt.Errorf("%w; open again for shorter answers: %w", err, again)
		}
	}
}

func (c *Chip) reopen(ctx context.Context) error {
	if c.password.text.Len() == 0 { // wiped too early: do not spend a try on nothing
		return fmt.Errorf("%w: none left", ErrWrongPassword)
	}
	if err := c.reset(ctx); err != nil {
		return err
	}
	return c.establish(ctx)
}

// stepDown says whether err may come from the length of answers, and if so
// makes them shorter. A level that has carried a full answer is not to blame.
func (c *Chip) stepDown(err error) bool {
	if c.reading.proven || c.reading.level == levels-1 {
		return false
	}
	if c.broken != nil && c.doc.Chip != nil {
		return false // keys of Chip Authentication cannot be had again
	}
	var status apdu.Status
	var transport transportError
	var blame bool
	switch extended := c.reading.level == levelExtended; {
	case errors.As(err, &transport): // readers fail long answers so
		blame = extended
	case errors.Is(err, ErrFileNotFound), errors.Is(err, ErrAccessDenied), !errors.As(err, &status):
	case c.broken != nil: // secure messaging ended with a plain status
		blame = status != apdu.SecurityNotSatisfied && status != apdu.OK
	case c.channel == nil && extended:
		blame = true
	default:
		blame = status == apdu.WrongLength || status == apdu.EndOfFile || status == apdu.WrongOffset
	}
	if blame {
		c.reading.level++
	}
	return blame
}

// short is how many bytes a short answer can carry.
func (c *Chip) short() int {
	if c.channel != nil {
		return c.channel.maxData(apdu.MaxShortLe)
	}
	return apdu.MaxShortLe
}

// most is how many bytes to ask for at once.
func (c *Chip) most() int {
	switch c.reading.level {
	case levelExtended:
		if c.channel != nil && c.options.MaxLe < apdu.MaxExtendedLe {
			return max(c.channel.maxData(c.options.MaxLe), c.short())
		}
		return c.options.MaxLe // 65536 is written as zeros: as much as there is
	case level192:
		return 192
	case level128:
		return 128
	}
	return c.short()
}

func (c *Chip) readOnce(ctx context.Context, f lds.File, progress func(Progress)) ([]byte, error) {
	b, err := c.readFirst(ctx, f)
	if err != nil {
		return nil, err
	}
	const longestHeader = 8
	// A card that trickles is cut off: no honest one gives less than 16 bytes at a time.
	for range c.options.MaxFile/16 + 16 {
		_, header, value, err := tlv.Header(b)
		total, known := header+value, err == nil
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
		}
		more, err := c.readAt(ctx, len(b), want)
		if err != nil {
			return nil, err
		}
		if len(more) == 0 {
			return nil, malformed("file", fmt.Errorf("ends after %d bytes", len(b)))
		}
		b = append(b, more...)
	}
	return nil, malformed("file", errors.New("too many short answers"))
}

// readFirst reads the start of a file: by short file identifier, which saves a
// SELECT; else by SELECT and READ BINARY.
func (c *Chip) readFirst(ctx context.Context, f lds.File) ([]byte, error) {
	le := c.most()
	if c.reading.level >= level192 {
		le = 8
	}
	if !c.reading.bySelect && f.SFI() != 0 {
		r, err := c.readBinary(ctx, apdu.Command{INS: 0xB0, P1: 0x80 | f.SFI(), Le: le})
		switch {
		case err != nil:
			return nil, err
		case len(r.Data) > 0:
			c.reading.bySFI = c.channel != nil
			return r.Data, nil
		case r.Status == apdu.SecurityNotSatisfied:
			return nil, fmt.Errorf("%w: %w", ErrAccessDenied, r.Status)
		case r.Status == apdu.FileNotFound && c.reading.bySFI:
			return nil, fmt.Errorf("%w: %w", ErrFileNotFound, r.Status)
		case r.Status == apdu.WrongLength:
			return nil, refused("read", r.Status)
		}
	}
	r, err := c.send(ctx, selectFile(f))
	if err != nil {
		return nil, err
	}
	switch r.Status {
	case apdu.OK:
	case apdu.FileNotFound:
		return nil, fmt.Errorf("%w: %w", ErrFileNotFound, r.Status)
	case apdu.SecurityNotSatisfied:
		return nil, fmt.Errorf("%w: %w", ErrAccessDenied, r.Status)
	default:
		return nil, refused("select", r.Status)
	}
	r, err = c.readBinary(ctx, apdu.Command{INS: 0xB0, Le: le})
	switch {
	case err != nil:
		return nil, err
	case len(r.Data) > 0:
		c.reading.bySelect = c.channel != nil
		return r.Data, nil
	case r.Status == apdu.SecurityNotSatisfied:
		return nil, fmt.Errorf("%w: %w", ErrAccessDenied, r.Status)
	case r.Status == apdu.OK:
		return nil, malformed("file", errors.New("empty"))
	}
	return nil, refused("read", r.Status)
}

func selectFile(f lds.File) apdu.Command {
	return apdu.Command{INS: 0xA4, P1: 0x02, P2: 0x0C, Data: []byte{byte(f >> 8), byte(f)}}
}

// Data objects of the odd READ BINARY (ISO/IEC 7816-4 11.2.3).
const (
	doOffset tlv.Tag = 0x54
	doData   tlv.Tag = 0x53
)

// readAt reads at most want bytes of the current file. No bytes is its end.
func (c *Chip) readAt(ctx context.Context, offset, want int) ([]byte, error) {
	le := min(want, c.most())
	cmd := apdu.Command{INS: 0xB0, P1: byte(offset >> 8), P2: byte(offset), Le: le}
	odd := offset > 0x7FFF // bit 8 of P1 means a short file identifier
	if odd {
		place := []byte{byte(offset >> 8), byte(offset)}
		if offset > 0xFFFF {
			place = append([]byte{byte(offset >> 16)}, place...)
		}
		cmd = apdu.Command{INS: 0xB1, Data: tlv.Encode(doOffset, place), Le: min(want+4, c.most())}
	}
	r, err := c.readBinary(ctx, cmd)
	if err != nil {
		return nil, err
	}
	switch {
	case len(r.Data) > 0 && odd:
		object, err := tlv.ParseOne(r.Data, doData)
		if err != nil {
			return nil, malformed("read", err)
		}
		return object.Value, nil
	case len(r.Data) > 0, r.Status == apdu.OK, r.Status == apdu.EndOfFile, r.Status == apdu.WrongOffset:
		return r.Data, nil
	case r.Status == apdu.SecurityNotSatisfied:
		return nil, fmt.Errorf("%w: %w", ErrAccessDenied, r.Status)
	}
	return nil, refused("read", r.Status)
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
		if c.channel != nil && (len(r.Data) > c.short() || len(r.Data) > 0 && c.reading.level > levelExtended) {
			c.reading.proven = true
		}
	default:
		r.Data = nil
	}
	return r, nil
}

package icao

import (
	"context"
	"errors"
	"fmt"

	"enrollkiosk/smartcard/apdu"
	"enrollkiosk/smartcard/lds"
)

// reading is what has been learnt about reading from this card over this reader.
type reading struct {
	// max is the longest answer to ask for. Over 256 it counts the whole data field
	// of an extended answer; 256 is a short one; less is plain bytes in one. It
	// never grows.
	max            int
	proven         bool // max has carried a full answer under protection
	carried        int  // the longest answer that came under protection
	headerFirst    bool // the card refuses to read past the end of a file
	address        addressing
	nameParameters bool // PACE wants DO'84' without need
	asked          bool // EF.ATR/INFO, for its limits
	doubt          bool // a length has just been refused: the channel may be lost without a word
}

// addressing is how a file is found.
type addressing byte

const (
	unknown  addressing = iota // short file identifier, then SELECT
	bySFI                      // short file identifiers work
	bySelect                   // they do not
)

// Habits are how a kind of card likes to be read over a reader. Kept by the
// card's answer to reset and given to Open with Options, they spare the next
// card of the kind the finding out. The zero value knows nothing.
type Habits struct {
	MaxLe          int  // longest answer, 0 if not known; see Options.MaxLe
	HeaderFirst    bool // reading past the end of a file fails
	BySelect       bool // short file identifiers do not work
	NameParameters bool // PACE wants its domain parameters named
}

// Habits are what reading has taught so far.
func (c *Chip) Habits() Habits {
	h := Habits{HeaderFirst: c.reading.headerFirst, BySelect: c.reading.address == bySelect, NameParameters: c.reading.nameParameters}
	if c.reading.proven || c.reading.max < c.options.MaxLe {
		h.MaxLe = c.reading.max
	}
	return h
}

// newReading is what can be known before the first command.
func newReading(card apdu.Card, opts Options) reading {
	r := reading{max: opts.MaxLe, headerFirst: opts.Habits.HeaderFirst, nameParameters: opts.Habits.NameParameters}
	if opts.Habits.MaxLe > 0 {
		r.max = min(r.max, opts.Habits.MaxLe)
	}
	if opts.Habits.BySelect {
		r.address = bySelect
	}
	if l, ok := card.(limited); ok && l.MaxAPDU() > 0 {
		r.max = min(r.max, max(l.MaxAPDU(), apdu.MaxShortLe))
	}
	if i, ok := card.(identified); ok && onlyShort(i.ATR()) {
		r.max = min(r.max, apdu.MaxShortLe)
	}
	return r
}

// onlyShort says whether the historical bytes of an answer to reset deny
// extended length (ISO/IEC 7816-3 8.2, 7816-4 12.1.1.9).
func onlyShort(atr []byte) bool {
	if len(atr) < 2 {
		return false
	}
	n, presence := int(atr[1]&0xF), atr[1]>>4
	rest := atr[2:]
	for presence != 0 {
		skip := 0
		for bit := range 4 {
			skip += int(presence >> bit & 1)
		}
		if skip > len(rest) {
			return false
		}
		next := byte(0)
		if presence&8 != 0 {
			next = rest[skip-1] >> 4
		}
		rest, presence = rest[skip:], next
	}
	if n > len(rest) || n == 0 {
		return false
	}
	historical := rest[:n]
	switch historical[0] {
	case 0x80:
	case 0x00: // three bytes of status end it
		n -= 3
	default:
		return false
	}
	for at := 1; at < n; {
		tag, length := historical[at]>>4, int(historical[at]&0xF)
		if at += 1 + length; at > n {
			return false
		}
		if tag == 7 { // card capabilities
			return length == 3 && historical[at-1]&0x40 == 0
		}
	}
	return false
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
	switch limit := c.reading.max; {
	case limit < apdu.MaxShortLe:
		return min(limit, c.short())
	case limit == apdu.MaxShortLe:
		return c.short()
	case limit == apdu.MaxExtendedLe || c.channel == nil:
		return limit // 65536 is written as zeros: as much as there is
	default:
		return max(c.channel.maxData(limit), c.short())
	}
}

// blames says whether a status may come from the length of the answer that was
// asked for.
func (r reading) blames(s apdu.Status) bool {
	switch s {
	case apdu.OK, apdu.FileNotFound, apdu.SecurityNotSatisfied:
		return false
	case apdu.WrongLength, apdu.EndOfFile, apdu.WrongOffset:
		return true
	}
	return s>>8 == 0x6C || r.max > apdu.MaxShortLe
}

// lower takes the next lower rung; it says whether there is one. A length that
// has carried a full answer is not to blame, and the way down from extended
// length leads past EF.ATR/INFO.
func (r *reading) lower() bool {
	switch {
	case r.proven, r.max > apdu.MaxShortLe && !r.asked:
		return false
	case r.max > apdu.MaxShortLe:
		r.max = apdu.MaxShortLe
	case r.max > 192:
		r.max = 192
	case r.max > 128:
		r.max = 128
	default:
		return false
	}
	r.headerFirst, r.doubt = false, true
	return true
}

// readFile reads a file, and steps down the ladder when the card or the reader
// fails the length of an answer.
func (c *Chip) readFile(ctx context.Context, f lds.File, progress func(Progress)) ([]byte, error) {
	for {
		b, err := c.readOnce(ctx, f, progress)
		if err == nil {
			c.reading.doubt = false
			return b, nil
		}
		if ctx.Err() != nil || !c.stepDown(ctx, err) {
			return nil, err
		}
		if c.broken == nil {
			continue
		}
		if again := c.reopen(ctx); again != nil {
			c.broken = err
			if errors.As(err, new(transportError)) {
				return nil, err // the first is the cause: a card taken away
			}
			return nil, fmt.Errorf("%w; open again for shorter answers: %w", err, again)
		}
	}
}

// stepDown says whether err may come from the length of answers, and if so
// makes the next try gentler.
func (c *Chip) stepDown(ctx context.Context, err error) bool {
	r := &c.reading
	var status apdu.Status
	hasStatus := errors.As(err, &status)
	extended := r.max > apdu.MaxShortLe
	if c.broken == nil { // readAt has taken the rungs of short answers
		if r.proven || !extended || r.asked || !hasStatus || !r.blames(status) {
			return false
		}
		c.learnLimits(ctx)
		return true
	}
	smError := status == apdu.SMObjectsIncorrect || status == apdu.SMObjectsMissing || status == apdu.SMNotSupported
	var blame bool
	switch {
	case r.proven:
	case errors.As(err, new(transportError)): // readers fail so, whatever the card could
		blame, r.asked = extended, r.asked || extended
	case errors.Is(err, ErrSecureMessaging) && hasStatus: // it ended with a plain status
		blame = (!smError || r.doubt) && status != apdu.SecurityNotSatisfied && status != apdu.OK
	}
	r.doubt = false
	switch {
	case !blame:
		return false
	case extended && !r.asked: // reopen asks
		return true
	case !extended && !r.headerFirst:
		r.headerFirst = true
		return true
	}
	keep := r.headerFirst
	ok := r.lower()
	r.headerFirst, r.doubt = keep && !extended, false
	return ok
}

// learnLimits asks EF.ATR/INFO, once, how long an answer may be after extended
// length has failed, and takes short ones if it does not say.
func (c *Chip) learnLimits(ctx context.Context) {
	if c.reading.asked || c.reading.max <= apdu.MaxShortLe {
		return
	}
	limit := apdu.MaxShortLe
	if file, err := c.readShort(ctx, lds.EFATRInfo, unknown); err == nil {
		info, err := lds.ParseATRInfo(file)
		if n := info.MaxAnswer - 2; err == nil && n > limit && n < c.reading.max { // less the status
			limit = n
		}
	}
	c.reading.asked, c.reading.max, c.reading.headerFirst = true, limit, false
}

// readShort reads a small file with short answers only, whatever is known of
// longer ones, and learns nothing from it.
func (c *Chip) readShort(ctx context.Context, f lds.File, address addressing) ([]byte, error) {
	saved := c.reading
	defer func() { c.reading = saved }()
	c.reading.max, c.reading.proven, c.reading.address = min(apdu.MaxShortLe, saved.max), false, address
	if address == unknown {
		c.reading.address = saved.address
	}
	b, err := c.readOnce(ctx, f, nil)
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", f, err)
	}
	return b, nil
}

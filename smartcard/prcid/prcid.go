// Package prcid reads the resident identity card of the People's Republic of
// China, and the cards made alike for foreigners and for residents of Hong
// Kong, Macao and Taiwan, through the SAM_V module of the police that every
// reader of them holds.
//
// The card opens to that module alone: it runs the mutual authentication and
// hands out text, photo and fingerprints in clear over a serial line, in frames
// that begin AA AA AA 96 69. This package speaks to the module, over a serial
// port ([Open]) or any line with deadlines ([New]). Whatever the module or
// somebody on the line sends, every call ends within its time, and memory is
// bounded.
//
// From public sources, untested on cards: vendors' protocol sheets for the
// SAM_V module and open-source readers. The standards behind them (GA 450,
// GA 467) were not at hand.
//
// What the data are worth: no signature of the issuer comes with them. That
// they are genuine is the word of a module at the end of a cable. A [Document]
// is never evidence that a third party could check.
//
// Not here: the photo's format, WLT, has no public description. It is passed on
// as it is; a program that knows it can be configured, see [Decoder].
package prcid

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"enrollkiosk/kiosk/secret"
)

// Worth says in a report what data of this package are worth.
const Worth = "read through the police module; not signed by the issuer; driver from public sources, untested on cards"

// Port is the line to a module. *os.File of a serial port and net.Conn are Ports.
type Port interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// Options are limits and wishes. The zero value is the defaults.
type Options struct {
	// Timeout bounds each command and its answer, and the wait for a line to come
	// to rest after one that failed; 0 means DefaultTimeout. The caller's context
	// may end them earlier.
	Timeout time.Duration
	// Baud is the speed of a serial port: 115200 (0 means that), 57600, 38400,
	// 19200 or 9600.
	Baud int
	// Fingerprints asks for the fingerprints too. Leave it off unless something
	// compares them.
	Fingerprints bool
}

// DefaultTimeout is for the slowest line: a card with fingerprints takes 2.5 s
// at 9600 baud, and the module about one to read it.
const DefaultTimeout = 10 * time.Second

// Module is a SAM_V module on a line. It is not safe for concurrent use.
type Module struct {
	port    Port
	options Options
	in      *bufio.Reader
	unsure  bool // the line may still carry the answer to a command given up
}

// New returns the module on a line and takes the line over. It sends nothing.
func New(port Port, opts Options) *Module {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	return &Module{port: port, options: opts, in: bufio.NewReader(port)}
}

// Close closes the line.
func (m *Module) Close() error { return m.port.Close() }

// Check asks whether the module is well and authorised (SAM status).
func (m *Module) Check(ctx context.Context) error {
	return m.simple(ctx, "check module", commandStatus, statusOK)
}

// Reset starts the module anew.
func (m *Module) Reset(ctx context.Context) error {
	return m.simple(ctx, "reset module", commandReset, statusOK)
}

// Number is the module's own number as readers print it, such as
// 05.03-20230911-0000000042-0000000007.
func (m *Module) Number(ctx context.Context) (string, error) {
	const step = "read module number"
	a, err := m.command(ctx, commandNumber, statusOK, nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", step, err)
	}
	if len(a.data) != 16 {
		return "", fmt.Errorf("%s: %w: %d bytes", step, ErrFrame, len(a.data))
	}
	le := binary.LittleEndian
	return fmt.Sprintf("%02d.%02d-%08d-%010d-%010d", le.Uint16(a.data), le.Uint16(a.data[2:]),
		le.Uint32(a.data[4:]), le.Uint32(a.data[8:]), le.Uint32(a.data[12:])), nil
}

// Find looks for a card and selects it. Without one it fails with ErrNoCard at
// once. A card that was read is found again only after it was taken away and
// put back.
func (m *Module) Find(ctx context.Context) error {
	if err := m.simple(ctx, "find card", commandFind, statusFound); err != nil {
		return err
	}
	return m.simple(ctx, "select card", commandSelect, statusOK)
}

// pollPause lets the module's field rest between two looks for a card.
const pollPause = 300 * time.Millisecond

// Wait looks for a card until there is one, or until ctx ends.
func (m *Module) Wait(ctx context.Context) error {
	for {
		err := m.Find(ctx)
		if !errors.Is(err, ErrNoCard) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollPause):
		}
	}
}

// Progress tells how far a card has been read, in bytes.
type Progress struct{ Read, Total int }

// Read reads the card that Find or Wait has selected. It fails when text and
// photo do not come whole; what is wrong inside them is in the Document's
// Problems. An address added after issue is read too, if the card has one.
// progress may be nil.
func (m *Module) Read(ctx context.Context, progress func(Progress)) (Document, error) {
	const step = "read card"
	cmd := commandRead
	if m.options.Fingerprints {
		cmd = commandReadPrints
	}
	a, err := m.command(ctx, cmd, statusOK, progress)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", step, err)
	}
	text, photo, prints, err := splitContent(a.data, m.options.Fingerprints)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", step, err)
	}
	d, err := Parse(text)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", step, err)
	}
	d.Photo, d.Fingerprints = secret.New(photo), secret.New(prints)
	a, err = m.command(ctx, commandReadAddress, statusOK, nil)
	var refused Status
	switch {
	case errors.Is(err, ErrNoContent):
	case err == nil:
		d.addAddress(a.data)
	case errors.As(err, &refused):
		d.problem(FieldNewAddress, err)
	default:
		return Document{}, fmt.Errorf("%s: added address: %w", step, err)
	}
	return d, nil
}

// simple runs a command whose answer's data nobody needs.
func (m *Module) simple(ctx context.Context, step string, c command, want byte) error {
	if _, err := m.command(ctx, c, want, nil); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// command sends one command and returns its answer if that says want.
func (m *Module) command(ctx context.Context, c command, want byte, progress func(Progress)) (answer, error) {
	a, err := m.exchange(ctx, c, progress)
	if err != nil {
		return answer{}, err
	}
	if a.status != (Status{0, 0, want}) {
		return answer{}, a.status
	}
	return a, nil
}

// exchange sends one command and waits for a frame, whatever it says.
func (m *Module) exchange(ctx context.Context, c command, progress func(Progress)) (a answer, err error) {
	if err := ctx.Err(); err != nil {
		return answer{}, err
	}
	if m.unsure {
		if err := m.drain(ctx); err != nil {
			return answer{}, err
		}
	}
	m.unsure = true
	if err := m.port.SetDeadline(time.Now().Add(m.options.Timeout)); err != nil {
		return answer{}, fmt.Errorf("set deadline: %w", err)
	}
	release := m.interruptible(ctx)
	if _, err = m.port.Write(c.frame()); err == nil {
		a, err = readAnswer(m.in, progress)
	}
	release()
	switch {
	case ctx.Err() != nil:
		return answer{}, ctx.Err()
	case err != nil:
		return answer{}, err
	}
	m.unsure = false
	return a, nil
}

// interruptible makes the end of ctx end reading and writing on the line. The
// function it returns undoes that; afterwards nothing touches the line any more.
func (m *Module) interruptible(ctx context.Context) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		m.port.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// quiet is how long a line must be silent to be believed empty; maxStale bounds
// what is thrown away until then: several whole cards.
const (
	quiet    = 100 * time.Millisecond
	maxStale = 32 << 10
)

// drain throws away what an earlier command left on the line. A frame says
// nothing of the command that it answers.
func (m *Module) drain(ctx context.Context) error {
	m.in.Reset(m.port)
	deadline := time.Now().Add(m.options.Timeout)
	release := m.interruptible(ctx)
	defer release()
	var scratch [512]byte
	for stale := 0; stale < maxStale && time.Now().Before(deadline) && ctx.Err() == nil; {
		if err := m.port.SetDeadline(time.Now().Add(quiet)); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
		n, err := m.port.Read(scratch[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("read from module: %w", err)
		}
		stale += n
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("%w: the line does not come to rest", ErrFrame)
}

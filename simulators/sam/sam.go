// Package sam is a virtual SAM_V module: the police's reader of Chinese identity
// cards, on a pseudo-terminal that a driver opens like any serial port.
//
// It answers the commands of the module's public protocol sheets, one frame an
// answer, for a [Card] that is put on and taken away, and does so with faults by
// name. As on a real module, a card that was read is found again only after it
// was taken away. Framing, text encoding and check digits are this package's
// own, so that one mistake cannot hide in the module and in its driver alike.
//
// From public sources, like the driver: no real module was at hand. Its people
// are invented, and numbers carry a region that does not exist.
package sam

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Module is a running module. Its methods are safe for concurrent use.
type Module struct {
	line  *os.File // the module's end
	port  *os.File // kept open, so that the line outlives its clients
	ended chan struct{}

	mu       sync.Mutex
	card     *Card
	state    state
	fault    Fault
	commands int
}

// state is how far the card in the field has come.
type state int

const (
	present state = iota
	found
	selected
	done
)

// Start starts a module without a card.
func Start() (*Module, error) {
	line, port, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("start module: %w", err)
	}
	// Until a driver sets the line it must not echo what the module says.
	if _, err := term.MakeRaw(int(port.Fd())); err != nil {
		line.Close()
		port.Close()
		return nil, fmt.Errorf("start module: %w", err)
	}
	if line, err = interruptible(line); err != nil {
		port.Close()
		return nil, fmt.Errorf("start module: %w", err)
	}
	m := &Module{line: line, port: port, ended: make(chan struct{})}
	go m.serve()
	return m, nil
}

// interruptible replaces a file by one whose reads and writes end when it is
// closed.
func interruptible(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// Path names the serial port.
func (m *Module) Path() string { return m.port.Name() }

// Close ends the module.
func (m *Module) Close() error {
	err := errors.Join(m.line.Close(), m.port.Close())
	<-m.ended
	return err
}

// Place puts a card on.
func (m *Module) Place(c Card) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.card, m.state = &c, present
}

// Remove takes the card away.
func (m *Module) Remove() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.card = nil
}

// Fail makes the module faulty from the next command on; "" mends it.
func (m *Module) Fail(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// Commands counts the commands understood so far.
func (m *Module) Commands() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commands
}

var start = []byte{0xAA, 0xAA, 0xAA, 0x96, 0x69}

// maxCommand bounds what is kept of a command that never gets whole.
const maxCommand = 1024

// serve answers until the line closes.
func (m *Module) serve() {
	defer close(m.ended)
	var pending []byte
	chunk := make([]byte, 256)
	for {
		n, err := m.line.Read(chunk)
		if err != nil {
			return
		}
		pending = append(pending, chunk[:n]...)
		for {
			body, rest, whole := cut(pending)
			if pending = rest; !whole {
				break
			}
			m.mu.Lock()
			m.commands++
			fault := m.fault
			a := m.answer(body)
			m.mu.Unlock()
			if fault.send(m.line, a) != nil {
				return
			}
		}
		if len(pending) > maxCommand {
			pending = nil
		}
	}
}

// cut takes the first frame out of b: its body with length and checksum.
func cut(b []byte) (body, rest []byte, whole bool) {
	at := bytes.Index(b, start)
	if at < 0 || len(b) < at+7 {
		return nil, b, false
	}
	b = b[at:]
	end := 7 + int(b[5])<<8 + int(b[6])
	if len(b) < end {
		return nil, b, false
	}
	return b[5:end], b[end:], true
}

// answer works out the frame for a command.
func (m *Module) answer(command []byte) []byte {
	if xor(command) != 0 {
		return frame(0, 0, 0x10, nil)
	}
	if len(command) != 5 {
		return frame(0, 0, 0x11, nil)
	}
	if sw3, fails := m.fault.status(); fails {
		return frame(0, 0, sw3, nil)
	}
	card := m.card
	on := func(least state) bool { return card != nil && m.state >= least }
	switch [2]byte(command[2:4]) {
	case [2]byte{0x10, 0xFF}, [2]byte{0x11, 0xFF}:
		return frame(0, 0, 0x90, nil)
	case [2]byte{0x12, 0xFF}:
		// 05.03-20230911-0000000042-0000000007
		return frame(0, 0, 0x90, []byte{5, 0, 3, 0, 0xFF, 0xB2, 0x34, 1, 42, 0, 0, 0, 7, 0, 0, 0})
	case [2]byte{0x20, 0x01}:
		if !on(present) || m.state == done {
			return frame(0, 0, 0x80, nil)
		}
		m.state = found
		return frame(0, 0, 0x9F, make([]byte, 4))
	case [2]byte{0x20, 0x02}:
		if !on(found) {
			return frame(0, 0, 0x81, nil)
		}
		m.state = selected
		return frame(0, 0, 0x90, make([]byte, 8))
	case [2]byte{0x30, 0x01}, [2]byte{0x30, 0x10}:
		if m.fault == CardRemoved {
			m.card = nil
		}
		if !on(selected) || m.card == nil {
			return frame(0, 0, 0x41, nil)
		}
		m.state = done
		return frame(0, 0, 0x90, card.content(command[3] == 0x10, m.fault))
	case [2]byte{0x30, 0x03}:
		switch {
		case !on(selected):
			return frame(0, 0, 0x41, nil)
		case card.NewAddress == "":
			return frame(0, 0, 0x91, nil)
		}
		b := make([]byte, 70)
		put(b, 0, 70, card.NewAddress)
		return frame(0, 0, 0x90, b)
	}
	return frame(0, 0, 0x21, nil)
}

// frame encodes an answer.
func frame(sw1, sw2, sw3 byte, data []byte) []byte {
	n := len(data) + 4
	b := append([]byte{byte(n >> 8), byte(n), sw1, sw2, sw3}, data...)
	b = append(b, xor(b))
	return append(bytes.Clone(start), b...)
}

func xor(b []byte) (sum byte) {
	for _, c := range b {
		sum ^= c
	}
	return sum
}

// slowly is the pause between the bytes of SlowBytes, lateBy that before a
// LateAnswer.
const (
	slowly = 200 * time.Microsecond
	lateBy = 350 * time.Millisecond
)

// send puts an answer on the line as the fault has it.
func (f Fault) send(line io.Writer, a []byte) error {
	write := func(b []byte) error {
		_, err := line.Write(b)
		return err
	}
	switch f {
	case NoAnswer:
		return nil
	case HalfFrame:
		return write(a[:len(a)/2])
	case WrongChecksum:
		a[len(a)-1] ^= 1
	case ShortLength:
		a[6]--
	case LongLength:
		a[6]++
	case HugeLength:
		a[5], a[6] = 0xFF, 0xFF
	case NoiseFirst:
		return write(append([]byte("\x00\xFF\xAA\xAA\x96\x69\x96\xAA\xAA\xAA\x96\xAA\xAA"), a...))
	case EndlessNoise:
		for {
			if err := write(bytes.Repeat([]byte{0xAA, 0xAA, 0xAA, 0x96}, 64)); err != nil {
				return err
			}
		}
	case SlowBytes:
		for i := range a {
			if err := write(a[i : i+1]); err != nil {
				return err
			}
			time.Sleep(slowly)
		}
		return nil
	case LateAnswer:
		time.Sleep(lateBy)
	}
	return write(a)
}

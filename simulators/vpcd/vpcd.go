// Package vpcd plugs a virtual card into a real PC/SC daemon through the
// virtual reader of vsmartcard (Debian package vsmartcard-vpcd).
//
// The reader driver listens on TCP, port 35963 for its first slot; the card
// connects to it and is "inserted" while the connection lasts. Messages are a
// two-byte big-endian length and so many bytes. One byte is a control (0 power
// off, 1 power on, 2 reset, 4 ask for the answer to reset), anything longer a
// command APDU. Only commands and 4 are answered.
package vpcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Card is what can be plugged in; its methods are called one at a time, and
// Transmit must return soon after its ctx ends.
type Card interface {
	ATR() []byte
	Reset()
	Transmit(ctx context.Context, command []byte) []byte
}

// Errors of a conversation with a reader.
var (
	ErrProtocol = errors.New("vpcd: the reader sent what is no message of its protocol")
	ErrTooLong  = errors.New("vpcd: the card's answer is longer than 65535 bytes")
	ErrGone     = errors.New("vpcd: the reader closed the connection")
)

const (
	powerOff = 0
	powerOn  = 1
	reset    = 2
	askATR   = 4

	writeLimit = 5 * time.Second
)

// Plug inserts the card into the reader at addr (host:port) and serves it. It
// returns nil when ctx ended, which pulls the card, and an error when the
// reader could not be reached, went away (ErrGone) or spoke nonsense. The
// card's own ctx ends with either, also in the middle of a command.
func Plug(ctx context.Context, addr string, c Card) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if ctx.Err() != nil {
		if err == nil {
			conn.Close()
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reach the virtual reader: %w", err)
	}
	defer conn.Close()
	inserted, pull := context.WithCancel(ctx)
	defer pull()
	defer context.AfterFunc(inserted, func() { conn.Close() })()

	// A reader of its own notices that the other side went away while the card
	// is still working on a command.
	messages := make(chan []byte)
	var readErr error
	go func() {
		defer close(messages)
		defer pull()
		for {
			var m []byte
			if m, readErr = readMessage(prompt{conn}); readErr != nil {
				return
			}
			select {
			case messages <- m:
			case <-inserted.Done():
				return
			}
		}
	}()
	for m := range messages {
		if err := answer(inserted, conn, c, m); err != nil {
			pull()
			for range messages { // until the reading goroutine is gone
			}
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(readErr, ErrProtocol):
		return readErr
	}
	return ErrGone
}

// prompt acknowledges at once whatever it reads. vpcd sends a message in two
// writes and holds the second back until the first is acknowledged, which the
// system would otherwise put off by 40 ms.
type prompt struct{ net.Conn }

func (p prompt) Read(b []byte) (int, error) {
	acknowledgeAtOnce(p.Conn) // the system forgets it now and then
	return p.Conn.Read(b)
}

func readMessage(r io.Reader) ([]byte, error) {
	var header [2]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(header[:]))
	if _, err := io.ReadFull(r, m); err != nil {
		return nil, err
	}
	switch {
	case len(m) == 0, len(m) > 1 && len(m) < 4:
		return nil, fmt.Errorf("message of %d bytes: %w", len(m), ErrProtocol)
	case len(m) == 1 && m[0] != powerOff && m[0] != powerOn && m[0] != reset && m[0] != askATR:
		return nil, fmt.Errorf("control %d: %w", m[0], ErrProtocol)
	}
	return m, nil
}

func answer(ctx context.Context, conn net.Conn, c Card, m []byte) error {
	var out []byte
	switch {
	case len(m) > 1:
		out = c.Transmit(ctx, m)
	case m[0] == askATR:
		out = c.ATR()
	default:
		c.Reset()
		return nil
	}
	if len(out) > 0xFFFF {
		return ErrTooLong
	}
	if ctx.Err() != nil { // pulled meanwhile: a card that is gone answers nothing
		return ErrGone
	}
	conn.SetWriteDeadline(time.Now().Add(writeLimit))
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(out)), uint16(len(out)))
	if _, err := conn.Write(append(b, out...)); err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// tty is a person's keyboard. Lines come from a goroutine, so that waiting for
// one ends with a context although a read of a terminal cannot be called off.
// Without a terminal it reads plain lines.
type tty struct {
	file   *os.File
	lines  chan line
	resume chan os.Signal
	hidden bool
}

type line struct {
	text []byte // the reader may wipe it
	err  error
}

// openTTY must be paired with close, which brings the echo back.
func openTTY(ctx context.Context, f *os.File) *tty {
	t := &tty{file: f, lines: make(chan line), resume: make(chan os.Signal, 1)}
	signal.Notify(t.resume, syscall.SIGCONT)
	go t.read(ctx)
	return t
}

func (t *tty) close() {
	signal.Stop(t.resume)
	t.echo(true)
}

// read hands over typed lines. It ends with the program.
func (t *tty) read(ctx context.Context) {
	var pending []byte
	buf := make([]byte, 256)
	send := func(l line) bool {
		select {
		case t.lines <- l:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for {
		n, err := t.file.Read(buf)
		pending = append(pending, buf[:n]...)
		clear(buf)
		for {
			text, rest, found := bytes.Cut(pending, []byte{'\n'})
			if !found {
				break
			}
			if !send(line{text: bytes.Clone(bytes.TrimRight(text, "\r"))}) {
				return
			}
			rest = bytes.Clone(rest)
			clear(pending[:cap(pending)])
			pending = rest
		}
		if len(pending) > maxLine {
			err = fmt.Errorf("more than %d characters in one line", maxLine)
		}
		if errors.Is(err, io.EOF) {
			err = errClosed
		}
		if err != nil {
			send(line{err: err})
			return
		}
	}
}

// maxLine is more than anything that is asked for.
const maxLine = 1024

// hide reads one line that is not shown. Who had turned the echo off before has
// it off afterwards: what is typed ahead of the next question is not shown either.
func (t *tty) hide(ctx context.Context) ([]byte, error) {
	defer t.echo(!t.hidden)
	t.echo(false)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.resume:
			t.echo(false)
		case l := <-t.lines:
			return l.text, l.err
		}
	}
}

// again brings back what a stop (Ctrl-Z) and the shell may have changed.
func (t *tty) again() { t.echo(!t.hidden) }

// echo switches the terminal's echo; what is no terminal has none.
func (t *tty) echo(on bool) {
	t.hidden = !on
	fd := int(t.file.Fd())
	mode, err := unix.IoctlGetTermios(fd, getTerminal)
	if err != nil {
		return
	}
	if on {
		mode.Lflag |= unix.ECHO
	} else {
		mode.Lflag &^= unix.ECHO
	}
	unix.IoctlSetTermios(fd, setTerminal, mode)
}

var errClosed = errors.New("the terminal was closed")

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpm2"
)

// Sizes of a command or response (TPM 2.0 Part 2, 6.12 TPM_PT_MAX_COMMAND_SIZE;
// 4096 is what the PC Client platform and the Linux driver allow).
const (
	headerSize = 10
	maxSize    = 4096
)

// Response codes that ask for the same command again (TPM 2.0 Part 2, 6.6.3):
// the command was not executed. CANCELED is not among them.
var again = []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate}

// maxTries bounds how often one command is sent; with doubling pauses from
// 2 ms to 500 ms this is about four seconds.
const maxTries = 16

// device moves one command and one response. After an error it is unusable.
type device interface {
	exchange(ctx context.Context, command []byte) (response []byte, err error)
	io.Closer
}

// dial opens path. shared says that a resource manager sits in front of the
// TPM, so that other programs' objects must be left alone.
func dial(ctx context.Context, path string) (d device, shared bool, err error) {
	if name, ok := strings.CutPrefix(path, "unix:"); ok {
		var dialer net.Dialer
		c, err := dialer.DialContext(ctx, "unix", name)
		if err != nil {
			return nil, false, openError(path, err)
		}
		return socket{c}, false, nil
	}
	return openDevice(path)
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("open tpm %s: %w (%w)", path, hsm.ErrNoDevice, err)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("open tpm %s: %w (%w)", path, hsm.ErrBusy, err)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("open tpm %s: %w", path, err)
	}
	return fmt.Errorf("open tpm %s: %w (%w)", path, hsm.ErrUnavailable, err)
}

// socket is a stream that carries bare commands and responses.
type socket struct{ net.Conn }

func (s socket) exchange(ctx context.Context, command []byte) ([]byte, error) {
	defer context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })()
	if _, err := s.Write(command); err != nil {
		return nil, err
	}
	return readResponse(s)
}

// readResponse reads until the response is as long as its header says. Each
// read offers room for all of it: older drivers drop what does not fit.
func readResponse(r io.Reader) ([]byte, error) {
	b := make([]byte, maxSize)
	want, have := headerSize, 0
	for have < want {
		n, err := r.Read(b[have:])
		have += n
		if have >= headerSize {
			size := binary.BigEndian.Uint32(b[2:])
			if size < headerSize || size > maxSize || have > int(size) {
				return nil, fmt.Errorf("%w: %d bytes, its header says %d", errFraming, have, size)
			}
			want = int(size)
		}
		if err != nil && have < want {
			return nil, err
		}
	}
	switch tag := tpm2.TPMST(binary.BigEndian.Uint16(b)); tag {
	case tpm2.TPMSTNoSessions, tpm2.TPMSTSessions:
		return b[:have], nil
	default:
		return nil, fmt.Errorf("%w: tag %#04x", errFraming, tag)
	}
}

// blocking is a device whose calls only the operating system can end.
type blocking struct {
	submit func(command []byte) (response []byte, err error)
	close  func() error
	hung   bool
}

func (d *blocking) exchange(ctx context.Context, command []byte) ([]byte, error) {
	type result struct {
		response []byte
		err      error
	}
	done := make(chan result, 1)
	go func() {
		response, err := d.submit(command)
		done <- result{response, err}
	}()
	select {
	case r := <-done:
		return r.response, r.err
	case <-ctx.Done():
		// The system cannot be hurried. The goroutine ends with the driver's
		// own timeout and closes the device then.
		d.hung = true
		go func() { <-done; _ = d.close() }()
		return nil, ctx.Err()
	}
}

func (d *blocking) Close() error {
	if d.hung {
		return nil
	}
	return d.close()
}

var errFraming = errors.New("the TPM's answer is malformed")

// runner is go-tpm's transport.TPM for the length of one operation.
type runner struct {
	ctx     context.Context
	device  device
	timeout time.Duration // for each command
	broken  error         // first failure of the transport; what follows fails alike
}

// Send exchanges one command, sending it again while the TPM asks for that.
// Each try gets its own copy: a device may scribble on the buffer.
func (r *runner) Send(command []byte) ([]byte, error) {
	if r.broken != nil {
		return nil, r.broken
	}
	if len(command) > maxSize {
		return nil, fmt.Errorf("command of %d bytes: %w", len(command), hsm.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	pause := 2 * time.Millisecond
	for try := 1; ; try++ {
		response, err := r.device.exchange(ctx, slices.Clone(command))
		if err != nil {
			r.broken = r.lost(ctx, err)
			return nil, r.broken
		}
		rc := tpm2.TPMRC(binary.BigEndian.Uint32(response[6:]))
		if !slices.Contains(again, rc) || try == maxTries {
			return response, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (%w)", rc, ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 500*time.Millisecond)
		}
	}
}

// lost says what a failed exchange means. The connection may still hold the
// late answer: it must not be used again.
func (r *runner) lost(ctx context.Context, err error) error {
	if cause := context.Cause(r.ctx); errors.Is(cause, context.Canceled) {
		return cause
	}
	if ctx.Err() != nil {
		err = ctx.Err() // rather than the deadline error it caused
	}
	return fmt.Errorf("%w (%w)", hsm.ErrUnavailable, err)
}

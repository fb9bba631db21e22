package prcid

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var bauds = map[int]uint32{
	115200: unix.B115200, 57600: unix.B57600, 38400: unix.B38400, 19200: unix.B19200, 9600: unix.B9600,
}

// Open opens the module at a serial port, such as /dev/ttyUSB0, for itself
// alone and checks that it is well.
func Open(ctx context.Context, path string, opts Options) (*Module, error) {
	port, err := openSerial(path, opts.Baud)
	if err != nil {
		return nil, fmt.Errorf("open serial port: %w", err)
	}
	m := New(port, opts)
	if err := m.Check(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// openSerial opens a terminal line with 8 data bits, no parity, one stop bit, no
// flow control, and every byte as it is.
func openSerial(path string, baud int) (*os.File, error) {
	if baud == 0 {
		baud = 115200
	}
	speed, ok := bauds[baud]
	if !ok {
		return nil, fmt.Errorf("no module speaks at %d baud", baud)
	}
	// Without O_NONBLOCK the open would wait for a modem's carrier.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	raw, err := f.SyscallConn()
	if err == nil {
		// Fd would take the file out of the poller, and its deadlines with it.
		var failed error
		err = raw.Control(func(fd uintptr) { failed = configure(int(fd), speed) })
		err = errors.Join(err, failed)
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "configure", Path: path, Err: err}
	}
	return f, nil
}

func configure(fd int, speed uint32) error {
	// A port that is in use is left as it is.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("in use: %w", err)
	}
	t := unix.Termios{
		Cflag:  unix.CS8 | unix.CREAD | unix.CLOCAL | speed,
		Ispeed: speed,
		Ospeed: speed,
	}
	t.Cc[unix.VMIN] = 1
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &t); err != nil {
		return fmt.Errorf("set line: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIOFLUSH); err != nil {
		return fmt.Errorf("flush line: %w", err)
	}
	return nil
}

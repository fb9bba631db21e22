//go:build unix

package tpm

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"enrollkiosk/hsm"
)

// openDevice opens a device of the Linux TPM driver: one write is one command,
// one read one response. /dev/tpmrm0 is behind the kernel's resource manager.
//
// The descriptor is in blocking mode on purpose: write then waits for the TPM
// and the response is complete at the first read. os.OpenFile would switch it
// to polling, where an early read yields no bytes at all and a signal (SIGCHLD)
// ends the poll with the response left behind. Reads and writes that a signal
// interrupts are begun again by package os.
func openDevice(path string) (d device, shared bool, err error) {
	if !strings.HasPrefix(path, "/") {
		return nil, false, fmt.Errorf("open tpm %q: want a device file or unix:/path: %w", path, hsm.ErrNoDevice)
	}
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, openError(path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	submit := func(command []byte) ([]byte, error) {
		if _, err := f.Write(command); err != nil {
			return nil, err
		}
		return readResponse(f)
	}
	return &blocking{submit: submit, close: f.Close}, strings.HasPrefix(path, "/dev/tpmrm"), nil
}

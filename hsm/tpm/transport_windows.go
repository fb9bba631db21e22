package tpm

import (
	"bytes"
	"errors"
	"fmt"

	"enrollkiosk/hsm"

	"github.com/google/go-tpm/tpmutil/tbs"
)

// openDevice opens TPM Base Services (tbs.dll) under the one name "tbs". It is
// a resource manager: every context has objects of its own.
//
// go-tpm's windowstpm is not used: it repeats commands by itself and returns no
// answer and no error when it gives up.
func openDevice(path string) (d device, shared bool, err error) {
	if path != "tbs" {
		return nil, false, fmt.Errorf("open tpm %q: want tbs: %w", path, hsm.ErrNoDevice)
	}
	info, err := tbs.GetDeviceInfo()
	if err == nil && info.TPMVersion != tbs.TPMVersion20 {
		return nil, false, fmt.Errorf("open tpm %s: version %d: %w", path, info.TPMVersion, hsm.ErrUnsupported)
	}
	var c tbs.Context
	if err == nil {
		c, err = tbs.CreateContext(tbs.TPMVersion20, tbs.IncludeTPM20)
	}
	switch {
	case errors.Is(err, tbs.ErrTPMNotFound):
		return nil, false, fmt.Errorf("open tpm %s: %w (%w)", path, hsm.ErrNoDevice, err)
	case errors.Is(err, tbs.ErrTooManyTBSContexts), errors.Is(err, tbs.ErrTooManyResources):
		return nil, false, fmt.Errorf("open tpm %s: %w (%w)", path, hsm.ErrBusy, err)
	case err != nil:
		return nil, false, openError(path, err)
	}
	submit := func(command []byte) ([]byte, error) {
		response := make([]byte, maxSize)
		n, err := c.SubmitCommand(tbs.NormalPriority, command, response)
		if err != nil {
			return nil, err
		}
		return readResponse(bytes.NewReader(response[:min(int(n), maxSize)]))
	}
	return &blocking{submit: submit, close: c.Close}, true, nil
}
